"""Names with brackets become nested arrays: ``a[x][]=1`` is ``{"a": {"x": ["1"]}}``, by PHP's rules to the letter.

Scripts from anywhere rely on these rules, and so do those who attack them, hence no rule is nicer here than there. One
pass over a name, nothing recursive, and dicts, whose hashes are seeded: a name costs its length, whatever is in it.

Source (PHP): php_register_variable_ex in main/php_variables.c, as of 8.2.
"""

from __future__ import annotations

from typing import Any

# PHP's integers.
LEAST = -(2**63)
GREATEST = 2**63 - 1

# isspace() in the C locale.
WHITESPACE = " \t\n\v\f\r"

# Cookies whose names promise something (RFC 6265bis, 4.1.3). A name must not become one by what we do to it.
PROTECTED = ("__Host-", "__Secure-")

NOWHERE: dict[str, Any] = {}


class Variables:
    """An array of variables that is being filled.

    Args:
      max_vars: how many are taken; what comes after them is left out, and ``overflowed`` says so. -1 for no limit.
      max_depth: most brackets of a name. A variable with more is removed, with all that it had (``too_deep``).
      first_counts: of several plain values of a name the first one is kept, as of cookies, instead of the last.
    """

    __slots__ = (
        "_arrays",
        "_count",
        "_first_counts",
        "_items",
        "_max_depth",
        "max_vars",
        "overflowed",
        "too_deep",
    )

    def __init__(self, max_vars: int, max_depth: int, first_counts: bool = False) -> None:
        self.max_vars = max_vars
        self._max_depth = max_depth
        self._first_counts = first_counts
        self._items: dict[str, Any] = {}
        # The same as an array, and all that is in it, each behind the one it is in: from the first brackets on.
        self._arrays: list[_Array] = []
        self._count = 0
        self.overflowed = False
        self.too_deep = False

    def add(self, name: str, value: Any) -> None:
        """Add one under its decoded name. A name that is empty counts, and is ignored."""
        self._count += 1
        if self._count > self.max_vars >= 0:
            self.overflowed = True
        elif not is_plain(name):
            self._add_nested(name, value)
        elif not (self._first_counts and name in self._items):
            self._items[name] = value

    def _add_nested(self, name: str, value: Any) -> None:
        # C's strings end at a NUL.
        name = name.partition("\0")[0].lstrip(" ")
        head = name.partition("[")[0]
        top = _mangled(head)
        if not top or _is_forbidden(top, name):
            return
        if not self._arrays:
            self._arrays.append(_Array(self._items))
        key: str | None = top
        array = root = self._arrays[0]
        depth = 0
        bracket = len(head)
        while name[bracket : bracket + 1] == "[":
            depth += 1
            if depth > self._max_depth:
                self._items.pop(top, None)
                self.too_deep = True
                return
            start = bracket + 1
            behind = start
            if name[start : start + 1] and name[start] in WHITESPACE:
                behind += 1
            end = name.find("]", behind)
            if end < 0:
                # It is no index. At the first it belongs to the name; behind another it is ignored.
                if depth == 1:
                    key = f"{top}_{_mangled(name[start:]).replace('[', '_')}"
                break
            if key is None or _is_forbidden(key, name):
                return
            array = self._array_in(array, key)
            key = array.next_key() if end == behind else name[start:end]
            bracket = end + 1
        if key is None or _is_forbidden(key, name):
            return
        if not (self._first_counts and array is root and key in self._items):
            array.put(key, value)

    def _array_in(self, array: _Array, key: str) -> _Array:
        """The array at this place, in place of whatever else is there."""
        found = array.items.get(key)
        if isinstance(found, _Array):
            return found
        inner = _Array({}, array.items, key)
        array.put(key, inner)
        self._arrays.append(inner)
        return inner

    def result(self) -> dict[str, Any]:
        """All that was added; ask once, at the end.

        An array whose keys are 0, 1, 2, ... in this order is a list, any other one a dict.
        """
        for array in reversed(self._arrays[1:]):
            # Something else may have come in its place.
            if array.home.get(array.key) is array:
                array.home[array.key] = list(array.items.values()) if array.is_list else array.items
        self._arrays.clear()
        return self._items


class _Array:
    """PHP's array: ordered, and it knows the index that ``[]`` gives."""

    __slots__ = ("home", "is_list", "items", "key", "next")

    def __init__(self, items: dict[str, Any], home: dict[str, Any] = NOWHERE, key: str = "") -> None:
        self.items = items
        # Where it is.
        self.home = home
        self.key = key
        self.is_list = True
        self.next = LEAST

    def put(self, key: str, value: Any) -> None:
        if key not in self.items:
            index = _integer(key)
            if index is None or index != len(self.items):
                self.is_list = False
            if index is not None and index >= self.next:
                self.next = min(index + 1, GREATEST)
        self.items[key] = value

    def next_key(self) -> str | None:
        """What ``[]`` stands for; None when there is none left."""
        key = str(self.next if self.next != LEAST else 0)
        return None if key in self.items else key


def is_plain(name: str) -> bool:
    """The name stays as it is."""
    for character in name:
        if character == "." or character == "[" or character == " " or character == "\0":
            return False
    return name != ""


def _mangled(name: str) -> str:
    # register_globals made variables of them once.
    return name.replace(" ", "_").replace(".", "_")


def _is_forbidden(key: str, name: str) -> bool:
    """What was sent as ``name`` would pass for a protected cookie (CVE-2022-31629, CVE-2024-2756)."""
    return key.startswith("__") and any(key.startswith(prefix) and not name.startswith(prefix) for prefix in PROTECTED)


def _integer(key: str) -> int | None:
    """The integer that PHP makes of a key: as PHP would print it, so that "08", "-0" and "+1" are none.

    Source (PHP): ZEND_HANDLE_NUMERIC_STR.
    """
    digits = key[1:] if key.startswith("-") else key
    if len(digits) > 19 or not digits.isascii() or not digits.isdigit() or (digits[0] == "0" and key != "0"):
        return None
    number = int(key)
    return number if LEAST <= number <= GREATEST else None
