"""Whose fault it is when a FastCGI connection cannot go on."""


class ProtocolError(Exception):
    """Base of both; never raised itself."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the specification. The connection has lost its sense and must be closed.

    ``request_id`` is the live request that the broken record belonged to, 0 where there is none.
    """

    def __init__(self, message: str, request_id: int = 0) -> None:
        super().__init__(message)
        self.request_id = request_id


class LocalProtocolError(ProtocolError):
    """We were about to break the specification. Nothing was written; the connection is as it was."""
