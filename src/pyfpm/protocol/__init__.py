"""The FastCGI protocol without I/O, for both sides of a connection.

``ServerConnection`` and ``ClientConnection`` work as in h11: ``receive_data`` stores bytes from the peer,
``next_event`` parses one thing, the ``send_*`` methods give back bytes to write. No socket, clock, logger or event loop
in here.

Source: FastCGI 1.0.
"""

from pyfpm.protocol._client import ClientConnection
from pyfpm.protocol._errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from pyfpm.protocol._events import (
    NEED_DATA,
    Abort,
    ConnectionClosed,
    Data,
    Drained,
    EndOfData,
    EndOfStdin,
    EndOfStdout,
    EndRequest,
    NeedData,
    Refused,
    Reply,
    Stderr,
    Stdin,
    Stdout,
    UnknownType,
    Values,
)
from pyfpm.protocol._server import Budget, Limits, Request, ServerConnection

# Roles [5.1] and protocol statuses [5.5].
RESPONDER, AUTHORIZER, FILTER = 1, 2, 3
REQUEST_COMPLETE, CANT_MPX_CONN, OVERLOADED, UNKNOWN_ROLE = 0, 1, 2, 3

__all__ = [
    "AUTHORIZER",
    "Abort",
    "Budget",
    "CANT_MPX_CONN",
    "ClientConnection",
    "ConnectionClosed",
    "Data",
    "Drained",
    "EndOfData",
    "EndOfStdin",
    "EndOfStdout",
    "EndRequest",
    "FILTER",
    "Limits",
    "LocalProtocolError",
    "NEED_DATA",
    "NeedData",
    "OVERLOADED",
    "ProtocolError",
    "REQUEST_COMPLETE",
    "RESPONDER",
    "Refused",
    "RemoteProtocolError",
    "Reply",
    "Request",
    "ServerConnection",
    "Stderr",
    "Stdin",
    "Stdout",
    "UNKNOWN_ROLE",
    "UnknownType",
    "Values",
]
