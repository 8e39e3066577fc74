"""A FastCGI client: what a web server does towards pyfpm, php-fpm or any other FastCGI server, on trio.

    async with FastCGIClient("/run/pyfpm.sock") as client:
        answer = await client.request({"SCRIPT_FILENAME": "/srv/www/hello.py", "REQUEST_METHOD": "GET"})
        print(answer.status, answer.headers, answer.body)

One request at a time travels on a connection: several at once take several connections, at most ``max_connections``.
A connection whose answer has ended is kept for the next request, as long as the server keeps it, too.

The request is written by a task of its own beside the reading of the answer, since a server may answer before it has
read the body, and may stop reading until its answer is taken. That task never outlives the ``async with`` block of its
answer. Whatever ends that block before END_REQUEST was read, cancellation included, closes the connection: that is how
a web server says that it no longer wants the answer.
"""

from __future__ import annotations

import errno
import math
import os
import re
import socket
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import trio

from pyfpm import protocol

Params = Mapping[str, str] | Mapping[bytes, bytes] | Iterable[tuple[str | bytes, str | bytes]]
Body = bytes | bytearray | memoryview | AsyncIterable[bytes]

# Largest header block of an answer, in bytes. Precedents: nginx takes one buffer of 4 or 8 KiB, Apache 100 lines of
# 8190 bytes; a header block that long is a bug, or a server that sends something else.
DEFAULT_MAX_HEADERS_SIZE = 64 * 1024

# Of STDERR this much is kept in ``Answer.stderr``; the rest is dropped. Who wants all of it gives ``on_stderr``.
MAX_STDERR_KEPT = 256 * 1024

# Written at once; a full record's content. Each such piece that the server takes counts as a sign of life.
_PIECE = 65528

# A unix socket whose listen queue is full refuses at once instead of letting us wait, so we have to ask again.
_QUEUE_RETRY_S = 0.01

# Methods that may be sent again when nobody knows whether they were executed.
# Source: RFC 9110, 9.2.2 "Idempotent Methods".
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})

_END_OF_HEADERS = re.compile(rb"\r?\n\r?\n")
_EMPTY_LINE = re.compile(rb"\r?\n")
# RFC 9110, 5.6.2 "Tokens".
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_STATUS = re.compile(r"([1-9][0-9][0-9])(?:[ \t]+(.*))?")


class ClientError(Exception):
    """There is no answer, or no whole one. ``stderr`` is what the application had said by then."""

    stderr: bytes = b""


class ConnectError(ClientError):
    """The server cannot be reached. ``errno`` is the system's number for it; ETIMEDOUT when it took too long."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.errno = number


class TimedOut(ClientError):
    """The server neither took nor gave a byte for ``timeout_s``."""


class EndedEarly(ClientError):
    """The connection ended before END_REQUEST."""


class Refused(ClientError):
    """The server ended the request without running it. Source: FastCGI 1.0, 5.5 "FCGI_END_REQUEST"."""

    protocol_status = -1


class CannotMultiplex(Refused):
    protocol_status = protocol.CANT_MPX_CONN


class Overloaded(Refused):
    protocol_status = protocol.OVERLOADED


class UnknownRole(Refused):
    protocol_status = protocol.UNKNOWN_ROLE


class BadAnswer(ClientError):
    """What came is not FastCGI."""


class BadHeaders(BadAnswer):
    """What came is FastCGI, but does not begin with a header block."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a FastCGI server listens: a unix socket's ``path``, or ``host`` and ``port``."""

    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """``/path``, ``unix:/path``, ``HOST:PORT``, ``[IPv6]:PORT`` or ``PORT`` (on 127.0.0.1).

    Raises:
      ValueError: it is none of these.
    """
    path = text.removeprefix("unix:")
    if path.startswith("/") or path != text:
        if not path or "\0" in path:
            raise ValueError(f"{text!r} is no address: the path of the socket is missing")
        return Address(path=os.path.abspath(path))
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r} is no address: an IPv6 address is written in brackets, [::1]:9000")
    if not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536 or (colon and not host):
        raise ValueError(f"{text!r} is no address: /path, unix:/path, HOST:PORT or [IPv6]:PORT would be")
    return Address(host=host or "127.0.0.1", port=int(port))


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

    def __init__(self, exchange: _Exchange, head: bytes) -> None:
        self._exchange = exchange
        self.head = head
        self.status, self.reason, self.headers = _parse_head(head)
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
        self._idle: list[_Connection] = []
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
                exchange = _Exchange(connection, self._max_headers_size, on_stderr)
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

    def _take_idle(self) -> _Connection | None:
        # The one used last is the one the server is least likely to have given up.
        while self._idle:
            connection = self._idle.pop()
            if connection.is_quiet():
                return connection
            connection.close()
        return None

    async def _connect(self) -> _Connection:
        number = errno.ETIMEDOUT
        message = f"no connection within {self._connect_timeout_s:g} s"
        with trio.move_on_after(self._connect_timeout_s):
            try:
                stream = await (_connect_unix(self.address.path) if self.address.path else _connect_tcp(self.address))
                return _Connection(stream, self.address, self._timeout_s)
            except OSError as error:
                number, message = _why_not_connected(error)
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


class _Connection:
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


class _Exchange:
    """One request and its answer on a connection."""

    def __init__(
        self, connection: _Connection, max_headers_size: int, on_stderr: Callable[[bytes], object] | None
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
        except _Unwanted:
            pass

    async def _write_stream(self, out: bytes, record: Callable[[int, bytes], bytes], body: Body) -> bytes:
        """Writes a stream, all but its last records, which are given back."""
        async with aclosing(_pieces(body)) as pieces:
            async for piece in pieces:
                if self._has_ended:
                    raise _Unwanted
                out += record(1, piece)
                if len(out) > _PIECE // 2 or isinstance(body, AsyncIterable):
                    await self._connection.send(out)
                    out = b""
        if self._has_ended:
            raise _Unwanted
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
                said = ": nothing at all came" if not block else f" after {_shown(block)}"
                raise BadHeaders(f"the answer ended before its header block did{said}")
            searched = max(0, len(block) - 3)
            block += piece
            found = _EMPTY_LINE.match(block) or _END_OF_HEADERS.search(block, searched)
            size = found.end() if found else len(block)
            if size > self._max_headers_size:
                raise BadHeaders(f"its header block is larger than {self._max_headers_size} bytes: {_shown(block)}")
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


class _Unwanted(Exception):
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


def _shown(data: bytes) -> str:
    return repr(data[:60])[1:] + ("..." if len(data) > 60 else "")


def _parse_head(head: bytes) -> tuple[int, str, list[tuple[str, str]]]:
    """Status, reason and headers of a CGI header block.

    Raises:
      BadHeaders: it is none.

    Source: RFC 3875, 6.2 "Response Types", 6.3 "Response Header Fields".
    """
    status, reason, headers = 0, "", []
    for line in head.split(b"\n"):
        line = line.removesuffix(b"\r")
        if not line:
            continue
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name):
            raise BadHeaders(f"its header block has a line that is no header: {_shown(line)}")
        if _CONTROL.search(value):
            raise BadHeaders(f"its header {name.decode()} has a control character: {_shown(value)}")
        pair = name.decode(), value.strip(b" \t").decode("latin-1")
        if pair[0].lower() != "status":
            headers.append(pair)
            continue
        found = _STATUS.fullmatch(pair[1])
        if not found:
            raise BadHeaders(f"its Status is not a number of three digits: {pair[1][:60]!r}")
        status, reason = int(found[1]), found[2] or ""
    if not status:
        status = 302 if any(name.lower() == "location" for name, _ in headers) else 200
    return status, reason, headers


# -- connecting


async def _connect_unix(path: str) -> trio.SocketStream:
    """Raises OSError."""
    while True:
        plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            plain.setblocking(False)
            plain.connect(path)
        except BlockingIOError:
            # trio's own connect would take this for "under way", which a unix socket never is.
            plain.close()
            await trio.sleep(_QUEUE_RETRY_S)
        except BaseException:
            plain.close()
            raise
        else:
            return trio.SocketStream(trio.socket.from_stdlib_socket(plain))


async def _connect_tcp(address: Address) -> trio.SocketStream:
    """Raises OSError, with its errno."""
    try:
        return await trio.open_tcp_stream(address.host, address.port)
    except OSError as error:
        # trio tries all addresses of a name and tells of their errors in the cause.
        cause: BaseException | None = error.__cause__
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        raise cause if isinstance(cause, OSError) else error from None


def _why_not_connected(error: OSError) -> tuple[int, str]:
    if isinstance(error, socket.gaierror):
        return errno.ENOENT, f"the host is not known ({error.strerror})"
    number = error.errno or errno.EIO
    words = {
        errno.ENOENT: "there is no such socket",
        errno.ECONNREFUSED: "connection refused: nobody listens there",
        errno.EACCES: "permission denied",
        errno.EPERM: "permission denied",
        errno.ENOTSOCK: "it is not a socket",
        errno.ETIMEDOUT: "no connection: the host does not answer",
    }
    return number, words.get(number) or error.strerror or str(error)
