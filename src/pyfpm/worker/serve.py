"""The trio program of one worker.

trio waits, the reactor works. All that is not a request is here: signals, the sweep of connections, the master's end.
"""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from types import FrameType
from typing import Any

import sniffio
import trio
from trio._core._run import GLOBAL_RUN_CONTEXT

from pyfpm.sapi.lifespan import Lifespan, StartupError
from pyfpm.worker._reactor import Reactor
from pyfpm.worker._slot import Slot
from pyfpm.worker._watchdog import Guard
from pyfpm.worker.asynchronous import TrioExecutor
from pyfpm.worker.code import CodeWatch
from pyfpm.worker.control import ASYNCHRONOUS, Control
from pyfpm.worker.threads import ThreadsExecutor

STOP_SIGNALS = (signal.SIGTERM, signal.SIGQUIT)

SWEEP_S = 1.0
# Whether the last request has ended is looked at so often, and connections that nobody took are offered again.
SWEEP_WHILE_STOPPING_S = 0.1
# For an application's shutdown, once its last request is answered. The master's patience is 30 seconds, for all of it.
SHUTDOWN_S = 10.0


@contextmanager
def outside_of_trio() -> Iterator[None]:
    """Hide trio from what runs in here.

    User code is called from trio's thread, but is not a trio program: it may well start one (``trio.run``,
    ``anyio.run``), which trio refuses in what it takes for one of its tasks. There is no public way to say so; the
    test of ``trio.run`` in a script watches over this private one.
    """
    hidden = dict(GLOBAL_RUN_CONTEXT.__dict__)
    GLOBAL_RUN_CONTEXT.__dict__.clear()
    # What anyio and httpx ask which library they are under.
    library, sniffio.thread_local.name = sniffio.thread_local.name, None
    try:
        yield
    finally:
        sniffio.thread_local.name = library
        GLOBAL_RUN_CONTEXT.__dict__.update(hidden)


async def serve(
    reactor: Reactor,
    control: Control,
    slot: Slot | None = None,
    executor: TrioExecutor | ThreadsExecutor | None = None,
    code: CodeWatch | None = None,
) -> None:
    """Serve until the last request is answered after the master or a limit has said that it is enough.

    SIGTERM: stop, with what is in the listen queues answered. SIGQUIT: retire; idle connections go to other workers.
    Either, and the end of a reactor that retires by itself, ends this function once nothing is unfinished.

    Args:
      control: to the master, which is told when we are ready. Its end is the master's end, and ours at once.
      slot: told that we are idle now.
      executor: runs the requests on trio; without one they are none of trio's business.
      code: looks whether the application has changed.
    Raises:
      StartupError: the application does not want to serve.
    """
    # Said to a trio.run() in user code, which finds the signals of our own trio taken. They meet as they should: the
    # inner one gives back on its end what it has taken, and Python calls our handlers in any case.
    warnings.filterwarnings("ignore", "It looks like Trio's signal handling code might have collided", RuntimeWarning)
    with trio.open_signal_receiver(*STOP_SIGNALS) as signals:
        _interrupt_at(STOP_SIGNALS, reactor)
        async with lifespan_of(executor) as lifespan, trio.open_nursery() as nursery:
            user_code: Callable[[], AbstractContextManager[None]] = outside_of_trio
            if executor is not None:
                if isinstance(executor, TrioExecutor):
                    executor.nursery = nursery
                user_code = nullcontext
                if executor.looks_every_s is not None:
                    nursery.start_soon(_enforce, reactor, executor, executor.looks_every_s)
            finishing = trio.Event()
            nursery.start_soon(_sweep, reactor, finishing, lifespan, nursery.cancel_scope)
            nursery.start_soon(_listen_to_master, control, nursery.cancel_scope)
            nursery.start_soon(_drain, reactor, finishing, executor)
            if code is not None:
                nursery.start_soon(_watch_code, code)
            if slot is not None:
                slot.is_idle()
            control.send("r", "" if executor is None else ASYNCHRONOUS)
            async for number in signals:
                with user_code():
                    if number == signal.SIGQUIT:
                        reactor.retire()
                        if executor is not None:
                            control.send("h")
                    else:
                        reactor.stop()
                finishing.set()


def _interrupt_at(numbers: tuple[signal.Signals, ...], reactor: Reactor) -> None:
    """A busy reactor has work for long; who is told to stop must not accept another connection first."""
    for number in numbers:
        tell_trio = signal.getsignal(number)

        def handler(number: int, frame: FrameType | None, tell_trio: Any = tell_trio) -> None:
            reactor.interrupt()
            tell_trio(number, frame)

        signal.signal(number, handler)


class GuardedLoop(trio.abc.Instrument):
    """Tells the watchdog whether the loop works or waits."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def before_io_wait(self, timeout: float) -> None:
        self._guard.idle()

    def after_io_wait(self, timeout: float) -> None:
        self._guard.busy()


@asynccontextmanager
async def lifespan_of(executor: TrioExecutor | ThreadsExecutor | None) -> AsyncIterator[Lifespan | None]:
    """The application has begun its lifespan, and is cancelled when this is left. Raises StartupError."""
    if not isinstance(executor, TrioExecutor):
        yield None
        return
    lifespan = Lifespan(executor.adapter.application, executor.log, trio.Event)
    failed = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lifespan.run)
        try:
            await lifespan.startup()
        except StartupError as error:
            failed = error
        else:
            executor.adapter.state = lifespan.state
            yield lifespan
        nursery.cancel_scope.cancel()
    if failed is not None:
        raise failed


async def _enforce(reactor: Reactor, executor: TrioExecutor | ThreadsExecutor, looks_every_s: float) -> None:
    while True:
        await trio.sleep(looks_every_s)
        executor.enforce(reactor.lives)


async def _watch_code(code: CodeWatch) -> None:
    while True:
        await trio.sleep(code.interval_s)
        code.look()


async def _drain(reactor: Reactor, finishing: trio.Event, executor: TrioExecutor | ThreadsExecutor | None) -> None:
    user_code = outside_of_trio if executor is None else nullcontext
    while True:
        await trio.lowlevel.wait_readable(reactor.fileno())
        more = True
        while more:
            if executor is not None and executor.forked:
                os._exit(0)
            with user_code():
                more = reactor.drain()
            if reactor.retiring:
                finishing.set()  # a limit is reached
            if more:
                await trio.lowlevel.checkpoint()
                if executor is not None:
                    # The tasks that it has begun are in the same round as we are, and in no particular order.
                    await trio.lowlevel.checkpoint()


async def _sweep(
    reactor: Reactor, finishing: trio.Event, lifespan: Lifespan | None, everything: trio.CancelScope
) -> None:
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    while not finishing.is_set():
        reactor.sweep()
        if reactor.retiring:
            break  # a task was the last that it has a mind to run
        for number, handler in handlers.items():
            # User code may have taken them. Looked at here and not after each request, since it is rare.
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        # Told to stop, an idle worker ends at once, not at its next look at the clock.
        with trio.move_on_after(SWEEP_S):
            await finishing.wait()
    while reactor.unfinished:
        await trio.sleep(SWEEP_WHILE_STOPPING_S)
        reactor.sweep()
    if lifespan is not None:
        with trio.move_on_after(SHUTDOWN_S):
            await lifespan.shutdown()
    everything.cancel()


async def _listen_to_master(control: Control, everything: trio.CancelScope) -> None:
    while True:
        await trio.lowlevel.wait_readable(control.fileno())
        if not control.receive():
            everything.cancel()
            return
