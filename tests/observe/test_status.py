"""The status of a pool: numbers that equal what happened, whatever became of the workers."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfpm.observe._scoreboard import bucket_of, create_slot
from pyfpm.observe.scoreboard import Counters, Histogram, SlotView, Stage
from pyfpm.observe.status import PoolStatus, Worker, as_json_object, as_php_array, collect
from support.slot import page_of


def status_of(*workers: Worker, **changes) -> PoolStatus:
    plain = {
        "pool": "www",
        "process_manager": "dynamic",
        "max_children": 5,
        "started": 1000.9,
        "now": 1010.1,
        "ended": Counters(),
        "listen_queue": 0,
        "max_listen_queue": 0,
        "listen_queue_len": 128,
    }
    return collect(workers=workers, **(plain | changes))


def worker(stage: Stage, pid: int = 7, generation: int = 1, memory: int = 4096, **slot) -> Worker:
    return Worker(pid, 1002.0, generation, SlotView(stage=stage, **slot), memory)


@pytest.mark.parametrize(
    ("stage", "state", "idle", "active"),
    [
        (Stage.STARTING, "Idle", 1, 0),
        (Stage.IDLE, "Idle", 1, 0),
        (Stage.RUNNING, "Running", 0, 1),
        (Stage.FINISHING, "Finishing", 0, 1),
        (Stage.RETIRING, "Ending", 0, 1),
    ],
)
def test_a_stage_is_a_state_of_php_fpm_and_counts_as_idle_or_active(stage, state, idle, active):
    status = status_of(worker(stage))
    assert status.processes[0].state == state
    assert (status.idle_processes, status.active_processes, status.total_processes) == (idle, active, 1)


def test_times_are_differences_of_whole_unix_times():
    status = status_of(worker(Stage.IDLE))
    assert (status.start_time, status.start_since) == (1000, 10)
    assert (status.processes[0].start_time, status.processes[0].start_since) == (1002, 8)


def test_a_clock_that_was_set_back_gives_no_negative_age():
    status = status_of(worker(Stage.IDLE), now=5.0)
    assert (status.start_since, status.processes[0].start_since) == (0, 0)


def test_what_is_known_of_the_last_request_is_told_of_an_idle_worker_only():
    slot = {"cpu_us": 1234, "duration_us": 3000, "age_us": 500}
    idle, running = status_of(worker(Stage.IDLE, **slot), worker(Stage.RUNNING, **slot)).processes
    assert (idle.last_request_cpu, idle.last_request_memory, idle.request_duration_us) == (41.13, 4096, 3000)
    assert (running.last_request_cpu, running.last_request_memory, running.request_duration_us) == (0.0, 0, 500)


def test_a_worker_without_a_request_so_far_has_used_nothing():
    (process,) = status_of(worker(Stage.IDLE, cpu_us=5)).processes
    assert (process.last_request_cpu, process.request_duration_us) == (0.0, 0)


@pytest.mark.parametrize(("ended", "duration"), [(3, 500), (4, 3000)], ids=["at work", "done"])
def test_a_worker_that_retires_shows_its_request_as_long_as_it_has_one(ended, duration):
    slot = {"age_us": 500, "duration_us": 3000, "counters": Counters(accepted=4, requests=ended)}
    assert status_of(worker(Stage.RETIRING, **slot)).processes[0].request_duration_us == duration


def test_the_largest_so_far_is_never_less_than_what_is_now():
    status = status_of(worker(Stage.RUNNING), listen_queue=4, max_listen_queue=3, max_active_processes=0)
    assert (status.max_listen_queue, status.max_active_processes) == (4, 1)
    status = status_of(worker(Stage.RUNNING), listen_queue=4, max_listen_queue=9, max_active_processes=6)
    assert (status.max_listen_queue, status.max_active_processes) == (9, 6)


def test_workers_of_several_generations_are_counted_by_generation():
    status = status_of(*(worker(Stage.IDLE, generation=number) for number in (4, 3, 4)))
    assert status.generations == {3: 1, 4: 2}


def test_a_pool_without_workers_still_has_its_past():
    ended = Counters(accepted=9, requests=8, slow=1, bytes_out=5, wait=Histogram(7, (1, *[0] * 21)))
    status = status_of(ended=ended)
    assert (status.accepted_conn, status.requests, status.slow_requests, status.bytes_out) == (9, 8, 1, 5)
    assert (status.total_processes, status.processes, status.wait_histogram.count) == (0, (), 1)


def test_the_php_array_has_dashes_and_a_query_string_of_its_own():
    status = status_of(worker(Stage.RUNNING, method="GET", uri="/a", query="b=c", content_length=3, script="/s.py"))
    array = as_php_array(status)
    assert list(array) == [
        "pool",
        "process-manager",
        "start-time",
        "start-since",
        "accepted-conn",
        "listen-queue",
        "max-listen-queue",
        "listen-queue-len",
        "idle-processes",
        "active-processes",
        "total-processes",
        "max-active-processes",
        "max-children-reached",
        "slow-requests",
        "procs",
    ]
    assert array["procs"] == [
        {
            "pid": 7,
            "state": "Running",
            "start-time": 1002,
            "start-since": 8,
            "requests": 0,
            "request-duration": 0,
            "request-method": "GET",
            "request-uri": "/a",
            "query-string": "b=c",
            "request-length": 3,
            "user": "-",
            "script": "/s.py",
            "last-request-cpu": 0.0,
            "last-request-memory": 0,
        }
    ]


def test_the_json_object_is_json():
    status = status_of(worker(Stage.IDLE), worker(Stage.RUNNING, generation=2))
    for full in (False, True):
        found = as_json_object(status, full)
        assert json.loads(json.dumps(found)) == found


class Pool:
    """A pool of workers with real slots, written as a worker writes them; and beside it, a plain tally."""

    def __init__(self) -> None:
        self.ended = Counters()
        self.living = []
        self.truth = Counters()

    def start(self) -> None:
        slot = create_slot()
        self.living.append((slot, page_of(slot.fd)))

    def begin(self, page) -> None:
        page.seq += 1
        page.stage = Stage.RUNNING
        page.seq += 1
        page.accepted += 1
        self.truth = replace(self.truth, accepted=self.truth.accepted + 1)

    def end(self, page, us: int) -> None:
        page.seq += 1
        page.stage = Stage.IDLE
        page.seq += 1
        page.requests += 1
        page.bytes_out += us
        page.status[us % 6] += 1
        page.service[bucket_of(us)] += 1
        page.service_sum_us += us
        statuses = [0] * 6
        statuses[us % 6] = 1
        buckets = [0] * 22
        buckets[bucket_of(us)] = 1
        one = Counters(requests=1, bytes_out=us, statuses=tuple(statuses), service=Histogram(us, tuple(buckets)))
        self.truth += one

    def die(self, index: int, in_a_change: bool) -> None:
        slot, page = self.living.pop(index)
        if in_a_change:
            page.seq |= 1
        self.ended += slot.counters()
        slot.close()

    def status(self) -> PoolStatus:
        workers = [Worker(pid, 1002.0, 1, slot.read()) for pid, (slot, _) in enumerate(self.living)]
        return status_of(*workers, ended=self.ended)


@settings(max_examples=50)
@given(st.integers(0), st.integers(1, 60))
def test_totals_equal_what_happened_in_every_history(seed, steps):
    chance = random.Random(seed)
    pool = Pool()
    try:
        for _ in range(steps):
            if not pool.living or chance.random() < 0.2:
                pool.start()
                continue
            index = chance.randrange(len(pool.living))
            page = pool.living[index][1]
            if chance.random() < 0.15:
                pool.die(index, chance.random() < 0.5)
            elif page.stage == Stage.RUNNING:
                pool.end(page, chance.randrange(10 ** chance.randrange(1, 9)))
            else:
                pool.begin(page)
            status = pool.status()
            truth = pool.truth
            assert (status.accepted_conn, status.requests, status.bytes_out) == (
                truth.accepted,
                truth.requests,
                truth.bytes_out,
            )
            assert (status.statuses, status.service_histogram) == (truth.statuses, truth.service)
            running = sum(page.stage == Stage.RUNNING for _, page in pool.living)
            assert (status.active_processes, status.total_processes) == (running, len(pool.living))
    finally:
        for slot, _ in pool.living:
            slot.close()
