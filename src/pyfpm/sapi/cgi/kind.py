"""How a CGI program runs: in the worker if it is Python that this interpreter may take for its own, else by itself.

Its first line decides. Here run ``#!/usr/bin/env python3`` and a Python of the usual places, ``python``, ``python3`` or
one of our own version by its number; with no options, or of those only ones that change nothing here (and ``-u``). A
file without such a line runs here if its name ends in ``.py``. Everything else is a process: another language, a
compiled program, the Python of some virtual environment, and Python with other options; so ``#!/usr/bin/python3 -I`` is
how to ask for one.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass

# Of a file's beginning, what is looked at. Precedent: the kernel's BINPRM_BUF_SIZE, 256.
LONGEST_LINE = 256

_PLACES = frozenset({"/usr/bin", "/bin", "/usr/local/bin"})
_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
_NAMES = frozenset({"python", f"python{sys.version_info.major}", f"python{_VERSION}"})

# -B -E -s: about files and variables that are not for a script to say here. -u: see below.
_OPTIONS = re.compile(r"-[BEsu]+")


@dataclass(frozen=True, slots=True)
class Kind:
    """``unbuffered``: what it prints is to be sent at once (``python -u``)."""

    inside: bool
    unbuffered: bool = False


PROCESS = Kind(False)


def kind_of(head: bytes, path: str) -> Kind:
    """How the program runs whose file has this path and begins with these bytes, LONGEST_LINE of them or more."""
    if not head.startswith(b"#!"):
        return Kind(path.endswith(".py"))
    words = os.fsdecode(head[2:LONGEST_LINE].partition(b"\n")[0]).split()
    if not words:
        return PROCESS
    interpreter, *arguments = words
    if os.path.basename(interpreter) == "env":
        if arguments and arguments[0] == "-S":
            del arguments[0]
        # With variables or options for env we do not do what it would.
        if not arguments or not _is_ours(shutil.which(arguments[0]), os.path.basename(arguments[0])):
            return PROCESS
        del arguments[0]
    elif os.path.dirname(interpreter) not in _PLACES | {os.path.dirname(sys.executable)} or not _is_ours(
        interpreter, os.path.basename(interpreter)
    ):
        return PROCESS
    if not all(_OPTIONS.fullmatch(each) for each in arguments):
        return PROCESS
    return Kind(True, any("u" in each for each in arguments))


def _is_ours(path: str | None, name: str) -> bool:
    if name not in _NAMES:
        return False
    # Where "python" still is Python 2. That it is not there at all does not matter: we are.
    return path is None or not os.path.basename(os.path.realpath(path)).startswith("python2")
