"""The client's side of a FastCGI connection."""

from collections.abc import Iterable, Mapping
from typing import Self

from pyfpm.protocol._events import (
    ConnectionClosed,
    EndOfStdout,
    EndRequest,
    NeedData,
    Stderr,
    Stdout,
    UnknownType,
    Values,
)

class ClientConnection:
    """The web server's side of one connection: requests in, bytes out; bytes in, events out. Never does I/O.

    The caller owns the socket: it writes what the methods return, in that order, and gives ``receive_data`` what it
    reads. Several requests may be live at once if the server's FCGI_MPXS_CONNS says so. To be used from one thread.

    Source: FastCGI 1.0.
    """

    def __new__(cls) -> Self: ...
    def begin_request(self, request_id: int, role: int = 1, keep_conn: bool = False) -> bytes:
        """BEGIN_REQUEST; the request is live until its ``EndRequest`` is read.

        Args:
          request_id: 1 to 65,535, not that of a live request.
          role: RESPONDER, AUTHORIZER or FILTER; any other that fits into two bytes is sent as well.
          keep_conn: ask the server to keep the connection open after the answer.
        Raises:
          LocalProtocolError: the id is live or out of range, or the role is. Nothing has changed.

        Source: FastCGI 1.0, 5.1 "FCGI_BEGIN_REQUEST".
        """
    def send_params(
        self,
        request_id: int,
        params: Mapping[str, str] | Mapping[bytes, bytes] | Iterable[tuple[str | bytes, str | bytes]],
    ) -> bytes:
        """The whole PARAMS stream with its end. Once a request; str is written as UTF-8 with surrogateescape.

        Raises:
          LocalProtocolError: the request is not live or has its params. Nothing has changed.
          TypeError: a name or value is neither bytes nor str. Nothing has changed.

        Source: FastCGI 1.0, 3.4 "Name-Value Pairs", 5.2 "FCGI_PARAMS".
        """
    def send_stdin(self, request_id: int, data: bytes | bytearray | memoryview) -> bytes:
        """Records that carry a piece of the body; ``b""`` ends it, which every responder and filter waits for.

        Raises:
          LocalProtocolError: the request is not live, or this stream has ended. Nothing has changed.

        Source: FastCGI 1.0, 5.3 "FCGI_STDIN".
        """
    def send_data(self, request_id: int, data: bytes | bytearray | memoryview) -> bytes:
        """As ``send_stdin``, for the file that a filter gets.

        Raises:
          LocalProtocolError: as ``send_stdin``.

        Source: FastCGI 1.0, 5.3 "FCGI_DATA", 6.4 "Filter".
        """
    def abort_request(self, request_id: int) -> bytes:
        """Tell that the answer is no longer wanted. The request stays live: its ``EndRequest`` still comes.

        Raises:
          LocalProtocolError: the request is not live.

        Source: FastCGI 1.0, 5.4 "FCGI_ABORT_REQUEST".
        """
    def get_values(self, names: Iterable[str | bytes]) -> bytes:
        """Ask for FCGI_MAX_CONNS, FCGI_MAX_REQS, FCGI_MPXS_CONNS; ``Values`` has those that the server knows.

        Raises:
          LocalProtocolError: the names do not fit into one record.

        Source: FastCGI 1.0, 4.1 "FCGI_GET_VALUES".
        """
    @property
    def live_requests(self) -> tuple[int, ...]:
        """Ids that were begun and not yet ended by the server, in the order of their beginning."""
    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        """Store bytes read from the server; ``next_event`` does the parsing.

        Args:
          data: what one read returned, copied before we return. ``b""`` means the server closed its side.
        Raises:
          LocalProtocolError: data after ``b""``. The connection stays as it was.

        Source: FastCGI 1.0, 3.3 "Records".
        """
    def next_event(
        self,
    ) -> Stdout | Stderr | EndOfStdout | EndRequest | Values | UnknownType | NeedData | ConnectionClosed:
        """Parse what is stored up to the next thing that matters.

        Answers to ids that are not live are ignored. ``NEED_DATA`` when all bytes are used; ``ConnectionClosed``
        instead, again and again, once ``b""`` was stored: requests that are live then get no answer.

        Raises:
          RemoteProtocolError: the server broke the specification; the connection must be closed.
          LocalProtocolError: called again after that.

        Source: FastCGI 1.0, 3.3 "Records".
        """
