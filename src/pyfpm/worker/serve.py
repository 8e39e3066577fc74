"""The trio program of one worker.

trio waits, the reactor works. All that is not a request is here: signals, the sweep of connections, the master's end.
"""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import sniffio
import trio
from trio._core._run import GLOBAL_RUN_CONTEXT

from pyfpm.worker._reactor import Reactor
from pyfpm.worker._slot import Slot
from pyfpm.worker.code import CodeWatch
from pyfpm.worker.control import Control

STOP_SIGNALS = (signal.SIGTERM, signal.SIGQUIT)

SWEEP_S = 1.0
# Whether the last request has ended is looked at so often, and connections that nobody took are offered again.
SWEEP_WHILE_STOPPING_S = 0.1


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


async def serve(reactor: Reactor, control: Control, slot: Slot | None = None, code: CodeWatch | None = None) -> None:
    """Serve until the last request is answered after the master or a limit has said that it is enough.

    SIGTERM: stop, with what is in the listen queues answered. SIGQUIT: retire; idle connections go to other workers.
    Either, and the end of a reactor that retires by itself, ends this function once nothing is unfinished.

    Args:
      control: to the master, which is told when we are ready. Its end is the master's end, and ours at once.
      slot: told that we are idle now.
      code: looks whether the application has changed.
    """
    # Said to a trio.run() in user code, which finds the signals of our own trio taken. They meet as they should: the
    # inner one gives back on its end what it has taken, and Python calls our handlers in any case.
    warnings.filterwarnings("ignore", "It looks like Trio's signal handling code might have collided", RuntimeWarning)
    with trio.open_signal_receiver(*STOP_SIGNALS) as signals:
        _interrupt_at(STOP_SIGNALS, reactor)
        async with trio.open_nursery() as nursery:
            finishing = trio.Event()
            nursery.start_soon(_sweep, reactor, finishing, nursery.cancel_scope)
            nursery.start_soon(_listen_to_master, control, nursery.cancel_scope)
            nursery.start_soon(_drain, reactor, finishing)
            if code is not None:
                nursery.start_soon(code.run)
            if slot is not None:
                slot.is_idle()
            control.send("r")
            async for number in signals:
                with outside_of_trio():
                    if number == signal.SIGQUIT:
                        reactor.retire()
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


async def _drain(reactor: Reactor, finishing: trio.Event) -> None:
    while True:
        await trio.lowlevel.wait_readable(reactor.fileno())
        more = True
        while more:
            with outside_of_trio():
                more = reactor.drain()
            if reactor.retiring:
                finishing.set()  # a limit is reached
            if more:
                await trio.lowlevel.checkpoint()


async def _sweep(reactor: Reactor, finishing: trio.Event, everything: trio.CancelScope) -> None:
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    while not finishing.is_set():
        reactor.sweep()
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
    everything.cancel()


async def _listen_to_master(control: Control, everything: trio.CancelScope) -> None:
    while True:
        await trio.lowlevel.wait_readable(control.fileno())
        if not control.receive():
            everything.cancel()
            return
