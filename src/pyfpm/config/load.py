"""A file and what the command line adds, into one ``Config``.

Entries are judged where they stand, so that an error has its line. Which section an entry belongs to is carried over
the borders of files, as in php-fpm: behind the ``include`` of a pool's file one is still in that pool.
"""

from __future__ import annotations

import difflib
import glob
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pyfpm.config import ini
from pyfpm.config.config import Config
from pyfpm.config.draft import Draft, build_pool
from pyfpm.config.errors import ConfigError
from pyfpm.config.machine import check_machine
from pyfpm.config.main import MAIN_DIRECTIVES
from pyfpm.config.php import PHP_ARRAYS
from pyfpm.config.pool import POOL_DIRECTIVES, PoolConfig
from pyfpm.config.values import MECHANISMS

# Far above what anybody writes by hand, far below what hurts: somebody gave /dev/zero.
LARGEST_FILE_BYTES = 16 * 1024**2
DEEPEST_INCLUDE = 5
ARRAYS = ("env", *PHP_ARRAYS)

# A directive, and its text or (for what may have blanks in it) its value. From the command line.
Override = tuple[str, Any]
_ARRAY = re.compile(r"([^\[\]]+)\[([^\]]*)\]")


def load(
    path: str, *, prefix: str | None = None, overrides: Sequence[Override] = (), directory: str | None = None
) -> Config:
    """Read a configuration file.

    Args:
      path: of the file; its includes are read as well.
      prefix: what relative paths in it are meant from; the file's directory if None.
      overrides: directives of the command line. They count more than the file: one of [global] there, any other in
        every pool.
      directory: what relative paths in overrides are meant from; where we are if None.
    Raises:
      ConfigError: ``[FILE:LINE] ...``, ``[pool NAME] ...`` or a file that cannot be read. Nothing has been changed.
    """
    if prefix is not None and not os.path.isdir(prefix):
        raise ConfigError(f"the global prefix '{prefix}' does not exist or is not a directory")
    base = os.path.abspath(prefix if prefix is not None else os.path.dirname(path))
    reader = _Reader(base, os.environ)
    try:
        reader.read(path)
    except ConfigError as error:
        raise error.followed_by(f"failed to load configuration file '{path}'") from None
    for name, value in overrides:
        override([reader.main, *reader.pools], name, value, directory or os.getcwd())
    try:
        config = _build(reader.main, reader.pools, base, os.path.abspath(path), reader.notes)
    except ConfigError as error:
        raise error.followed_by("failed to post process the configuration") from None
    check_machine(config.pools)
    return config


def from_command_line(overrides: Sequence[Override] = (), *, directory: str | None = None) -> Config:
    """The configuration without a file: one pool, www. Arguments as those of ``load``.

    Raises:
      ConfigError: a directive is unknown, or its value cannot be used.
    """
    main, pool = Draft(None), Draft("www")
    for name, value in overrides:
        override([main, pool], name, value, directory or os.getcwd())
    config = _build(main, [pool], directory or os.getcwd(), None, [])
    check_machine(config.pools)
    return config


def override(drafts: Sequence[Draft], name: str, value: Any, directory: str) -> None:
    """Set a directive of the command line: in [global] if it is one of that, else in every pool."""
    array = _ARRAY.fullmatch(name)
    if array and array[1] in ARRAYS:
        for draft in drafts[1:]:
            try:
                draft.set_array(array[1], array[2], value)
            except ValueError as error:
                raise ConfigError(f"{name} = {value!r}: expected {error}") from None
        return
    row = MAIN_DIRECTIVES.get(name) or POOL_DIRECTIVES.get(name) or POOL_DIRECTIVES.get(name.removesuffix("[]"))
    if row is None:
        names = ", ".join([*MAIN_DIRECTIVES, *(each for each in POOL_DIRECTIVES if each not in MAIN_DIRECTIVES)])
        raise ConfigError(f"unknown directive {name!r}; there are: {names}")
    for draft in drafts[:1] if row.name in MAIN_DIRECTIVES else drafts[1:]:
        try:
            draft.fix(row.name, value, directory)
        except ValueError as error:
            raise ConfigError(f"{row.name} = {value!r}: {error}") from None


def split_assignment(assignment: str) -> Override:
    """``NAME=VALUE`` of the command line.

    Raises:
      ConfigError: there is no ``=``.
    """
    name, equals, value = (part.strip() for part in assignment.partition("="))
    if not equals and (name in MAIN_DIRECTIVES or name in POOL_DIRECTIVES):
        raise ConfigError(f"{name} without a value; it is set as {name}=VALUE")
    return name, value


def _build(main: Draft, pools: Sequence[Draft], prefix: str, path: str | None, said: list[tuple[str, str]]) -> Config:
    notes = list(said)
    config = main.main(prefix, from_file=path is not None)
    if config.events_mechanism != "epoll":
        notes.append(("NOTICE", f"events.mechanism = {config.events_mechanism} is accepted; pyfpm waits with epoll"))
    if not pools:
        raise ConfigError("No pool defined. at least one pool section must be specified in config file")
    built: list[PoolConfig] = []
    for draft in pools:
        pool, more = build_pool(draft, prefix, path is not None, os.environ)
        built.append(pool)
        notes += more
    _no_address_twice(built)
    return Config(main=config, pools=tuple(built), path=path, notes=tuple(notes))


def _no_address_twice(pools: Sequence[PoolConfig]) -> None:
    owners: dict[str, str] = {}
    for pool in pools:
        for address in (*pool.listen, *([pool.pm_status_listen] if pool.pm_status_listen else [])):
            owner = owners.setdefault(address, pool.pool)
            if owner != pool.pool:
                used = f"unable to set listen address as it's already used in another pool '{owner}'"
                raise ConfigError(f"[pool {pool.pool}] {used}", hint=f"both have {address}")


class _Reader:
    """What has been read so far, of the file and its includes."""

    def __init__(self, prefix: str, environment: Mapping[str, str]) -> None:
        self.main = Draft(None)
        self.pools: list[Draft] = []
        self.notes: list[tuple[str, str]] = []
        self._current = self.main
        self._prefix = prefix
        self._environment = environment
        self._depth = 0

    def read(self, path: str) -> None:
        text = _contents(path)
        if self._depth >= DEEPEST_INCLUDE:
            raise ConfigError(f"failed to include more than {DEEPEST_INCLUDE} files recursively", hint=f"at {path}")
        self._depth += 1
        for item in ini.parse(text, path, self._environment):
            if isinstance(item, ini.Section):
                self._current = self._section(item.name)
            elif item.name == "include" and item.key is None and item.value is not None:
                self._include(item.value, path, item.line)
            else:
                try:
                    self._entry(item)
                except ConfigError as error:
                    raise ConfigError(f"[{path}:{item.line}] {error.message}", hint=error.hint) from None
        self._depth -= 1

    def _section(self, name: str) -> Draft:
        if name.lower() == "global":
            return self.main
        for pool in self.pools:
            if pool.name is not None and pool.name.lower() == name.lower():
                return pool
        self.pools.append(Draft(name))
        return self.pools[-1]

    def _include(self, pattern: str, path: str, line: int) -> None:
        found = sorted(glob.glob(os.path.join(self._prefix, pattern)))
        if not found:
            what = f"Nothing matches the include pattern '{pattern}' from {path} at line {line}."
            self.notes.append(("WARNING", what))
        for each in found:
            if os.path.isdir(each):
                continue
            try:
                self.read(each)
            except ConfigError as error:
                raise error.followed_by(f"Unable to include {each} from {path} at line {line}") from None

    def _entry(self, entry: ini.Entry) -> None:
        """Take an entry, or raise ConfigError without a place."""
        if entry.value is None:
            hint = "comments begin with ;" if entry.name.startswith(("#", "//")) else f"expected {entry.name} = VALUE"
            raise ConfigError("value is NULL for a ZEND_INI_PARSER_ENTRY", hint=hint)
        if entry.key is not None:
            self._array(entry.name, entry.key, entry.value)
            return
        directives = self._current.directives
        row = directives.get(entry.name) or directives.get(entry.name.lower())
        if row is None or row.many:
            raise ConfigError(f"unknown entry '{entry.name}'", hint=self._instead(entry.name))
        if entry.bare and entry.value == "undefined" and row.default in (None, ()):
            # What a dump says of a directive that is not set.
            self._current.texts.pop(row.name, None)
            return
        try:
            text = self._current.expand(entry.value)
        except ValueError as error:
            raise ConfigError(f"unable to parse value for entry '{row.name}': {error}") from None
        try:
            row.parse(text)
        except ValueError as error:
            if row.name == "events.mechanism":
                said = f"event mechanism '{text}' is not available on this system"
                raise ConfigError(said, hint=f"expected {', '.join(MECHANISMS)}") from None
            raise ConfigError(
                f"unable to parse value for entry '{row.name}': {row.kind.php}",
                hint=f"{row.name} = {text!r}: expected {error}",
            ) from None
        self._current.texts[row.name] = [text]

    def _array(self, name: str, key: str, value: str) -> None:
        row = POOL_DIRECTIVES.get(name)
        many = row is not None and row.many
        if many:
            if key:
                raise ConfigError(f"Keys provided to field '{name}' are ignored", hint=f"expected {name}[] = VALUE")
            if name == "access.suppress_path" and not value.startswith("/"):
                raise ConfigError(
                    f"Values provided to field '{name}' must begin with '/'", hint=f"{name}[] = {value!r}"
                )
        elif not key:
            raise ConfigError(f"You must provide a key for field '{name}'", hint=f"expected {name}[KEY] = VALUE")
        if self._current.name is None:
            raise ConfigError("Array are not allowed in the global section", hint=f"{name}[] belongs into a pool")
        if not many and name not in ARRAYS:
            raise ConfigError(f"unknown directive '{name}'", hint=self._instead(name))
        if not value and (many or name == "env"):
            raise ConfigError("empty value", hint=f"{name}[{key}] needs one")
        try:
            if many:
                assert row is not None
                text = self._current.expand(value)
                row.parse(text)
                self._current.texts.setdefault(name, []).append(text)
            else:
                self._current.set_array(name, key, value)
        except ValueError as error:
            kind = "invalid boolean value" if "flag" in name else "invalid value"
            said = f"error while parsing '{name}[{key}]' : {kind}"
            raise ConfigError(said, hint=f"{name}[{key}] = {value!r}: expected {error}") from None

    def _instead(self, name: str) -> str:
        """What may have been meant: something alike, or the other section."""
        here, there = self._current.directives, MAIN_DIRECTIVES
        if self._current.name is None:
            there = POOL_DIRECTIVES
        if name in here:
            return f"it is an array: {name}[] = VALUE"
        if name in ARRAYS:
            return f"it is an array: {name}[KEY] = VALUE"
        if name in there:
            return f"{name} belongs into " + ("a pool's section" if there is POOL_DIRECTIVES else "[global]")
        close = difflib.get_close_matches(name.lower(), [*here, *ARRAYS, "include"], 1)
        return f"did you mean {close[0]}?" if close else ""


def _contents(path: str) -> str:
    if not path:
        raise ConfigError("configuration filename is empty")
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = f"{error.strerror} ({error.errno})" if isinstance(error, OSError) else str(error)
        raise ConfigError(f"failed to open configuration file '{path}': {reason}") from None
    if len(data) > LARGEST_FILE_BYTES:
        raise ConfigError(f"configuration file '{path}' is too large: more than {LARGEST_FILE_BYTES >> 20} MiB")
    return data.decode("utf-8", "surrogateescape")
