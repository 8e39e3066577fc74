"""How many workers a pool should have: php-fpm's three process managers as pure decisions.

A policy is told what there is (``Census``) once a second (``tick``), and whenever a queue appears (``queued``), and
says how many workers to start or to let go. It starts nothing itself and knows no clock, so a table can test it.

php-fpm looks once a second only, and so lets the second of two visitors of an empty ``ondemand`` pool wait until the
first has left; ``queued`` is what is different here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from pyfpm.config import PoolConfig

# Spawning so many at once is news, as in php-fpm.
BUSY_SPAWN_RATE = 8


@dataclass(frozen=True, slots=True)
class Census:
    """The workers of a pool that take requests (retiring ones don't), and who waits for them."""

    idle: int
    active: int
    starting: int
    # Connections in the listen queues.
    waiting: int = 0
    # How long the worker that has been idle the longest has been so, in seconds.
    longest_idle_s: float = 0.0

    @property
    def total(self) -> int:
        return self.idle + self.active + self.starting

    @property
    def short(self) -> int:
        """Connections for which no worker is free, or about to be."""
        return max(0, self.waiting - self.idle - self.starting)


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now. ``warning`` is for the log; ``reached`` says that pm.max_children was in the way."""

    spawn: int = 0
    retire: int = 0
    warning: str = ""
    reached: bool = False


NOTHING = Decision()


class Policy(Protocol):
    def tick(self, census: Census) -> Decision:
        """Once a second, and after a worker has ended."""

    def queued(self, census: Census) -> Decision:
        """A connection waits while all workers are at work."""


class _Limit:
    """pm.max_children, and that its being reached is told once, until there is room again."""

    def __init__(self, max_children: int) -> None:
        self.max_children = max_children
        self._told = False

    def grow(self, census: Census, wanted: int, warning: str = "") -> Decision:
        room = self.max_children - census.total
        if wanted <= 0:
            return NOTHING
        if room > 0:
            self._told = False
            return Decision(spawn=min(wanted, room), warning=warning)
        if self._told:
            return NOTHING
        self._told = True
        return Decision(
            warning=f"server reached pm.max_children setting ({self.max_children}), consider raising it", reached=True
        )


class Static:
    """pm = static: always pm.max_children."""

    def __init__(self, max_children: int) -> None:
        self.max_children = max_children
        self._limit = _Limit(max_children)

    def tick(self, census: Census) -> Decision:
        missing = self.max_children - census.total
        return Decision(spawn=missing) if missing > 0 else Decision(retire=min(-missing, census.total))

    def queued(self, census: Census) -> Decision:
        # There is nothing to be done, but it is worth knowing.
        return self._limit.grow(census, census.short)


class Dynamic:
    """pm = dynamic: between min and max spare workers; the longer there are too few, the faster they are started."""

    def __init__(self, max_children: int, min_spare: int, max_spare: int, max_rate: int) -> None:
        self._limit = _Limit(max_children)
        self._min_spare = min_spare
        self._max_spare = max_spare
        self._max_rate = max_rate
        self._rate = 1

    def tick(self, census: Census) -> Decision:
        spare = census.idle + census.starting
        if census.total > self._limit.max_children:
            return Decision(retire=census.total - self._limit.max_children)
        if spare > self._max_spare:
            self._rate = 1
            return Decision(retire=1 if census.idle else 0)
        missing = self._min_spare - spare
        if missing <= 0:
            self._rate = 1
            return NOTHING
        wanted = min(self._rate, missing)
        warning = ""
        if self._rate >= BUSY_SPAWN_RATE:
            warning = (
                "seems busy (you may need to increase pm.start_servers, or pm.min/max_spare_servers), spawning"
                f" {min(wanted, self._limit.max_children - census.total)} children, there are {census.idle} idle, and"
                f" {census.total} total children"
            )
        decision = self._limit.grow(census, wanted, warning)
        self._rate = min(self._rate * 2, self._max_rate) if decision.spawn else 1
        return decision

    def queued(self, census: Census) -> Decision:
        return self._limit.grow(census, min(census.short, self._max_rate))


class OnDemand:
    """pm = ondemand: none until somebody comes, and none again when nobody has come for pm.process_idle_timeout."""

    def __init__(self, max_children: int, idle_timeout_s: float, max_rate: int) -> None:
        self._limit = _Limit(max_children)
        self._idle_timeout_s = idle_timeout_s
        self._max_rate = max_rate

    def tick(self, census: Census) -> Decision:
        if census.total > self._limit.max_children:
            return Decision(retire=census.total - self._limit.max_children)
        if census.short:
            return self.queued(census)
        return Decision(retire=1) if census.idle and census.longest_idle_s >= self._idle_timeout_s else NOTHING

    def queued(self, census: Census) -> Decision:
        return self._limit.grow(census, min(census.short, self._max_rate))


def policy(config: PoolConfig) -> Static | Dynamic | OnDemand:
    """The policy of ``pm``."""
    max_children = config.pm_max_children
    if config.pm == "dynamic":
        return Dynamic(
            max_children,
            config.pm_min_spare_servers,
            config.pm_max_spare_servers,
            config.pm_max_spawn_rate,
        )
    if config.pm == "ondemand":
        return OnDemand(max_children, config.pm_process_idle_timeout_s, config.pm_max_spawn_rate)
    return Static(max_children)


# Zygotes that wait for visitors who may never come. Each has the interpreter and the server in memory, some 20 MB.
MOST_WARM = 16


def waiting_pools(pools: Sequence[PoolConfig]) -> frozenset[str]:
    """Names of pools whose zygote is started with their first worker, and not before.

    There is nothing to load for an ``ondemand`` pool of scripts, and a warm zygote is worth a third of a second to its
    first visitor. That is a good bargain for a few, and none on a host of hundreds.
    """
    found = [pool.pool for pool in pools if pool.pm == "ondemand" and pool.app is None]
    return frozenset(found) if len(found) > MOST_WARM else frozenset()


def first_workers(config: PoolConfig) -> int:
    """How many workers a pool begins with."""
    if config.pm == "dynamic":
        return min(config.pm_start_servers, config.pm_max_children)
    return 0 if config.pm == "ondemand" else config.pm_max_children


def with_max_children(config: PoolConfig, max_children: int) -> PoolConfig:
    """Another pm.max_children, and the other numbers cut to it."""
    return replace(
        config,
        pm_max_children=max_children,
        pm_start_servers=min(config.pm_start_servers, max_children),
        pm_min_spare_servers=min(config.pm_min_spare_servers, max_children),
        pm_max_spare_servers=min(config.pm_max_spare_servers, max_children),
    )
