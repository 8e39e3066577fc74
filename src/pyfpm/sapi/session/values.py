"""What a session holds, as JSON: data that cannot do anything when it is read, and that others can read as well."""

from __future__ import annotations

import json
import math
from typing import Any

# As deep as arrays may be nested; deeper is an accident, as a list that contains itself.
DEEPEST = 100

KEPT = "a session keeps str, int, float, bool, None, and lists and dicts of these"


# Of a session without data.
EMPTY = b"{}"


def encode(data: dict[str, Any]) -> bytes:
    """As JSON. Tuples become lists.

    Raises:
      TypeError: there is a value that would not come back as it is; it names the key.
    """
    _check(data, "_SESSION", 0)
    try:
        return json.dumps(data, separators=(",", ":")).encode()
    except ValueError as error:  # An int of more digits than Python converts.
        raise TypeError(f"_SESSION cannot be kept: {error}") from None


def _check(value: Any, place: str, depth: int) -> None:
    if isinstance(value, (str, int)) or value is None:  # and bool, which is an int
        return
    if depth > DEEPEST:
        raise TypeError(f"{place} is nested more than {DEEPEST} deep, or contains itself")
    if isinstance(value, dict):
        for key, each in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{place} has the key {key!r} ({_kind(key)}); the keys of a session are str")
            _check(each, f"{place}[{key!r}]", depth + 1)
    elif isinstance(value, (list, tuple)):
        for index, each in enumerate(value):
            _check(each, f"{place}[{index}]", depth + 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{place} is {value}, for which JSON has no number")
    else:
        raise TypeError(f"{place} is a {_kind(value)}; {KEPT}")


def _kind(value: object) -> str:
    return type(value).__qualname__


def decode(data: bytes) -> dict[str, Any]:
    """The data of a session, ``b""`` for a new one.

    Raises:
      ValueError: it is not what ``encode`` made.
    """
    if not data:
        return {}
    try:
        found = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("it is not an object of JSON")
    return found
