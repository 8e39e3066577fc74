"""A worker that nobody supervises, in a process that is somebody else's: it has neither master, limits nor log files.

The process stays as it was found: signals, descriptors and the event loop are given back when ``serve_alone`` returns.
There is no watchdog, whose handlers of crashes would stay.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

import trio

from pyfpm.worker._output import forks_are_the_users
from pyfpm.worker._reactor import Reactor
from pyfpm.worker.control import Control
from pyfpm.worker.inline import Adapter, InlineExecutor
from pyfpm.worker.refusal import Refusal
from pyfpm.worker.serve import serve
from pyfpm.worker.settings import Settings

# SIGTERM and SIGQUIT are serve()'s own.
ALSO_STOP = (signal.SIGINT, signal.SIGHUP)

_forks_are_the_users = False


def serve_alone(
    listener: socket.socket,
    adapter: Adapter,
    settings: Settings,
    log: Callable[[str, str], None],
    *,
    roles: Iterable[int],
    allowed: Callable[[bytes], bool] | None = None,
) -> bool:
    """Serve until SIGTERM, SIGINT, SIGHUP or SIGQUIT, or until ``settings.pm_max_requests`` have run; what has begun is
    finished. A second SIGINT ends the process.

    Args:
      listener: stays the caller's.
      roles, allowed: as the reactor has them.
    Returns:
      True if there was a SIGHUP: whoever sent it wants it started again.
    Raises:
      ValueError: not in the main thread, where alone Python hears of signals.
    """
    global _forks_are_the_users
    reactor = Reactor(InlineExecutor(adapter), Refusal(log), settings, log, allowed=allowed, roles=roles)
    reactor.listen(listener)
    if not _forks_are_the_users:
        _forks_are_the_users = True
        forks_are_the_users()
    stop = _Stop()
    nobody, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    control = _NoMaster(ours, stop.allow)
    try:
        stop.begin()
        trio.run(serve, reactor, control)
    finally:
        stop.end()
        control.close()
        nobody.close()
    return stop.hung_up


class _NoMaster(Control):
    """Nobody hears what a worker says to its master. That it is ready says that it listens to signals."""

    def __init__(self, sock: socket.socket, when_ready: Callable[[], None]) -> None:
        super().__init__(sock)
        self._when_ready = when_ready

    def send(self, letter: str, payload: str = "") -> None:
        if letter == "r":
            self._when_ready()


class _Stop:
    """Has the other signals mean the same as SIGTERM.

    All of them are blocked until somebody listens to SIGTERM: it must neither end us at once nor be missed.
    """

    def __init__(self) -> None:
        self.hung_up = False
        self._told = False
        self._before: dict[signal.Signals, Any] = {}
        self._mask: Any = None

    def begin(self) -> None:
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, *ALSO_STOP})
        for number in ALSO_STOP:
            before = signal.getsignal(number)
            # nohup, and the shell for what it starts with "&", mean what they say.
            if before is not signal.SIG_IGN:
                signal.signal(number, self._handle)
                self._before[number] = before

    def allow(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def end(self) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        if self._mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._told:
            # Twice Ctrl-C: now.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)
        self._told = True
        self.hung_up = self.hung_up or number == signal.SIGHUP
        signal.raise_signal(signal.SIGTERM)
