"""Going into the background, and the pid file."""

from __future__ import annotations

import os
from contextlib import suppress

EX_SOFTWARE = 70


class Launch:
    """The process that the user has started, seen from the one in the background: it waits for a word on how it went.

    In the foreground there is none, and ``tell`` does nothing.
    """

    def __init__(self, fd: int = -1) -> None:
        self._fd = fd

    def tell(self, status: int) -> None:
        """Let it exit with this status; once."""
        if self._fd >= 0:
            with suppress(OSError):
                os.write(self._fd, bytes([status]))
            os.close(self._fd)
            self._fd = -1


def daemonize() -> Launch:
    """Go on in the background, in a session of its own. To be called before there is a thread or an event loop.

    The process that was started does not return from here: it exits with what ``Launch.tell`` is given, or 70 if the
    other ends without a word. So a start that fails is seen by whoever has started it.
    """
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    if os.fork():
        os.close(theirs)
        told = os.read(ours, 1)
        os._exit(told[0] if told else EX_SOFTWARE)
    os.close(ours)
    os.setsid()
    return Launch(theirs)


def let_go_of_terminal(keep_stderr: bool) -> None:
    """Standard streams lead nowhere from now on, unless the log goes to one of them."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1) if keep_stderr else (0, 1, 2):
        os.dup2(null, fd)
    if null > 2:
        os.close(null)


class PidFile:
    """Written when we are ready, removed when we end, if it is still ours.

    Raises:
      OSError: it cannot be written.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.write()

    def write(self) -> None:
        temporary = f"{self.path}.{os.getpid()}"
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        # A new file, and no link to another that somebody has put there. Everybody may read it, whatever our umask.
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with open(fd, "w") as file:
            os.fchmod(fd, 0o644)
            file.write(f"{os.getpid()}\n")
        # Readers find the old number or the new one, never half of it.
        os.replace(temporary, self.path)

    def remove(self) -> None:
        with suppress(OSError, ValueError):
            with open(self.path) as file:
                is_ours = int(file.read(20)) == os.getpid()
            if is_ours:
                os.unlink(self.path)
