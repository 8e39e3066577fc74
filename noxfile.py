"""The tests on every Python that pyfpm supports: ``nox``, or ``nox -s tests-3.13 -- tests/protocol``.

A session has its own virtual environment and its own build; the extensions of several Pythons lie side by side in src,
by their suffixes. An interpreter that is not installed is skipped with its name; where CI is set, and with
``--error-on-missing-interpreters``, it is an error. Linters and C checks are in tools/test: they need one Python.
"""

import nox

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["tests"]
nox.options.default_venv_backend = "venv"

PYTHONS = ["3.11", "3.12", "3.13"]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Build, and run the tests (or those that are named after --)."""
    session.install("--editable", ".[test]")
    session.run("python", "-m", "pytest", *session.posargs)
