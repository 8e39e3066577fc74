"""The master's end of a zygote: see ``pyfpm.worker.zygote`` for the other, and for what they say to each other."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from pyfpm.worker.settings import CONTROL_FD, LONGEST_MESSAGE

if TYPE_CHECKING:
    from pyfpm.master.children import Children

# Signals that we handle or ignore, and a new program must find as it would from a shell.
_DEFAULT = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGCHLD,
    signal.SIGPIPE,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
)

# A fork takes milliseconds. One that takes this long hangs in something that the application does around forks.
FORK_TIMEOUT_S = 10.0

# Digits of a process id: the kernel's largest is 4194304.
LONGEST_PID = 7


class ZygoteError(Exception):
    """The application cannot be started; the message is the reason as text, maybe a traceback."""


class ForkError(Exception):
    """There is no worker this time; the zygote is well."""


class Zygote:
    """A running zygote. Closing it ends the process; its workers go on."""

    def __init__(self, pid: int, control: socket.socket) -> None:
        self.pid = pid
        self.has_forked = False
        self.started = trio.current_time()
        # What the application has left behind that a fork does not go well with, a sentence each.
        self.warnings: list[str] = []
        self._control = control
        # Not reaped yet, so the number is still its own; from here on the descriptor stands for the process.
        self._pidfd = os.pidfd_open(pid)
        # One order at a time: the answers do not say to which they belong.
        self._lock = trio.Lock()

    @classmethod
    async def start(cls, orders: bytes, descriptors: Sequence[int], output: Sequence[int] = ()) -> Zygote:
        """Execute a zygote and wait until it has the application.

        Args:
          orders: ``worker.settings.to_json``; descriptors: those that it names.
          output: descriptors to be its stdout and stderr; ours without them.

        Raises:
          ZygoteError: it could not load the application, or ended before it could say why.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        ]
        if output:
            actions += [(os.POSIX_SPAWN_DUP2, output[0], 1), (os.POSIX_SPAWN_DUP2, output[1], 2)]
        with theirs:
            actions.append((os.POSIX_SPAWN_DUP2, theirs.fileno(), CONTROL_FD))
            pid = os.posix_spawn(
                sys.executable,
                # -P: a module of the user's that lies where we were started must not stand in for one of Python's.
                [sys.executable, "-P", "-m", "pyfpm.worker.zygote"],
                os.environ,
                file_actions=actions,
                setsigdef=_DEFAULT,
            )
        try:
            zygote = cls(pid, ours)
        except BaseException:
            os.kill(pid, signal.SIGKILL)  # nobody has waited for it yet, so the number is its own
            raise
        try:
            socket.send_fds(ours, [orders], list(descriptors))
            ours.setblocking(False)
            answer = await zygote._hear()
            if not answer.startswith(b"ready"):
                raise ZygoteError(_text(answer) or "the process that loads the application ended without a word")
            zygote.started = trio.current_time()
            zygote.warnings = [str(each) for each in json.loads(answer[5:] or b"[]")]
        except OSError as error:
            zygote.kill()
            raise ZygoteError(f"the process that loads the application does not listen: {error.strerror}") from None
        except (ValueError, TypeError, RecursionError):
            zygote.kill()
            raise ZygoteError("the process that loads the application says something without sense") from None
        except BaseException:
            # Cancelled, maybe, because nobody wants to wait for it any longer: it does not listen while it imports.
            zygote.kill()
            raise
        return zygote

    async def fork(self, descriptors: Mapping[str, int]) -> int:
        """A new worker: its process id.

        Args:
          descriptors: the worker's own, by name: "control", "slot", and "stdout" and "stderr" where they are caught.

        Raises:
          ZygoteError: the zygote is gone.
          ForkError: it could not fork; it may later.
        """
        order = b"fork" + json.dumps(list(descriptors)).encode()
        async with self._lock:
            try:
                socket.send_fds(self._control, [order], list(descriptors.values()))
            except OSError as error:
                raise ZygoteError(f"the zygote is gone: {error.strerror}") from None
            with trio.move_on_after(FORK_TIMEOUT_S):
                answer = await self._hear()
                if not answer:
                    raise ZygoteError("the zygote is gone")
                if not answer.startswith(b"forked "):
                    raise ForkError(_text(answer))
                number = answer[7:]
                if not number.isdigit() or len(number) > LONGEST_PID:
                    self.kill()
                    raise ZygoteError("the zygote says something without sense, it is killed")
                self.has_forked = True
                return int(number)
            # Its answer may still come, and would be taken for the next one's.
            self.kill()
            raise ZygoteError(f"the zygote does not answer within {FORK_TIMEOUT_S:.0f} seconds, it is killed")

    def reopen(self, names: Sequence[str], descriptors: Sequence[int]) -> None:
        """Later workers write to these log files instead of those of that name."""
        with suppress(OSError):  # It is gone, or will be: the next one is started with the new files.
            socket.send_fds(self._control, [b"logs" + json.dumps(list(names)).encode()], list(descriptors))

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
