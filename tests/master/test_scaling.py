"""How many workers: each policy as a table of what there is and what is done about it."""

from __future__ import annotations

from typing import Any

import pytest

from pyfpm.config import PoolConfig
from pyfpm.master.scaling import NOTHING, Census, Decision, Dynamic, OnDemand, Static, waiting_pools


def census(idle: int = 0, active: int = 0, starting: int = 0, waiting: int = 0, idle_s: float = 0.0) -> Census:
    return Census(idle, active, starting, waiting, idle_s)


@pytest.mark.parametrize(
    ("there", "spawn", "retire"),
    [
        (census(), 4, 0),
        (census(idle=1, active=2), 1, 0),
        (census(idle=2, active=1, starting=1), 0, 0),
        (census(idle=5), 0, 1),
    ],
    ids=["none", "one is missing", "complete", "one too many"],
)
def test_static_has_always_max_children(there, spawn, retire):
    decision = Static(4).tick(there)
    assert (decision.spawn, decision.retire) == (spawn, retire)


def test_that_max_children_is_reached_is_told_once_until_there_is_room_again():
    policy = OnDemand(2, 10, 32)
    full = census(active=2, waiting=5)
    told = policy.queued(full)
    assert told.reached
    assert told.warning == "server reached pm.max_children setting (2), consider raising it"
    assert policy.queued(full) == NOTHING
    assert policy.queued(census(active=1, waiting=1)).spawn == 1
    assert policy.queued(full).reached


def test_a_static_pool_says_that_it_is_too_small_when_somebody_waits():
    policy = Static(2)
    assert policy.queued(census(active=2, waiting=1)).reached
    assert policy.queued(census(idle=1, active=1, waiting=1)) == NOTHING


@pytest.mark.parametrize(
    ("there", "decision"),
    [
        (census(idle=2, active=1), NOTHING),
        (census(idle=1, active=1), Decision(spawn=1)),
        (census(idle=1, active=1, starting=1), NOTHING),
        (census(idle=4), Decision(retire=1)),
        (census(active=9, idle=1), Decision(spawn=0, warning="", reached=True)),
    ],
    ids=["enough spare", "too few spare", "one is coming", "too many spare", "no room"],
)
def test_dynamic_keeps_the_spare_workers_between_min_and_max(there, decision):
    found = Dynamic(10, 2, 3, 32).tick(there)
    assert (found.spawn, found.retire, found.reached) == (decision.spawn, decision.retire, decision.reached)


def test_dynamic_starts_more_each_time_that_there_are_too_few_and_says_so():
    policy = Dynamic(100, 50, 60, 32)
    spawned, total = [], 0
    warnings = []
    for _ in range(6):
        decision = policy.tick(census(active=total))
        spawned.append(decision.spawn)
        warnings.append(decision.warning)
        total += decision.spawn
    assert spawned == [1, 2, 4, 8, 16, 32]
    assert warnings[2] == ""
    assert warnings[3] == (
        "seems busy (you may need to increase pm.start_servers, or pm.min/max_spare_servers), spawning 8 children,"
        " there are 0 idle, and 7 total children"
    )


def test_dynamic_starts_one_by_one_again_after_a_quiet_second():
    policy = Dynamic(100, 10, 20, 32)
    policy.tick(census())
    policy.tick(census(active=1))
    assert policy.tick(census(idle=10)) == NOTHING
    assert policy.tick(census()).spawn == 1


def test_pm_max_spawn_rate_bounds_what_is_started_at_once():
    policy = Dynamic(100, 50, 60, 4)
    assert [policy.tick(census()).spawn for _ in range(5)] == [1, 2, 4, 4, 4]
    assert policy.queued(census(active=5, waiting=50)).spawn == 4


def test_two_who_come_together_to_an_empty_ondemand_pool_get_a_worker_each():
    """php-fpm starts one, and looks again when the first visitor has left."""
    assert OnDemand(5, 10, 32).queued(census(waiting=2)).spawn == 2


@pytest.mark.parametrize(
    ("there", "spawn"),
    [
        (census(active=1, waiting=1), 1),
        (census(idle=1, waiting=1), 0),
        (census(starting=1, waiting=1), 0),
        (census(starting=1, active=1, waiting=3), 2),
        (census(active=4, waiting=9), 1),
    ],
    ids=["busy", "one is free", "one is coming", "more than are coming", "no more than max_children"],
)
def test_ondemand_starts_as_many_as_nobody_is_free_for(there, spawn):
    assert OnDemand(5, 10, 32).queued(there).spawn == spawn


def pool(number: int, **other: Any) -> PoolConfig:
    return PoolConfig(pool=f"p{number}", listen=("/x",), **{"pm": "ondemand", "pm_max_children": 1, **other})


def test_many_ondemand_pools_of_scripts_have_no_zygote_before_somebody_comes():
    few = [pool(number) for number in range(16)]
    others = [pool(20, pm="static"), pool(21, app="app:application")]
    assert waiting_pools([*few, *others]) == frozenset()
    assert waiting_pools([*few, pool(16), *others]) == {f"p{number}" for number in range(17)}


@pytest.mark.parametrize(("idle_s", "retire"), [(9.9, 0), (10.0, 1)])
def test_ondemand_lets_go_of_who_was_idle_for_process_idle_timeout(idle_s, retire):
    assert OnDemand(5, 10, 32).tick(census(idle=2, idle_s=idle_s)).retire == retire
