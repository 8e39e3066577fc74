"""One directive: what the parser, the dump, the sample and the documentation know of it.

The table itself are the fields of ``MainConfig`` and ``PoolConfig``, in php-fpm's order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from pyfpm.config.errors import ConfigError
from pyfpm.config.values import KINDS, Kind

SAME = object()


@dataclasses.dataclass(frozen=True, slots=True)
class Directive:
    """A row of the table.

    Attributes:
      name: as php-fpm.conf spells it.
      field: of MainConfig or PoolConfig.
      parse: text to value; ValueError says what would be right.
      default: without a file.
      in_file: the default in a file, which is php-fpm's where the two cannot be one.
      sentence: what it does.
      example: a value worth trying; "" for the default.
      differs: from php-fpm, in a sentence; "" for not at all, "new" for ours alone.
      many: None, or whether each line ``NAME[] = VALUE`` adds one.
      shows: how the value is written, where the kind's way is not php-fpm's.
    """

    name: str
    field: str
    parse: Callable[[str], Any]
    default: Any
    in_file: Any
    sentence: str
    example: str
    differs: str
    many: bool
    shows: Callable[[Any], str]

    @property
    def kind(self) -> Kind:
        return KINDS[self.parse]

    def show(self, value: Any) -> str:
        """The value as it is written in a file; ``undefined`` if there is none."""
        return "undefined" if value is None or value == () else self.shows(value)


def directive(
    name: str,
    parse: Callable[[str], Any],
    default: Any,
    sentence: str,
    *,
    in_file: Any = SAME,
    example: str = "",
    differs: str = "",
    many: bool = False,
    shows: Callable[[Any], str] | None = None,
) -> Any:
    """A field of a configuration, with its row of the table."""
    row = {
        "name": name,
        "parse": parse,
        "default": default,
        "in_file": default if in_file is SAME else in_file,
        "sentence": sentence,
        "example": example,
        "differs": differs,
        "many": many,
        "shows": shows or KINDS[parse].show,
    }
    return dataclasses.field(default=default, metadata={"directive": row})


def table(config: type) -> dict[str, Directive]:
    """The directives of a dataclass by their names: its own, then those that it inherits."""
    own = config.__annotations__
    rows = [
        Directive(field=field.name, **field.metadata["directive"])
        for field in sorted(dataclasses.fields(config), key=lambda field: field.name not in own)
        if "directive" in field.metadata
    ]
    return {row.name: row for row in rows}


def parse_value(row: Directive, value: str) -> Any:
    """What a value given outside of a file means.

    Raises:
      ConfigError: it names the directive, the value, and what would be right.
    """
    try:
        return row.parse(value)
    except ValueError as error:
        raise ConfigError(f"{row.name} = {value!r}: expected {error}") from None
