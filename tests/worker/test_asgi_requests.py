"""A worker that serves an ASGI application, on both loops: requests that go on while others do."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pyfpm import protocol
from support import processes
from support.server import Server
from support.waiting import eventually
from support.wire import Wire, ask

SITE = Path(__file__).parents[1] / "support" / "asgi_site.py"

CONFIG = """
[www]
listen = $DIR/fpm.sock
pm = static
pm.max_children = 1
chdir = $PLACE
app = asgi_site:app
"""

Start = Callable[..., Server]


@pytest.fixture(params=["asyncio", "trio"])
def start(request, place, pyfpm) -> Start:
    """Starts a pyfpm with one worker, and the application on this loop; takes more lines for its file."""

    def start(more: str = "", site: str | None = None, **options: Any) -> Server:
        text = CONFIG.replace("$PLACE", str(place)) + f"app.loop = {request.param}\n{more}"
        if site is None:
            shutil.copy(SITE, place)
        else:
            (place / "asgi_site.py").write_text(site)
        return pyfpm(config=text, **options)

    return start


@pytest.fixture
def server(start) -> Server:
    return start()


def text(server: Server, path: str, **more: Any) -> str:
    return ask(server.socket, path, **more).body.decode()


def is_waiting(server: Server, count: int) -> None:
    eventually(lambda: text(server, "/waiting") == str(count), f"{count} requests wait")


def test_requests_wait_at_once_and_are_answered_in_any_order(server):
    with Wire(server.socket) as first, Wire(server.socket) as second:
        first.send(first.request("/wait", keep=True))
        second.send(second.request("/wait", keep=True))
        is_waiting(server, 2)
        assert second is not first
        assert text(server, "/release") == "released"
        assert second.answer().body == first.answer().body
        assert first.ask("/hello", keep=True).body == b"hello", "the connection is kept"


def test_requests_are_multiplexed_on_one_connection(server):
    with Wire(server.socket) as wire:
        for number in range(1, 101):
            wire.send(wire.request("/wait", id=number, keep=True))
        is_waiting(server, 100)
        assert wire.ask("/hello", id=101, keep=True).body == b"hello"
        wire.ask("/release", id=102, keep=True)
        assert {wire.answer(number).body for number in range(1, 101)} == {str(server.worker).encode()}


def test_multiplexing_is_what_get_values_says(server):
    with Wire(server.socket) as wire:
        wire.send(wire.client.get_values([b"FCGI_MPXS_CONNS", b"FCGI_MAX_REQS"]))
        wire.client.receive_data(wire.socket.recv(1000))
        event = wire.client.next_event()
        assert event.values["FCGI_MPXS_CONNS"] == "1"


def test_a_body_is_given_and_an_answer_sent_piece_by_piece(server):
    with Wire(server.socket) as wire:
        wire.send(wire.begin(keep=True) + wire.params("/echo", b"....", CONTENT_LENGTH="6"))
        for piece in (b"one", b"two"):
            wire.send(wire.client.send_stdin(1, piece))
            come = b""
            while piece not in come:
                come += wire.socket.recv(4096)
            wire.client.receive_data(come)
        wire.send(wire.client.send_stdin(1, b""))
        answer = wire.answer()
        assert answer.body == b"onetwo"
        assert answer.app_status == 0
        assert "content-length" not in answer.head


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 1 << 20])
def test_the_body_is_whole(server, size):
    """Also for a web server that writes all of it before it reads, as Caddy does."""
    body = os.urandom(size)
    assert ask(server.socket, "/echo", body, method="POST").body == body


def test_a_large_body_comes_back_to_who_reads_while_he_writes(server):
    body = os.urandom(1 << 20) * 7
    with Wire(server.socket) as wire:
        writing = threading.Thread(target=wire.send, args=(wire.request("/echo", body),))
        writing.start()
        assert wire.answer().body == body
        writing.join()


def test_streams_may_come_in_any_order(server):
    """A body before the params that it belongs to: the specification lets it."""
    with Wire(server.socket) as wire:
        wire.send(wire.begin() + wire.client.send_stdin(1, b"early ") + wire.params("/echo", b"......"))
        wire.send(wire.client.send_stdin(1, b"late") + wire.client.send_stdin(1, b""))
        assert wire.answer().body == b"early late"


def test_a_body_that_nobody_reads_is_not_kept_in_memory(start):
    """Reading of its connection pauses; others are served, and it goes on when the task does."""
    server = start("post_max_size = 0\n")
    size = 64 << 20
    with Wire(server.socket) as wire:
        wire.send(wire.begin() + wire.params("/read-later", CONTENT_LENGTH=str(size)))
        is_waiting(server, 1)
        before = processes.own_memory(server.worker)
        wire.socket.setblocking(False)
        block = wire.client.send_stdin(1, bytes(65528))
        sent = 0
        unsent = b""
        stuck = time.monotonic()
        while time.monotonic() - stuck < 0.5 and sent < size:
            unsent = unsent or block
            try:
                count = wire.socket.send(unsent)
            except BlockingIOError:
                time.sleep(0.01)
                continue
            unsent = unsent[count:]
            sent += count
            stuck = time.monotonic()
        assert sent < 4 << 20
        assert text(server, "/hello") == "hello"
        assert processes.own_memory(server.worker) - before < 4 << 20
        wire.socket.setblocking(True)
        text(server, "/release")
        wire.send(unsent + wire.client.send_stdin(1, b""))
        pieces = int(wire.answer().body.split()[1])
        assert pieces <= 65536 + 128 * 1024


def test_a_slow_reader_stalls_only_itself(server):
    with Wire(server.socket) as slow:
        slow.send(slow.request("/large?64", keep=True))
        assert slow.socket.recv(1) != b""
        eventually(lambda: len({text(server, "/seen") for _ in range(10)}) == 1, "it waits for its reader")
        assert int(json.loads(text(server, "/seen"))[0]) < 64 * 16
        assert text(server, "/hello") == "hello"
        assert processes.own_memory(server.worker) < 200 << 20
    eventually(lambda: text(server, "/waiting") == "0")


def test_a_slow_reader_gets_everything(server):
    with Wire(server.socket) as slow:
        slow.send(slow.request("/large?16", keep=True))
        time.sleep(0.2)  # it is a slow one
        assert slow.answer().body == bytes(range(256)) * 256 * 16 * 16


@pytest.mark.parametrize("how", ["abort", "close"])
def test_the_application_hears_that_the_visitor_has_gone(server, how):
    with Wire(server.socket) as wire:
        wire.send(wire.request("/until-disconnect", id=3, keep=True))
        come = b""
        while b"begun" not in come:
            come += wire.socket.recv(4096)
        at = time.monotonic()
        if how == "abort":
            wire.send(wire.client.abort_request(3))
            wire.client.receive_data(come)
            answer = wire.answer(3)
            assert answer.body == b"begun"
            assert answer.ends == 1
            assert wire.ask("/hello", id=3, keep=True).body == b"hello", "its number is free again"
        else:
            wire.socket.close()
    (seen,) = eventually(lambda: json.loads(text(server, "/seen")))
    assert seen["heard"] - at < 0.1
    assert seen["error"] == "Departed"
    assert seen["again"] == "http.disconnect"
    assert "Traceback" not in server.log()


def test_a_disconnect_is_heard_while_the_body_is_not_read(start):
    server = start("post_max_size = 0\n")
    with Wire(server.socket) as wire:
        wire.send(wire.begin() + wire.params("/send-only", CONTENT_LENGTH="10000000"))
        wire.socket.settimeout(0.3)
        with suppress(TimeoutError):
            while True:
                wire.send(wire.client.send_stdin(1, bytes(65528)))
    assert eventually(lambda: json.loads(text(server, "/seen"))) == ["Departed"]


def test_a_request_that_is_given_up_at_once_does_not_keep_the_worker(server, place):
    with Wire(server.socket) as wire:
        wire.send(wire.request("/wait", keep=True) + wire.client.abort_request(1))
        assert wire.answer().ends == 1
        assert wire.ask("/waiting", keep=True).body == b"0"
    server.stop()
    assert (place / "ended").read_text() == "shutdown with 0 waiting\n"


def test_after_the_answer_there_is_a_disconnect_and_nothing_can_be_sent(server):
    with Wire(server.socket) as wire:
        assert wire.ask("/after", keep=True).body == b"first"
    kind, error = eventually(lambda: json.loads(text(server, "/events")))
    assert kind == "http.disconnect"
    assert "the answer is complete" in error


def test_contextvars_of_a_request_end_with_it(server):
    with Wire(server.socket) as wire:
        assert [wire.ask(f"/note?{n}", keep=True).body for n in range(3)] == [b"|0", b"|1", b"|2"]


def test_contextvars_are_not_those_of_the_request_that_kept_it_from_beginning(server):
    """It begins when the one before it takes its body, and so in the midst of that one's task."""
    with Wire(server.socket) as wire:
        wire.send(wire.begin(keep=True) + wire.params("/note-and-read") + wire.client.send_stdin(1, bytes(60000)))
        # With this no more of the connection is read ahead, and the second request, which comes along, waits.
        wire.send(wire.client.send_stdin(1, bytes(6000)) + wire.request("/note?2", id=2, keep=True))
        wire.send(wire.client.send_stdin(1, b""))
        is_waiting(server, 1)
        text(server, "/release")
        assert wire.answer(2).body == b"|2"
        assert wire.answer(1).body == b"read"


def test_lifespan_state_is_given_to_requests(server):
    assert json.loads(text(server, "/scope"))["state"] == {"since": "startup"}


@pytest.mark.parametrize(
    ("path", "status", "logged"),
    [
        ("/fail", 500, "LookupError: nothing there"),
        ("/nothing", 500, "the application returned without an answer to /nothing"),
        ("/leave", 500, "SystemExit: 3"),
        ("/nosuch", 500, "KeyError: '/nosuch'"),
    ],
)
def test_a_failure_is_a_500_and_a_traceback_in_the_log(server, path, status, logged):
    answer = ask(server.socket, path)
    assert answer.status == status
    assert answer.app_status == 1
    assert b"Traceback" not in answer.body
    eventually(lambda: logged in server.log())
    assert text(server, "/hello") == "hello"


def test_a_failure_in_the_middle_ends_the_answer(server):
    answer = ask(server.socket, "/fail-late")
    assert answer.body == b"begun"
    assert answer.app_status == 1
    eventually(lambda: "LookupError: nothing more there" in server.log())


def test_a_body_that_is_not_read_does_not_keep_the_answer(server):
    with Wire(server.socket) as wire:
        wire.send(wire.begin(keep=True) + wire.params("/unread", CONTENT_LENGTH="100000"))
        wire.send(wire.client.send_stdin(1, bytes(50000)))
        come = b""
        while b"not read" not in come:
            come += wire.socket.recv(4096)
        wire.client.receive_data(come)
        # All of it has to be taken before the end: who writes it all before he reads must not find us gone.
        wire.send(wire.client.send_stdin(1, bytes(50000)) + wire.client.send_stdin(1, b""))
        assert wire.answer().body == b"not read"
        assert wire.ask("/hello", id=2, keep=True).body == b"hello"


def test_a_body_over_post_max_size_is_a_413(start):
    server = start("post_max_size = 100k\n")
    assert ask(server.socket, "/echo", bytes(200_000)).status == 413
    with Wire(server.socket) as wire:  # of which the size is not told
        wire.send(wire.begin() + wire.params("/count", method="POST"))
        wire.send(wire.client.send_stdin(1, bytes(60_000)) * 2 + wire.client.send_stdin(1, b""))
        assert wire.answer().status == 413


def test_files_are_sent_without_being_read(server, place):
    (place / "file").write_bytes(b"0123456789" * 100_000)
    answer = ask(server.socket, "/path")
    assert answer.body == b"0123456789" * 100_000
    assert answer.head["content-length"] == "1000000"
    assert ask(server.socket, "/zero-copy").body == b"<23456>"


@pytest.mark.parametrize("role", [protocol.AUTHORIZER, protocol.FILTER])
def test_only_responders_are_served(server, role):
    """ASGI has no word for the other roles."""
    with Wire(server.socket) as wire:
        wire.send(wire.begin(role=role))
        assert wire.answer().protocol_status == protocol.UNKNOWN_ROLE


# -- limits of time ----------------------------------------------------------------------------------------------------


def test_terminate_timeout_is_a_504_and_the_worker_goes_on(start):
    server = start("request_terminate_timeout = 1\n")
    worker = server.worker
    with Wire(server.socket) as stubborn:
        stubborn.send(stubborn.request("/stubborn"))
        began = time.monotonic()
        answer = ask(server.socket, "/tired")
        assert answer.status == 504
        assert 0.9 < time.monotonic() - began < 10
        assert stubborn.answer().status == 504, "also where the application does not want to end"
    eventually(lambda: set(json.loads(text(server, "/events"))) == {"finally", "caught"})
    assert "(request_terminate_timeout = 1s)" in server.log()
    assert server.worker == worker


def test_execution_time_is_a_504(start):
    server = start("max_execution_time = 1\n")
    assert ask(server.socket, "/tired").status == 504
    assert json.loads(text(server, "/events")) == ["finally"]
    assert "(max_execution_time = 1s)" in server.log()


def test_a_loop_that_is_stuck_is_ended_by_the_watchdog(start):
    server = start("request_terminate_timeout = 1\n")
    worker = server.worker
    with Wire(server.socket) as wire:
        wire.send(wire.request("/block"))
        eventually(lambda: worker not in server.workers, "it is ended")
    eventually(lambda: "execution timed out" in server.log())
    assert "in block" in server.log()
    assert text(server, "/hello") == "hello"


def test_what_waits_is_not_slow_but_what_blocks_the_loop_is(start, place):
    slow = place / "slow"
    server = start(f"request_slowlog_timeout = 1\nslowlog = {slow}\nrequest_terminate_timeout = 60s\n")
    with Wire(server.socket) as wire:
        wire.send(wire.request("/wait"))
        is_waiting(server, 1)
        assert ask(server.socket, "/sleep").body == b"slept"
        assert "asgi_site" not in slow.read_text()
        ask(server.socket, "/block-for-a-while")
        text(server, "/release")
        wire.answer()
    eventually(lambda: "block_for_a_while() " in slow.read_text(), "what blocks the loop is told")


# -- the worker's life -------------------------------------------------------------------------------------------------


def test_a_reload_loses_no_request_that_waits(start):
    server = start()
    old = server.worker
    wires = [Wire(server.socket) for _ in range(20)]
    for wire in wires:
        wire.send(wire.request("/wait", keep=True))
    is_waiting(server, 20)
    server.control("reload")
    assert int(text(server, "/pid")) != old
    assert old in processes.children(server.pid), "it has something to do"
    # Only the old one can be asked to release them; it still listens to the connections that it has.
    wires[0].send(wires[0].request("/release", id=2, keep=True))
    assert {int(wire.answer().body) for wire in wires} == {old}
    for wire in wires:
        wire.socket.close()
    eventually(lambda: old not in processes.children(server.pid), "the old worker has ended")


def test_shutdown_comes_after_the_last_request(start, place):
    server = start()
    with Wire(server.socket) as wire:
        wire.send(wire.request("/wait"))
        is_waiting(server, 1)
        with Wire(server.socket) as other:
            other.ask("/hello", keep=True)
            server.signal()
            other.send(other.request("/release", keep=True))
            wire.answer()
    server.wait()
    assert (place / "ended").read_text() == "shutdown with 0 waiting\n"


def test_a_worker_retires_after_so_many_requests_and_finishes_what_it_has(start, place):
    server = start("pm.max_requests = 3\n")
    first = server.worker
    with Wire(server.socket) as wire:
        wire.send(wire.request("/wait", keep=True))
        for _ in range(10):
            text(server, "/hello")
        eventually(lambda: len(server.workers) == 2, "another one has taken over")
        wire.send(wire.request("/release", id=2, keep=True))
        assert int(wire.answer().body) == first
    eventually(lambda: first not in server.workers)
    assert set((place / "ended").read_text().splitlines()) == {"shutdown with 0 waiting"}


def test_a_startup_that_fails_keeps_the_old_generation(start, place):
    server = start()
    (place / "refuse").touch()
    with pytest.raises(Exception, match="the application's startup has failed: no database"):
        server.control("reload")
    assert text(server, "/hello") == "hello"
    assert "please report" not in server.log()
    (place / "refuse").unlink()
    server.control("reload")
    assert text(server, "/hello") == "hello"


def test_an_application_without_a_lifespan_is_served(start):
    server = start(
        site="""
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": repr("state" in scope).encode()})
"""
    )
    assert text(server, "/") == "False"
    assert server.logged("AssertionError") == 0


def test_a_worker_that_crashes_is_replaced(start):
    server = start()
    worker = server.worker
    with Wire(server.socket) as wire:
        wire.send(wire.request("/crash"))
        wire.rest()
    eventually(lambda: server.workers and worker not in server.workers)
    assert text(server, "/hello") == "hello"


def test_ping_and_status_are_answered_while_requests_wait(start):
    server = start("ping.path = /ping\npm.status_path = /status\n")
    with Wire(server.socket) as wire:
        wire.send(wire.request("/wait"))
        is_waiting(server, 1)
        assert text(server, "/ping") == "pong"
        assert "pool:" in text(server, "/status")
        text(server, "/release")
        wire.answer()


def test_the_access_log_has_each_request_with_its_own_figures(start, place):
    server = start(f'access.log = {place}/access\naccess.format = "%m %r %s %l"\n')
    with Wire(server.socket) as wire:
        wire.send(wire.request("/wait"))
        is_waiting(server, 1)
        ask(server.socket, "/count", b"12345")
        text(server, "/release")
        wire.answer()
    eventually(lambda: "GET /wait 200 0\n" in (place / "access").read_text(), "the last line is written")
    lines = (place / "access").read_text().splitlines()
    assert "POST /count 200 5" in lines
    assert lines.count("GET /wait 200 0") == 1
