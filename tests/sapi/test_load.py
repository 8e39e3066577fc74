"""What the operator names, and what is found there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyfpm.sapi.failure import describe
from pyfpm.sapi.load import LoadError, load

APP = "def application(environ, start_response): return 'application'\n"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty directory that modules are imported from; those that were are forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path: str, source: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(source)


def name_of(spec: str) -> str:
    """What the loaded application says."""
    return load(spec)(None, None)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("mod:application", "application"),
        ("mod:other", "other"),
        ("mod:Holder.method", "method"),
        ("mod:holder.inner.method", "method"),
        ("mod:create()", "made"),
        ("mod:Holder.create()", "made"),
        ("mod", "application"),
        ("mod:", "application"),
        ("package.inside:application", "application"),
        ("mod.py", "application"),
        ("./mod.py", "application"),
        ("package/inside.py", "application"),
        ("only_app.py", "app"),
        ("mod.py:other", "other"),
        ("./mod.py:create()", "made"),
        ("with-dash.py", "application"),
    ],
)
def test_an_application_is_found_by(spec, found):
    write(
        "mod.py",
        APP
        + """
app = None
def other(environ, start_response): return "other"
def create(): return lambda environ, start_response: "made"
class Holder:
    create = staticmethod(create)
    @staticmethod
    def method(environ, start_response): return "method"
class holder:
    inner = Holder
""",
    )
    write("package/__init__.py", "")
    write("package/inside.py", APP)
    write("only_app.py", "def app(environ, start_response): return 'app'\n")
    write("with-dash.py", APP)
    assert name_of(spec) == found


def test_an_absolute_path_is_found_from_anywhere(place, monkeypatch):
    write("site/web.py", "import beside\n" + APP)
    write("site/beside.py", "")
    monkeypatch.chdir("/")
    assert name_of(str(place / "site/web.py")) == "application"


def test_a_file_does_not_take_the_place_of_a_module_that_is_in_use():
    """A file called json.py was json to the rest of the process from then on."""
    import json

    write("json.py", APP)
    assert name_of("json.py") == "application"
    assert sys.modules["json"] is json


def test_a_module_is_imported_once():
    write("mod.py", "import sys\nsys.imported = getattr(sys, 'imported', 0) + 1\n" + APP)
    try:
        load("mod:application")
        load("mod:application")
        assert sys.imported == 1  # type: ignore[attr-defined]
    finally:
        del sys.imported  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("nosuch:application", "no module named 'nosuch' for the application 'nosuch:application'; looked in '"),
        ("nosuch.deep:application", "no module named 'nosuch'"),
        ("package.nosuch:application", "no module named 'package.nosuch'"),
        ("mod.nosuch:application", "no module named 'mod.nosuch'"),
        ("nosuch.py", "no file '"),
        ("no/such/place.py", "no file '"),
        ("./package", "no file '"),
        ("./readme.txt", "is not a Python file: its name must end in .py"),
        ("mod:nosuch", "'mod:nosuch': 'mod' has no 'nosuch'"),
        ("mod:application.nosuch", "'mod' has no 'application.nosuch'"),
        ("mod:nosuch()", "'mod' has no 'nosuch'"),
        ("mod.py:nosuch", "has no 'nosuch'"),
        ("mod:create('argument')", "a factory is called without arguments: module:factory()"),
        ("mod:number", "'mod:number' is not callable, so it is not an application"),
        ("mod:create_nothing()", "'mod:create_nothing()' is not callable"),
        ("mod:number()", "'mod:number()': 'number' is not callable"),
        ("package:", "'package:' has neither 'application' nor 'app'; name it as module:callable"),
        ("package", "'package' has neither"),
        (":application", "':application' names no module"),
        ("", "'' names no module"),
        (".mod:application", "names no module"),
        ("mod.:application", "names no module"),
        ("mod..deep:application", "names no module"),
    ],
)
def test_what_cannot_be_found_is_explained(spec, reason):
    write(
        "mod.py",
        APP
        + """
number = 42
def create(): return application
def create_nothing(): pass
""",
    )
    write("package/__init__.py", "")
    write("readme.txt", "")
    with pytest.raises(LoadError) as caught:
        load(spec)
    assert reason in str(caught.value)


def described(error: BaseException) -> str:
    """As the zygote says it, where no frame of a test is above ours."""
    assert error.__traceback__
    return describe(error.with_traceback(error.__traceback__.tb_next))


@pytest.mark.parametrize("spec", ["mod:application", "mod.py"])
@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("import nosuch_library\n", ModuleNotFoundError),
        ("import mod.nosuch\n", ModuleNotFoundError),
        ("from os import nosuch\n", ImportError),
        ("1 / 0\n", ZeroDivisionError),
        ("raise SystemExit('no licence')\n", SystemExit),
        ("def :\n", SyntaxError),
    ],
    ids=["missing library", "missing part of its own", "missing name", "exception", "exit", "syntax"],
)
def test_what_a_module_raises_is_passed_on_with_its_traceback(source, error, spec):
    write("mod.py", source)
    with pytest.raises(error) as caught:
        load(spec)
    text = described(caught.value)
    assert 'mod.py", line 1' in text
    assert "pyfpm/sapi" not in text
    assert "importlib" not in text or error is SyntaxError, "which has no frame of the user's"
    assert "mod" not in sys.modules, "nobody else gets half a module"


def test_what_a_factory_raises_is_passed_on_with_its_traceback():
    write("mod.py", "def create():\n    raise KeyError('SECRET')\n")
    with pytest.raises(KeyError) as caught:
        load("mod:create()")
    assert 'mod.py", line 2, in create' in described(caught.value)
    assert "pyfpm/sapi" not in described(caught.value)


def test_a_name_that_a_module_makes_when_asked_may_raise():
    write("mod.py", "def __getattr__(name):\n    raise RuntimeError(name)\n")
    with pytest.raises(RuntimeError, match="lazy"):
        load("mod:lazy")
