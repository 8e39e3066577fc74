"""What must be true of a pool's directives together, in php-fpm's order and words."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyfpm.config.errors import ConfigError

if TYPE_CHECKING:
    from pyfpm.config.pool import PoolConfig

_URI = re.compile(r"[A-Za-z0-9/_.~-]*")
_FORMAT_ITEM = re.compile(r"%(?:\{([^}]*)\})*(.?)", re.DOTALL)
# Which modifiers a letter of access.format takes; "" is none, NAME is any. Other letters take any and do not mind.
# Source: the list in php-fpm's www.conf; I and w are ours.
FORMAT_LETTERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys("%fIlmnpPqQrRstTu", ("", "NAME")),
    "C": ("", "total", "user", "system"),
    **dict.fromkeys("dw", ("", "seconds", "milliseconds", "milli", "microseconds", "micro")),
    "e": ("NAME",),
    "M": ("", "bytes", "kilobytes", "kilo", "megabytes", "mega"),
    "o": ("NAME",),
}


def check_pool(pool: PoolConfig) -> None:
    """Raise ConfigError for the first thing that cannot be."""
    for step in (_places, _manager, _threads, _pages, _logs, _directories, _cgi):
        step(pool)


def _wrong(pool: PoolConfig, said: str, hint: str = "", level: str = "ERROR") -> ConfigError:
    return ConfigError(f"[pool {pool.pool}] {said}", hint=hint, level=level)


def _places(pool: PoolConfig) -> None:
    if pool.prefix is not None and not os.path.isdir(pool.prefix):
        raise _wrong(pool, f"the prefix '{pool.prefix}' does not exist or is not a directory")
    if not pool.listen:
        hint = "listen = /path, HOST:PORT, [IPv6]:PORT or PORT; without a file --socket PATH or --listen HOST:PORT"
        raise _wrong(pool, "no listen address have been defined!", hint, "ALERT")
    if pool.process_priority is not None and not -19 <= pool.process_priority <= 20:
        raise _wrong(
            pool,
            "process.priority must be included into [-19,20]",
            f"process.priority = {pool.process_priority}: -19 is the most urgent",
        )


def _manager(pool: PoolConfig) -> None:
    if pool.pm is None:
        raise _wrong(pool, "the process manager is missing (static, dynamic or ondemand)", level="ALERT")
    if pool.pm_max_children < 1:
        raise _wrong(pool, "pm.max_children must be a positive value", "expected pm.max_children = 1 or more", "ALERT")
    if pool.pm == "dynamic":
        for said in _wrong_numbers(pool):
            raise _wrong(pool, said, level="ALERT")
    if pool.pm == "ondemand" and pool.pm_process_idle_timeout_s <= 0:
        idle = f"pm.process_idle_timeout({pool.pm_process_idle_timeout_s:g}s) must be greater than 0s"
        raise _wrong(pool, idle, level="ALERT")


def _threads(pool: PoolConfig) -> None:
    if not pool.pm_threads:
        for name, value in (("pm.queue_max", pool.pm_queue_max), ("pm.queue_timeout", pool.pm_queue_timeout_s)):
            if value:
                raise _wrong(
                    pool,
                    f"{name} is for a pool with pm.threads",
                    "without threads requests wait in the listen queue, which listen.backlog bounds",
                )
    elif pool.memory_limit:
        raise _wrong(
            pool,
            "memory_limit cannot be had with pm.threads",
            "the requests of a worker share its memory: pm.max_memory is for all of them",
        )


def _wrong_numbers(pool: PoolConfig) -> Iterator[str]:
    smallest = f"pm.min_spare_servers({pool.pm_min_spare_servers})"
    largest = f"pm.max_spare_servers({pool.pm_max_spare_servers})"
    if pool.pm_min_spare_servers <= 0:
        yield f"{smallest} must be a positive value"
    if pool.pm_max_spare_servers <= 0:
        yield f"{largest} must be a positive value"
    if max(pool.pm_min_spare_servers, pool.pm_max_spare_servers) > pool.pm_max_children:
        yield f"{smallest} and {largest} cannot be greater than pm.max_children({pool.pm_max_children})"
    if pool.pm_max_spare_servers < pool.pm_min_spare_servers:
        yield f"{largest} must not be less than {smallest}"
    if not pool.pm_min_spare_servers <= pool.pm_start_servers <= pool.pm_max_spare_servers:
        start = f"pm.start_servers({pool.pm_start_servers})"
        yield f"{start} must not be less than {smallest} and not greater than {largest}"
    if pool.pm_max_spawn_rate < 1:
        yield "pm.max_spawn_rate must be a positive value"


def _pages(pool: PoolConfig) -> None:
    for what, uri, shortest in (
        # With an address of its own the page may be everything that is there.
        ("status", pool.pm_status_path, 1 if pool.pm_status_listen else 2),
        ("ping", pool.ping_path, 2),
    ):
        if uri is None:
            continue
        if not uri.startswith("/"):
            raise _wrong(pool, f"the {what} path '{uri}' must start with a '/'")
        if len(uri) < shortest:
            raise _wrong(pool, f"the {what} path '{uri}' is not long enough", f"it has at least {shortest} characters")
        if not _URI.fullmatch(uri):
            characters = "'[alphanum]/_-.~'"
            raise _wrong(pool, f"the {what} path '{uri}' must contain only the following characters {characters}")


def _logs(pool: PoolConfig) -> None:
    if pool.request_slowlog_timeout_s and pool.slowlog is None:
        raise _wrong(pool, "'slowlog' must be specified for use with 'request_slowlog_timeout'")
    if pool.request_terminate_timeout_s and pool.request_slowlog_timeout_s > pool.request_terminate_timeout_s:
        slow, end = f"{pool.request_slowlog_timeout_s:g}", f"{pool.request_terminate_timeout_s:g}"
        raise _wrong(
            pool, f"'request_slowlog_timeout' ({slow}) can't be greater than 'request_terminate_timeout' ({end})"
        )
    if pool.request_slowlog_trace_depth < 1:
        depth = pool.request_slowlog_trace_depth
        raise _wrong(pool, f"'request_slowlog_trace_depth' ({depth}) must be a positive value")
    for uri in pool.access_suppress_path:
        if not uri.startswith("/"):
            raise _wrong(pool, f"Values provided to field 'access.suppress_path' must begin with '/', not {uri!r}")
    expected = wrong_format(pool.access_format)
    if expected:
        raise _wrong(pool, f"wrong format for access.format '{pool.access_format}'", f"expected {expected}")


def wrong_format(text: str) -> str | None:
    """What an access.format should have instead; None if it is right."""
    for found in _FORMAT_ITEM.finditer(text):
        modifier, letter = found[1] or "", found[2]
        if letter == "{" or (modifier and not letter):
            return f"%{{NAME}} and a letter instead of {text[found.start() :]!r}"
        if not letter:
            continue  # A percent sign at the end: php-fpm does not mind.
        known = FORMAT_LETTERS.get(letter)
        if known is None:
            return f"one of %{', %'.join(FORMAT_LETTERS)} instead of {found[0]!r}"
        if modifier.lower() not in known and not (modifier and "NAME" in known):
            choices = ", ".join(f"%{{{each}}}{letter}" if each else f"%{letter}" for each in known)
            return f"{choices} instead of {found[0]!r}"
    return None


def _directories(pool: PoolConfig) -> None:
    if pool.chroot is not None and not os.path.isdir(pool.chroot):
        raise _wrong(pool, f"the chroot path '{pool.chroot}' does not exist or is not a directory")
    if pool.chdir is not None:
        real = (pool.chroot or "") + pool.chdir
        if not os.path.isdir(real):
            within = f" within the chroot path '{pool.chroot}' ('{real}')" if pool.chroot else ""
            raise _wrong(pool, f"the chdir path '{pool.chdir}'{within} does not exist or is not a directory")
    # Inside of a chroot they are not where we could look.
    inside = () if pool.chroot else (*(("doc_root", root) for root in pool.docroots),)
    for directive, path in (*inside, ("spool_directory", pool.spool_directory if not pool.chroot else None)):
        if path is not None and not os.path.isdir(path):
            raise _wrong(pool, f"{directive} = {path!r}: there is no such directory")
    for extension in pool.extensions or ():
        if not extension.startswith("."):
            raise _wrong(pool, f"security.limit_extensions = {extension!r}: an extension begins with a dot")


def _cgi(pool: PoolConfig) -> None:
    if pool.app_kind != "cgi":
        return
    if pool.app is not None:
        raise _wrong(pool, "app.kind = cgi has no app", "without app, the files of doc_root are CGI programs")
    if not pool.docroots:
        # Any executable of this machine, with a body that the sender chooses: /bin/sh would do.
        raise _wrong(
            pool,
            "app.kind = cgi needs doc_root",
            "doc_root = /usr/lib/cgi-bin, say: else whoever reaches the socket could run any program there is",
        )
