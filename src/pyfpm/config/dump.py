"""The effective configuration, as ``-tt`` prints it; read again it means the same."""

from __future__ import annotations

from collections.abc import Iterator

from pyfpm.config.config import Config
from pyfpm.config.directives import Directive
from pyfpm.config.ini import written
from pyfpm.config.main import MAIN_DIRECTIVES, MainConfig
from pyfpm.config.pool import POOL_DIRECTIVES, PoolConfig


def dump(config: Config) -> list[str]:
    """The lines, in php-fpm's order, without a newline; directives begin with a tab."""
    lines = ["[global]", *_section(config.main, MAIN_DIRECTIVES), " "]
    for pool in config.pools:
        lines += [f"[{pool.pool}]", *_section(pool, POOL_DIRECTIVES), *_arrays(pool), " "]
    return lines


def _section(section: MainConfig | PoolConfig, directives: dict[str, Directive]) -> Iterator[str]:
    for row in directives.values():
        value = getattr(section, row.field)
        if row.many:
            yield from (f"\t{row.name}[] = {written(each)}" for each in value)
        elif value is None and row.field in ("rlimit_files", "rlimit_core"):
            yield f"\t{row.name} = 0"
        elif value is None or value == ():
            # What is not set, and what is set to nothing although that is not the default.
            yield f"\t{row.name} = {'undefined' if value == row.default else ''}"
        else:
            text = row.show(value)
            yield f"\t{row.name} = {text if isinstance(value, bool) else written(text)}"


def _arrays(pool: PoolConfig) -> Iterator[str]:
    for name, text in pool.env_as_written:
        yield f"\tenv[{name}] = {written(text)}"
    for kind, name, text in pool.php_values:
        yield f"\t{kind}[{name}] = {written(text)}"
