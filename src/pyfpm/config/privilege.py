"""That nobody's application runs as root by mistake."""

from __future__ import annotations

import grp
import os
import pwd

from pyfpm.config.config import Config
from pyfpm.config.errors import ConfigError
from pyfpm.config.pool import PoolConfig


def ids(pool: PoolConfig) -> tuple[int, int]:
    """uid and gid that a pool runs with; our own where it names none. Names exist: they have been looked up."""
    uid, gid = os.geteuid(), os.getegid()
    if pool.user is not None:
        if pool.user.isdecimal():
            uid = int(pool.user)
        else:
            entry = pwd.getpwnam(pool.user)
            uid, gid = entry.pw_uid, entry.pw_gid
    if pool.group is not None:
        gid = int(pool.group) if pool.group.isdecimal() else grp.getgrnam(pool.group).gr_gid
    return uid, gid


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
        if 0 in ids(pool):
            hint = "or start with -R if root is meant"
            raise ConfigError(f"[pool {pool.pool}] please specify user and group other than root", hint=hint)
