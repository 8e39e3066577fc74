"""What this machine has to say of a configuration: its users and groups, and that nobody's application is root.

php-fpm asks these after the file as a whole was found right, so the lines about the file do not follow such an error.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
from collections.abc import Callable, Sequence

from pyfpm.config.config import Config
from pyfpm.config.errors import ConfigError
from pyfpm.config.pool import PoolConfig
from pyfpm.config.values import is_unix

# What php-fpm shows behind a name that getpwnam does not find.
STRERROR = "No such file or directory (2)"


def check_machine(pools: Sequence[PoolConfig]) -> None:
    """Raise ConfigError for a user or group that does not exist, or a port that cannot."""
    for pool in pools:
        _users(pool)
        for address in (*pool.listen, *([pool.pm_status_listen] if pool.pm_status_listen else [])):
            _port(address)


def _users(pool: PoolConfig) -> None:
    where = f"[pool {pool.pool}]"
    for user in (pool.listen_owner, *pool.listen_acl_users):
        if user is not None and not _exists(pwd.getpwnam, user):
            raise ConfigError(f"{where} cannot get uid for user '{user}': {STRERROR}")
    for group in (pool.listen_group, *pool.listen_acl_groups):
        if group is not None and not _exists(grp.getgrnam, group):
            raise ConfigError(f"{where} cannot get gid for group '{group}': {STRERROR}")
    if os.geteuid() != 0:
        return  # Nobody but root becomes somebody else; a note says that the names are ignored.
    if pool.user is not None and not _exists(pwd.getpwnam, pool.user):
        raise ConfigError(f"{where} cannot get uid for user '{pool.user}'")
    if pool.group is not None and not _exists(grp.getgrnam, pool.group):
        raise ConfigError(f"{where} cannot get gid for group '{pool.group}'")
    if pool.group is not None and pool.user is None:
        raise ConfigError(f"{where} a group without a user: set user as well")


def _exists(look_up: Callable[[str], object], name: str) -> bool:
    if _is_number(name):
        return int(name) < 2**32 - 1  # A number needs no entry: containers have users without. The last is none.
    try:
        look_up(name)
    except (KeyError, ValueError):
        return False
    return True


def _port(address: str) -> None:
    if is_unix(address):
        return
    port = address.rpartition(":")[2]
    if not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        hint = f"listen = {address}: ports are 1 to 65535, 0 is any that is free"
        raise ConfigError(f"invalid port value '{port}'", hint=hint)


def refuse_root(config: Config, *, allowed: bool) -> None:
    """Refuse pools that would run as root (php-fpm's -R allows them).

    Raises:
      ConfigError: ``[pool NAME] ...``.
    """
    if allowed or os.geteuid() != 0:
        return
    for pool in config.pools:
        if pool.user is None:
            hint = "set user = NAME in its section, or start with -R if root is meant"
            raise ConfigError(f"[pool {pool.pool}] user has not been defined", hint=hint, level="ALERT")
        if 0 in _ids(pool, pool.user):
            hint = "or start with -R if root is meant"
            raise ConfigError(f"[pool {pool.pool}] please specify user and group other than root", hint=hint)


def _ids(pool: PoolConfig, user: str) -> tuple[int, int]:
    """uid and gid that a pool runs with. The names exist: they have been looked up."""
    try:
        entry = pwd.getpwuid(int(user)) if _is_number(user) else pwd.getpwnam(user)
        uid, gid = entry.pw_uid, entry.pw_gid
    except KeyError:
        uid = gid = int(user)
    if pool.group is not None:
        gid = int(pool.group) if _is_number(pool.group) else grp.getgrnam(pool.group).gr_gid
    return uid, gid


def _is_number(name: str) -> bool:
    return re.fullmatch("[0-9]+", name) is not None
