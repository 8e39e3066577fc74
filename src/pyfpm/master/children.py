"""Processes that are ours to wait for: zygotes, workers, and whatever a worker left behind."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import trio

from pyfpm.observe.log import Log


class Children:
    """Who ended, and how.

    We are a subreaper, so any process may turn up here; and a worker may end before we are told that it exists. So all
    ends are collected in one place, and kept for whoever asks later.

    A process that is stopped (SIGSTOP) would hold its connections for ever, and the whole pool if it is the zygote. So
    it is told to go on; who wants to look at one has a debugger, whose stops do not come here.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._waiting: dict[int, trio.Event] = {}
        self._ended: dict[int, int] = {}

    async def reap(self) -> None:
        """Wait for all that end, for ever."""
        with trio.open_signal_receiver(signal.SIGCHLD) as signals:
            self._collect()
            async for _ in signals:
                self._collect()

    def _collect(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if os.WIFSTOPPED(status):
                number = os.WSTOPSIG(status)
                self._log(
                    "WARNING", f"child {pid} was stopped on signal {number} ({_name_of(number)}), it is continued"
                )
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
                continue
            self._ended[pid] = status
            event = self._waiting.pop(pid, None)
            if event is not None:
                event.set()
            while len(self._ended) > 1000:
                # Left behind by workers, and nobody's interest.
                del self._ended[next(iter(self._ended))]

    async def wait(self, pid: int) -> int:
        """The wait status of this process, once it has ended."""
        if pid not in self._ended:
            event = self._waiting.setdefault(pid, trio.Event())
            await event.wait()
        return self._ended.pop(pid)

    def has_ended(self, pid: int) -> bool:
        return pid in self._ended

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to one that was not waited for yet, so that the number can't be another process's."""
        if pid not in self._ended:
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def describe_end(status: int) -> tuple[str, str]:
    """Log level and words for a wait status, as php-fpm has them."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        core = " - core dumped" if os.WCOREDUMP(status) else ""
        return "WARNING", f"exited on signal {number} ({_name_of(number)}{core})"
    code = os.WEXITSTATUS(status)
    return ("NOTICE" if code == 0 else "WARNING"), f"exited with code {code}"


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown signal"
