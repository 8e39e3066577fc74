"""``php_value[x]``, ``php_flag[x]``, ``php_admin_value[x]``, ``php_admin_flag[x]``."""

from __future__ import annotations

from typing import Any

from pyfpm.config.directives import Directive, parse_value, table
from pyfpm.config.errors import ConfigError
from pyfpm.config.pool import POOL_DIRECTIVES
from pyfpm.config.script import ScriptConfig
from pyfpm.config.values import placed

# Array of the file -> what it is printed as, and whether its values are flags.
PHP_ARRAYS = {
    "php_value": ("php_value", False),
    "php_flag": ("php_value", True),
    "php_admin_value": ("php_admin_value", False),
    "php_admin_flag": ("php_admin_value", True),
}
# Ours alone; the other directives of ScriptConfig have PHP's names.
OURS = {"cgi.timeout", "python.revalidate"}
# PHP's settings that take effect. Any other is accepted and does nothing.
COUNTERPARTS = sorted({"doc_root", "max_execution_time", "post_max_size"} | table(ScriptConfig).keys() - OURS)

# What PHP means by a value that our directive does not take.
MEANINGS = {
    "auto_append_file": {"none": ""},
    "auto_prepend_file": {"none": ""},
    "default_charset": {"none": ""},
    "default_mimetype": {"none": ""},
    "display_errors": {"stdout": "1", "stderr": "0"},
    # Then variables_order counts, which has an E and an S as well.
    "request_order": {"": "GPC"},
    "session.cache_limiter": {"": "none"},
    "session.cookie_samesite": {"": "off"},
}
# What does here what PHP's setting of another name did there.
INSTEAD = {
    "date.timezone": "env[TZ] does that",
    "disable_functions": "the rights of the pool's user are the limit",
    "include_path": "python.path[] does that",
    "opcache.revalidate_freq": "python.revalidate does that",
    "opcache.validate_timestamps": "python.revalidate does that",
    "open_basedir": "the rights of the pool's user are the limit",
}
# Of these, what is below 1 is no limit in PHP.
NO_LIMIT = {"max_execution_time", "post_max_size", "upload_max_filesize"}


def counterpart(setting: str) -> Directive | None:
    name = setting.lower()
    return POOL_DIRECTIVES[name] if name in COUNTERPARTS else None


def parse_setting(row: Directive, value: str, prefix: str) -> Any:
    """PHP's value for one of our directives.

    Raises:
      ConfigError: it cannot be one.
    """
    if row.name in NO_LIMIT and value == "-1":
        value = "0"
    value = MEANINGS.get(row.name, {}).get(value.lower(), value)
    return parse_value(row, placed(row.parse, value, prefix) if row.kind.is_path else value)


def effects(
    pool: str, php_values: tuple[tuple[str, str, str], ...], own: dict[str, Any], prefix: str
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The fields of a pool that PHP's settings change, and what is to be said of the others.

    Our own directive counts more than ``php_value`` and less than ``php_admin_value``.

    Args:
      prefix: what relative paths are meant from.
    """
    found: dict[str, Any] = {}
    notes = []
    for kind in ("php_value", "php_admin_value"):
        for of, setting, value in php_values:
            if of != kind:
                continue
            row = counterpart(setting)
            if row is None or (row.name == "error_log" and value.lower() == "syslog"):
                instead = INSTEAD.get(setting.lower())
                notes.append(
                    (
                        "WARNING",
                        f"[pool {pool}] {kind}[{setting}] is accepted, but it has no effect here"
                        + (f"; {instead}" if instead else ""),
                    )
                )
            elif kind == "php_admin_value" or row.field not in own:
                try:
                    found[row.field] = parse_setting(row, value, prefix)
                except ConfigError as error:
                    raise ConfigError(f"[pool {pool}] {kind}[{setting}]: {error.message}") from None
    return found, notes
