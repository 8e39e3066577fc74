"""A FastCGI server whose every move a test writes down, on real sockets."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from pyfpm import protocol


class Peer:
    """The server's end of one connection."""

    def __init__(self, stream: trio.SocketStream, number: int) -> None:
        self.stream = stream
        self.number = number
        self.protocol = protocol.ServerConnection()
        self.body = b""

    async def event(self) -> object:
        while (event := self.protocol.next_event()) is protocol.NEED_DATA:
            try:
                self.protocol.receive_data(await self.stream.receive_some(65536))
            except trio.BrokenResourceError:
                return protocol.ConnectionClosed()
        return event

    async def request(self) -> protocol.Request | None:
        """The next request with its params; None when the client has gone."""
        self.body = b""
        while True:
            event = await self.event()
            if isinstance(event, protocol.Request):
                return event
            if isinstance(event, protocol.ConnectionClosed):
                return None
            if isinstance(event, protocol.Reply):
                await self.stream.send_all(event.data)

    async def read_body(self) -> bytes:
        while not isinstance(event := await self.event(), protocol.EndOfStdin):
            if isinstance(event, protocol.ConnectionClosed):
                break
            if isinstance(event, protocol.Stdin):
                self.body += event.data
        return self.body

    async def answer(
        self, request: protocol.Request, out: bytes = b"\r\n", err: bytes = b"", app_status: int = 0, status: int = 0
    ) -> None:
        data = self.protocol.send_stdout(request, out)
        if err:
            data = self.protocol.send_stderr(request, err) + data
        await self.stream.send_all(data + self.protocol.end_request(request, app_status, status))


Conversation = Callable[[Peer], Awaitable[None]]


class FakeServer:
    def __init__(self, address: str) -> None:
        self.address = address
        self.connections = 0
        self.closed = 0


@asynccontextmanager
async def fake_server(conversation: Conversation, path: str | None = None) -> AsyncIterator[FakeServer]:
    """Listens on a path, or on a port of 127.0.0.1; ``conversation`` is held on each connection, then it is closed."""
    if path is None:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        fake = FakeServer(f"127.0.0.1:{listener.socket.getsockname()[1]}")
    else:
        plain = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
        await plain.bind(path)
        plain.listen(16)
        listener = trio.SocketListener(plain)
        fake = FakeServer(path)

    async def serve(stream: trio.SocketStream) -> None:
        fake.connections += 1
        try:
            async with stream:
                await conversation(Peer(stream, fake.connections))
        except trio.BrokenResourceError:
            pass  # The client has gone, as some tests want it to.
        fake.closed += 1

    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, serve, [listener])
        yield fake
        nursery.cancel_scope.cancel()
    if path is not None:
        os.unlink(path)
