"""The directives of a pool: one table, which the parser, the command line's help and the reference are made from."""

from __future__ import annotations

import dataclasses
import grp
import os
import pwd
from collections.abc import Callable
from typing import Any

from pyfpm.config import values


class ConfigError(Exception):
    """A value cannot be used; the message names the directive and the value, and says what would be right."""


def _directive(name: str, parse: Callable[[str], Any], default: Any, sentence: str) -> Any:
    return dataclasses.field(default=default, metadata={"name": name, "parse": parse, "sentence": sentence})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """One pool, as it is run. Sizes are in bytes, times in seconds."""

    pool: str = "www"
    listen: tuple[str, ...] = _directive(
        "listen", values.words, (), "Where to listen: /path, HOST:PORT, [IPv6]:PORT or PORT (on 127.0.0.1)."
    )
    listen_owner: str | None = _directive("listen.owner", values.text, None, "Owner of a unix socket.")
    listen_group: str | None = _directive(
        "listen.group",
        values.text,
        None,
        "Group of a unix socket. Started by root without owner and group: the web server's, where one is known.",
    )
    listen_mode: int = _directive("listen.mode", values.mode, 0o660, "Permissions of a unix socket.")
    user: str | None = _directive("user", values.text, None, "User that runs the application.")
    group: str | None = _directive("group", values.text, None, "Group that runs it; without one, the user's own.")
    chdir: str | None = _directive("chdir", values.path, None, "Directory to be in, and to import from.")
    workers: int = _directive("pm.max_children", values.positive, 1, "Worker processes.")
    app: str | None = _directive(
        "app", values.text, None, "WSGI application: module:callable, module:factory() or a .py file. None: scripts."
    )
    docroots: tuple[str, ...] = _directive(
        "doc_root", values.paths, (), "Directories that scripts must be in; none for anywhere the user may read."
    )
    extensions: tuple[str, ...] = _directive(
        "security.limit_extensions", values.words, (".py",), "What a script's name must end in."
    )
    display_errors: bool = _directive("display_errors", values.flag, False, "Show tracebacks to visitors.")
    process_control_timeout_s: float = _directive(
        "process_control_timeout", values.seconds, 30.0, "How long requests may take to finish when pyfpm stops."
    )
    # The web server in front has its own limit (nginx: client_max_body_size, 1 MiB).
    post_max_size: int = _directive("post_max_size", values.size, 0, "Largest request body; 0 for no limit.")
    # Longer than the 60 s after which nginx closes a kept connection itself, so that it is never us who close it at
    # the moment it is used again.
    keepalive_timeout_s: float = _directive(
        "keepalive_timeout", values.seconds, 120.0, "How long a kept connection may be idle."
    )
    request_read_timeout_s: float = _directive(
        "request_read_timeout", values.positive_seconds, 60.0, "Longest silence inside an unfinished request."
    )
    send_timeout_s: float = _directive(
        "send_timeout", values.positive_seconds, 60.0, "Longest time that a web server may take nothing of an answer."
    )
    # Precedents: nginx 4 x 8 KiB of request headers, Apache 100 fields of 8190 bytes, h11 16 KiB in all. The web
    # server adds its own variables to the headers it let through, so leave it room above its own limit.
    max_params_size: int = _directive(
        "max_params_size", values.positive_size, 256 * 1024, "Largest PARAMS of a request: names and values."
    )
    max_params: int = _directive("max_params", values.positive, 1000, "Most name-value pairs of a request.")
    # HAProxy's default for a multiplexed connection is 100.
    max_requests: int = _directive(
        "max_concurrent_requests", values.positive, 128, "Most live requests on one connection."
    )
    max_connections: int = _directive(
        "max_connections", values.positive, 16384, "Most connections of a worker; an idle one costs a kilobyte."
    )
    max_held_connection: int = _directive(
        "max_held_connection",
        values.positive_size,
        16 * 1024**2,
        "Memory for the unfinished requests of one connection.",
    )
    max_held_peer: int = _directive(
        "max_held_peer", values.positive_size, 64 * 1024**2, "Memory for the unfinished requests of one address (TCP)."
    )
    max_held: int = _directive(
        "max_held", values.positive_size, 256 * 1024**2, "Memory for a worker's unfinished requests."
    )
    # Precedent: nginx's client_body_buffer_size, 16 KiB.
    spool_threshold: int = _directive(
        "spool_threshold", values.size, 64 * 1024, "A body above this goes to a temporary file."
    )
    spool_directory: str | None = _directive(
        "spool_directory", values.path, None, "Where those files are made; without one, TMPDIR or /tmp."
    )
    max_queued: int = _directive(
        "max_queued_output",
        values.size,
        1024**2,
        "Output that may wait for a slow web server before the request that writes it waits as well.",
    )

    def __post_init__(self) -> None:
        if not self.listen:
            raise ConfigError("there is nowhere to listen: give --socket PATH or --listen HOST:PORT")
        for directive, name in (("user", self.user), ("listen.owner", self.listen_owner)):
            if name is not None and not _exists(pwd.getpwnam, name):
                raise ConfigError(f"cannot get uid for user '{name}' ({directive})")
        for directive, name in (("group", self.group), ("listen.group", self.listen_group)):
            if name is not None and not _exists(grp.getgrnam, name):
                raise ConfigError(f"cannot get gid for group '{name}' ({directive})")
        if self.group is not None and self.user is None:
            raise ConfigError("a group without a user: give --user as well")
        roots = (("doc_root", root) for root in self.docroots)
        for directive, path in (("chdir", self.chdir), ("spool_directory", self.spool_directory), *roots):
            if path is not None and not os.path.isdir(path):
                raise ConfigError(f"{directive} = {path!r}: there is no such directory")
        for extension in self.extensions:
            if not extension.startswith("."):
                raise ConfigError(f"security.limit_extensions = {extension!r}: an extension begins with a dot")


DIRECTIVES: dict[str, dataclasses.Field[Any]] = {
    field.metadata["name"]: field for field in dataclasses.fields(PoolConfig) if field.metadata
}


def parse_directive(assignment: str) -> tuple[str, Any]:
    """``name=value`` as (field of PoolConfig, parsed value).

    Raises:
      ConfigError: there is no such directive, or its value is malformed.
    """
    name, equals, value = (part.strip() for part in assignment.partition("="))
    field = DIRECTIVES.get(name)
    if field is None:
        raise ConfigError(f"unknown directive {name!r}; there are: {', '.join(DIRECTIVES)}")
    if not equals:
        raise ConfigError(f"{name} without a value; it is set as {name}=VALUE")
    try:
        return field.name, field.metadata["parse"](value)
    except ValueError as error:
        raise ConfigError(f"{name} = {value!r}: expected {error}") from None


def _exists(look_up: Callable[[str], object], name: str) -> bool:
    try:
        look_up(name)
    except KeyError:
        return False
    return True
