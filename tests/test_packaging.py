"""What is built from this checkout is complete, and what is generated is up to date."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the sdist, and the wheel that was built from it."""
    source = tmp_path_factory.mktemp("source")
    # Only what git knows: a file that was forgotten there must be missed here.
    archive = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in archive.decode().split("\0"):
        if name and (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", out, source)
    return out


def test_sdist_has_what_a_build_and_a_packager_need(built: Path) -> None:
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in (
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "csrc/fcgi.c",
        "csrc/fcgi.h",
        "docs/architecture.md",
        "examples/site/hello.py",
        "src/pyfpm/protocol/_server.pyx",
        "src/pyfpm/protocol/_server.pxd",
        "src/pyfpm/sapi/wsgi.pxd",
        "tests/test_packaging.py",
        "tools/test",
    ):
        assert name in names


def test_wheel_has_modules_stubs_and_no_sources_of_extensions(built: Path) -> None:
    [wheel] = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "pyfpm/py.typed" in names
    assert "pyfpm/protocol/_server.pyi" in names
    assert any(name.startswith("pyfpm/protocol/_server.") and name.endswith(".so") for name in names)
    assert not [name for name in names if name.endswith((".pyx", ".pxd", ".c"))]
    assert not [name for name in names if name.startswith(("tests", "tools", "examples"))]


def test_installed_wheel_runs(built: Path, tmp_path: Path) -> None:
    [wheel] = built.glob("*.whl")
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    run(tmp_path / "venv/bin/pip", "install", "--quiet", wheel)
    assert run(tmp_path / "venv/bin/pyfpm", "-v").startswith("pyfpm ")
    # Not the checkout's: the wheel's own modules have to be all that it needs.
    run(tmp_path / "venv/bin/python", "-P", "-c", "import pyfpm.worker.zygote, pyfpm.protocol", cwd=tmp_path)


def test_reference_and_samples_are_what_the_table_of_directives_says() -> None:
    made = subprocess.run(
        [sys.executable, "-c", "import json, runpy; print(json.dumps(runpy.run_path('tools/reference')['files']()))"],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name, text in json.loads(made).items():
        assert (ROOT / name).read_text() == text, "run tools/reference"
