"""The asyncio program of one worker: what ``serve`` is on trio, for applications that need asyncio.

The reactor's epoll descriptor is one more that asyncio's loop watches; there is no trio in it.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import signal
from contextlib import suppress
from typing import Any

from pyfpm.sapi.lifespan import Lifespan
from pyfpm.worker._reactor import Reactor
from pyfpm.worker._slot import Slot
from pyfpm.worker._watchdog import Guard
from pyfpm.worker.asynchronous import AsyncioExecutor
from pyfpm.worker.code import CodeWatch
from pyfpm.worker.control import ASYNCHRONOUS, Control
from pyfpm.worker.serve import SHUTDOWN_S, STOP_SIGNALS, SWEEP_S, SWEEP_WHILE_STOPPING_S

# For tasks that the application has left behind, to do with their cancellation what they like.
CANCELLED_S = 5.0


class GuardedSelector(selectors.DefaultSelector):
    """Tells the watchdog whether the loop works or waits."""

    def __init__(self, guard: Guard) -> None:
        super().__init__()
        self._guard = guard

    def select(self, timeout: float | None = None) -> Any:
        self._guard.idle()
        try:
            return super().select(timeout)
        finally:
            self._guard.busy()


def run(
    reactor: Reactor,
    control: Control,
    slot: Slot | None,
    executor: AsyncioExecutor,
    code: CodeWatch | None = None,
    guard: Guard | None = None,
) -> None:
    """As ``trio.run(serve, ...)``.

    The loop is not closed: the process ends with it, and what still holds it up then is nobody's.

    Args:
      guard: of the watchdog, if that has something to watch.
    Raises:
      StartupError: the application does not want to serve.
    """
    loop = asyncio.SelectorEventLoop(None if guard is None else GuardedSelector(guard))
    asyncio.set_event_loop(loop)
    executor.loop = loop
    try:
        with suppress(asyncio.CancelledError):  # the master has gone
            loop.run_until_complete(_serve(reactor, control, slot, executor, code))
    finally:
        loop.run_until_complete(_cancel_all())
        if guard is not None:
            guard.idle()


async def _serve(
    reactor: Reactor, control: Control, slot: Slot | None, executor: AsyncioExecutor, code: CodeWatch | None
) -> None:
    loop = executor.loop
    serving = asyncio.current_task()
    assert serving is not None
    finishing = asyncio.Event()

    again = False

    def drain() -> None:
        nonlocal again
        if executor.forked:
            os._exit(0)
        again = reactor.drain()
        if again:
            loop.call_soon(drain)  # behind the tasks that it has begun

    def drain_ready() -> None:
        if not again:
            drain()

    def hear_master() -> None:
        if not control.receive():
            loop.remove_reader(control.fileno())
            serving.cancel()

    def finish(number: signal.Signals) -> None:
        if number == signal.SIGQUIT:
            reactor.retire()
            control.send("h")
        else:
            reactor.stop()
        finishing.set()

    lifespan = Lifespan(executor.adapter.application, executor.log, asyncio.Event)
    living = loop.create_task(lifespan.run())
    await lifespan.startup()
    executor.adapter.state = lifespan.state
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, finish, number)
    loop.add_reader(reactor.fileno(), drain_ready)
    loop.add_reader(control.fileno(), hear_master)
    watching = [loop.create_task(_enforce(reactor, executor)), loop.create_task(_watch_code(code))]
    if slot is not None:
        slot.is_idle()
    control.send("r", ASYNCHRONOUS)
    while not (finishing.is_set() or reactor.retiring):
        reactor.sweep()
        # Told to stop, an idle worker ends at once, not at its next look at the clock.
        with suppress(TimeoutError):
            await asyncio.wait_for(finishing.wait(), SWEEP_S)
    while reactor.unfinished:
        await asyncio.sleep(SWEEP_WHILE_STOPPING_S)
        reactor.sweep()
    for task in watching:
        task.cancel()
    with suppress(TimeoutError):
        await asyncio.wait_for(lifespan.shutdown(), SHUTDOWN_S)
    living.cancel()


async def _enforce(reactor: Reactor, executor: AsyncioExecutor) -> None:
    if executor.looks_every_s is not None:
        while True:
            await asyncio.sleep(executor.looks_every_s)
            executor.enforce(reactor.lives)


async def _watch_code(code: CodeWatch | None) -> None:
    while code is not None:
        await asyncio.sleep(code.interval_s)
        code.look()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CANCELLED_S)
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.get_running_loop().shutdown_asyncgens(), CANCELLED_S)
