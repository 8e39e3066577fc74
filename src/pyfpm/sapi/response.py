"""The answer of a script: headers that can be changed until the first output leaves, then the body."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from http import HTTPStatus

from pyfpm.sapi.interface import Output

DEFAULT_CONTENT_TYPE = "Content-Type: text/html; charset=UTF-8\r\n"

# Body bytes that are held back before the headers leave, so that a script may print first and set a header after.
# Precedent: output_buffering = 4096 in php.ini-production.
HOLD = 4096


class HeadersSentError(RuntimeError):
    """A header was to be changed after the first output had left."""


class Aborted(SystemExit):
    """The visitor is gone, so the script ends. As a SystemExit it passes ``except Exception`` and runs ``finally``."""


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


class ScriptResponse:
    __slots__ = (
        "_bodiless",
        "_held",
        "_held_size",
        "_output",
        "_phrase",
        "head_sent",
        "headers",
        "sent_at",
        "status",
        "told",
    )

    def __init__(self, output: Output, bodiless: bool) -> None:
        self._output = output
        self._bodiless = bodiless
        self._held: list[bytes] = []
        self._held_size = 0
        # (name in lower case, line); None: nothing but the default.
        self.headers: list[tuple[str, str]] | None = None
        self.status: int | None = None
        self._phrase = ""
        self.head_sent = False
        self.sent_at = ""
        # The web server's error log has a message of this request.
        self.told = False

    def write(self, data: bytes) -> None:
        if self.head_sent:
            if not self._bodiless:
                self._send(data)
            return
        self._held.append(data)
        self._held_size += len(data)
        if self._held_size > HOLD:
            self._note_sender()
            self.send_head()

    def _note_sender(self) -> None:
        """Remember where the output came from that sent the headers; it is what people look for."""
        # Compiled functions of ours have no frame, those that are not do.
        frame = sys._getframe()
        while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith("pyfpm."):
            frame = frame.f_back
        self.sent_at = f"{frame.f_code.co_filename}:{frame.f_lineno}"

    def flush(self) -> None:
        if not self.head_sent:
            self._note_sender()
            self.send_head()
        try:
            self._output.flush()
        except ConnectionAbortedError:
            raise Aborted from None

    def send_head(self) -> None:
        """Put the header block and what was held back on its way."""
        self.head_sent = True
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
        if has_content and (headers is None or not _has_content_type(headers)):
            block += DEFAULT_CONTENT_TYPE
        if headers is not None:
            for _, line in headers:
                block += line
        # A CGI answer has one header at least (RFC 3875, 6.2).
        block = block or "Status: 200 OK\r\n"
        head = (block + "\r\n").encode("utf-8", "surrogateescape")
        if self._bodiless:
            self._send(head)
        elif len(self._held) == 1:
            self._send(head)
            self._send(self._held[0])
        else:
            self._send(head + b"".join(self._held))
        self._held = []

    def give_up(self) -> None:
        """Somebody else ends the answer: forget what is held back, and add nothing any more."""
        self.head_sent = True
        self._bodiless = True
        self._held = []

    def end(self) -> None:
        if not self.head_sent:
            self.send_head()

    def error(self, data: bytes) -> None:
        """Add to the web server's error log."""
        try:
            self._output.error(data)
        except ConnectionAbortedError:
            raise Aborted from None

    def message(self, data: bytes) -> None:
        """Add a message to it, as php-fpm does: with a semicolon between two."""
        self.error(b"; " + data if self.told else data)
        self.told = True

    def disown(self) -> None:
        """What is written from now on reaches nobody."""
        self._output = Nowhere()

    def _send(self, data: bytes) -> None:
        try:
            self._output.write(data)
        except ConnectionAbortedError:
            raise Aborted from None

    # -- headers ------------------------------------------------------------------------------------------------------

    def must_be_changeable(self) -> None:
        if self.head_sent:
            where = f" (output started at {self.sent_at})" if self.sent_at else ""
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

    def listed(self) -> list[str]:
        headers = self.headers or []
        lines = [] if _has_content_type(headers) else [DEFAULT_CONTENT_TYPE]
        return [line[:-2] for line in lines + [line for _, line in headers] if line]


def _has_content_type(headers: list[tuple[str, str]]) -> bool:
    for name, _ in headers:
        if name == "content-type":
            return True
    return False


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Status"
