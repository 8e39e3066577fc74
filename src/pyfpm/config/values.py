"""Values as php-fpm.conf writes them: ``64K``, ``30s``, ``yes``.

A parser takes text and returns the value, or raises ValueError with what it would have taken. ``KINDS`` adds what else
there is to know of it: its name in the documentation, how its value is written, what php-fpm says of a wrong one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

_SIZES = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}
_TIMES = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_TRUE = {"yes", "on", "true", "1"}
_FALSE = {"no", "off", "false", "0", ""}

LEVELS = ("debug", "notice", "warning", "error", "alert")
# RFC 5424's facilities by the names that syslog.h gives them.
FACILITIES = (
    *("auth", "authpriv", "cron", "daemon", "ftp", "kern", "lpr", "mail", "news", "syslog", "user", "uucp"),
    *(f"local{number}" for number in range(8)),
)
# What php-fpm may wait with. We have epoll; the others are taken, and said to be so.
MECHANISMS = ("epoll", "kqueue", "devpoll", "port", "poll", "select")


def text(value: str) -> str:
    # Nothing is mostly a variable of a shell that was not set.
    if not value:
        raise ValueError("something")
    if "\0" in value:
        raise ValueError("text without NUL bytes")
    return value


def optional_text(value: str) -> str | None:
    """As ``text``; nothing takes back what was set before."""
    return text(value) if value else None


def header_text(value: str) -> str | None:
    """Text for a header; nothing is none."""
    if re.search(r"[\x00-\x1f\x7f]", value):
        raise ValueError("text without control characters")
    return value or None


def path(value: str) -> str:
    """Absolute: we are elsewhere by the time it is used."""
    return os.path.abspath(text(value))


def optional_path(value: str) -> str | None:
    return path(value) if value else None


def paths(value: str) -> tuple[str, ...]:
    return tuple(path(word) for word in value.split())


def one_path(value: str) -> tuple[str, ...]:
    """For directives that are given several times, each time with one path."""
    return (path(value),)


def log_target(value: str) -> str | None:
    """A path, ``syslog``, or None for standard error."""
    if value.lower() in ("syslog", "stderr"):
        return "syslog" if value.lower() == "syslog" else None
    return path(value)


def number(value: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,9}", value):
        raise ValueError("a whole number")
    return int(value)


def count(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise ValueError("a whole number of at least 0")
    return int(value)


def positive(value: str) -> int:
    found = int(value) if re.fullmatch(r"[0-9]{1,9}", value) else 0
    if found < 1:
        raise ValueError("a whole number of at least 1")
    return found


def size(value: str) -> int:
    """Bytes: a number, or one with K, M or G."""
    match = re.fullmatch(r"([0-9]{1,12})([KMG]?)", value.upper())
    if not match:
        raise ValueError("a size like 512, 64K, 8M or 1G")
    return int(match[1]) * _SIZES[match[2]]


def size_or_none(value: str) -> int:
    """Bytes; -1, which is PHP's word for it, and 0 are no limit."""
    return 0 if value == "-1" else size(value)


def buffering(value: str) -> int:
    """Bytes, as ``size``; or On, which is 1 and no limit, or Off, which is 0 and none of it."""
    if value.lower() in _TRUE:
        return 1
    if value.lower() in _FALSE:
        return 0
    try:
        return size(value)
    except ValueError:
        raise ValueError("a size like 512 or 4K, On or Off") from None


def positive_size(value: str) -> int:
    """Bytes, as ``size``; none is no possibility."""
    found = size(value)
    if found < 1:
        raise ValueError("a size of at least 1")
    return found


def seconds(value: str) -> float:
    """Seconds: a number, or one with s, m, h or d."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]+)?)([smhd]?)", value)
    if not match:
        raise ValueError("a time like 30, 30s, 5m, 2h or 1d")
    return float(match[1]) * _TIMES[match[2]]


def optional_seconds(value: str) -> float | None:
    return seconds(value)


def positive_seconds(value: str) -> float:
    """Seconds, as ``seconds``; none is no possibility."""
    found = seconds(value)
    if found <= 0:
        raise ValueError("a time above 0")
    return found


def flag(value: str) -> bool:
    if value.lower() in _TRUE:
        return True
    if value.lower() in _FALSE:
        return False
    raise ValueError("yes or no")


def optional_flag(value: str) -> bool | None:
    return flag(value)


def mode(value: str) -> int:
    if not re.fullmatch(r"0?[0-7]{3}", value):
        raise ValueError("a file mode like 0660")
    return int(value, 8)


def words(value: str) -> tuple[str, ...]:
    return tuple(value.split())


def addresses(value: str) -> tuple[str, ...]:
    return words(value)


def optional_address(value: str) -> str | None:
    return optional_text(value)


def comma_words(value: str) -> tuple[str, ...]:
    return tuple(value.replace(",", " ").split())


def priority(value: str) -> int | None:
    return number(value)


def file_limit(value: str) -> int | None:
    """0 leaves the limit as it was inherited, which is None here."""
    return count(value) or None


def core_limit(value: str) -> int | str | None:
    """Bytes, or ``unlimited`` (-1 in php-fpm's own dump); 0 leaves it alone."""
    if value.lower() in ("unlimited", "-1"):
        return "unlimited"
    try:
        return count(value) or None
    except ValueError:
        raise ValueError("a number of bytes, or unlimited") from None


def one_of(*names: str) -> Callable[[str], str]:
    """A parser for some words; capitals do not matter."""

    def choice(value: str) -> str:
        if value.lower() not in names:
            raise ValueError(f"{', '.join(names[:-1])} or {names[-1]}")
        return value.lower()

    return choice


log_level_name = one_of(*LEVELS)


def log_level(value: str) -> str:
    return "warning" if value.lower() == "warn" else log_level_name(value)


facility = one_of(*FACILITIES)
manager = one_of("static", "dynamic", "ondemand")
log_form = one_of("text", "json")
sigterm = one_of("graceful", "fast")
app_kind = one_of("script", "wsgi", "asgi", "cgi")
app_loop = one_of("trio", "asyncio")
save_handler = one_of("files", "redis")
cache_limiter = one_of("nocache", "private", "private_no_expire", "public", "none")
samesite = one_of("strict", "lax", "none", "off")
mechanism = one_of(*MECHANISMS)


def is_unix(address: str) -> bool:
    """Whether an address is a path: php-fpm's rule, it has no colon and is no number."""
    return address.startswith("/") or not (":" in address or address.isdecimal())


def placed(parse: Callable[[str], Any], value: str, prefix: str) -> str:
    """The text of a directive whose values are paths, with relative ones meant from ``prefix``."""
    if parse in (addresses, optional_address):
        return " ".join(os.path.join(prefix, each) if is_unix(each) else each for each in value.split())
    if parse is paths:
        return " ".join(os.path.join(prefix, each) for each in value.split())
    if not value or (parse is log_target and value.lower() in ("syslog", "stderr")):
        return value
    return os.path.join(prefix, value)


# -- how they are written ---------------------------------------------------------------------------------------------


def plain(value: object) -> str:
    return str(value)


def in_words(value: tuple[str, ...]) -> str:
    return " ".join(value)


def in_commas(value: tuple[str, ...]) -> str:
    return ",".join(value)


def in_units(value: int) -> str:
    for unit, factor in (("G", 1024**3), ("M", 1024**2), ("K", 1024)):
        if value and value % factor == 0:
            return f"{value // factor}{unit}"
    return str(value)


def in_seconds(value: float) -> str:
    return f"{_decimal(value)}s"


def bare_seconds(value: float) -> str:
    """Without the s, as php-fpm prints pm.process_idle_timeout."""
    return _decimal(value)


def _decimal(value: float) -> str:
    # Never 1e+06, which is no time.
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def yes_or_no(value: bool) -> str:
    return "yes" if value else "no"


def octal(value: int) -> str:
    return f"{value:04o}"


@dataclass(frozen=True, slots=True)
class Kind:
    """What there is to know of the values that a parser takes.

    Attributes:
      name: in the documentation.
      show: the value as it is written in a file.
      php: what php-fpm says of a wrong one, behind ``unable to parse value for entry 'NAME': ``.
      is_path: relative ones are meant from the prefix.
    """

    name: str
    show: Callable[[Any], str] = plain
    php: str = "invalid value"
    is_path: bool = False


_NOT_A_NUMBER = "is not a valid number (greater or equal than zero)"

KINDS: dict[Callable[[str], Any], Kind] = {
    text: Kind("text"),
    optional_text: Kind("text"),
    header_text: Kind("text"),
    path: Kind("path", is_path=True),
    optional_path: Kind("path", is_path=True),
    paths: Kind("paths", in_words, is_path=True),
    one_path: Kind("path", in_words, is_path=True),
    log_target: Kind("path, syslog or stderr", is_path=True),
    number: Kind("number", php=_NOT_A_NUMBER),
    count: Kind("number", php=_NOT_A_NUMBER),
    positive: Kind("number", php=_NOT_A_NUMBER),
    size: Kind("size (K, M, G)", in_units, "invalid size value"),
    size_or_none: Kind("size (K, M, G) or -1", lambda value: in_units(value) if value else "-1", "invalid size value"),
    buffering: Kind("size (K, M, G), On or Off", in_units, "invalid size value"),
    positive_size: Kind("size (K, M, G)", in_units, "invalid size value"),
    seconds: Kind("time (s, m, h, d)", in_seconds, "invalid time value"),
    optional_seconds: Kind("time (s, m, h, d)", in_seconds, "invalid time value"),
    positive_seconds: Kind("time (s, m, h, d)", in_seconds, "invalid time value"),
    flag: Kind("yes or no", yes_or_no, "invalid boolean value"),
    optional_flag: Kind("yes or no", yes_or_no, "invalid boolean value"),
    mode: Kind("file mode", octal),
    words: Kind("words", in_words),
    addresses: Kind("addresses", in_words, is_path=True),
    optional_address: Kind("address", is_path=True),
    comma_words: Kind("words, with commas", in_commas),
    priority: Kind("number", php=_NOT_A_NUMBER),
    file_limit: Kind("number", php=_NOT_A_NUMBER),
    core_limit: Kind("number or unlimited", php="must be greater than zero or 'unlimited'"),
    log_level: Kind(", ".join(LEVELS), lambda value: value.upper(), "invalid value for 'log_level'"),
    facility: Kind("facility of syslog"),
    manager: Kind("static, dynamic, ondemand", php="invalid process manager (static, dynamic or ondemand)"),
    log_form: Kind("text or json"),
    sigterm: Kind("graceful or fast"),
    app_kind: Kind("script, wsgi, asgi or cgi"),
    app_loop: Kind("trio or asyncio"),
    save_handler: Kind("files or redis"),
    cache_limiter: Kind("word"),
    samesite: Kind("strict, lax, none or off"),
    mechanism: Kind("word"),
}
