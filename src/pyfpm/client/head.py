"""The header block of an answer, as CGI has it."""

from __future__ import annotations

import re

from pyfpm.client.errors import BadHeaders

END_OF_HEADERS = re.compile(rb"\r?\n\r?\n")
EMPTY_LINE = re.compile(rb"\r?\n")
# RFC 9110, 5.6.2 "Tokens".
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_STATUS = re.compile(r"([1-9][0-9][0-9])(?:[ \t]+(.*))?")


def parse_head(head: bytes) -> tuple[int, str, list[tuple[str, str]]]:
    """Status, reason and headers of a CGI header block.

    Raises:
      BadHeaders: it is none.

    Source: RFC 3875, 6.2 "Response Types", 6.3 "Response Header Fields".
    """
    status, reason, headers = 0, "", []
    for line in head.split(b"\n"):
        line = line.removesuffix(b"\r")
        if not line:
            continue
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name):
            raise BadHeaders(f"its header block has a line that is no header: {shown(line)}")
        if _CONTROL.search(value):
            raise BadHeaders(f"its header {name.decode()} has a control character: {shown(value)}")
        pair = name.decode(), value.strip(b" \t").decode("latin-1")
        if pair[0].lower() != "status":
            headers.append(pair)
            continue
        found = _STATUS.fullmatch(pair[1])
        if not found:
            raise BadHeaders(f"its Status is not a number of three digits: {pair[1][:60]!r}")
        status, reason = int(found[1]), found[2] or ""
    if not status:
        status = 302 if any(name.lower() == "location" for name, _ in headers) else 200
    return status, reason, headers


def shown(data: bytes) -> str:
    return repr(data[:60])[1:] + ("..." if len(data) > 60 else "")
