"""Files that are written to for as long as we run, and opened again when we are told to (SIGUSR1)."""

from __future__ import annotations

import os
from contextlib import suppress

# Visitors' addresses and errors are in them.
MODE = 0o600


class LogFile:
    """A log file under one descriptor number for all of its life.

    Args:
      path: appended to; made if it is not there. Where it is not a regular file (``/dev/stderr``, ``/proc/self/fd/2``),
        it may be a pipe or a socket, which can't be opened by that name: then the descriptor that it names is used.
      owner: user and group ids for a file that we make; None: ours.

    Raises:
      OSError: it cannot be opened.
    """

    def __init__(self, path: str, owner: tuple[int, int] | None = None) -> None:
        self.path = path
        self._owner = owner
        self.fd = self._open()

    def _open(self) -> int:
        number = _descriptor(self.path)
        if number is not None:
            return os.dup(number)
        is_new = not os.path.exists(self.path)
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, MODE)
        if is_new and self._owner is not None:
            with suppress(OSError):  # Not ours to give away; the descriptor is what counts.
                os.fchown(fd, *self._owner)
        return fd

    def reopen(self) -> None:
        """Write to the file that has the name now. Raises OSError, and goes on with the old one."""
        fd = self._open()
        os.dup2(fd, self.fd, inheritable=False)
        os.close(fd)

    def write(self, text: str) -> None:
        with suppress(OSError):  # The disk is full, say, and this was the place to tell it.
            os.write(self.fd, text.encode("utf-8", "backslashreplace"))

    def close(self) -> None:
        os.close(self.fd)


def _descriptor(path: str) -> int | None:
    """The descriptor of ours that a path means."""
    known = {"/dev/stdout": 1, "/dev/stderr": 2}
    if path in known:
        return known[path]
    for directory in ("/proc/self/fd/", "/dev/fd/"):
        if path.startswith(directory) and path[len(directory) :].isdecimal():
            return int(path[len(directory) :])
    return None
