"""What an adapter is given: the request as the protocol saw it, and the place for its answer.

The worker's classes fit these; an adapter knows nothing else of the world below it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import BinaryIO, Protocol

from pyfpm.protocol import AUTHORIZER, FILTER, RESPONDER

# Source (PHP): $_SERVER['FCGI_ROLE'].
ROLES = {RESPONDER: "RESPONDER", AUTHORIZER: "AUTHORIZER", FILTER: "FILTER"}


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

    def is_given_up(self) -> bool:
        """The web server has hung up, or does not want this answer: that costs a look at the socket. Also looked at
        with each ``flush``; methods raise ConnectionAbortedError from the next call on."""

    def finish(self) -> bool:
        """The answer is complete, and its connection free, while the request goes on; what is added later goes nowhere,
        without an error. False, and nothing is done, if it was complete already, or has not begun."""


class Event(Protocol):
    """Of trio or asyncio."""

    def set(self) -> object: ...
    async def wait(self) -> object: ...


class Live(Protocol):
    """A request that goes on while others do: it begins when its params are there, and ends when ``end`` is called.

    Two things come of themselves: the body, and that the web server gives up (``gone``). Whoever waits for something
    looks, waits for the event that ``when_...`` returns, and looks again: an event is set once, for all who wait.
    """

    @property
    def params(self) -> dict[str, str]:
        """As in ``Request``, but they must stay as they are."""

    @property
    def output(self) -> Output:
        """Nothing of it waits. What is written must be sent by ``flush`` or ``end`` before the task gives up the
        thread: others put their answers together in the same memory."""

    @property
    def has_input(self) -> bool:
        """``take`` has something to give."""

    @property
    def at_end(self) -> bool:
        """The body is complete, and all of it was taken."""

    @property
    def has_room(self) -> bool:
        """Not more than ``max_queued`` waits for the web server; it is for the adapter to wait before it adds more."""

    @property
    def gone(self) -> bool:
        """The web server does not want the answer any more. No output can be made, there is no more input."""

    @property
    def over(self) -> bool:
        """``end`` was called."""

    @property
    def timed_out(self) -> bool:
        """It has taken too long, and is being cancelled."""

    def take(self) -> bytes:
        """What has come of the body; b"" if that is nothing. Reading goes on: with 64 KiB that nobody has taken the
        connection is not read."""

    def when_input(self, make_event: Callable[[], Event], /) -> Event:
        """An event that is set when there is input, or the end of it, or of the request."""

    def when_output(self, make_event: Callable[[], Event], /) -> Event:
        """An event that is set when the web server has taken what waited, or has gone, or the request is over."""

    def flush(self) -> None:
        """Send what was written. What the web server does not take is kept for it; never waits."""

    def end(self, app_status: int = 0, /) -> None:
        """The answer is complete. What the body still has is thrown away. Once is enough, more does no harm."""
