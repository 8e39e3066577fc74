"""Requests that take too long, and crashes: the request gets an answer, the others notice nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from support.waiting import eventually
from support.wire import Wire, ask
from support.worker import Workers, drain, runs

# Long enough for a request that does nothing, on a busy machine.
LIMIT_S = 0.3


@pytest.fixture
def pool() -> Iterator[Workers]:
    with Workers() as workers:
        yield workers


def query(what: str) -> str:
    return f"/x?{what}"


def survivor(pool: Workers, *kept: Wire) -> str:
    """The worker that is started now; it is where all these connections have to go on."""
    second = str(pool.start().pid)
    for wire in kept:
        assert wire.ask(keep=True).body.decode() == second
    return second


@pytest.mark.parametrize("what", ["endless", "sleep", "gil"])
def test_a_request_that_is_terminated_is_answered_and_its_connection_goes_on(pool, what):
    worker = pool.start(hard_s=LIMIT_S)
    with Wire(pool.address) as idle, Wire(pool.address) as fresh, Wire(pool.address) as busy:
        assert idle.ask(keep=True).body
        eventually(lambda: worker.slot().connections == 3)
        answer = busy.ask(query(what), keep=True)
        assert answer.status == 504
        assert answer.body.endswith(b"</h1>\n") and len(answer.body) == int(answer.head["content-length"])
        assert answer.app_status == 1
        told = worker.message_of(b"T")
        assert worker.wait() == -signal.SIGTERM
        age, _, trace = told[1:].partition(b"\n")
        assert int(age) >= LIMIT_S * 1e6
        assert b"in application" in trace
        survivor(pool, idle, fresh, busy)


def test_without_keep_conn_the_connection_ends_behind_the_answer(pool):
    worker = pool.start(hard_s=LIMIT_S)
    with Wire(pool.address) as wire:
        assert wire.ask(query("sleep")).status == 504
        assert wire.is_closed()
    assert worker.wait() == -signal.SIGTERM


def test_an_answer_that_was_begun_is_ended(pool):
    worker = pool.start(hard_s=LIMIT_S)
    with Wire(pool.address) as wire:
        answer = wire.ask(query("begun-then-endless"), keep=True)
        assert (answer.status, answer.body, answer.app_status) == (200, b"beginning", 1)
        assert worker.wait() == -signal.SIGTERM
        survivor(pool, wire)


def test_what_was_written_but_not_sent_is_replaced(pool):
    worker = pool.start(hard_s=LIMIT_S)
    assert ask(pool.address, query("unsent-then-sleep")).status == 504
    assert worker.wait() == -signal.SIGTERM


def test_a_web_server_that_does_not_read_keeps_nobody_alive(pool):
    worker = pool.start(hard_s=LIMIT_S)
    with Wire(pool.address) as slow, Wire(pool.address) as idle:
        assert idle.ask(keep=True).body
        slow.send(slow.request(query("large-then-endless"), keep=True))
        assert worker.wait() == -signal.SIGTERM
        survivor(pool, idle)


def test_a_pipelined_request_is_not_taken_for_the_answered_one(pool):
    """What was read already cannot go along, so the connection ends instead of losing a request."""
    worker = pool.start(hard_s=LIMIT_S)
    with Wire(pool.address) as wire:
        wire.send(wire.request(query("sleep"), id=1, keep=True) + wire.request(id=2, keep=True))
        assert wire.answer(1).status == 504
        assert wire.is_closed()
    assert worker.wait() == -signal.SIGTERM


def test_a_short_request_is_left_alone(pool):
    worker = pool.start(hard_s=10, soft_s=10, slow_s=10)
    for _ in range(20):
        assert ask(pool.address, query("moment")).status == 200
    assert not worker.has_message()


def test_a_slow_request_is_told_once_and_goes_on(pool):
    worker = pool.start(slow_s=0.1)
    with Wire(pool.address) as wire:
        assert wire.ask(query("nap"), keep=True).status == 200
        told = worker.message_of(b"L")
        assert 100_000 <= int(told[1:].partition(b"\n")[0]) < 600_000
        assert b"in <lambda>" in told and b"in application" in told
        assert wire.ask(keep=True).status == 200
    assert not worker.has_message()
    assert worker.slot().counters.slow == 1


def test_a_slow_request_that_holds_the_gil_is_told(pool):
    worker = pool.start(slow_s=0.1, hard_s=1)
    assert ask(pool.address, query("gil")).status == 504
    assert b"in hold_the_gil" in worker.message_of(b"L")
    assert b"in hold_the_gil" in worker.message_of(b"T")


def test_the_soft_limit_raises_in_the_request(pool):
    worker = pool.start(soft_s=LIMIT_S)
    for what in ("endless", "sleep", "finally"):
        answer = ask(pool.address, query(what))
        assert answer.status == 504
        assert b"pyfpm.ExecutionTimeout: Maximum execution time of 0.3 seconds exceeded" in answer.stderr
    assert ask(pool.address, query("seen")).body == b"finally"
    assert ask(pool.address, query("catch")).body == b"Maximum execution time of 0.3 seconds exceeded"
    assert ask(pool.address).body == str(worker.pid).encode()


def test_the_master_hears_that_somebody_waits(pool):
    worker = pool.start(tell_queue=True)
    with Wire(pool.address) as busy, Wire(pool.address) as waiting:
        busy.send(busy.request(query("nap")))
        runs(worker)
        with Wire(pool.address) as third:
            assert worker.message() == b"q"
            assert all(wire.ask().body if wire is not busy else busy.answer().body for wire in (busy, waiting, third))


def test_a_dump_is_told_when_it_is_asked_for(pool):
    worker = pool.start()
    worker.kill(signal.SIGRTMAX)
    told = worker.message_of(b"D")
    assert told.startswith(b"D\n") and b"most recent call first" in told
    assert ask(pool.address).status == 200


@pytest.mark.parametrize(
    ("what", "number"),
    [("segv", signal.SIGSEGV), ("abort", signal.SIGABRT), ("thread-segv", signal.SIGSEGV)],
)
def test_a_crash_is_answered_and_told(pool, what, number):
    worker = pool.start(hard_s=10)
    with Wire(pool.address) as idle, Wire(pool.address) as busy:
        assert idle.ask(keep=True).body
        answer = busy.ask(query(what), keep=True)
        assert answer.status == 502
        assert len(answer.body) == int(answer.head["content-length"])
        told = worker.message_of(b"C")
        assert told.startswith(b"C%d\n" % number)
        assert b"most recent call first" in told and b"worker_program.py" in told
        assert worker.wait() == -number
        survivor(pool, idle, busy)


def test_an_idle_worker_that_is_killed_by_a_crash_signal_loses_no_connection(pool):
    worker = pool.start()
    wires = [Wire(pool.address) for _ in range(20)]
    for wire in wires:
        assert wire.ask(keep=True).body == str(worker.pid).encode()
    worker.kill(signal.SIGSEGV)
    assert worker.message_of(b"C")
    assert worker.wait() == -signal.SIGSEGV
    survivor(pool, *wires)
    for wire in wires:
        wire.socket.close()


def test_a_crash_of_a_child_that_user_code_forked_is_its_own(pool):
    worker = pool.start()
    with Wire(pool.address) as wire:
        answer = wire.ask(query("child-segv"), keep=True)
        assert answer.body == str(worker.pid).encode()
        assert wire.ask(keep=True).body == str(worker.pid).encode()
    assert "Fatal Python error: Segmentation fault" in worker.stderr
    assert not worker.has_message()


def test_no_idle_connection_is_lost_in_many_timeouts(pool):
    wires = [Wire(pool.address) for _ in range(4)]
    served = set()
    for turn in range(int(os.environ.get("PYFPM_TEST_TURNS", "12"))):
        worker = pool.start(hard_s=0.05)
        for wire in wires:
            answer = wire.ask(keep=True)
            if answer.status == 200:
                served.add(answer.body)
        busy = wires[turn % 4]
        assert busy.ask(query("endless"), keep=True).status == 504
        assert worker.wait() == -signal.SIGTERM
        drain(worker.control)
    assert len(served) > 1
    for wire in wires:
        wire.socket.close()
