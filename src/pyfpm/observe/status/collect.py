"""What there is to say about a pool and its processes, put together from plain values.

Each number is worked out here from the state of each worker at this moment, instead of being counted up and down by
several processes as time goes by: it cannot drift.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from pyfpm.observe.scoreboard import Counters, Histogram, SlotView, Stage

# php-fpm's names. Its "Reading headers" and "Getting request information" do not come up: a worker is not occupied
# before the request is complete. A worker that starts is idle here as it is there; there has to be a word for it.
STATES = {
    Stage.STARTING: "Idle",
    Stage.IDLE: "Idle",
    Stage.RUNNING: "Running",
    Stage.FINISHING: "Finishing",
    Stage.RETIRING: "Ending",
}


@dataclass(frozen=True, slots=True)
class Worker:
    """A living worker, as the master knows it."""

    pid: int
    started: float  # Unix time
    generation: int
    slot: SlotView
    memory: int = 0  # resident, in bytes


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One worker. Texts are those of the request that runs, or of the last one; "" where there is none."""

    pid: int
    state: str
    start_time: int  # Unix time
    start_since: int  # seconds
    requests: int  # begun
    request_duration_us: int  # so far, or of the last one when idle
    request_method: str
    request_uri: str  # without the query string
    query_string: str
    content_length: int
    user: str
    script: str
    last_request_cpu: float  # percent of one processor; 0 when not idle
    last_request_memory: int  # bytes; 0 when not idle
    generation: int


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """One pool. The first block is php-fpm's, in its order; the second is ours."""

    pool: str
    process_manager: str
    start_time: int  # Unix time
    start_since: int  # seconds
    accepted_conn: int  # requests begun
    listen_queue: int
    max_listen_queue: int
    listen_queue_len: int
    idle_processes: int
    active_processes: int
    total_processes: int
    max_active_processes: int
    max_children_reached: int
    slow_requests: int
    processes: tuple[ProcessStatus, ...] = ()

    max_children: int = 0
    oldest_waiting_s: float = 0.0
    connections: int = 0  # open now, busy or kept
    requests: int = 0  # ended
    refused: int = 0
    aborted: int = 0
    bytes_out: int = 0
    generations: dict[int, int] = field(default_factory=dict)  # workers of each generation
    statuses: tuple[int, ...] = Counters().statuses  # by first digit; 0 for any other
    wait_histogram: Histogram = field(default_factory=Histogram)
    service_histogram: Histogram = field(default_factory=Histogram)


def collect(
    *,
    pool: str,
    process_manager: str,
    max_children: int,
    started: float,
    now: float,
    workers: Sequence[Worker],
    ended: Counters,
    listen_queue: int,
    max_listen_queue: int,
    listen_queue_len: int,
    oldest_waiting_s: float = 0.0,
    max_active_processes: int = 0,
    max_children_reached: int = 0,
) -> PoolStatus:
    """The status of one pool.

    Args:
      process_manager: "static", "dynamic" or "ondemand".
      started, now: Unix times; ``now`` before ``started`` (the clock was set back) is no time at all.
      workers: those that live, in the order they are to be shown.
      ended: the counters of all workers that have ended, added up.
      listen_queue, listen_queue_len: connections that wait, and for how many there is room; over all listeners.
      max_listen_queue, max_active_processes: the largest so far, as the caller has seen them.
      oldest_waiting_s: for how long the queue has been seen not empty.
      max_children_reached: how often ``pm.max_children`` kept the pool from growing.

    Source (php-fpm): pm.status_path.
    """
    processes = tuple(_process(worker, now) for worker in workers)
    total = sum((worker.slot.counters for worker in workers), ended)
    idle = sum(process.state == "Idle" for process in processes)
    active = len(processes) - idle
    return PoolStatus(
        pool=pool,
        process_manager=process_manager,
        start_time=int(started),
        start_since=_since(started, now),
        accepted_conn=total.accepted,
        listen_queue=listen_queue,
        max_listen_queue=max(max_listen_queue, listen_queue),
        listen_queue_len=listen_queue_len,
        idle_processes=idle,
        active_processes=active,
        total_processes=idle + active,
        max_active_processes=max(max_active_processes, active),
        max_children_reached=max_children_reached,
        slow_requests=total.slow,
        processes=processes,
        max_children=max_children,
        oldest_waiting_s=oldest_waiting_s,
        connections=sum(worker.slot.connections for worker in workers),
        requests=total.requests,
        refused=total.refused,
        aborted=total.aborted,
        bytes_out=total.bytes_out,
        generations=dict(sorted(Counter(worker.generation for worker in workers).items())),
        statuses=total.statuses,
        wait_histogram=total.wait,
        service_histogram=total.service,
    )


def _process(worker: Worker, now: float) -> ProcessStatus:
    slot = worker.slot
    state = STATES[slot.stage]
    # One that retires may have a request to finish, or none.
    at_work = slot.busy or (slot.stage is Stage.RETIRING and slot.counters.accepted > slot.counters.requests)
    return ProcessStatus(
        pid=worker.pid,
        state=state,
        start_time=int(worker.started),
        start_since=_since(worker.started, now),
        requests=slot.counters.accepted,
        request_duration_us=slot.age_us if at_work else slot.duration_us,
        request_method=slot.method,
        request_uri=slot.uri,
        query_string=slot.query,
        content_length=slot.content_length,
        user=slot.user,
        script=slot.script,
        last_request_cpu=round(slot.cpu_us / slot.duration_us * 100, 2)
        if state == "Idle" and slot.duration_us
        else 0.0,
        last_request_memory=worker.memory if state == "Idle" else 0,
        generation=worker.generation,
    )


def _since(started: float, now: float) -> int:
    # As php-fpm: the difference of two whole Unix times.
    return max(0, int(now) - int(started))
