"""The answer of a script: headers that can be changed until the first output leaves, then the body."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

from pyfpm.sapi.headers import header_line
from pyfpm.sapi.interface import Output
from pyfpm.sapi.settings import SapiSettings

# output_buffering = 1 is PHP's On: hold back all of it.
UNLIMITED = 1


class HeadersSentError(RuntimeError):
    """A header was to be changed after the first output had left."""


class Aborted(SystemExit):
    """The visitor is gone, so the script ends, unless ignore_user_abort() says otherwise. As a SystemExit it passes
    ``except Exception`` and runs ``finally``."""


class Nowhere:
    """The output of a process that has no part in the answer."""

    started = False

    def write(self, data: bytes) -> None:
        pass

    error = write

    def flush(self) -> None:
        pass

    def sendfile(self, fd: int, offset: int, count: int) -> None:
        pass

    def wait(self, descriptors: Sequence[int], timeout_s: float | None) -> list[int]:
        return []

    def discard(self) -> bool:
        return False

    def is_given_up(self) -> bool:
        return False

    def finish(self) -> bool:
        return False


class Defaults:
    """What of the settings each answer begins with, put together once.

    Attributes:
      head: a whole block, for an answer that says nothing of itself.
      content_type: its line, or nothing where default_mimetype is empty.
      charset: what text is sent in without saying so; maybe empty.
      hold: body bytes that are held back before the headers leave, so that a script may print first and set a header
        after.
      known_headers: what scripts set in the same words each time, taken apart once: the argument of header(): (name in
        lower case, line). Those that act on the status are not among them.

    Raises:
      ValueError: what is configured cannot be in a header.
    """

    __slots__ = ("charset", "content_type", "head", "hold", "known_headers")

    def __init__(self, settings: SapiSettings) -> None:
        self.charset = settings.default_charset or ""
        mimetype = settings.default_mimetype or ""
        if mimetype.startswith("text/") and self.charset:
            mimetype += f"; charset={self.charset}"
        self.content_type = header_line("Content-Type", mimetype) if mimetype else ""
        self.head = ((self.content_type or "Status: 200 OK\r\n") + "\r\n").encode()
        self.hold = sys.maxsize if settings.output_buffering == UNLIMITED else settings.output_buffering
        self.known_headers: dict[str, tuple[str, str]] = {}


# A worker has one pool's settings, so those of before are those of now.
_settings: SapiSettings | None = None
_defaults: Defaults | None = None


def defaults_of(settings: SapiSettings) -> Defaults:
    global _settings, _defaults
    if _defaults is None or _settings is not settings:
        _defaults = Defaults(settings)
        _settings = settings
    return _defaults


class ScriptResponse:
    __slots__ = (
        "_bodiless",
        "_complete",
        "_held",
        "_held_size",
        "_hold",
        "_output",
        "_phrase",
        "_replaces",
        "aborted",
        "before_head",
        "buffers",
        "defaults",
        "flushes",
        "head_sent",
        "headers",
        "ignores_abort",
        "sent_file",
        "sent_line",
        "status",
        "told",
    )

    def __init__(self, output: Output, bodiless: bool, settings: SapiSettings) -> None:
        self._output = output
        self._bodiless = bodiless
        self.defaults = defaults_of(settings)
        self._hold = self.defaults.hold
        self._held: list[bytes] = []
        self._held_size = 0
        # What ob_start() has put above us, if it did: it has write().
        self.buffers: Any = None
        # To be called once when the headers are about to leave.
        self.before_head: Callable[[], object] | None = None
        # Each piece leaves at once.
        self.flushes = False
        # The body was a file, which nothing can follow.
        self._complete = False
        # (name in lower case, line); None: nothing but the default.
        self.headers: list[tuple[str, str]] | None = None
        self.status: int | None = None
        self._phrase = ""
        self.head_sent = False
        self.sent_file = ""
        self.sent_line = 0
        # What is sent first takes the place of what is in the output.
        self._replaces = False
        # The visitor has left, as far as we have noticed.
        self.aborted = False
        self.ignores_abort = False
        # The web server's error log has a message of this request.
        self.told = False

    def write(self, data: bytes) -> None:
        if self.buffers is not None:
            self.buffers.write(data)
        else:
            self.emit(data)

    def emit(self, data: bytes) -> None:
        """Add to the answer, past the buffers of ob_start()."""
        if self.head_sent:
            if self._bodiless:
                self._must_not_be_complete()
            else:
                self._send(data)
                if self.flushes:
                    self.flush()
            return
        self._held.append(data)
        self._held_size += len(data)
        if self._held_size > self._hold:
            self._note_sender()
            self.send_head()
            if self.flushes:
                self.flush()

    def _must_not_be_complete(self) -> None:
        if self._complete:
            raise RuntimeError("nothing can follow a file: send_file() has sent the whole body already")

    def flush_each_piece(self, flushes: bool) -> None:
        self.flushes = flushes
        self._hold = 0 if flushes else self.defaults.hold

    def _note_sender(self) -> None:
        """Remember where the output came from that sent the headers; it is what people look for."""
        # Compiled functions of ours have no frame, those that are not do.
        frame = sys._getframe()
        while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith("pyfpm."):
            frame = frame.f_back
        self.sent_file = frame.f_code.co_filename
        self.sent_line = frame.f_lineno or 0

    def flush(self) -> None:
        if not self.head_sent:
            self._note_sender()
            self.send_head()
        try:
            self._output.flush()
        except ConnectionAbortedError:
            self._note_abort()

    def flush_events(self) -> None:
        """Flush if it is a stream of events, which are of no use later."""
        if self.headers is not None and _is_event_stream(_content_type(self.headers)):
            self.flush()

    def send_head(self) -> None:
        """Put the header block and what was held back on its way."""
        self.ask_before_head()
        if self.head_sent:  # It has printed as much.
            return
        self.head_sent = True
        if self._replaces:
            self._output.discard()
        head = self.defaults.head if self.headers is None and self.status is None else self._head()
        if self._bodiless:
            self._send(head)
        elif len(self._held) == 1:
            self._send(head)
            self._send(self._held[0])
        else:
            self._send(head + b"".join(self._held))
        self._held = []

    def ask_before_head(self) -> None:
        """Let the script have its last word on the headers."""
        callback = self.before_head
        if callback is not None:
            self.before_head = None
            callback()

    def _head(self) -> bytes:
        status = self.status
        block = ""
        has_content = True
        if status is not None and status != 200:
            block = f"Status: {status} {self._phrase or _phrase(status)}\r\n"
            if status == 204 or status == 304:
                # These end with their headers (RFC 9110, 15.3.5 and 15.4.5); a body could be taken for another answer.
                has_content = False
                self._bodiless = True
        headers = self.headers
        content_type = None if headers is None else _content_type(headers)
        if content_type is None:
            if has_content:
                block += self.defaults.content_type
        elif _is_event_stream(content_type) and not _has(headers or [], "x-accel-buffering"):
            # nginx would collect events into pages.
            block += "X-Accel-Buffering: no\r\n"
        if headers is not None:
            for _, line in headers:
                block += line
        # A CGI answer has one header at least (RFC 3875, 6.2).
        block = block or "Status: 200 OK\r\n"
        return (block + "\r\n").encode("utf-8", "surrogateescape")

    def send_file(self, fd: int, offset: int, count: int) -> None:
        """Send the headers and this part of a file. What was printed and has not left is dropped, and nothing may
        follow."""
        self.must_be_changeable()
        self.buffers = None
        self._held = []
        self._note_sender()
        self.send_head()
        if count > 0 and not self._bodiless:
            try:
                self._output.sendfile(fd, offset, count)
            except ConnectionAbortedError:
                self._note_abort()
        self._bodiless = True
        self._complete = True

    def takes_a_message(self) -> bool:
        """Whether a piece of HTML may be added to what has been sent."""
        if self._bodiless:
            return False
        headers = self.headers or []
        if _has(headers, "content-length") or _has(headers, "content-encoding"):
            return False
        content_type = _content_type(headers)
        if content_type is None:
            content_type = self.defaults.content_type
        return content_type.lower().startswith("content-type: text/html")

    def give_up(self) -> None:
        """Somebody else ends the answer: forget what is held back, and add nothing any more."""
        self.head_sent = True
        self._bodiless = True
        self._held = []
        self.buffers = None
        self.before_head = None

    def go_on(self, status: int, bodiless: bool) -> None:
        """Shutdown functions have the word after give_up(). They go on with what was sent; if nothing was, they begin
        anew, with this status, and what they print takes the place of the page that somebody else has written."""
        self._bodiless = bodiless
        if self._output.started:
            # What has been sent has no body, or all of it.
            self._bodiless = bodiless or self._complete or self.status == 204 or self.status == 304
        else:
            self._complete = False
            self._replaces = True
            self._held_size = 0
            self.head_sent = False
            self.headers = None
            self.set_status(status)

    def keep_page(self) -> None:
        """Shutdown functions have had the word. If they have printed nothing, that page stays, alone."""
        if self._replaces and not self.head_sent and not self._held_size and self.buffers is None:
            self.give_up()

    def end(self) -> None:
        if not self.head_sent and not (self._replaces and not self._held_size):
            self.send_head()

    def error(self, data: bytes) -> None:
        """Add to the web server's error log."""
        try:
            self._output.error(data)
        except ConnectionAbortedError:
            self._note_abort()

    def message(self, data: bytes) -> None:
        """Add a message to it, as php-fpm does: with a semicolon between two."""
        self.error(b"; " + data if self.told else data)
        self.told = True

    def _note_abort(self) -> None:
        self.aborted = True
        if not self.ignores_abort:
            raise Aborted from None
        self.disown()

    def disown(self) -> None:
        """What is written from now on reaches nobody."""
        self._output = Nowhere()

    def _send(self, data: bytes) -> None:
        try:
            self._output.write(data)
        except ConnectionAbortedError:
            self._note_abort()

    # -- headers ------------------------------------------------------------------------------------------------------

    def must_be_changeable(self) -> None:
        if self.head_sent:
            where = f" (output started at {self.sent_file}:{self.sent_line})" if self.sent_file else ""
            raise HeadersSentError("the headers are sent already" + where)

    def set_status(self, status: int, phrase: str = "") -> None:
        """``phrase`` stands behind it; without one, the usual words do."""
        self.status = status
        self._phrase = phrase

    def add(self, field: tuple[str, str], replace: bool) -> None:
        """Add a header: its name in lower case, and its line."""
        if replace and self.headers is not None:
            self.remove(field[0])
        if self.headers is None:
            self.headers = []
        self.headers.append(field)

    def remove(self, name: str) -> None:
        lower = name.lower()
        self.headers = [header for header in self.headers or [] if header[0] != lower]

    def remove_default(self) -> None:
        """Not even the default Content-Type is to be sent."""
        if self.headers is None:
            self.headers = []
        self.headers.append(("content-type", ""))

    def value_of(self, name: str) -> str | None:
        """The value of the last header with this name, in lower case."""
        for lower, line in reversed(self.headers or []):
            if lower == name:
                return line.partition(":")[2].strip()
        return None

    def listed(self) -> list[str]:
        headers = self.headers or []
        lines = [] if _has(headers, "content-type") else [self.defaults.content_type]
        return [line[:-2] for line in lines + [line for _, line in headers] if line]


def _content_type(headers: list[tuple[str, str]]) -> str | None:
    """Its line; empty where not even the default one is wanted."""
    for name, line in headers:
        if name == "content-type":
            return line
    return None


def _has(headers: list[tuple[str, str]], wanted: str) -> bool:
    for name, _ in headers:
        if name == wanted:
            return True
    return False


def _is_event_stream(content_type: str | None) -> bool:
    return content_type is not None and "text/event-stream" in content_type.lower()


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Status"
