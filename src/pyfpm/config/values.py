"""Values as php-fpm.conf writes them: ``64K``, ``30s``, ``yes``."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

_SIZES = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}
_TIMES = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_TRUE = {"yes", "on", "true", "1"}
_FALSE = {"no", "off", "false", "0", ""}


def text(value: str) -> str:
    # Nothing is mostly a variable of a shell that was not set.
    if not value:
        raise ValueError("something")
    return value


def path(value: str) -> str:
    """Absolute: we are elsewhere by the time it is used."""
    return os.path.abspath(text(value))


def paths(value: str) -> tuple[str, ...]:
    return tuple(os.path.abspath(word) for word in value.split())


def positive(value: str) -> int:
    number = int(value) if re.fullmatch(r"[0-9]{1,9}", value) else 0
    if number < 1:
        raise ValueError("a whole number of at least 1")
    return number


def size(value: str) -> int:
    """Bytes: a number, or one with K, M or G."""
    match = re.fullmatch(r"([0-9]{1,12})([KMG]?)", value.upper())
    if not match:
        raise ValueError("a size like 512, 64K, 8M or 1G")
    return int(match[1]) * _SIZES[match[2]]


def positive_size(value: str) -> int:
    """Bytes, as ``size``; none is no possibility."""
    number = size(value)
    if number < 1:
        raise ValueError("a size of at least 1")
    return number


def seconds(value: str) -> float:
    """Seconds: a number, or one with s, m, h or d."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]+)?)([smhd]?)", value)
    if not match:
        raise ValueError("a time like 30, 30s, 5m, 2h or 1d")
    return float(match[1]) * _TIMES[match[2]]


def positive_seconds(value: str) -> float:
    """Seconds, as ``seconds``; none is no possibility."""
    number = seconds(value)
    if number <= 0:
        raise ValueError("a time above 0")
    return number


def flag(value: str) -> bool:
    if value.lower() in _TRUE:
        return True
    if value.lower() in _FALSE:
        return False
    raise ValueError("yes or no")


def mode(value: str) -> int:
    if not re.fullmatch(r"0?[0-7]{3}", value):
        raise ValueError("a file mode like 0660")
    return int(value, 8)


def words(value: str) -> tuple[str, ...]:
    return tuple(value.split())


# How the reference names what a parser takes.
NAMES: dict[Callable[[str], Any], str] = {
    text: "text",
    path: "path",
    paths: "paths",
    positive: "number",
    size: "size (K, M, G)",
    positive_size: "size (K, M, G)",
    seconds: "time (s, m, h, d)",
    positive_seconds: "time (s, m, h, d)",
    flag: "yes or no",
    mode: "file mode",
    words: "words",
}
