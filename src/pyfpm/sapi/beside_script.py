"""Modules in the directory of a script, for processes where scripts of several directories run at the same time.

There sys.path, whose first entry it is otherwise, is one for all: who asks decides, by the context of the request.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextvars import ContextVar
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec
from types import ModuleType

_directory: ContextVar[str | None] = ContextVar("pyfpm script's directory", default=None)


class BesideScript:
    """A finder for ``sys.meta_path``: top-level modules beside the script whose request imports them."""

    def install(self) -> None:
        """Be asked before whatever searches along sys.path, and behind the interpreter's own modules."""
        own = (BuiltinImporter, FrozenImporter)
        at = max((at + 1 for at, finder in enumerate(sys.meta_path) if finder in own), default=0)
        sys.meta_path.insert(at, self)

    def enter(self, directory: str) -> None:
        """From now on that is where the script of this context is."""
        _directory.set(directory)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        directory = _directory.get()
        if path is not None or directory is None:
            return None
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            # Who watches modules for changes searches in Python's way as well, and has to hear of these.
            if (spec := finder.find_spec(fullname, [directory], target)) is not None:
                return spec
        return None
