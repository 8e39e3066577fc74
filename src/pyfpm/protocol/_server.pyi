"""The server's side of a FastCGI connection: see the top of _server.pyx for how its parts meet."""

from collections.abc import Iterable
from typing import Any, Final, Self, final

from pyfpm.protocol._events import (
    Abort,
    ConnectionClosed,
    Data,
    Drained,
    EndOfData,
    EndOfStdin,
    NeedData,
    Refused,
    Reply,
    Stdin,
)

DEFAULT_MAX_REQUESTS: Final[int]
DEFAULT_MAX_PARAMS_SIZE: Final[int]
DEFAULT_MAX_PARAMS: Final[int]
DEFAULT_MAX_HELD: Final[int]
DEFAULT_MAX_IGNORED: Final[int]

@final
class Budget:
    """Memory that several connections share, in bytes; budgets nest: a peer's inside that of all.

    Connections take from it for their unfinished requests and give back when a request ends, is refused, or goes with
    its connection. A budget may outlive its connections and must be used from one thread.

    Args:
      limit: the most that may be taken.
      parent: a budget that everything taken here is taken from as well. Kept alive.
    """

    def __new__(cls, limit: int, parent: Budget | None = None) -> Self: ...
    @property
    def limit(self) -> int: ...
    @property
    def used(self) -> int:
        """Bytes taken and not yet given back; 0 when no request is unfinished."""
    @property
    def parent(self) -> Budget | None: ...

class Limits:
    """What one connection may ask for. Never changes, so that all connections can share one.

    Args:
      max_requests: live requests at once on a connection, at least 1. One more is refused with 503.
      max_params_size: bytes of all names and values of a request. More is refused with 431.
      max_params: name-value pairs of a request, repeated ones counted each time. More is refused with 431.
      max_held: bytes that the unfinished requests of a connection may take. More is refused with 503.
      max_ignored: bytes of content that no request wants, which we read before the connection is broken: the body of a
        refused request, late STDIN. Counted anew whenever a request ends.
      max_connections: told to the web server as FCGI_MAX_CONNS and, times max_requests, as FCGI_MAX_REQS. Nothing here
        enforces it.
      roles: those that are served; a request of another one is answered with FCGI_UNKNOWN_ROLE.
    Raises:
      ValueError: max_requests is 0, or one of the roles does not exist.

    Source: FastCGI 1.0, 4.1 "FCGI_GET_VALUES".
    """

    def __init__(
        self,
        *,
        max_requests: int = ...,
        max_params_size: int = ...,
        max_params: int = ...,
        max_held: int = ...,
        max_ignored: int = ...,
        max_connections: int = ...,
        roles: Iterable[int] = ...,
    ) -> None: ...
    @property
    def max_requests(self) -> int: ...
    @property
    def max_params_size(self) -> int: ...
    @property
    def max_params(self) -> int: ...
    @property
    def max_held(self) -> int: ...
    @property
    def max_ignored(self) -> int: ...
    @property
    def values(self) -> dict[bytes, bytes]:
        """What FCGI_GET_VALUES is answered from."""

class Request:
    """One request of a web server, from BEGIN_REQUEST until ``end_request``. Connections make it, nobody else.

    As an event it says that PARAMS has ended. It may be kept after its end; the connection no longer refers to it then.

    Source: FastCGI 1.0, 5.1 "FCGI_BEGIN_REQUEST", 6 "Roles".
    """

    stdin: Any
    """Yours: where you collect the body. None at first, and None again once the request is refused."""
    data: Any
    """Yours, as ``stdin``, for a FILTER's file."""

    @property
    def id(self) -> int:
        """1 to 65,535; unique among the live requests of its connection."""
    @property
    def role(self) -> int:
        """RESPONDER, AUTHORIZER or FILTER."""
    @property
    def keep_conn(self) -> bool:
        """False: the web server expects us to close the connection after the answer."""
    @property
    def params(self) -> dict[str, str]:
        """The name-value pairs, decoded as latin-1 so that no byte is lost (PEP 3333). Yours to change.

        A name that came more than once: ``HTTP_*`` joined with ", ", HTTP_COOKIE with "; ", of others the last one.
        Two different CONTENT_LENGTH, REQUEST_METHOD or SCRIPT_FILENAME make the request ``Refused`` with 400.
        None before PARAMS has ended, which only concerns who meets the request in an earlier event.
        """
    @property
    def non_ascii(self) -> bool:
        """Whether any value in params has a byte above 127."""
    @property
    def params_ended(self) -> bool: ...
    @property
    def stdin_ended(self) -> bool:
        """The empty STDIN has come; whatever CONTENT_LENGTH says, this is where the body ends."""
    @property
    def data_ended(self) -> bool: ...
    @property
    def refused(self) -> bool:
        """What comes of it is dropped from now on: by ``refuse_request``, or since a limit was passed."""
    @property
    def complete(self) -> bool:
        """All has come that its role has: PARAMS; STDIN for RESPONDER and FILTER; DATA for FILTER."""

class ServerConnection:
    """The server's side of one connection: bytes in, events out; answers in, bytes out. Never does I/O.

    The caller owns the socket: it gives to ``receive_data`` what it reads, takes events until ``NeedData``, and writes
    what the ``send_*`` methods, ``end_request`` and ``Reply`` give it, in that order. To be used from one thread.

    Args:
      limits: what the web server may ask for; None for the defaults.
      budget: shared memory to take from, beside ``limits.max_held``. Everything is given back at the latest when the
        connection is deallocated.

    Source: FastCGI 1.0.
    """

    def __new__(cls, limits: Limits | None = None, budget: Budget | None = None) -> Self: ...
    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        """Store bytes read from the web server; ``next_event`` does the parsing.

        Args:
          data: what one read returned. ``b""`` means the web server closed its side. Copied before we return if it can
            change; bytes are kept until they are parsed.
        Raises:
          LocalProtocolError: data after ``b""``. The connection stays as it was.

        Source: FastCGI 1.0, 3.3 "Records".
        """
    def next_event(
        self,
    ) -> (
        Request
        | Stdin
        | EndOfStdin
        | Data
        | EndOfData
        | Abort
        | Refused
        | Drained
        | Reply
        | NeedData
        | ConnectionClosed
    ):
        """Parse what is stored up to the next thing that matters.

        ``NEED_DATA`` when all bytes are used; ``ConnectionClosed`` instead, again and again, once ``b""`` was stored.

        Raises:
          RemoteProtocolError: the web server broke the specification, or ``max_ignored`` is used up. The connection
            must be closed. Requests that are live can still be answered before; ``request_id`` is the one that the
            broken record belonged to, 0 for none.
          LocalProtocolError: called again after that.

        Source: FastCGI 1.0, 3.3 "Records".
        """
    def send_stdout(self, request: Request, data: bytes | bytearray | memoryview) -> bytes:
        """Records that carry a piece of the answer, at most 65,528 bytes each; ``b""`` for no data.

        Raises:
          LocalProtocolError: the request is not live. A ``Refused`` one that never was may be answered once.

        Source: FastCGI 1.0, 5.3 "FCGI_STDOUT".
        """
    def send_stderr(self, request: Request, data: bytes | bytearray | memoryview) -> bytes:
        """Records for the web server's error log; as ``send_stdout``. nginx logs each record as an error.

        Raises:
          LocalProtocolError: as ``send_stdout``.

        Source: FastCGI 1.0, 5.3 "FCGI_STDERR".
        """
    def end_request(self, request: Request, app_status: int = 0, protocol_status: int = 0) -> bytes:
        """The end of STDERR, if it was used, the end of STDOUT, and END_REQUEST. The id is free then.

        May come before the body has ended: the rest of it is ignored, up to ``max_ignored``. Web servers that write
        the whole body first are better served by ``refuse_request``, and this at ``Drained``.

        Args:
          app_status: what exit() would be given, 0 to 2**32 - 1. All known web servers ignore it.
          protocol_status: REQUEST_COMPLETE, or why there was no answer.
        Raises:
          LocalProtocolError: as ``send_stdout``.

        Source: FastCGI 1.0, 5.5 "FCGI_END_REQUEST".
        """
    def refuse_request(self, request: Request) -> bool:
        """Drop what still comes of a request; its memory is given back now, and its ``stdin`` and ``data`` are None.

        Returns whether it is complete. If so, ``end_request`` may follow at once; if not, ``Drained`` tells when.

        Raises:
          LocalProtocolError: as ``send_stdout``.
        """
    @property
    def live_requests(self) -> tuple[Request, ...]:
        """Requests that were begun and not ended, refused ones included."""
