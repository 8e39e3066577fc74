"""Edit, refresh: imported modules follow their files.

What a module's file was is written down before the import reads it, so an edit at any later moment is seen. When one of
them has changed, all of them are forgotten together and imported anew: a mix of old and new code cannot be. What
belongs to the Python installation is not looked at; it changes with an upgrade, which wants a restart.

A pool of scripts does this in the worker, before a request, and the worker is replaced after that request: a library
may have kept something of the old modules. An application was imported by the zygote and is its workers' shared memory,
so there a change means a new generation, and the old one serves until it is there; see ``worker/code.py``.

Extension modules cannot be imported a second time in one process. They are left alone, and the new worker has the new
one.
"""

from __future__ import annotations

import importlib
import math
import os
import site
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ExtensionFileLoader, ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import cache_from_source
from types import CodeType, ModuleType
from typing import NamedTuple

# A file that changed less than this before it was looked at may change again under the same time; see script_file.
UNSETTLED_NS = 20_000_000

# Python's own bytecode files know their source's time in whole seconds, so for so long they cannot be trusted.
BYTECODE_DOUBT_S = 2.0

# What a file was: mtime, ctime, size, inode, device; None where that is not to be trusted.
Identity = tuple[int, int, int, int, int] | None

_GONE: Identity = (0, 0, 0, 0, 0)


class Change(NamedTuple):
    """
    Attributes:
      path: the first file that is not what was imported, or a root that leads elsewhere.
      newest_ns: when the last of all such was changed, in nanoseconds since 1970.
    """

    path: str
    newest_ns: int


class ImportedModules(MetaPathFinder):
    """The modules that were imported since ``install`` and are not of the Python installation.

    Args:
      roots: directories that may be links, as doc_root often is; that one leads elsewhere is a change of everything.
      installation: directories that are not looked at.
    """

    def __init__(self, roots: Sequence[str] = (), installation: Sequence[str] | None = None) -> None:
        places = _installation() if installation is None else installation
        self._installation = tuple(os.path.realpath(place).rstrip("/") + "/" for place in places)
        self._seen: dict[str, tuple[str, Identity]] = {}
        self._links = {root: os.path.realpath(root) for root in roots}

    def install(self) -> None:
        """Be asked for every module from here on, in the place of Python's own search along sys.path."""
        at = sys.meta_path.index(PathFinder) if PathFinder in sys.meta_path else len(sys.meta_path)
        sys.meta_path.insert(at, self)

    def remove(self) -> None:
        sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None:
            self.note(spec)
        return spec

    def note(self, spec: ModuleSpec) -> None:
        """Watch the file of a module that is about to be imported."""
        if spec.origin is None or not spec.has_location or self._is_installed(spec.origin):
            return
        self._seen[spec.name] = (spec.origin, _identity(spec.origin))
        if type(spec.loader) is SourceFileLoader:
            spec.loader = _SourceLoader(spec.loader.name, spec.loader.path)

    def _is_installed(self, origin: str) -> bool:
        return os.path.realpath(origin).startswith(self._installation)

    def changed(self) -> Change | None:
        """Whether anything is not what was imported any more."""
        # Also without a change: a module that was not there may be there now, in the same tick of the clock.
        importlib.invalidate_caches()
        paths = [root for root, led_to in self._links.items() if os.path.realpath(root) != led_to]
        for name, (path, identity) in list(self._seen.items()):
            if name not in sys.modules:
                del self._seen[name]  # its import has failed, and is tried again in any case
            elif identity is None or _identity(path) != identity:
                paths.append(path)
        return Change(paths[0], max(map(_changed_ns, paths))) if paths else None

    def forget(self) -> None:
        """Have all of them imported anew, by whoever asks for them next."""
        for name in list(self._seen):
            module = sys.modules.get(name)
            if isinstance(getattr(module, "__loader__", None), ExtensionFileLoader):
                continue
            sys.modules.pop(name, None)
            parent, _, child = name.rpartition(".")
            # A package that stays must not go on showing it.
            if parent and getattr(sys.modules.get(parent), child, None) is module:
                delattr(sys.modules[parent], child)
        self._seen.clear()
        self._links = {root: os.path.realpath(root) for root in self._links}


class Revalidation:
    """Looks at the modules at most every ``interval_s`` seconds.

    Args:
      retire: called with the reason when something has changed and was forgotten: the worker is to be replaced after
        this request.
      forgets: modules are taken out under the hands of whatever runs, so not where other requests do: these, and the
        one that looks, still run the old ones.
    """

    def __init__(
        self,
        modules: ImportedModules,
        interval_s: float,
        retire: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        forgets: bool = True,
    ) -> None:
        self._modules = modules
        self._forgets = forgets
        self._interval_s = interval_s
        self._retire = retire
        self._clock = clock
        self._next = clock() + interval_s

    def look(self) -> None:
        """To be called before a request."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + self._interval_s
        changed = self._modules.changed()
        if changed is not None:
            if self._forgets:
                self._modules.forget()
            else:
                self._next = math.inf  # they stay changed
            self._retire(f"{changed.path} has changed (python.revalidate)")


class _SourceLoader(SourceFileLoader):
    """Does not believe a bytecode file which could be of an earlier version of the source: Python compares whole
    seconds and the size."""

    def get_code(self, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        if _bytecode_is_doubtful(path):
            return self.source_to_code(self.get_data(path), path)
        return super().get_code(fullname)


def _bytecode_is_doubtful(path: str) -> bool:
    try:
        changed = os.stat(path).st_mtime
        if abs(time.time() - changed) < BYTECODE_DOUBT_S:
            return True
        return os.stat(cache_from_source(path)).st_mtime - changed < BYTECODE_DOUBT_S
    except (OSError, NotImplementedError):
        return False  # No bytecode, or no source: the import will find out.


def _identity(path: str) -> Identity:
    try:
        found = os.stat(path)
    except OSError:
        return _GONE
    if abs(time.time_ns() - found.st_ctime_ns) < UNSETTLED_NS:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev


def _changed_ns(path: str) -> int:
    """When a file, or the link that it is, was changed; of one that is gone, its directory."""
    try:
        return os.lstat(path).st_ctime_ns
    except OSError:
        parent = os.path.dirname(path)
        return _changed_ns(parent) if parent != path else 0


def _installation() -> list[str]:
    """The directories of the Python that runs us, and ours."""
    paths = sysconfig.get_paths()
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return [*(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")), *site.getsitepackages(), ours]
