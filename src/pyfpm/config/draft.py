"""A section while it is read: text by text, until all is known that their meaning depends on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from pyfpm.config.directives import Directive, parse_value
from pyfpm.config.errors import ConfigError
from pyfpm.config.main import MAIN_DIRECTIVES, MainConfig
from pyfpm.config.php import PHP_ARRAYS, effects
from pyfpm.config.pool import POOL_DIRECTIVES, PoolConfig
from pyfpm.config.values import flag, placed


@dataclass(slots=True)
class Draft:
    """What is known of a section so far.

    Attributes:
      name: of the pool; None for [global].
      texts: directive -> its texts in the file: the last one, or all of those that add up.
      fixed: field -> value, from the command line; they count more.
      arrays: env, php_value, php_admin_value -> names and texts.
    """

    name: str | None
    texts: dict[str, list[str]] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def directives(self) -> dict[str, Directive]:
        return MAIN_DIRECTIVES if self.name is None else POOL_DIRECTIVES

    def expand(self, text: str) -> str:
        """``$pool`` in a value."""
        if "$pool" not in text:
            return text
        if self.name is None:
            raise ValueError("Can't use '$pool' when the pool is not defined")
        return text.replace("$pool", self.name)

    def set_array(self, array: str, key: str, text: str) -> None:
        """``env[key] = text`` and PHP's. Raises ValueError."""
        if array in PHP_ARRAYS:
            array, is_flag = PHP_ARRAYS[array]
            if is_flag:
                text = "1" if flag(text) else "0"
        elif "=" in key or "\0" in key:
            raise ValueError("a name without =")
        names = self.arrays.setdefault(array, {})
        # The last one counts, in its own place.
        names.pop(key, None)
        names[key] = self.expand(text)

    def fix(self, name: str, value: Any, directory: str) -> None:
        """Set a directive from the command line: a text, or a value that is parsed already.

        Args:
          directory: what relative paths are meant from.
        Raises:
          ConfigError: it names the directive, the value, and what would be right.
        """
        row = self.directives[name]
        if isinstance(value, str):
            text = self.expand(value)
            value = parse_value(row, placed(row.parse, text, directory) if row.kind.is_path else text)
            if row.many:
                value = (*self.fixed.get(row.field, ()), *value)
        self.fixed[row.field] = value

    def values(self, prefix: str, from_file: bool) -> dict[str, Any]:
        """field -> value of what is set or has another default in a file."""
        found = {row.field: row.in_file for row in self.directives.values() if from_file and row.in_file != row.default}
        for name, texts in self.texts.items():
            row = self.directives[name]
            each = [placed(row.parse, text, prefix) if row.kind.is_path else text for text in texts]
            found[row.field] = tuple(chain.from_iterable(map(row.parse, each))) if row.many else row.parse(each[-1])
        return found | self.fixed

    def main(self, prefix: str, from_file: bool) -> MainConfig:
        return MainConfig(**self.values(prefix, from_file))


def build_pool(
    draft: Draft, prefix: str, from_file: bool, environment: Mapping[str, str]
) -> tuple[PoolConfig, list[tuple[str, str]]]:
    """A pool, and what is to be said of it.

    Args:
      prefix: the global one, for a pool without its own.
      environment: where env[] finds its $VARIABLES.
    Raises:
      ConfigError: ``[pool NAME] ...``.
    """
    pool = draft.name or ""
    own = draft.texts.get("prefix")
    if own and own[-1]:
        prefix = os.path.join(prefix, own[-1])
        draft = replace(draft, texts={**draft.texts, "prefix": [prefix]})
    chroot = draft.texts.get("chroot")
    if chroot and "$prefix" in chroot[-1]:
        if not chroot[-1].startswith("$prefix"):
            raise ConfigError(f"[pool {pool}] '$prefix' must be use at the beginning of the value")
        draft = replace(draft, texts={**draft.texts, "chroot": [prefix + chroot[-1].removeprefix("$prefix")]})
    found = draft.values(prefix, from_file)

    php_values = tuple(
        (kind, name, text)
        for kind in ("php_value", "php_admin_value")
        for name, text in draft.arrays.get(kind, {}).items()
    )
    own_fields = {draft.directives[name].field: True for name in draft.texts} | draft.fixed
    changed, notes = effects(pool, php_values, own_fields, prefix)
    found |= {name: value for name, value in changed.items() if name not in draft.fixed}

    written = tuple(draft.arrays.get("env", {}).items())
    found |= {
        "php_values": php_values,
        "env_as_written": written,
        "env": tuple((name, from_environment(text, environment)) for name, text in written),
    }
    notes += _complete(pool, found, draft)
    return PoolConfig(pool=pool, **found), notes


def from_environment(text: str, environment: Mapping[str, str]) -> str:
    """``$NAME`` as a whole is a variable of ours, nothing if we have none; anything else is itself."""
    return environment.get(text[1:], "") if text.startswith("$") else text


def _complete(pool: str, found: dict[str, Any], draft: Draft) -> list[tuple[str, str]]:
    """What follows from the rest, as php-fpm has it."""
    notes = []
    pm = found.get("pm", "static")
    if pm == "dynamic" and not found.get("pm_start_servers"):
        smallest, largest = found.get("pm_min_spare_servers", 0), found.get("pm_max_spare_servers", 0)
        if 0 < smallest <= largest:
            found["pm_start_servers"] = smallest + (largest - smallest) // 2
            said = f"pm.start_servers is not set. It's been set to {found['pm_start_servers']}."
            notes.append(("NOTICE", f"[pool {pool}] {said}"))
    if pm == "ondemand":
        found |= {"pm_start_servers": 0, "pm_min_spare_servers": 0, "pm_max_spare_servers": 0}
    if found.get("pm_status_listen") and not found.get("pm_status_path"):
        found["pm_status_path"] = "/"
    if "request_slowlog_trace_depth" in draft.texts and not found["request_slowlog_trace_depth"]:
        del found["request_slowlog_trace_depth"]  # php-fpm: 0 is the default.
    if os.geteuid() != 0:
        for field_name, name in (
            ("user", "user"),
            ("group", "group"),
            ("chroot", "chroot"),
            ("process_priority", "process.priority"),
        ):
            if found.get(field_name) is not None:
                ignored = f"'{name}' directive is ignored when FPM is not running as root"
                notes.append(("NOTICE", f"[pool {pool}] {ignored}"))
    return notes
