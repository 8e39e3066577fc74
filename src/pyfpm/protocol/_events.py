"""What ``next_event`` of either side returns.

Not frozen, though nobody changes them: a frozen dataclass takes three times as long to make.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyfpm.protocol._server import Request


@dataclass(slots=True)
class NeedData:
    """All bytes received so far have been turned into events."""


@dataclass(slots=True)
class ConnectionClosed:
    """The peer closed its side. Requests that are live can't get more from it."""


# -- the server's side; a Request is an event itself: it stands for BEGIN_REQUEST and the end of PARAMS


@dataclass(slots=True)
class Stdin:
    """A piece of the body [5.3]."""

    request: Request
    data: bytes


@dataclass(slots=True)
class EndOfStdin:
    """The body is complete, whatever CONTENT_LENGTH says."""

    request: Request


@dataclass(slots=True)
class Data:
    """A piece of the file that a FILTER gets beside its body [5.3]."""

    request: Request
    data: bytes


@dataclass(slots=True)
class EndOfData:
    """The FILTER's file is complete."""

    request: Request


@dataclass(slots=True)
class Abort:
    """The web server no longer wants the answer; it still waits for END_REQUEST [5.4]."""

    request: Request


@dataclass(slots=True)
class Refused:
    """A limit was passed or the request contradicts itself. Answer with this HTTP status, then end the request: at
    once if it is not among ``live_requests`` or is complete, else when ``Drained`` comes."""

    request: Request
    status: int
    reason: str


@dataclass(slots=True)
class Drained:
    """All of a refused request has come. Its END_REQUEST may go now."""

    request: Request


@dataclass(slots=True)
class Reply:
    """Write this as it is: the answer to a management record [4], or END_REQUEST for a role that doesn't exist.
    ``close`` tells that the web server expects the connection to end after it."""

    data: bytes
    close: bool


# -- the client's side


@dataclass(slots=True)
class Stdout:
    """A piece of the answer: CGI headers, an empty line, the body, cut anywhere."""

    request_id: int
    data: bytes


@dataclass(slots=True)
class Stderr:
    """A piece of what the application has to say to the error log."""

    request_id: int
    data: bytes


@dataclass(slots=True)
class EndOfStdout:
    """The STDOUT stream has ended. Some servers skip this and just end the request."""

    request_id: int


@dataclass(slots=True)
class EndRequest:
    """The request is over [5.5]."""

    request_id: int
    app_status: int
    protocol_status: int


@dataclass(slots=True)
class Values:
    """The answer to FCGI_GET_VALUES: the variables that the server knows [4.1]."""

    values: dict[str, str]


@dataclass(slots=True)
class UnknownType:
    """The server does not know a management record of this type [4.2]."""

    type: int


NEED_DATA = NeedData()
