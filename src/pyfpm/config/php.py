"""``php_value[x]``, ``php_flag[x]``, ``php_admin_value[x]``, ``php_admin_flag[x]``."""

from __future__ import annotations

from typing import Any

from pyfpm.config.directives import Directive, parse_value
from pyfpm.config.errors import ConfigError
from pyfpm.config.pool import POOL_DIRECTIVES

# Array of the file -> what it is printed as, and whether its values are flags.
PHP_ARRAYS = {
    "php_value": ("php_value", False),
    "php_flag": ("php_value", True),
    "php_admin_value": ("php_admin_value", False),
    "php_admin_flag": ("php_admin_value", True),
}
# PHP's setting -> ours. Where a name is missing, the setting is accepted and does nothing.
COUNTERPARTS = {name: name for name in ("post_max_size", "max_execution_time", "display_errors", "doc_root")}


def counterpart(setting: str) -> Directive | None:
    name = COUNTERPARTS.get(setting.lower())
    return None if name is None else POOL_DIRECTIVES[name]


def parse_setting(row: Directive, value: str) -> Any:
    """PHP's value for one of our directives.

    Raises:
      ConfigError: it cannot be one.
    """
    if row.name == "display_errors" and value.lower() in ("stdout", "stderr"):
        return value.lower() == "stdout"
    return parse_value(row, value)


def effects(
    pool: str, php_values: tuple[tuple[str, str, str], ...], own: dict[str, Any]
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The fields of a pool that PHP's settings change, and what is to be said of the others.

    Our own directive counts more than ``php_value`` and less than ``php_admin_value``.
    """
    found: dict[str, Any] = {}
    notes = []
    for kind in ("php_value", "php_admin_value"):
        for of, setting, value in php_values:
            if of != kind:
                continue
            row = counterpart(setting)
            if row is None:
                notes.append(("WARNING", f"[pool {pool}] {kind}[{setting}] is accepted, but it has no effect here"))
            elif kind == "php_admin_value" or row.field not in own:
                try:
                    found[row.field] = parse_setting(row, value)
                except ConfigError as error:
                    raise ConfigError(f"[pool {pool}] {kind}[{setting}]: {error.message}") from None
    return found, notes
