"""Query strings, form bodies and cookies as dicts, read as PHP reads them where a name comes once.

Arrays (``a[]``), nesting and uploads belong to the full SAPI.
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

# Pairs of one query string, form or cookie header. Precedent: PHP's max_input_vars.
MAX_INPUT_VARS = 1000


def decode(text: str) -> str:
    """Percent-decode; ``text`` has a byte a character. Bytes that are not UTF-8 survive as surrogates."""
    if "%" in text:
        return unquote_to_bytes(text.encode("latin-1")).decode("utf-8", "surrogateescape")
    return _as_utf8(text)


def _as_utf8(text: str) -> str:
    if text.isascii():
        return text
    return text.encode("latin-1").decode("utf-8", "surrogateescape")


def parse_pairs(text: str) -> dict[str, str]:
    """``a=1&b=2`` as a dict; the last of several values of a name counts. Only ``&`` separates."""
    found: dict[str, str] = {}
    if not text:
        return found
    if "+" in text:
        text = text.replace("+", " ")
    for pair in text.split("&", MAX_INPUT_VARS)[:MAX_INPUT_VARS]:
        name, _, value = pair.partition("=")
        if name:
            found[decode(name)] = decode(value)
    return found


def parse_cookies(text: str) -> dict[str, str]:
    """A Cookie header as a dict; the first of several cookies of a name counts, which is the most specific one
    (RFC 6265, 5.4).

    Names are as they came: one that is decoded could pass for ``__Host-`` something (CVE-2020-7070). In
    a value, as in PHP, a plus is a plus.
    """
    found: dict[str, str] = {}
    if not text:
        return found
    for pair in text.split(";", MAX_INPUT_VARS)[:MAX_INPUT_VARS]:
        name, equals, value = pair.strip().partition("=")
        if name and equals:
            found.setdefault(_as_utf8(name), decode(value))
    return found
