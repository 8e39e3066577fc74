"""A generation: one zygote, the configuration it was started with, and the making of workers from it.

A reload starts the next generation beside the one that serves. Only when a worker of the new one answers do the old
workers retire, so code or a configuration that does not work is never served.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import trio

from pyfpm.config import PoolConfig
from pyfpm.master.children import Children
from pyfpm.master.worker import Ends, Worker, log_output
from pyfpm.master.zygote import ForkError, Zygote, ZygoteError
from pyfpm.observe.log import Log
from pyfpm.observe.output import WorkerOutput
from pyfpm.sapi.settings import SapiSettings
from pyfpm.worker.settings import Orders, Program, Settings, to_json

__all__ = ["ForkError", "Generation", "Shared", "ZygoteError"]


Told = TypeVar("Told")


@dataclass(frozen=True)
class Shared:
    """What a pool's generations have in common, by name, for the zygote's order (``Orders.descriptors``)."""

    names: tuple[str, ...]
    descriptors: tuple[int, ...]


def _from_config(kind: type[Told], config: PoolConfig, **more: Any) -> Told:
    """One of the dataclasses that go to a zygote, whose fields are named as the configuration's."""
    names = [field.name for field in fields(kind) if field.name not in more]  # type: ignore[arg-type]
    return kind(**{name: getattr(config, name) for name in names}, **more)


class Generation:
    """Started by ``start``; ``close`` lets the zygote end, and its workers go on.

    Args:
      number: 1 is the first; every reload counts.
      shared: asked anew for each zygote, since log files may have been opened again since.
      lost: called when the zygote has ended without our order; ``replace`` starts another.
      waits: the zygote is started with the first worker, see ``scaling.waiting_pools``.
    """

    def __init__(
        self,
        number: int,
        config: PoolConfig,
        shared: Callable[[], Shared],
        children: Children,
        log: Log,
        nursery: trio.Nursery,
        lost: Callable[[Generation], None],
        waits: bool,
    ) -> None:
        self.waits = waits
        self.number = number
        self.config = config
        self._shared = shared
        self._children = children
        self._log = log
        self._nursery = nursery
        self._lost = lost
        self._zygote: Zygote | None = None
        self._replacing = trio.Lock()
        self._running = 0
        self._forking = 0
        self._over = trio.Event()
        self.closed = False

    @property
    def zygote(self) -> Zygote | None:
        return self._zygote

    def has_got_somewhere(self, after_s: float) -> bool:
        """The zygote has started a worker, or was there for this long without being asked to."""
        zygote = self._zygote
        return zygote is not None and (zygote.has_forked or trio.current_time() - zygote.started > after_s)

    async def start(self) -> None:
        """Load the application.

        Raises:
          ZygoteError: it cannot be loaded; the message has the reason, maybe a traceback.
        """
        shared = self._shared()
        orders = Orders(
            program=_from_config(Program, self.config, sapi=_from_config(SapiSettings, self.config)),
            settings=_from_config(Settings, self.config),
            log=self._log.settings,
            descriptors=shared.names,
        )
        output: list[int] = []
        try:
            self._connect_output(output)
            with self._children.expecting():
                zygote = await Zygote.start(to_json(orders), shared.descriptors, output)
                self._children.watch(zygote.pid)
        except OSError as error:  # We are out of descriptors or processes, say.
            raise ZygoteError(f"no process that loads the application can be had: {error.strerror or error}") from None
        finally:
            for fd in output:
                os.close(fd)
        self._nursery.start_soon(self._wait_for, zygote)
        for warning in zygote.warnings:
            self._log("WARNING", warning)
        self._zygote = zygote
        if self.closed:
            zygote.close()

    async def _wait_for(self, zygote: Zygote) -> None:
        self._running += 1
        await zygote.wait(self._children)
        self._running -= 1
        self._over.set()
        if zygote is self._zygote and not self.closed:
            self._lost(self)

    async def wait_closed(self) -> None:
        """Return when no zygote of this generation is left."""
        while self._running:
            await self._over.wait()
            self._over = trio.Event()

    def _connect_output(self, theirs: list[int]) -> None:
        """Add descriptors for what the application prints while it is imported, which is logged in any case: unlike a
        request's, nobody else sees it."""
        if self.config.catch_workers_output is None:
            return
        for stream in ("stdout", "stderr"):
            ours, other = os.pipe2(os.O_CLOEXEC)
            theirs.append(other)
            output = WorkerOutput(self.config.pool, 0, stream, self.config.decorate_workers_output, self._log)
            self._nursery.start_soon(log_output, ours, output)

    async def fork(self) -> Worker:
        """A new worker, which is not ready yet.

        Raises:
          ForkError: there is none this time; there may be later.
          ZygoteError: the zygote is gone; ``replace`` starts another.
        """
        if self._zygote is None and self.waits:
            async with self._replacing:
                if self._zygote is None and not self.closed:
                    await self.start()
        zygote = self._zygote
        if zygote is None or self.closed:
            raise ZygoteError("the zygote is gone")
        try:
            ends = Ends(self.config.catch_workers_output)
        except OSError as error:
            raise ForkError(f"cannot connect to it: {error.strerror}") from None
        self._forking += 1
        try:
            with self._children.expecting():
                pid = await zygote.fork(ends.theirs)
                self._children.watch(pid)
        except ChildProcessError as error:
            ends.close()
            zygote.kill()
            raise ZygoteError(f"the zygote does not tell the truth ({error}), it is killed") from None
        except BaseException:
            ends.close()
            raise
        finally:
            self._forking -= 1
            if self.closed and not self._forking:
                zygote.close()
        ends.close_theirs()
        return Worker(pid, self.number, ends)

    async def replace(self, error: ZygoteError) -> bool:
        """The zygote was killed: start another. Its workers go on meanwhile.

        Returns False when that has not worked this time; the reason is logged.
        """
        lost = self._zygote
        async with self._replacing:
            if self._zygote is not lost or self.closed:
                return True  # somebody else has done it
            self._log("WARNING", f"{error}; starting another")
            try:
                await self.start()
            except ZygoteError as again:
                self._log("ERROR", f"cannot load the application: {again}")
                return False
            if lost is not None:
                lost.kill()
            return True

    def reopen(self, names: Sequence[str], descriptors: Sequence[int]) -> None:
        if self._zygote is not None:
            self._zygote.reopen(names, descriptors)

    def close(self) -> None:
        """No more workers of this generation, once those that are being forked are there: one that we did not get to
        know would serve some requests before it finds out, and nobody would have its counters."""
        self.closed = True
        if self._zygote is not None and not self._forking:
            self._zygote.close()

    def kill(self) -> None:
        self.closed = True
        if self._zygote is not None:
            self._zygote.kill()
