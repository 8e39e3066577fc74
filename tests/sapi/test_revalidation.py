"""Imported modules follow their files: what is noticed, and what is imported anew."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path

import pytest

from pyfpm.sapi.revalidation import ImportedModules, Revalidation


@pytest.fixture
def place(tmp_path: Path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def modules(place):
    watched = ImportedModules()
    watched.install()
    yield watched
    watched.remove()


def write(path: Path, source: str, age_s: float = 10.0) -> None:
    """A file as it is some time after its change; of the kernel's two times only one can be set."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(source)
    # Until the kernel's clock has gone on, another change could look the same.
    while time.time_ns() - path.stat().st_ctime_ns < 30_000_000:
        time.sleep(0.01)
    os.utime(path, (time.time() - age_s, time.time() - age_s))
    while time.time_ns() - path.stat().st_ctime_ns < 30_000_000:
        time.sleep(0.01)


def test_nothing_has_changed_when_nothing_has(place, modules):
    write(place / "rv_one.py", "VALUE = 1")
    importlib.import_module("rv_one")
    assert modules.changed() is None


def test_an_edit_is_seen_even_with_the_same_size_and_time(place, modules):
    write(place / "rv_one.py", "VALUE = 1")
    assert importlib.import_module("rv_one").VALUE == 1
    before = (place / "rv_one.py").stat()
    (place / "rv_one.py").write_text("VALUE = 2")
    os.utime(place / "rv_one.py", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert modules.changed().path == str(place / "rv_one.py")
    modules.forget()
    assert importlib.import_module("rv_one").VALUE == 2


def test_an_edit_within_the_second_is_not_hidden_by_bytecode(place, modules):
    for value in range(5):
        (place / "rv_fast.py").write_text(f"VALUE = {value}")
        modules.forget()
        importlib.invalidate_caches()
        assert value == importlib.import_module("rv_fast").VALUE


def test_all_are_imported_anew_together(place, modules):
    write(place / "rv_base.py", "class Base: pass")
    write(place / "rv_user.py", "from rv_base import Base\nclass User(Base): pass")
    write(place / "rv_package" / "__init__.py", "from rv_package import part")
    write(place / "rv_package" / "part.py", "import rv_user")
    old = importlib.import_module("rv_package").part.rv_user.User
    write(place / "rv_base.py", "class Base: new = True")
    assert modules.changed() is not None
    modules.forget()
    new = importlib.import_module("rv_package").part.rv_user.User
    assert new is not old and new.new and issubclass(new, importlib.import_module("rv_base").Base)


def test_a_submodule_of_a_package_that_stays_is_forgotten_there_too(place, modules, tmp_path):
    write(place / "rv_stays" / "__init__.py", "")
    write(place / "rv_stays" / "part.py", "VALUE = 1")
    importlib.import_module("rv_stays.part")
    del modules._seen["rv_stays"]
    modules.forget()
    assert not hasattr(sys.modules["rv_stays"], "part")
    assert importlib.import_module("rv_stays.part").VALUE == 1


def test_a_file_that_is_gone_is_a_change(place, modules):
    write(place / "rv_gone.py", "")
    importlib.import_module("rv_gone")
    os.unlink(place / "rv_gone.py")
    assert modules.changed().path == str(place / "rv_gone.py")
    modules.forget()
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("rv_gone")


def test_what_did_not_import_is_no_change_and_is_tried_again(place, modules):
    write(place / "rv_broken.py", "VALUE = (")
    with pytest.raises(SyntaxError):
        importlib.import_module("rv_broken")
    write(place / "rv_broken.py", "VALUE = 1")
    assert modules.changed() is None
    assert importlib.import_module("rv_broken").VALUE == 1


def test_a_module_that_appears_is_found(place, modules):
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("rv_late")
    (place / "rv_late.py").write_text("VALUE = 1")
    assert modules.changed() is None
    assert importlib.import_module("rv_late").VALUE == 1


def test_a_root_that_leads_elsewhere_is_a_change(place):
    for release in ("1", "2"):
        (place / release).mkdir()
    (place / "current").symlink_to("1")
    watched = ImportedModules([str(place / "current")])
    assert watched.changed() is None
    (place / "next").symlink_to("2")
    (place / "next").rename(place / "current")
    assert watched.changed().path == str(place / "current")
    watched.forget()
    assert watched.changed() is None


def test_the_installation_is_not_looked_at(place):
    write(place / "lib" / "rv_installed.py", "")
    sys.path.insert(0, str(place / "lib"))
    watched = ImportedModules(installation=[str(place / "lib")])
    watched.install()
    try:
        importlib.import_module("rv_installed")
    finally:
        watched.remove()
        sys.path.remove(str(place / "lib"))
    assert not watched._seen


def test_the_standard_library_is_installation():
    assert ImportedModules()._is_installed(json.__file__) and ImportedModules()._is_installed(pytest.__file__)


def test_the_last_of_the_changes_is_told(place, modules):
    for name in ("rv_one", "rv_two"):
        write(place / f"{name}.py", "")
        importlib.import_module(name)
    write(place / "rv_one.py", "1")
    first = modules.changed()
    write(place / "rv_two.py", "1")
    second = modules.changed()
    assert second.path == first.path and second.newest_ns > first.newest_ns


def test_it_is_looked_at_once_in_an_interval(place, modules):
    clock = iter((100.0, 100.0, 101.9, 102.0))
    retired: list[str] = []
    write(place / "rv_one.py", "")
    revalidation = Revalidation(modules, 2.0, retired.append, lambda: next(clock))
    importlib.import_module("rv_one")
    write(place / "rv_one.py", "1")
    for _ in range(2):
        revalidation.look()
        assert not retired and "rv_one" in sys.modules
    revalidation.look()
    assert retired == [f"{place}/rv_one.py has changed (python.revalidate)"] and "rv_one" not in sys.modules
