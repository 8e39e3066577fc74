"""A web server's end of one FastCGI connection, on a plain blocking socket: the test says what goes over the wire."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType

from pyfpm import protocol
from support.waiting import PATIENCE_S


@dataclass
class Answer:
    """What came for one request until END_REQUEST."""

    stdout: bytes = b""
    stderr: bytes = b""
    app_status: int = -1
    protocol_status: int = -1
    ends: int = 0
    _pieces: list[bytes] = field(default_factory=list, repr=False)

    @property
    def head(self) -> dict[str, str]:
        """The headers, with lower-case names."""
        lines = split(self.stdout)[0].decode("latin-1").split("\r\n")
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    @property
    def status(self) -> int:
        return int(self.head.get("status", "200")[:3])

    @property
    def body(self) -> bytes:
        return split(self.stdout)[1]


def split(stdout: bytes) -> tuple[bytes, bytes]:
    """Header block and body. A block without a header is just the empty line."""
    if stdout.startswith(b"\r\n"):
        return b"", stdout[2:]
    head, _, body = stdout.partition(b"\r\n\r\n")
    return head, body


def connect_to(address: str) -> socket.socket:
    """A connection to a path, to ``HOST:PORT`` or to ``[IPv6]:PORT``."""
    if "/" in address:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connected.settimeout(PATIENCE_S)
        connected.connect(address)
        return connected
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), PATIENCE_S)


class Wire:
    """One connection. ``request`` and its like only make bytes; ``send`` sends them."""

    def __init__(self, address: str) -> None:
        self.socket = connect_to(address)
        self.client = protocol.ClientConnection()
        self._answers: dict[int, Answer] = {}
        self._eof = False

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.socket.close()

    def request(
        self,
        script: str = "/",
        body: bytes = b"",
        *,
        id: int = 1,
        keep: bool = False,
        method: str | None = None,
        role: int = protocol.RESPONDER,
        **params: str,
    ) -> bytes:
        """A whole request."""
        return (
            self.begin(id, keep=keep, role=role)
            + self.params(script, body, id=id, method=method, **params)
            + (self.client.send_stdin(id, body) if body else b"")
            + self.client.send_stdin(id, b"")
        )

    def begin(self, id: int = 1, *, keep: bool = False, role: int = protocol.RESPONDER) -> bytes:
        return self.client.begin_request(id, role, keep)

    def params(self, script: str, body: bytes = b"", *, id: int = 1, method: str | None = None, **params: str) -> bytes:
        return self.client.send_params(id, params_of(script, len(body), method, params))

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, script: str = "/", body: bytes = b"", **more: object) -> Answer:
        """Send a request and read its answer."""
        self.send(self.request(script, body, **more))  # type: ignore[arg-type]
        return self.answer(int(more.get("id", 1)))  # type: ignore[call-overload]

    def answer(self, id: int = 1) -> Answer:
        """The answer to request ``id``; what comes for others meanwhile is kept for them."""
        while self._answers.get(id, Answer()).ends == 0:
            assert self._read(), f"the connection ended before the answer: {self._answers.get(id)}"
        return self._finished(id)

    def _finished(self, id: int) -> Answer:
        answer = self._answers.pop(id)
        answer.stdout = b"".join(answer._pieces)
        return answer

    def _read(self) -> bool:
        data = self.socket.recv(1 << 20)
        if not data:
            self._eof = True
            return False
        self.client.receive_data(data)
        while not isinstance(event := self.client.next_event(), protocol.NeedData):
            answer = self._answers.setdefault(getattr(event, "request_id", 0), Answer())
            if isinstance(event, protocol.Stdout):
                answer._pieces.append(event.data)
            elif isinstance(event, protocol.Stderr):
                answer.stderr += event.data
            elif isinstance(event, protocol.EndRequest):
                answer.ends += 1
                answer.app_status = event.app_status
                answer.protocol_status = event.protocol_status
        return True

    def pieces(self, id: int = 1) -> Iterator[bytes]:
        """The answer's STDOUT as it comes, for one that is too large to keep; ends with it."""
        while True:
            answer = self._answers.setdefault(id, Answer())
            yield from answer._pieces
            answer._pieces.clear()
            if answer.ends:
                return
            assert self._read(), "the connection ended before the answer"

    def rest(self) -> bytes:
        """All bytes until the other side closes. Raises TimeoutError when it does not."""
        pieces = []
        while data := self.socket.recv(1 << 20):
            pieces.append(data)
        return b"".join(pieces)

    def is_closed(self) -> bool:
        """The other side closes now or soon, and says nothing before; for one that nothing is left to read of."""
        try:
            return self.rest() == b""
        except ConnectionResetError:
            return True


def params_of(script: str, length: int, method: str | None, more: Mapping[str, str]) -> dict[str, str]:
    """What a web server sends for a request of this script; ``script`` may have a query string."""
    path, _, query = script.partition("?")
    params = {
        "REQUEST_METHOD": method or ("POST" if length else "GET"),
        "SCRIPT_FILENAME": path,
        "SCRIPT_NAME": "/" + path.rpartition("/")[2],
        "REQUEST_URI": "/" + script.rpartition("/")[2],
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": "HTTP/1.1",
    }
    if length:
        params["CONTENT_LENGTH"] = str(length)
    return {**params, **more}


def ask(address: str, script: str = "/", body: bytes = b"", **more: object) -> Answer:
    """One request on a connection of its own."""
    with Wire(address) as wire:
        return wire.ask(script, body, **more)
