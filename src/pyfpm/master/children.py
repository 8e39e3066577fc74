"""Processes that are ours to wait for: zygotes, workers, and whatever a worker left behind."""

from __future__ import annotations

import os
import signal

import trio


class Children:
    """Who ended, and how.

    We are a subreaper, so any process may turn up here; and a worker may end before we are told that it exists. So all
    ends are collected in one place, and kept for whoever asks later.
    """

    def __init__(self) -> None:
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
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
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


def describe_end(status: int) -> tuple[str, str]:
    """Log level and words for a wait status, as php-fpm has them."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = "unknown signal"
        core = " - core dumped" if os.WCOREDUMP(status) else ""
        return "WARNING", f"exited on signal {number} ({name}{core})"
    code = os.WEXITSTATUS(status)
    return ("NOTICE" if code == 0 else "WARNING"), f"exited with code {code}"
