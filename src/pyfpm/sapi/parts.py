"""The parts of a multipart/form-data body, by the ``multipart`` library, with their headers read as PHP reads them.

Why the library: it is a parser without I/O that is fed and has events, so a body of any size passes through memory in
pieces; it keeps no more than a delimiter from one piece to the next, refuses what it can't read instead of guessing,
and somebody looks after it who looks after nothing else. Where it is stricter than PHP is in docs/php-differences.md.

What we do not leave to it is Content-Disposition. PHP decides by it what is a file and what it is called, and scripts
as well as firewalls in front of them rely on its reading. It is also one pass over the header, where the library's
regular expressions can be made to take time that grows with the square of it.

Source: RFC 7578; PHP's rfc1867.c for the headers.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from importlib import metadata, util
from typing import Any

# The longest line of a part's headers, and how many lines a part may have. A name of 4096 bytes, the longest path there
# can be, has room. Precedents: the library's own 4 KiB and 8 (RFC 7578 has three); PHP has no limit.
MAX_HEADER_SIZE = 8 * 1024
MAX_HEADERS = 16

# Longer ones are not in use: RFC 2046 allows 70 characters, PHP some 5 KiB.
MAX_BOUNDARY = 1024

# Bytes that are read, and thus held, at a time.
PIECE = 128 * 1024

# What is between semicolons, which are none in quotes, double or single, with a backslash before a quote that is none.
# No quantifier gives back what it took, so that each is one pass.
_QUOTED = r""" "(?:\\"|[^"])*+"?+ | '(?:\\'|[^'])*+'?+ """
_WORD = re.compile(rf"[ \t\n\v\f\r]*+( (?: [^;\"']++ | {_QUOTED} )*+ );*+", re.VERBOSE)
_KEY = re.compile(rf"( (?: [^=\"']++ | {_QUOTED} )*+ )=++", re.VERBOSE)
_VALUE = re.compile(
    r"""[ \t\n\v\f\r]*+ (?: "((?:\\["\\]|[^"])*+) | '((?:\\['\\]|[^'])*+) | ((?:[^ \t\n\v\f\r])*+) )""", re.VERBOSE
)
_ESCAPED = {quote: re.compile(rf"\\([\\{quote}])") for quote in "\"'"}


class MalformedForm(ValueError):
    """The body cannot be read as what its Content-Type says, or not on from here. The message is for the operator, and
    has nothing in it that the visitor sent."""


def _load() -> Any:
    """The library, also where an old python-multipart (before 0.0.13) has put a package of its own in front of it."""
    import multipart

    if hasattr(multipart, "PushMultipartParser"):
        return multipart
    try:
        found = metadata.distribution("multipart")
    except metadata.PackageNotFoundError:
        found = None
    if found is not None and int(found.version.partition(".")[0]) >= 2:
        spec = util.spec_from_file_location("pyfpm.sapi._multipart", str(found.locate_file("multipart.py")))
        assert spec is not None and spec.loader is not None
        module = sys.modules[spec.name] = util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    raise ImportError(
        f"pyfpm reads forms with the package multipart, version 2 (https://pypi.org/project/multipart/),"
        f" but {multipart.__file__} is another one; install multipart>=2, or python-multipart>=0.0.13 beside it"
    )


_library = _load()


class Part:
    """The headers of one part.

    Attributes:
      has_disposition: without one it is a part of nothing, as in PHP.
      name: of the field, None without one. Here and below a byte that is no UTF-8 is a surrogate.
      filename: as it was sent, directories and all; None for a field that is no file.
      content_type: what is before the first semicolon; empty without one.
    """

    __slots__ = ("bytes_received", "complete", "content_type", "filename", "has_disposition", "name")

    def __init__(self, headers: list[tuple[str, str]]) -> None:
        disposition = _header(headers, "Content-Disposition")
        self.has_disposition = disposition is not None
        self.name, self.filename = names_in(disposition or "")
        self.content_type = _text((_header(headers, "Content-Type") or "").partition(";")[0])
        # The parser keeps these.
        self.bytes_received = 0
        self.complete = False


class _Parser(_library.PushMultipartParser):  # type: ignore[misc, name-defined]
    """``_create_segment`` is the place that the library has for other kinds of segments."""

    def _create_segment(self, headerlist: list[tuple[str, str]]) -> Part:
        return Part(headerlist)


def parts_of(boundary: str, read: Callable[[int], bytes]) -> Iterator[Part | bytes | None]:
    """For each part, itself, its content in pieces, and None at its end.

    Args:
      read: as that of a file.

    Raises:
      MalformedForm: what comes next cannot be read, or the body ends in the middle; what came before is good.
      Whatever ``read`` raises.
    """
    parser: Any = _Parser(
        boundary.encode("latin-1"),
        max_header_size=MAX_HEADER_SIZE,
        max_header_count=MAX_HEADERS,
        # A character a byte: what they mean we decide ourselves.
        header_charset="latin-1",
    )
    try:
        while not parser.closed:
            piece = read(PIECE)
            # An empty one is the end, and an error if it comes too early.
            yield from parser.parse(piece)
    except _library.MultipartError as error:
        raise MalformedForm(str(error)) from None


def boundary_of(content_type: str) -> str:
    """Raises MalformedForm when there is none, or none that can be.

    Source (PHP): what stands behind the first "boundary" and the "=" after it, up to a comma or semicolon.
    """
    at = content_type.find("boundary")
    if at < 0:
        at = content_type.lower().find("boundary")
    equals = content_type.find("=", at)
    if at < 0 or equals < 0:
        raise MalformedForm("Content-Type has no boundary")
    boundary = content_type[equals + 1 :]
    if boundary.startswith('"'):
        boundary, closing, _ = boundary[1:].partition('"')
        if not closing:
            raise MalformedForm("the boundary has an opening quote and no closing one")
    else:
        boundary = boundary.partition(";")[0].partition(",")[0].rstrip(" \t")
    if not boundary:
        raise MalformedForm("the boundary is empty")
    if not boundary.isascii() or not boundary.isprintable():
        raise MalformedForm("the boundary has characters that are not printable ASCII")
    if len(boundary) > MAX_BOUNDARY:
        raise MalformedForm(f"the boundary is longer than {MAX_BOUNDARY} bytes")
    return boundary


def names_in(disposition: str) -> tuple[str | None, str | None]:
    """``name`` and ``filename`` of a Content-Disposition, the last one of each. ``filename*`` is another name, as in
    PHP and by RFC 7578, 4.2.

    Source (PHP): php_ap_getword.
    """
    # C's strings end there.
    rest = disposition.partition("\0")[0]
    found: dict[str, str] = {}
    at = 0
    while at < len(rest):
        word = _WORD.match(rest, at)
        assert word is not None, "it matches nothing as well"
        at = word.end()
        key = _KEY.match(word[1])
        if key is not None and (name := key[1].lower()) in ("name", "filename"):
            found[name] = _text(_unquoted(word[1][key.end() :]))
    return found.get("name"), found.get("filename")


def _unquoted(value: str) -> str:
    """In quotes, a backslash is dropped before another one and before the quote; without quotes, before another one,
    and the value ends at whitespace.

    Source (PHP): php_ap_getword_conf.
    """
    found = _VALUE.match(value)
    assert found is not None, "it matches nothing as well"
    if found[1] is not None:
        return _ESCAPED['"'].sub(r"\1", found[1])
    if found[2] is not None:
        return _ESCAPED["'"].sub(r"\1", found[2])
    return found[3].replace("\\\\", "\\")


def _header(headers: list[tuple[str, str]], name: str) -> str | None:
    for known, value in headers:
        if known == name:
            return value
    return None


def _text(latin: str) -> str:
    return latin if latin.isascii() else latin.encode("latin-1").decode("utf-8", "surrogateescape")
