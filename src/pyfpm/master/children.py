"""Processes that are ours to wait for: zygotes, workers, and whatever a worker left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import trio

from pyfpm.observe.log import Log


class Children:
    """Who ended, and how.

    We are a subreaper, so any process may turn up here; and a worker may end before we are told that it exists. So all
    ends are collected in one place. That of a process that nobody watches is kept only for as long as somebody expects
    to hear of a new one: later the number may belong to another.

    A process that is stopped (SIGSTOP) would hold its connections for ever, and the whole pool if it is the zygote. So
    it is told to go on; who wants to look at one has a debugger, whose stops do not come here.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._watched: dict[int, trio.Event] = {}
        self._ended: dict[int, int] = {}
        self._unknown: dict[int, int] = {}
        self._expecting = 0

    async def reap(self) -> None:
        """Wait for all that end, for ever."""
        with trio.open_signal_receiver(signal.SIGCHLD) as signals:
            self._collect()
            async for _ in signals:
                self._collect()

    def _collect(self) -> None:
        while True:
            try:
                # Only looked at: until it is waited for nobody else can have its number.
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            pid = found.si_pid
            if found.si_code == os.CLD_KILLED and found.si_status == signal.SIGKILL and pid not in self._watched:
                self._end_group(pid)
            pid, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
            if pid == 0:
                continue  # it was stopped, and goes on already
            if os.WIFSTOPPED(status):
                number = os.WSTOPSIG(status)
                self._log(
                    "WARNING", f"child {pid} was stopped on signal {number} ({_name_of(number)}), it is continued"
                )
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGCONT)
                continue
            if pid in self._watched:
                self._ended[pid] = status
                self._watched[pid].set()
            elif self._expecting:
                self._unknown[pid] = status

    @staticmethod
    def _end_group(leader: int) -> None:
        """A CGI program lost its worker, and was killed by the kernel for that: what it has started in its group goes
        with it. We may be root, and any user of a pool can have us come here: a group of this number has to be of this
        process, which is why nobody has waited for it yet."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """Around whatever makes a child, up to ``watch``."""
        self._expecting += 1
        try:
            yield
        finally:
            self._expecting -= 1
            if not self._expecting:
                self._unknown.clear()

    def watch(self, pid: int) -> None:
        """It is ours; ``wait`` has to follow.

        Raises:
          ChildProcessError: it is not, or somebody watches it already. The number may come from a process that runs
            other people's code, and we are about to send signals to it, maybe as root.
        """
        if pid in self._watched:
            raise ChildProcessError(f"process {pid} is known already")
        if pid <= 0:
            raise ChildProcessError(f"{pid} is no process")  # but a group of them for kill(2), or all there are
        if pid not in self._unknown:
            try:
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # leaves it as it is
            except ChildProcessError:
                raise ChildProcessError(f"process {pid} is no child of ours") from None
        self._watched[pid] = trio.Event()
        if pid in self._unknown:
            self._ended[pid] = self._unknown.pop(pid)
            self._watched[pid].set()

    async def wait(self, pid: int) -> int:
        """The wait status of a process that is watched, once it has ended. To be called once."""
        await self._watched[pid].wait()
        del self._watched[pid]
        return self._ended.pop(pid)

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to one that is watched and not reaped yet, so that the number can't be another process's."""
        if pid in self._watched and pid not in self._ended:
            with suppress(ProcessLookupError, PermissionError):  # it may have become another user's (sudo)
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
