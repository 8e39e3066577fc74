"""All that the operator wants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pyfpm.config.main import MainConfig
from pyfpm.config.pool import PoolConfig
from pyfpm.config.values import is_unix


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a file, or a command line without one, means as a whole.

    Attributes:
      pools: in the order of their first section; at least one.
      path: of the file, absolute; None without a file.
      notes: (level, message) of what was accepted and should be said at start.
    """

    main: MainConfig
    pools: tuple[PoolConfig, ...]
    path: str | None = None
    notes: tuple[tuple[str, str], ...] = field(default=(), compare=False)

    @property
    def control_socket(self) -> str | None:
        """Where pyfpmctl finds the master; None if there is no place that both would think of."""
        if self.main.control_socket is not None:
            return self.main.control_socket
        if self.main.pid is not None:
            return f"{self.main.pid}.ctl"
        paths = (address for pool in self.pools for address in pool.listen if is_unix(address))
        first = next(paths, None)
        return None if first is None else f"{first}.ctl"


@dataclass(frozen=True, slots=True)
class StartOptions:
    """How to start, beside what to run: the switches of the command line.

    Attributes:
      daemonize: go to the background (-D and -F count more than the directive).
      force_stderr: log to standard error as well, whatever error_log says.
      allow_root: pools may run as root.
      reload: read the same file and command line again; raises ConfigError, and the old configuration stays.
    """

    daemonize: bool
    force_stderr: bool
    allow_root: bool
    reload: Callable[[], Config]
