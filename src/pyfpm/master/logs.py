"""Files that are written to for as long as we run, and opened again when we are told to (SIGUSR1)."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

# Visitors' addresses and errors are in them.
MODE = 0o600


class LogFile:
    """A log file under one descriptor number for all of its life.

    Args:
      path: appended to; made if it is not there. Where it is not a regular file (``/dev/stderr``, ``/proc/self/fd/2``),
        it may be a pipe or a socket, which can't be opened by that name: then the descriptor that it names is used.

    Raises:
      OSError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = self._open()

    def _open(self) -> int:
        number = _descriptor(self.path)
        if number is not None:
            return os.dup(number)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
        try:
            return os.open(self.path, flags | os.O_NOFOLLOW, MODE)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
        # A link. In a directory that others can write to it may be theirs, and lead to what only we can write to: a
        # line of a log in root's crontab, say. Those of our own and of root's are followed; images link logs to
        # /dev/stderr. Whoever may put another in its place between the two calls owns the directory, and that has been
        # looked at.
        _check_link(self.path)
        return os.open(self.path, flags, MODE)

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


def _check_link(path: str) -> None:
    ours = (0, os.geteuid())
    directory = os.stat(os.path.dirname(path) or ".")
    is_open_to_others = directory.st_mode & 0o022 and not directory.st_mode & stat.S_ISVTX
    if os.lstat(path).st_uid not in ours or directory.st_uid not in ours or is_open_to_others:
        raise OSError(errno.ELOOP, "is a link that another user may have made", path)


def check(path: str) -> None:
    """Raise OSError if the file could not be opened for writing. Nothing is made, unlike by php-fpm's -t."""
    if _descriptor(path) is not None:
        return
    if os.path.islink(path):
        _check_link(path)
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    place = path if os.path.exists(path) else os.path.dirname(path) or "."
    os.stat(place)
    if not os.access(place, os.W_OK, effective_ids=True):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _descriptor(path: str) -> int | None:
    """The descriptor of ours that a path means."""
    known = {"/dev/stdout": 1, "/dev/stderr": 2}
    if path in known:
        return known[path]
    for directory in ("/proc/self/fd/", "/dev/fd/"):
        if path.startswith(directory) and path[len(directory) :].isdecimal():
            return int(path[len(directory) :])
    return None
