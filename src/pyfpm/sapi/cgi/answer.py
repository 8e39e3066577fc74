"""What a CGI program prints, made into an answer: its header block is read and checked, then the body goes through.

Lines end in ``\\n`` or ``\\r\\n``, as the programs have it; the web server gets ``\\r\\n``. Nothing of an answer is
sent before its header block is complete and right, so that there is a 500 with its reason in the log instead of a bad
one.
"""

from __future__ import annotations

import re
from http import HTTPStatus

from pyfpm.sapi.headers import HOP_BY_HOP
from pyfpm.sapi.interface import Output

# Largest header block, in bytes. Precedents: nginx takes 4 to 8 KiB of it (fastcgi_buffer_size), Apache 8 KiB a line.
LARGEST_HEAD = 64 * 1024

# How much of a wrong line is shown to the operator.
_SHOWN = 80

# [RFC 9110, 5.6.2]
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_IN_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_STATUS = re.compile(rb"([2-9][0-9]{2})(?:[ \t]+(.*))?")
# What a program says that believes to talk to the client itself ("non-parsed headers"): RFC 3875, 5.
_STATUS_LINE = re.compile(rb"HTTP/[0-9.]+[ \t]+(.*)", re.IGNORECASE)


class BadAnswer(Exception):
    """It is not a CGI answer. The message is for the operator, and says what would be right."""


class CGIAnswer:
    """The answer to one request.

    Args:
      bodiless: it is for a HEAD request, whose answer ends with its headers.
    """

    def __init__(self, output: Output, bodiless: bool) -> None:
        self._output = output
        self._bodiless = bodiless
        self._head: bytearray | None = bytearray()
        self._unsent = False

    @property
    def has_head(self) -> bool:
        """The header block was complete: what is written from now on is body."""
        return self._head is None

    def write(self, data: bytes) -> None:
        """What the program has written, in any pieces.

        Raises:
          BadAnswer: its header block is wrong. Nothing of it was sent.
          ConnectionAbortedError: the web server is gone.
        """
        if self._head is None:
            if data and not self._bodiless:
                self._output.write(data)
                self._unsent = True
            return
        start = max(0, len(self._head) - 3)
        self._head += data
        end, body = _end_of_head(self._head, start)
        if end < 0:
            if len(self._head) > LARGEST_HEAD:
                raise BadAnswer(f"its header block is larger than {LARGEST_HEAD} bytes. {_begins(self._head)}")
            return
        status, lines = _read_head(bytes(self._head[:end]))
        rest = bytes(self._head[body:])
        self._head = None
        if status.startswith((b"204", b"304")):
            # These end with their headers (RFC 9110, 15.3.5 and 15.4.5); a body could be taken for another answer.
            self._bodiless = True
        block = b"Status: %b\r\n" % status if status else b""
        # A CGI answer has one header at least (RFC 3875, 6.2).
        block = block + b"".join(lines) or b"Status: 200 OK\r\n"
        self._output.write(block + b"\r\n" if self._bodiless else block + b"\r\n" + rest)
        # Headers alone are no hurry: until there is a body, it can still become an error that is told as one.
        self._unsent = bool(rest)

    def flush(self) -> None:
        """Send what there is, once that is more than headers."""
        if self._unsent:
            self._unsent = False
            self._output.flush()

    def sendfile(self, fd: int, offset: int, count: int) -> None:
        """Add bytes of a file; only once ``has_head``."""
        if not self._bodiless:
            self._output.sendfile(fd, offset, count)
            self._unsent = True

    def end(self) -> None:
        """Nothing more comes. Raises BadAnswer if that is too early."""
        if self._head is None:
            return
        if not self._head:
            raise BadAnswer("it has written nothing; it has to write headers, an empty line and the body")
        raise BadAnswer(f"it ended before the empty line that ends its headers. {_begins(self._head)}")


def _end_of_head(head: bytearray, start: int) -> tuple[int, int]:
    """Where the header block ends and where the body begins; -1 for both while it is not complete."""
    if head.startswith(b"\n"):
        return 0, 1
    if head.startswith(b"\r\n"):
        return 0, 2
    found = -1, -1
    for mark in (b"\n\n", b"\n\r\n"):
        at = head.find(mark, start)
        if at >= 0 and (found[0] < 0 or at < found[0]):
            found = at, at + len(mark)
    return found


def _read_head(head: bytes) -> tuple[bytes, list[bytes]]:
    """The status (number and words; empty for 200 by default) and the header lines of the answer."""
    status = b""
    located = False
    lines = []
    if not head:
        raise BadAnswer("its output begins with an empty line; headers have to come before that, a Content-Type say")
    for number, line in enumerate(head.split(b"\n")):
        line = line.removesuffix(b"\r")
        if not number and (found := _STATUS_LINE.fullmatch(line)):
            status = _status(line, found[1])
            continue
        name, colon, value = line.partition(b":")
        value = value.strip(b" \t")
        if not colon or not _NAME.fullmatch(name):
            raise BadAnswer(f"malformed header from it: {_shown(line)} is not of the form Name: value")
        if _NOT_IN_VALUE.search(value):
            raise BadAnswer(f"malformed header from it: {_shown(line)} has a control character in it")
        lower = name.lower()
        if lower == b"status":
            status = _status(line, value)
            continue
        if lower.decode("ascii") in HOP_BY_HOP:
            continue
        located = located or lower == b"location"
        lines.append(b"%b: %b\r\n" % (name, value))
    if located and not status:
        # Not every web server makes a redirect of a Location alone, and of one with a path some make it, others fetch
        # the page themselves (RFC 3875, 6.2.2).
        status = b"302 Found"
    return status, lines


def _status(line: bytes, text: bytes) -> bytes:
    found = _STATUS.fullmatch(text.strip(b" \t"))
    if found is None or _NOT_IN_VALUE.search(text):
        raise BadAnswer(f"malformed header from it: {_shown(line)} has no status from 200 to 999")
    return b"%b %b" % (found[1], found[2] or _phrase(int(found[1])))


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Status"


def _begins(head: bytes | bytearray) -> str:
    return f"It begins with {_shown(bytes(head[: _SHOWN + 1]).splitlines()[0])}"


def _shown(line: bytes) -> str:
    text = line[:_SHOWN].decode("utf-8", "backslashreplace")
    return repr(text) + ("..." if len(line) > _SHOWN else "")
