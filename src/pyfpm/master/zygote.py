"""The master's end of a zygote: see ``pyfpm.worker.zygote`` for the other, and for what they say to each other."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from pyfpm.worker.settings import CONTROL_FD, LONGEST_MESSAGE

if TYPE_CHECKING:
    from pyfpm.master.children import Children

# Signals that we handle or ignore, and a new program must find as it would from a shell.
_DEFAULT = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE)


class ZygoteError(Exception):
    """The application cannot be started; the message is the reason as text, maybe a traceback."""


class ForkError(Exception):
    """There is no worker this time; the zygote is well."""


class Zygote:
    """A running zygote. Closing it ends the process; its workers go on."""

    def __init__(self, pid: int, control: socket.socket) -> None:
        self.pid = pid
        self.has_forked = False
        self._control = control
        # Not reaped yet, so the number is still its own; from here on the descriptor stands for the process.
        self._pidfd = os.pidfd_open(pid)
        # One order at a time: the answers do not say to which they belong.
        self._lock = trio.Lock()

    @classmethod
    async def start(cls, orders: bytes, listeners: list[socket.socket]) -> Zygote:
        """Execute a zygote and wait until it has the application.

        Raises:
          ZygoteError: it could not load the application, or ended before it could say why.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            pid = os.posix_spawn(
                sys.executable,
                # -P: a module of the user's that lies where we were started must not stand in for one of Python's.
                [sys.executable, "-P", "-m", "pyfpm.worker.zygote"],
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), CONTROL_FD),
                ],
                setsigdef=_DEFAULT,
            )
        zygote = cls(pid, ours)
        try:
            socket.send_fds(ours, [orders], [listener.fileno() for listener in listeners])
            ours.setblocking(False)
            answer = await zygote._hear()
            if answer != b"ready":
                raise ZygoteError(_text(answer) or "the process that loads the application ended without a word")
        except BaseException:
            # Cancelled, maybe, because nobody wants to wait for it any longer: it does not listen while it imports.
            zygote.kill()
            raise
        return zygote

    async def fork(self) -> tuple[int, trio.socket.SocketType]:
        """A new worker: its process id, and our end of its control socket.

        Raises:
          ZygoteError: the zygote is gone.
          ForkError: it could not fork; it may later.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        async with self._lock:
            with theirs:
                try:
                    socket.send_fds(self._control, [b"fork"], [theirs.fileno()])
                except OSError as error:
                    ours.close()
                    raise ZygoteError(f"the zygote is gone: {error.strerror}") from None
            answer = await self._hear()
        if not answer.startswith(b"forked "):
            ours.close()
            if not answer:
                raise ZygoteError("the zygote is gone")
            raise ForkError(_text(answer))
        self.has_forked = True
        return int(answer[7:]), trio.socket.from_stdlib_socket(ours)

    async def _hear(self) -> bytes:
        try:
            await trio.lowlevel.wait_readable(self._control)
            return self._control.recv(LONGEST_MESSAGE)
        except (ConnectionError, trio.ClosedResourceError):
            return b""

    def close(self) -> None:
        """Let it end; it may take the time that exit handlers of the application's take."""
        if self._control.fileno() >= 0:
            trio.lowlevel.notify_closing(self._control)
            self._control.close()

    def kill(self) -> None:
        self.close()
        if self._pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self._forget()

    async def wait(self, children: Children) -> None:
        """Return when it has ended."""
        await children.wait(self.pid)
        self._forget()

    def _forget(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


def _text(answer: bytes) -> str:
    return answer.removeprefix(b"failed ").decode("utf-8", "replace")
