"""Idle kept connections of a pool that has no worker.

The last worker of an ``ondemand`` pool gives its connections away when it goes, and there is nobody to take them. The
master keeps them, unread, until something comes on one; then there is a worker again, who gets them all. A web server
that keeps connections therefore keeps no worker alive.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

import trio

from pyfpm.worker.descriptors import receive

# The master needs descriptors for other things as well. More than so many stay in the handoff socket.
MOST = 512


class Parked:
    """The connections of one pool.

    Args:
      give, take: the two ends of its handoff socket; both stay the caller's.
    """

    def __init__(self, give: socket.socket, take: socket.socket) -> None:
        self._give = give
        self._take = take
        # With the message that each came with, which tells the worker what it is.
        self._connections: list[tuple[socket.socket, bytes]] = []

    def __bool__(self) -> bool:
        return bool(self._connections)

    async def somebody_comes(self, listeners: Sequence[socket.socket], changed: Callable[[], Awaitable[None]]) -> bool:
        """Wait for a visitor: a new connection, or a request on one of ours. To be called while the pool has no worker.

        Args:
          changed: something else may have happened when it returns; False is returned then.
        """
        self._collect()
        found = False
        async with trio.open_nursery() as nursery:

            async def watch(readable: socket.socket) -> None:
                nonlocal found
                with suppress(trio.ClosedResourceError):
                    await trio.lowlevel.wait_readable(readable)
                    found = True
                nursery.cancel_scope.cancel()

            async def watch_parked(connection: socket.socket) -> None:
                nonlocal found
                await trio.lowlevel.wait_readable(connection)
                found = found or self._has_request(connection)
                nursery.cancel_scope.cancel()

            async def until(event: Callable[[], Awaitable[None]]) -> None:
                await event()
                nursery.cancel_scope.cancel()

            for each in listeners:
                nursery.start_soon(watch, each)
            for connection, _ in self._connections:
                nursery.start_soon(watch_parked, connection)
            if len(self._connections) < MOST:
                nursery.start_soon(until, partial(trio.lowlevel.wait_readable, self._take))
            else:
                nursery.start_soon(watch, self._take)
            nursery.start_soon(until, changed)
        return found

    def _collect(self) -> None:
        """Take what lies in the handoff socket."""
        while len(self._connections) < MOST:
            try:
                message, fds = receive(self._take, socket.MSG_DONTWAIT)
            except OSError:
                return  # there is nothing more
            for fd in fds:
                self._connections.append((socket.socket(fileno=fd), message))
            if not message:
                return

    def _has_request(self, connection: socket.socket) -> bool:
        """Something has come on one that is readable. If it is the end, the connection is closed and forgotten."""
        with suppress(OSError):
            if connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                return True
        self._connections = [each for each in self._connections if each[0] is not connection]
        connection.close()
        return False

    def give_back(self) -> None:
        """Let the workers have them. What does not fit into the handoff socket stays, for another try."""
        while self._connections:
            connection, message = self._connections[-1]
            try:
                socket.send_fds(self._give, [message], [connection.fileno()])
            except OSError:
                return
            self._connections.pop()
            connection.close()

    def close(self) -> None:
        for connection, _ in self._connections:
            connection.close()
        self._connections = []
