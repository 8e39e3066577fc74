"""What an adapter is given: the request as the protocol saw it, and the place for its answer.

The worker's classes fit these; an adapter knows nothing else of the world below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO, Protocol


class Request(Protocol):
    """One complete request.

    ``params`` has the name-value pairs, each byte as one character (latin-1, PEP 3333); the adapter may change it.
    ``non_ascii`` tells whether any value has bytes above 127. ``stdin`` is the body at its beginning, None if there is
    none; ``data`` likewise the file of a FILTER request.
    """

    @property
    def role(self) -> int: ...
    @property
    def params(self) -> dict[str, str]: ...
    @property
    def non_ascii(self) -> bool: ...
    @property
    def stdin(self) -> BinaryIO | None: ...
    @property
    def data(self) -> BinaryIO | None: ...


class Output(Protocol):
    """The answer: CGI headers, an empty line, the body, as bytes in any pieces.

    Every method raises ConnectionAbortedError once the web server is gone, and ValueError once the request is over.
    """

    @property
    def started(self) -> bool:
        """Something may have been sent: nothing can be taken back any more."""

    def write(self, data: bytes) -> None:
        """Add to the answer. Collected up to some 32 KiB; larger pieces are not copied, and wait for a slow web
        server when ``max_queued`` bytes are ahead of them."""

    def error(self, data: bytes) -> None:
        """Add to the web server's error log (FCGI_STDERR)."""

    def flush(self) -> None:
        """Send what is collected. Waits for a slow web server as ``write`` does."""

    def sendfile(self, fd: int, offset: int, count: int) -> None:
        """Add bytes of an open regular file, which are sent without being read into memory. The descriptor may be
        closed afterwards, the file must not be shortened."""

    def wait(self, descriptors: Sequence[int], timeout_s: float | None) -> list[int]:
        """Wait until one of these can be read or is at its end: which of them. Empty when the time is up, which a
        signal may make sooner; None waits for ever. Meanwhile the web server takes what is queued for it, and may
        hang up."""

    def discard(self) -> bool:
        """Take back everything that was written; False, and nothing is done, if ``started``."""
