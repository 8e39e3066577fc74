"""What can go wrong between a client and a server, under one base."""

from __future__ import annotations

from pyfpm import protocol


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
