"""A pool: one zygote and the workers that are forked from it."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass

import trio

from pyfpm.master.children import Children, describe_end
from pyfpm.master.zygote import ForkError, Zygote, ZygoteError
from pyfpm.observe.log import Log

# A worker that ends this soon after its start did not get anywhere, and the next one may do the same.
TOO_SOON_S = 1.0
# How long the place of such a worker stays empty; doubled for each in a row, up to the longest.
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0


@dataclass(eq=False, slots=True)
class Worker:
    pid: int
    started: float
    control: trio.socket.SocketType
    ready: bool = False


class Pool:
    """Keeps a number of workers alive.

    Args:
      name: as it stands in the log.
      size: how many workers.
    """

    def __init__(self, name: str, size: int, children: Children) -> None:
        self.workers: list[Worker] = []
        self._size = size
        self._children = children
        self._log = Log(name)
        self._stopping = False
        self._zygote: Zygote | None = None
        self._empty = trio.Event()
        self._in_a_row = 0
        self._ready = trio.Event()
        self._replacing = trio.Lock()

    async def start(self, orders: bytes, listeners: list[socket.socket], nursery: trio.Nursery) -> None:
        """Start the zygote, then the workers; return when all of them serve.

        Raises:
          ZygoteError: the application cannot be loaded.
        """
        self._orders = orders
        self._listeners = listeners
        self._zygote = await Zygote.start(orders, listeners)
        for _ in range(self._size):
            nursery.start_soon(self._keep_one)
        await self._ready.wait()

    async def _keep_one(self) -> None:
        """One place in the pool: a worker, and when that ends, the next."""
        while not self._stopping:
            zygote = self._zygote
            assert zygote is not None  # start() has made it
            try:
                pid, control = await zygote.fork()
            except ForkError as error:
                await self._brake(f"no worker could be started ({error})")
                continue
            except ZygoteError as error:
                if not self._stopping:
                    await self._replace_zygote(zygote, error)
                continue
            worker = Worker(pid, trio.current_time(), control)
            self.workers.append(worker)
            await self._watch(worker)
            self.workers.remove(worker)
            control.close()
            if not self._stopping:
                await self._pause(worker)
        if not self.workers:
            self._empty.set()

    async def _replace_zygote(self, lost: Zygote, error: ZygoteError) -> None:
        """The zygote was killed: start another. Workers that it had forked go on meanwhile."""
        async with self._replacing:
            if self._zygote is not lost:
                return  # another place in the pool has done it
            if lost.has_forked:
                self._log("WARNING", f"{error}; starting another")
            else:
                await self._brake(f"{error} before it started any worker")
            try:
                self._zygote = await Zygote.start(self._orders, self._listeners)
                lost.kill()
                if self._stopping:
                    self._zygote.close()  # too late to be of use
            except ZygoteError as again:
                self._log("ERROR", f"cannot load the application: {again}")
                await trio.sleep(LONGEST_PAUSE_S)

    async def _watch(self, worker: Worker) -> None:
        with suppress(OSError):
            worker.ready = await worker.control.recv(1) == b"r"
        if self._stopping and worker.ready:
            self._signal(worker, signal.SIGTERM)  # it could not hear us before
        if all(each.ready for each in self.workers) and len(self.workers) == self._size:
            self._ready.set()
        level, how = describe_end(await self._children.wait(worker.pid))
        if not self._stopping or level != "NOTICE":
            age = trio.current_time() - worker.started
            self._log(level, f"child {worker.pid} {how} after {age:.6f} seconds from start")

    async def _pause(self, worker: Worker) -> None:
        if worker.ready and trio.current_time() - worker.started > TOO_SOON_S:
            self._in_a_row = 0
            return
        await self._brake("a worker ended as soon as it had started")

    async def _brake(self, what: str) -> None:
        """Wait before the next attempt, the longer the more of them have failed in a row."""
        pause = FIRST_PAUSE_S * 2**self._in_a_row
        if pause < LONGEST_PAUSE_S:
            self._in_a_row += 1  # no further: a power that is let grow for hours is too large for a float
        pause = min(pause, LONGEST_PAUSE_S)
        self._log("WARNING", f"{what}, the next one starts in {pause:.1f} seconds")
        await trio.sleep(pause)

    async def stop(self) -> None:
        """Ask all workers to finish what they have begun; return when they have."""
        self._stopping = True
        if self._zygote is None:
            return  # it is still being started, and whoever waits for that is cancelled next
        self._zygote.close()
        for worker in self.workers:
            if worker.ready:
                self._signal(worker, signal.SIGTERM)
        if self.workers:
            await self._empty.wait()
        await self._zygote.wait(self._children)

    def kill(self) -> None:
        """End at once what stop() did not end in its time."""
        if self._zygote is not None:
            self._zygote.kill()
        for worker in self.workers:
            self._log("WARNING", f"child {worker.pid} is still busy, it is killed")
            self._signal(worker, signal.SIGKILL)

    def _signal(self, worker: Worker, number: signal.Signals) -> None:
        # Not reaped yet, or we would not have it in the list: the number can't be another process's.
        if not self._children.has_ended(worker.pid):
            with suppress(ProcessLookupError):
                os.kill(worker.pid, number)
