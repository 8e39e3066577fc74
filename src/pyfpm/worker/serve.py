"""The trio program of one worker.

trio waits, the reactor works. All that is not a request is here: signals, the sweep of connections, the master's end.
"""

from __future__ import annotations

import signal
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import sniffio
import trio
from trio._core._run import GLOBAL_RUN_CONTEXT

from pyfpm.worker._reactor import Reactor

SWEEP_S = 1.0
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


async def serve(reactor: Reactor, control: socket.socket) -> None:
    """Serve until the master says to stop (SIGTERM, SIGQUIT), then until the last request is answered.

    Args:
      control: the socket to the master. One byte is sent when we are ready; its end is the master's end, and ours.
    """
    # Said to a trio.run() in user code, which finds the signals of our own trio taken. They meet as they should: the
    # inner one gives back on its end what it has taken, and Python calls our handlers in any case.
    warnings.filterwarnings("ignore", "It looks like Trio's signal handling code might have collided", RuntimeWarning)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGQUIT) as signals:
        async with trio.open_nursery() as nursery:
            stopping = trio.Event()
            nursery.start_soon(_sweep, reactor, stopping, nursery.cancel_scope)
            nursery.start_soon(_end_with_master, control, nursery.cancel_scope)
            nursery.start_soon(_drain, reactor)
            control.send(b"r")
            async for _ in signals:
                with outside_of_trio():
                    reactor.stop()
                stopping.set()


async def _drain(reactor: Reactor) -> None:
    while True:
        await trio.lowlevel.wait_readable(reactor.fileno())
        more = True
        while more:
            with outside_of_trio():
                more = reactor.drain()
            if more:
                await trio.lowlevel.checkpoint()


async def _sweep(reactor: Reactor, stopping: trio.Event, everything: trio.CancelScope) -> None:
    while not stopping.is_set():
        reactor.sweep()
        # Told to stop, an idle worker ends at once, not at its next look at the clock.
        with trio.move_on_after(SWEEP_S):
            await stopping.wait()
    while reactor.unfinished:
        await trio.sleep(SWEEP_WHILE_STOPPING_S)
        reactor.sweep()
    everything.cancel()


async def _end_with_master(control: socket.socket, everything: trio.CancelScope) -> None:
    while True:
        await trio.lowlevel.wait_readable(control)
        if not control.recv(1):
            everything.cancel()
            return
