"""Query strings, urlencoded forms, cookies and the Authorization header as variables, by PHP's rules to the letter.

Text comes with a byte a character (latin-1), as the protocol has it, and leaves as the UTF-8 it was meant to be. Bytes
that are no UTF-8 survive as surrogates.

Source (PHP): php_default_treat_data and php_std_post_handler in main/php_variables.c, php_handle_auth_data in
main/main.c, as of 8.2.
"""

from __future__ import annotations

import re
from base64 import b64decode
from typing import Any
from urllib.parse import unquote_to_bytes

from pyfpm.sapi.variables import WHITESPACE, Variables


def decode(text: str) -> str:
    """Percent-decode."""
    if "%" in text:
        return unquote_to_bytes(text.encode("latin-1")).decode("utf-8", "surrogateescape")
    return as_utf8(text)


def as_utf8(text: str) -> str:
    if text.isascii():
        return text
    return text.encode("latin-1").decode("utf-8", "surrogateescape")


def flat_query(text: str, most: int) -> dict[str, str] | None:
    """What ``parse_query`` makes of the usual query string, in half the time. None if there is anything in it that is
    more than a plain name, or may be more than ``most`` variables."""
    if not _is_flat(text, "&", most):
        return None
    if "+" in text:
        text = text.replace("+", " ")
    found: dict[str, str] = {}
    for pair in text.split("&"):
        name, _, value = pair.partition("=")
        if name:
            found[name] = value
    return found


def flat_cookies(text: str, most: int) -> dict[str, str] | None:
    """The same for ``parse_cookies``."""
    if not _is_flat(text, ";", most):
        return None
    found: dict[str, str] = {}
    for pair in text.split(";"):
        name, _, value = pair.lstrip(WHITESPACE).partition("=")
        if name and name not in found:
            found[name] = value
    return found


def _is_flat(text: str, separator: str, most: int) -> bool:
    in_name = begins = True
    for character in text:
        if character == separator:
            in_name = begins = True
            most -= 1
        elif character == "=":
            in_name = begins = False
        elif character == "%" or character > "\x7f" or character == "\0":
            return False
        elif character == " " and begins and separator == ";":
            pass
        elif in_name:
            if character == "." or character == "[" or character == " " or character == "+":
                return False
            begins = False
    return most > 0


def parse_query(text: str, variables: Variables) -> None:
    """Add what a query string has: ``a=1&b=2``. Only ``&`` separates, and what is empty between two does not count."""
    if "\0" in text:
        text = _as_c_string(text)
    if "+" in text:
        text = text.replace("+", " ")
    for pair in text.split("&"):
        if pair:
            name, _, value = pair.partition("=")
            variables.add(decode(name), decode(value))
            if variables.overflowed:
                break


def parse_form(text: str, variables: Variables) -> None:
    """Add what an urlencoded body has. As a query string, but what is empty counts, so that a body cannot keep us busy
    with nothing; and a NUL does not end it."""
    if not text:
        return
    most = variables.max_vars
    if text[-1] == "&":
        text = text[:-1]
    if "+" in text:
        text = text.replace("+", " ")
    pairs = text.split("&", most)
    if len(pairs) > most >= 0:
        variables.overflowed = True
        del pairs[most:]
    for pair in pairs:
        name, _, value = pair.partition("=")
        variables.add(decode(name), decode(value))


def parse_cookies(text: str, variables: Variables) -> None:
    """Add what a Cookie header has; ``variables`` keeps the first of a name, which is the most specific one (RFC 6265,
    5.4).

    Names are as they came: one that is decoded could pass for ``__Host-`` something (CVE-2020-7070). In a value a plus
    is a plus.
    """
    if "\0" in text:
        text = _as_c_string(text)
    for pair in text.split(";"):
        name, _, value = pair.lstrip(WHITESPACE).partition("=")
        if name:
            variables.add(as_utf8(name), decode(value))
            if variables.overflowed:
                break


def _as_c_string(text: str) -> str:
    return text.partition("\0")[0]


_NOT_BASE64 = re.compile("[^A-Za-z0-9+/]+")


def parse_authorization(text: str) -> dict[str, str]:
    """PHP_AUTH_USER and PHP_AUTH_PW of the Basic scheme, or PHP_AUTH_DIGEST; a password that is empty is left out."""
    scheme, space, rest = text[:7].lower(), text[5:6], text[6:]
    if scheme[:5] == "basic" and space == " ":
        # PHP's base64 takes what it can get, and ends at the last whole byte.
        digits = _NOT_BASE64.sub("", rest)
        if len(digits) % 4 == 1:
            digits = digits[:-1]
        both = b64decode(digits + "=" * (-len(digits) % 4))
        user, colon, password = both.partition(b":")
        if colon:
            found = {"PHP_AUTH_USER": _c_text(user)}
            if secret := _c_text(password):
                found["PHP_AUTH_PW"] = secret
            return found
    elif scheme == "digest ":
        return {"PHP_AUTH_DIGEST": as_utf8(text[7:])}
    return {}


def _c_text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def merge(*arrays: dict[str, Any]) -> dict[str, Any]:
    """One of several, as _REQUEST is: the later over the earlier, and two arrays of one name become one. Nothing of it
    is shared with them.

    Source (PHP): php_autoglobal_merge.
    """
    result: dict[str, Any] = {}
    if _are_flat(arrays):
        for array in arrays:
            result.update(array)
        return result
    made: list[tuple[dict[str, Any], str, dict[str, Any]]] = []
    waiting: list[tuple[dict[str, Any], Any]] = [(result, array) for array in reversed(arrays)]
    while waiting:
        into, more = waiting.pop()
        for key, value in more.items() if isinstance(more, dict) else _items(more):
            if isinstance(value, dict | list):
                inner = into.get(key)
                if not isinstance(inner, dict):
                    inner = into[key] = {}
                    made.append((into, key, inner))
                waiting.append((inner, value))
            else:
                into[key] = value
    # Each stands behind the one it is in.
    for into, key, inner in reversed(made):
        if into.get(key) is inner and all(name == str(index) for index, name in enumerate(inner)):
            into[key] = list(inner.values())
    return result


def _are_flat(arrays: tuple[dict[str, Any], ...]) -> bool:
    for array in arrays:
        for value in array.values():
            if type(value) is not str:
                return False
    return True


def _items(array: list[Any]) -> list[tuple[str, Any]]:
    return [(str(index), value) for index, value in enumerate(array)]
