"""The client: kept connections, and requests that are sent on them."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import trio

from pyfpm import protocol
from pyfpm.client._exchange import Answer, Body, Connection, Exchange, Params
from pyfpm.client.address import Address, connect_tcp, connect_unix, parse_address, why_not_connected
from pyfpm.client.errors import BadAnswer, ConnectError, EndedEarly

# Largest header block of an answer, in bytes. Precedents: nginx takes one buffer of 4 or 8 KiB, Apache 100 lines of
# 8190 bytes; a header block that long is a bug, or a server that sends something else.
DEFAULT_MAX_HEADERS_SIZE = 64 * 1024

# Methods that may be sent again when nobody knows whether they were executed.
# Source: RFC 9110, 9.2.2 "Idempotent Methods".
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})


class FastCGIClient:
    """Asks one FastCGI server. An async context manager: leaving it closes the kept connections.

    Args:
      address: ``/path``, ``unix:/path``, ``HOST:PORT``, ``[IPv6]:PORT``, or an ``Address``.
      keep: keep connections for the next request. False: the server closes each after its answer.
      connect_timeout_s: how long connecting may take, waiting for room in the server's listen queue included.
      timeout_s: longest silence: no byte is taken or given while we wait. Precedent: nginx's fastcgi_read_timeout.
      max_connections: requests at once; one more waits until another has ended.
      max_headers_size: largest header block of an answer, in bytes.
    Raises:
      ValueError: the address is none.
    """

    def __init__(
        self,
        address: str | Address,
        *,
        keep: bool = True,
        connect_timeout_s: float = 10.0,
        timeout_s: float = 60.0,
        max_connections: int = 64,
        max_headers_size: int = DEFAULT_MAX_HEADERS_SIZE,
    ) -> None:
        self.address = address if isinstance(address, Address) else parse_address(address)
        self._keep = keep
        self._connect_timeout_s = connect_timeout_s
        self._timeout_s = timeout_s
        self._max_headers_size = max_headers_size
        self._room = trio.CapacityLimiter(max_connections)
        self._idle: list[Connection] = []
        self._entered = False

    async def __aenter__(self) -> Self:
        self._entered = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._entered = False
        while self._idle:
            self._idle.pop().close()

    async def request(
        self,
        params: Params,
        body: Body = b"",
        *,
        role: int = protocol.RESPONDER,
        data: Body = b"",
        on_stderr: Callable[[bytes], object] | None = None,
    ) -> Answer:
        """Send a request and read its whole answer. As ``open``, which is for answers that need not fit into memory."""
        async with self.open(params, body, role=role, data=data, on_stderr=on_stderr) as answer:
            await answer.read()
        return answer

    @asynccontextmanager
    async def open(
        self,
        params: Params,
        body: Body = b"",
        *,
        role: int = protocol.RESPONDER,
        data: Body = b"",
        on_stderr: Callable[[bytes], object] | None = None,
    ) -> AsyncIterator[Answer]:
        """Send a request; the block runs once the header block is there, beside the writing of the rest of the body.

        A kept connection that the server has closed in the same moment is replaced by a new one, once, if no byte of
        an answer came, the body is in memory, and the method is one that may be repeated.

        Args:
          params: names and values, sent as they are (CONTENT_LENGTH is the caller's); str is written as UTF-8.
          body: STDIN, in memory or as pieces that are awaited while the answer may be coming already. An error in
            there cancels the block, and comes out of it. A generator is closed, whether all of it was wanted or not.
          role: RESPONDER, AUTHORIZER or FILTER.
          data: DATA, for a FILTER.
          on_stderr: called with each piece of STDERR, as it comes.
        Raises:
          ClientError: there is no answer, or (from reading in the block) it does not go on.

        Source: FastCGI 1.0, 6 "Roles".
        """
        if not self._entered:
            raise RuntimeError("FastCGIClient is used inside of: async with FastCGIClient(...) as client")
        pairs = list(params.items() if isinstance(params, Mapping) else params)
        token = object()
        await self._room.acquire_on_behalf_of(token)
        try:
            may_repeat = not isinstance(body, AsyncIterable) and not isinstance(data, AsyncIterable)
            may_repeat = may_repeat and _method(pairs) in _REPEATABLE
            connection = self._take_idle()
            while True:
                if connection is None:
                    connection = await self._connect()
                    may_repeat = False
                exchange = Exchange(connection, self._max_headers_size, on_stderr)
                try:
                    async with _beside(exchange.write, pairs, body, role, data, self._keep):
                        yield await exchange.read_head()
                        await exchange.settle()
                    if exchange.is_reusable and self._keep and self._entered:
                        self._idle.append(connection)
                        connection = None
                    return
                except EndedEarly:
                    if not may_repeat or exchange.heard:
                        raise
                finally:
                    if connection is not None:
                        connection.close()
                        connection = None
        finally:
            self._room.release_on_behalf_of(token)

    async def values(self) -> dict[str, str]:
        """What the server says about FCGI_MAX_CONNS, FCGI_MAX_REQS and FCGI_MPXS_CONNS; those it knows.

        Raises:
          ClientError: it cannot be reached or does not say.

        Source: FastCGI 1.0, 4.1 "FCGI_GET_VALUES".
        """
        connection = await self._connect()
        try:
            try:
                await connection.send(
                    connection.protocol.get_values(["FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS"])
                )
            except trio.BrokenResourceError:
                pass  # Reading finds out, and says it in the same words.
            while True:
                event = await connection.event()
                if isinstance(event, protocol.Values):
                    return event.values
                if isinstance(event, protocol.UnknownType):
                    raise BadAnswer(f"{self.address}: the server does not know FCGI_GET_VALUES")
        finally:
            connection.close()

    async def touch(self) -> None:
        """Connect, and close again: whether somebody listens. Nothing is sent.

        Raises:
          ConnectError: nobody does.
        """
        (await self._connect()).close()

    def _take_idle(self) -> Connection | None:
        # The one used last is the one the server is least likely to have given up.
        while self._idle:
            connection = self._idle.pop()
            if connection.is_quiet():
                return connection
            connection.close()
        return None

    async def _connect(self) -> Connection:
        number = errno.ETIMEDOUT
        message = f"no connection within {self._connect_timeout_s:g} s"
        with trio.move_on_after(self._connect_timeout_s):
            try:
                stream = await (connect_unix(self.address.path) if self.address.path else connect_tcp(self.address))
                return Connection(stream, self.address, self._timeout_s)
            except OSError as error:
                number, message = why_not_connected(error)
        if number == errno.ETIMEDOUT and self.address.path:
            message += ": the listen queue of the socket is full"
        raise ConnectError(f"{self.address}: {message}", number)


def _method(pairs: list[tuple[str, str] | tuple[bytes, bytes] | tuple[str | bytes, str | bytes]]) -> str:
    for name, value in pairs:
        if name in ("REQUEST_METHOD", b"REQUEST_METHOD"):
            return value if isinstance(value, str) else value.decode("latin-1")
    return ""


@asynccontextmanager
async def _beside(task: Callable[..., object], *arguments: object) -> AsyncIterator[None]:
    """Run a task beside the block, until that ends. One exception comes out as itself: that it was in a nursery is
    nothing that a caller should have to know."""
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(task, *arguments)  # type: ignore[arg-type]
            yield
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        failure = next((each for each in group.exceptions if not isinstance(each, trio.Cancelled)), group.exceptions[0])
    if failure is not None:
        try:
            raise failure
        finally:
            del failure
