"""The header block of an answer, in the CGI form that FastCGI has kept (RFC 3875, 6)."""

from __future__ import annotations

import re

# A token of RFC 9110, 5.6.2.
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# What a field value must not have: a line end would begin another header or the body (response splitting).
_NOT_IN_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

# Between the web server and its client, so not for an application to say (RFC 9110, 7.6.1; PEP 3333).
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

# The names an application sends are few and the same each time. name: "Name: ", or "" for one that is left out.
_prefixes: dict[str, str] = {}
_MOST_PREFIXES = 500


def prefix_of(name: str) -> str:
    """``"Name: "``, or ``""`` for a hop-by-hop header, which is to be left out.

    Raises:
      TypeError: it is not a str.
      ValueError: it is not a header name.
    """
    prefix = _prefixes.get(name)
    if prefix is None:
        if not isinstance(name, str):
            raise TypeError(f"the name of a header must be a str, not {type(name).__name__}")
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
        prefix = "" if name.lower() in HOP_BY_HOP else name + ": "
        if len(_prefixes) < _MOST_PREFIXES:
            _prefixes[name] = prefix
    return prefix


def check_value(name: str, value: str) -> None:
    """Raises ValueError for a value with control characters."""
    # isprintable is much the cheaper question, and nearly always the answer.
    if not value.isprintable() and _NOT_IN_VALUE.search(value):
        raise ValueError(f"the value of the header {name} has a control character: {value!r}")


def header_line(name: str, value: str) -> str:
    """``"Name: value\\r\\n"``; ``""`` for a header that is not passed on. Raises ValueError as the above."""
    prefix = prefix_of(name)
    check_value(name, value)
    return prefix + value + "\r\n" if prefix else ""
