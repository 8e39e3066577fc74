"""The session.* directives of a request: those of the configuration, with what the script has changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from operator import index
from typing import Any

from pyfpm.sapi.settings import SapiSettings

CACHE_LIMITERS = ("nocache", "private", "private_no_expire", "public", "none")
SAMESITES = ("strict", "lax", "none", "off")

# What PHP refuses; the last two would not arrive under this name in _COOKIE.
_NOT_IN_NAME = re.compile(r"[=,;.\[ \t\r\n\v\f\x00-\x1f\x7f]")
# No attribute of a cookie may end it and begin another one.
_NOT_IN_ATTRIBUTE = re.compile(r"[,; \t\r\n\v\f\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """Under their names in PHP, without ``session.``; times in seconds, ``cache_expire`` in minutes."""

    save_handler: str
    save_path: str | None
    name: str
    cookie_lifetime: float
    cookie_path: str
    cookie_domain: str | None
    cookie_secure: bool | None
    cookie_httponly: bool
    cookie_samesite: str
    use_strict_mode: bool
    cache_limiter: str
    cache_expire: int
    gc_probability: int
    gc_divisor: int
    gc_maxlifetime: float
    lazy_write: bool


@lru_cache(maxsize=8)
def options_of(settings: SapiSettings) -> SessionOptions:
    """As the operator has them.

    Raises:
      ValueError: one of them cannot be.
    """
    suffixes = {"cookie_lifetime": "_s", "gc_maxlifetime": "_s", "cache_expire": "_min"}
    own = {
        name: CHECKS[name](f"session.{name}", getattr(settings, f"session_{name}{suffixes.get(name, '')}"))
        for name in NAMES
    }
    if own["cookie_samesite"] == "none" and own["cookie_secure"] is False:
        raise ValueError(
            "session.cookie_samesite = none needs session.cookie_secure = yes: browsers refuse it otherwise"
        )
    return SessionOptions(**own)


def changed(options: SessionOptions, given: Mapping[str, Any], prefix: str = "") -> SessionOptions:
    """With what a script wants instead.

    Args:
      prefix: of the options' names here that ``given`` does without.

    Raises:
      TypeError, ValueError: there is no such option, or it cannot have this value.
    """
    checked = {}
    for name, value in given.items():
        check = CHECKS.get(prefix + name)
        if check is None:
            known = ", ".join(each.removeprefix(prefix) for each in CHECKS if each.startswith(prefix))
            raise TypeError(f"a session has no option {name!r}; it has {known}")
        checked[prefix + name] = check(name, value)
    return replace(options, **checked)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    return value


def _optional_text(name: str, value: Any) -> str | None:
    return None if value is None else _text(name, value) or None


def _name(name: str, value: Any) -> str:
    if not _text(name, value) or value.isdigit():
        raise ValueError(f"{name} {value!r} cannot be a number or empty")
    if _NOT_IN_NAME.search(value):
        raise ValueError(f"{name} {value!r} has one of = , ; . [ or white space in it")
    return str(value)


def _attribute(name: str, value: Any) -> str:
    if _NOT_IN_ATTRIBUTE.search(_text(name, value)):
        raise ValueError(f"{name} {value!r} cannot stand in a cookie")
    return str(value)


def _optional_attribute(name: str, value: Any) -> str | None:
    return None if value is None else _attribute(name, value) or None


def _flag(name: str, value: Any) -> bool:
    if value not in (True, False):  # 1 and 0 as well, as PHP writes them
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def _optional_flag(name: str, value: Any) -> bool | None:
    return None if value is None else _flag(name, value)


def _seconds(name: str, value: Any) -> float:
    if not isinstance(value, (int, float)) or not 0 <= value < 1e10:
        raise ValueError(f"{name} must be a number of seconds, not {value!r}")
    return float(value)


def _count(name: str, value: Any) -> int:
    number = index(value)
    if number < 0:
        raise ValueError(f"{name} cannot be {value}")
    return number


def _positive(name: str, value: Any) -> int:
    if not _count(name, value):
        raise ValueError(f"{name} cannot be 0")
    return index(value)


def _positive_seconds(name: str, value: Any) -> float:
    if not _seconds(name, value):
        raise ValueError(f"{name} cannot be 0")
    return float(value)


def _one_of(*words: str) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        # PHP's empty word for none at all.
        word = _text(name, value).lower() or words[-1]
        if word not in words:
            raise ValueError(f"{name} must be one of {', '.join(words)}, not {value!r}")
        return word

    return check


CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "save_handler": _one_of("files", "redis"),
    "save_path": _optional_text,
    "name": _name,
    "cookie_lifetime": _seconds,
    "cookie_path": _attribute,
    "cookie_domain": _optional_attribute,
    "cookie_secure": _optional_flag,
    "cookie_httponly": _flag,
    "cookie_samesite": _one_of(*SAMESITES),
    "use_strict_mode": _flag,
    "cache_limiter": _one_of(*CACHE_LIMITERS),
    "cache_expire": _count,
    "gc_probability": _count,
    "gc_divisor": _positive,
    "gc_maxlifetime": _positive_seconds,
    "lazy_write": _flag,
}
NAMES = tuple(field.name for field in fields(SessionOptions))
