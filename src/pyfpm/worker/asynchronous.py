"""The asynchronous executors: each request is a task, of trio or of asyncio, and thousands of them wait at once.

The reactor begins a request here, from within a drain, and goes on; the task runs when the loop comes to it. A time
that is up is an answer as well: the visitor gets a 504, and the task is cancelled. A loop that does not come round any
more is for the watchdog, which ends the process.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import outcome
import trio

from pyfpm.sapi import pages
from pyfpm.sapi.asgi import ASGIAdapter
from pyfpm.sapi.failure import Log
from pyfpm.sapi.printable import printable
from pyfpm.worker._live import Live
from pyfpm.worker.pages import ServerPages

# Tasks of trio that wait for a request, at most. What a task costs is saved, and a rush does not stay in memory.
MOST_IDLE = 256


class Executor:
    """What both have in common.

    Args:
      pages: the two paths that are not the application's.
      soft_s: max_execution_time; hard_s: request_terminate_timeout. Seconds; 0: none.
    """

    def __init__(
        self, adapter: ASGIAdapter, log: Log, pages: ServerPages | None = None, *, soft_s: float = 0, hard_s: float = 0
    ) -> None:
        self.adapter = adapter
        self.log = log
        # User code has forked, and this is the child: it has the loop and the connections as well, but they are its
        # parent's.
        self.forked = False
        self._pages = pages
        # What a request begins in, and not the context that we are called in: what kept one from beginning may be that
        # another one had not read its body, and then it begins in the midst of that one's task.
        self._context = contextvars.copy_context()
        self._soft_s = soft_s
        self._hard_s = hard_s
        self._shortest_s = min((each for each in (soft_s, hard_s) if each), default=0.0)
        os.register_at_fork(after_in_child=self._note_fork)

    def _note_fork(self) -> None:
        self.forked = True

    @property
    def looks_every_s(self) -> float | None:
        """How often ``enforce`` is to be called; None: there is nothing to look at."""
        return max(0.01, min(1.0, self._shortest_s / 20)) if self._shortest_s else None

    def begin(self, live: Live) -> None:
        """The reactor's ``begin``."""
        if self._pages is not None and self._pages.answer(live.request, live.output):
            live.end()
        else:
            self._start(live)

    def enforce(self, lives: list[Live]) -> None:
        """End what has taken too long; lives: the oldest first."""
        for live in lives:
            age_s = live.age_s
            if age_s < self._shortest_s:
                return
            if live.task is None:
                continue  # The loop has not come to it yet.
            if self._hard_s and age_s >= self._hard_s:
                self._cancel(live, "request_terminate_timeout", self._hard_s)
                # What it makes of that is its own affair, and nobody waits for it.
                if not live.gone and live.output.discard():
                    pages.answer(live.output, 504)
                live.end(1)
            elif self._soft_s and age_s >= self._soft_s and not live.timed_out:
                self._cancel(live, "max_execution_time", self._soft_s)

    def _cancel(self, live: Live, name: str, limit_s: float) -> None:
        params = live.params
        request = printable(f"{params.get('REQUEST_METHOD', 'GET')} {params.get('REQUEST_URI', '')}")
        text = f"request {request} is cancelled after {live.age_s:.3f} seconds ({name} = {limit_s:g}s)"
        self.log("WARNING", text)
        live.timed_out = True
        live.task.cancel()

    def _start(self, live: Live) -> None:
        raise NotImplementedError


class AsyncioExecutor(Executor):
    """``loop`` is set before the first request."""

    loop: asyncio.AbstractEventLoop

    def _start(self, live: Live) -> None:
        if self._shortest_s:
            self._make_task(self._watched(live, asyncio.Event, asyncio.CancelledError))
        else:
            # asyncio itself does not keep what waits for something that nobody else knows.
            live.task = self._make_task(self.adapter.run(live, asyncio.Event, asyncio.CancelledError))

    def _make_task(self, run: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        context = self._context.copy()
        if sys.version_info >= (3, 12):
            # Here and now, up to where it waits: a request that never does costs no turn of the loop.
            return asyncio.Task(run, loop=self.loop, context=context, eager_start=True)
        # As loop.create_task, which asks a few questions first.
        return asyncio.Task(run, loop=self.loop, context=context)

    async def _watched(self, live: Live, *more: Any) -> None:
        # Only now, since cancelling a task that has not begun keeps it from ever beginning.
        live.task = asyncio.current_task()
        await self.adapter.run(live, *more)


class TrioExecutor(Executor):
    """``nursery`` is set before the first request."""

    nursery: trio.Nursery

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._idle: list[trio.lowlevel.Task] = []

    def _start(self, live: Live) -> None:
        if self._idle:
            task = self._idle.pop()
            task.context = self._context.copy()
            trio.lowlevel.reschedule(task, outcome.Value(live))
        else:
            # It copies the context that it is called in.
            self._context.copy().run(self.nursery.start_soon, self._serve, live)

    async def _serve(self, live: Live) -> None:
        """One request after the other: that is much cheaper than a task for each."""
        task = trio.lowlevel.current_task()

        def give_up(raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
            self._idle.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        while True:
            if self._shortest_s:
                with trio.CancelScope() as live.task:
                    await self.adapter.run(live, trio.Event, trio.Cancelled)
            else:
                await self.adapter.run(live, trio.Event, trio.Cancelled)
            del live
            if len(self._idle) >= MOST_IDLE:
                return
            self._idle.append(task)
            live = await trio.lowlevel.wait_task_rescheduled(give_up)
