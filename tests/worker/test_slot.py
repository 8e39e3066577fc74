"""What a worker tells of itself on the scoreboard."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Iterator

import pytest

from support.waiting import eventually
from support.wire import Wire, ask
from support.worker import Worker, Workers, runs


@pytest.fixture
def pool() -> Iterator[Workers]:
    with Workers() as workers:
        yield workers


@pytest.fixture
def worker(pool: Workers) -> Worker:
    return pool.start()


def ended(worker: Worker, requests: int = 1) -> None:
    """An answer is there a moment before its request is over."""
    eventually(lambda: worker.slot().counters.requests == requests, every=0.002)


def test_a_worker_that_waits_is_idle(worker):
    assert eventually(lambda: worker.slot().stage.name == "IDLE")
    assert worker.slot().counters.accepted == 0


def test_a_request_that_runs_is_shown(pool, worker):
    with Wire(pool.address) as wire:
        wire.send(wire.request("/a/b.py?nap", b"1234", method="PUT", REQUEST_URI="/shown?nap", REMOTE_USER="ada"))
        runs(worker)
        view = worker.slot()
        assert (view.method, view.uri, view.query, view.script) == ("PUT", "/shown", "nap", "/a/b.py")
        assert (view.user, view.content_length) == ("ada", 4)
        assert view.counters.accepted == 1 and view.counters.requests == 0 and view.connections == 1
        assert wire.answer().status == 200
    ended(worker)
    view = worker.slot()
    assert view.stage.name == "IDLE" and view.uri == "/shown"
    assert 600_000 <= view.duration_us < 5_000_000
    assert view.counters.service.count == 1


def test_texts_are_cut_to_the_room_there_is(pool, worker):
    ask(pool.address, "/x?" + "q" * 5000, REQUEST_METHOD="M" * 100, REQUEST_URI="/" + "\xff" * 5000)
    ended(worker)
    view = worker.slot()
    assert view.query == "q" * 512 and view.method == "M" * 16
    assert view.uri.startswith("/") and len(view.uri) > 500


def test_the_path_stands_in_for_a_uri_that_is_not_sent(pool, worker):
    with Wire(pool.address) as wire:
        wire.send(wire.request("/x/y.py", REQUEST_URI=""))
        wire.answer()
    ended(worker)
    assert worker.slot().uri == "/y.py"


@pytest.mark.parametrize(
    ("header", "user"),
    [
        ("Basic " + b64encode(b"ada:secret").decode(), "ada"),
        ("Basic " + b64encode(b"nobody").decode(), ""),
        ("Basic !", ""),
        ("Bearer abc", ""),
    ],
)
def test_the_user_of_basic_authentication(pool, worker, header, user):
    ask(pool.address, HTTP_AUTHORIZATION=header)
    ended(worker)
    assert worker.slot().user == user


def test_answers_are_counted_by_their_status(pool, worker):
    for what in ("", "missing", "missing"):
        ask(pool.address, f"/x?{what}")
    ask(pool.address, "/x", b"x" * 2_000_000)
    ended(worker, 3)
    counters = worker.slot().counters
    assert counters.statuses[2] == 1 and counters.statuses[4] == 2
    assert counters.refused == 1
    assert counters.bytes_out == sum(
        len(b"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % length) + length
        for length in [len(str(worker.pid))]
    ) + 2 * len(b"Status: 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nnone")


def test_requests_that_were_given_up_are_counted(pool, worker):
    with Wire(pool.address) as wire:
        wire.send(wire.begin())
    eventually(lambda: worker.slot().counters.aborted == 1)


@pytest.mark.parametrize(
    ("ago", "counted"),
    [(2.0, 1), (0.0, 1), (-3600.0, 0), (86400.0, 0)],
    ids=["late", "now", "ahead", "absurd"],
)
def test_the_wait_is_counted_if_the_web_server_says_when_it_began(pool, worker, ago, counted):
    ask(pool.address, REQUEST_MSEC=f"{time.time() - ago:.3f}")
    ended(worker)
    wait = worker.slot().counters.wait
    assert wait.count == counted
    # It was told in milliseconds.
    assert wait.sum_us >= (int(ago * 1e6) - 1000 if counted else 0)


@pytest.mark.parametrize("text", ["", "x", "1.2.3", "-1", "99999999999999999999", "1e9"])
def test_a_time_that_is_none_is_ignored(pool, worker, text):
    ask(pool.address, REQUEST_MSEC=text, HTTP_X_REQUEST_START=f"t={time.time()}")
    ended(worker)
    assert worker.slot().counters.wait.count == 0


def test_processor_time_of_long_requests(pool, worker):
    ask(pool.address, "/x?moment")
    ended(worker)
    assert worker.slot().cpu_us < 40_000
    assert worker.slot().duration_us >= 50_000
