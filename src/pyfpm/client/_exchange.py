"""One request and its answer on one connection."""

from __future__ import annotations

import math
import socket
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing

import trio

from pyfpm import protocol
from pyfpm.client.address import Address
from pyfpm.client.errors import (
    BadAnswer,
    BadHeaders,
    CannotMultiplex,
    ClientError,
    EndedEarly,
    Overloaded,
    Refused,
    TimedOut,
    UnknownRole,
)
from pyfpm.client.head import EMPTY_LINE, END_OF_HEADERS, parse_head, shown

Params = Mapping[str, str] | Mapping[bytes, bytes] | Iterable[tuple[str | bytes, str | bytes]]
Body = bytes | bytearray | memoryview | AsyncIterable[bytes]

# Of STDERR this much is kept in ``Answer.stderr``; the rest is dropped. Who wants all of it gives ``on_stderr``.
MAX_STDERR_KEPT = 256 * 1024

# Written at once; a full record's content. Each such piece that the server takes counts as a sign of life.
_PIECE = 65528


class Answer:
    """What came for one request. Iterating gives the body in pieces, once; ``read`` gives all of it.

    status: of HTTP; 200 without a Status line, 302 when there is a Location instead.
    reason: the words behind it, "" for none.
    headers: names and values as they came, in order, without Status; decoded as latin-1 so that no byte is lost.
    head: the header block as it came, with its empty line.
    body: what ``read`` has read.
    stderr: what the application wrote to FCGI_STDERR so far (the first 256 KiB).
    app_status: what the application gave to exit(), once the body has ended; before that None.
    """

    def __init__(self, exchange: Exchange, head: bytes) -> None:
        self._exchange = exchange
        self.head = head
        self.status, self.reason, self.headers = parse_head(head)
        self.body = b""

    def header(self, name: str, default: str = "") -> str:
        """The value of the last header with this name, in any case."""
        found = [value for each, value in self.headers if each.lower() == name.lower()]
        return found[-1] if found else default

    @property
    def stderr(self) -> bytes:
        return bytes(self._exchange.stderr)

    @property
    def app_status(self) -> int | None:
        return self._exchange.app_status

    @property
    def protocol_status(self) -> int | None:
        return self._exchange.protocol_status

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._exchange.piece()
        if not piece:
            raise StopAsyncIteration
        return piece

    async def read(self) -> bytes:
        """The rest of the body; kept in ``body`` as well.

        Raises:
          ClientError: it did not end as it should.
        """
        self.body = b"".join([piece async for piece in self])
        return self.body


class Connection:
    """A socket with the protocol on it; one request at a time, whose id is always 1."""

    def __init__(self, stream: trio.SocketStream, address: Address, timeout_s: float) -> None:
        self._stream = stream
        self._address = address
        self._timeout_s = timeout_s
        self._active_at = -math.inf
        self.protocol = protocol.ClientConnection()
        self.bytes_read = 0

    def close(self) -> None:
        self._stream.socket.close()

    def is_quiet(self) -> bool:
        """Nothing came while it was idle: neither an end nor a byte that nobody asked for."""
        try:
            self._stream.socket._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)  # type: ignore[attr-defined]
        except BlockingIOError:
            return True
        except OSError:
            pass  # It is broken, which is one of the things we wanted to know.
        return False

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        for at in range(0, len(view), _PIECE):
            await self._stream.send_all(view[at : at + _PIECE])
            self._active_at = trio.current_time()

    async def event(self) -> object:
        """The next event of the protocol, once there is one.

        Raises:
          EndedEarly, TimedOut, BadAnswer: the connection is of no use any more.
        """
        while True:
            try:
                event = self.protocol.next_event()
            except protocol.RemoteProtocolError as error:
                raise BadAnswer(f"{self._address}: the answer is not FastCGI: {error}") from error
            if isinstance(event, protocol.ConnectionClosed):
                raise EndedEarly(f"{self._address}: the server closed the connection before the answer was complete")
            if not isinstance(event, protocol.NeedData):
                return event
            self.protocol.receive_data(await self._receive())

    async def _receive(self) -> bytes:
        waiting_since = trio.current_time()
        while True:
            deadline = max(waiting_since, self._active_at) + self._timeout_s
            with trio.move_on_at(deadline):
                try:
                    data = await self._stream.receive_some(65536)
                except trio.BrokenResourceError as error:
                    raise EndedEarly(
                        f"{self._address}: the connection broke before the answer was complete ({error.__cause__})"
                    ) from error
                self.bytes_read += len(data)
                return bytes(data)
            # What was written meanwhile moves the end.
            if deadline >= max(waiting_since, self._active_at) + self._timeout_s:
                raise TimedOut(f"{self._address}: the server did nothing for {self._timeout_s:g} s")


class Exchange:
    """One request and its answer on a connection."""

    def __init__(
        self, connection: Connection, max_headers_size: int, on_stderr: Callable[[bytes], object] | None
    ) -> None:
        self._connection = connection
        self._max_headers_size = max_headers_size
        self._on_stderr = on_stderr
        self._bytes_before = connection.bytes_read
        self._rest = b""
        self._is_written = False
        self.stderr = bytearray()
        self.app_status: int | None = None
        self.protocol_status: int | None = None

    @property
    def heard(self) -> bool:
        """Anything came back at all."""
        return self._connection.bytes_read != self._bytes_before

    @property
    def _has_ended(self) -> bool:
        return self.protocol_status is not None

    @property
    def is_reusable(self) -> bool:
        # A server may say more than END_REQUEST; that would become the beginning of the next answer.
        return self._has_ended and self._is_written and self._connection.protocol.next_event() is protocol.NEED_DATA

    async def settle(self) -> None:
        """Let the writing task see that it is done: it may have been behind us in the same round of trio's loop."""
        if self._has_ended and not self._is_written:
            await trio.lowlevel.checkpoint()

    # -- out

    async def write(
        self,
        pairs: list[tuple[str | bytes, str | bytes]],
        body: Body,
        role: int,
        data: Body,
        keep: bool,
    ) -> None:
        connection = self._connection.protocol
        # Small requests are one write: what is known goes along with what follows.
        out = connection.begin_request(1, role, keep) + connection.send_params(1, pairs)
        try:
            if role != protocol.AUTHORIZER:
                out = await self._write_stream(out, connection.send_stdin, body)
            if role == protocol.FILTER:
                out = await self._write_stream(out, connection.send_data, data)
            await self._connection.send(out)
            self._is_written = True
        except trio.BrokenResourceError:
            pass  # The answer may have come before that. If not, reading finds out, and tells.
        except Unwanted:
            pass

    async def _write_stream(self, out: bytes, record: Callable[[int, bytes], bytes], body: Body) -> bytes:
        """Writes a stream, all but its last records, which are given back."""
        async with aclosing(_pieces(body)) as pieces:
            async for piece in pieces:
                if self._has_ended:
                    raise Unwanted
                out += record(1, piece)
                if len(out) > _PIECE // 2 or isinstance(body, AsyncIterable):
                    await self._connection.send(out)
                    out = b""
        if self._has_ended:
            raise Unwanted
        return out + record(1, b"")

    # -- in

    async def read_head(self) -> Answer:
        try:
            return Answer(self, await self._head())
        except BadHeaders as error:
            error.stderr = bytes(self.stderr)
            error.args = (f"{self._connection._address}: {error}",)
            raise

    async def _head(self) -> bytes:
        block = b""
        while True:
            piece = await self.piece()
            if not piece:
                said = ": nothing at all came" if not block else f" after {shown(block)}"
                raise BadHeaders(f"the answer ended before its header block did{said}")
            searched = max(0, len(block) - 3)
            block += piece
            found = EMPTY_LINE.match(block) or END_OF_HEADERS.search(block, searched)
            size = found.end() if found else len(block)
            if size > self._max_headers_size:
                raise BadHeaders(f"its header block is larger than {self._max_headers_size} bytes: {shown(block)}")
            if found:
                self._rest = block[size:]
                return block[:size]

    async def piece(self) -> bytes:
        """The next piece of STDOUT; b"" when the request has ended.

        Raises:
          ClientError: it does not go on.
        """
        if self._rest:
            rest, self._rest = self._rest, b""
            return rest
        if self._has_ended:
            return b""
        try:
            while True:
                event = await self._connection.event()
                if isinstance(event, protocol.Stdout):
                    return event.data
                if isinstance(event, protocol.Stderr):
                    self.stderr += event.data[: MAX_STDERR_KEPT - len(self.stderr)]
                    if self._on_stderr is not None:
                        self._on_stderr(event.data)
                elif isinstance(event, protocol.EndRequest):
                    self.app_status, self.protocol_status = event.app_status, event.protocol_status
                    if event.protocol_status != protocol.REQUEST_COMPLETE:
                        raise _refusal(self._connection._address, event.protocol_status)
                    return b""
        except ClientError as error:
            error.stderr = bytes(self.stderr)
            raise


class Unwanted(Exception):
    """The request was ended by the server before we had written all of it."""


async def _pieces(body: Body) -> AsyncGenerator[bytes, None]:
    if isinstance(body, AsyncIterable):
        try:
            async for piece in body:
                if piece:  # an empty one would end the stream
                    yield piece
        finally:
            # A generator that was made for us has nobody else to close it.
            if isinstance(body, AsyncGenerator):
                await body.aclose()
        return
    view = memoryview(body).cast("B")
    for at in range(0, len(view), _PIECE):
        yield bytes(view[at : at + _PIECE])


def _refusal(address: Address, protocol_status: int) -> Refused:
    if protocol_status == protocol.OVERLOADED:
        return Overloaded(f"{address}: the server is overloaded (FCGI_OVERLOADED)")
    if protocol_status == protocol.UNKNOWN_ROLE:
        return UnknownRole(f"{address}: the server does not do this role (FCGI_UNKNOWN_ROLE)")
    if protocol_status == protocol.CANT_MPX_CONN:
        return CannotMultiplex(f"{address}: the server takes one request at a time (FCGI_CANT_MPX_CONN)")
    return Refused(f"{address}: the server ended the request with protocol status {protocol_status}")
