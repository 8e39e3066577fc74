"""Stop: what was begun is finished, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from support import processes
from support.waiting import eventually
from support.wire import Wire, ask

SLOW = """
import time
open("running", "w").close()
time.sleep(2)
echo("complete")
"""

STUCK = """
open("running", "w").close()
while True:
    pass
"""

GRACEFUL = [signal.SIGTERM, signal.SIGQUIT]
STOPPING = [*GRACEFUL, signal.SIGINT]


@pytest.fixture
def script(tmp_path: Path):
    """Writes a script, and starts a request of it."""

    def begin(server, source: str) -> Wire:
        path = tmp_path / "script.py"
        path.write_text(source)
        wire = Wire(server.socket)
        wire.send(wire.request(str(path)))
        eventually((tmp_path / "running").exists, "the script runs")
        return wire

    return begin


@pytest.mark.parametrize("number", GRACEFUL, ids=lambda number: number.name)
def test_a_request_in_flight_is_finished_before_the_end(pyfpm, script, number):
    server = pyfpm("--workers", "2")
    with script(server, SLOW) as wire:
        server.signal(number)
        assert wire.answer().body == b"complete"
    assert server.wait() == 0
    assert not os.path.exists(server.socket)


@pytest.mark.parametrize("number", STOPPING, ids=lambda number: number.name)
def test_an_idle_server_ends_soon_and_removes_its_socket(pyfpm, number):
    server = pyfpm("--workers", "3")
    before = time.monotonic()
    server.signal(number)
    assert server.wait() == 0
    assert time.monotonic() - before < 20, "it waited for process_control_timeout"
    assert not os.path.exists(server.socket)


def test_requests_in_the_listen_queue_are_answered_before_the_end(pyfpm, script, tmp_path):
    (tmp_path / "quick.py").write_text('echo("quick")')
    server = pyfpm()
    with script(server, SLOW) as slow:
        waiting = [Wire(server.socket) for _ in range(10)]
        for wire in waiting:
            wire.send(wire.request(str(tmp_path / "quick.py")))
        server.signal()
        assert slow.answer().body == b"complete"
        for wire in waiting:
            with wire:
                assert wire.answer().body == b"quick"
    assert server.wait() == 0


def test_a_kept_connection_does_not_hold_up_the_end(pyfpm, tmp_path):
    (tmp_path / "quick.py").write_text('echo("quick")')
    server = pyfpm()
    with Wire(server.socket) as wire:
        assert wire.ask(str(tmp_path / "quick.py"), keep=True).body == b"quick"
        assert server.stop() == 0
        assert wire.is_closed()


def test_a_connection_that_says_nothing_does_not_hold_up_the_end(pyfpm):
    server = pyfpm()
    with Wire(server.socket):
        assert server.stop() == 0


def test_a_large_answer_is_delivered_whole_to_a_reader_who_comes_late(pyfpm, tmp_path):
    """It lies in the worker's queue when the signal comes, and nowhere else."""
    (tmp_path / "large.py").write_text('echo("x" * 900_000)')
    server = pyfpm()
    with Wire(server.socket) as wire:
        wire.send(wire.request(str(tmp_path / "large.py"), keep=True))
        eventually(lambda: wire.socket.recv(1, socket.MSG_PEEK), "the answer has begun")
        server.signal()
        time.sleep(0.5)  # long enough to be forgotten
        assert len(wire.answer().body) == 900_000
    assert server.wait() == 0


@pytest.mark.parametrize("second", STOPPING, ids=lambda number: number.name)
def test_a_second_signal_ends_at_once(pyfpm, script, second):
    server = pyfpm("-d", "process_control_timeout=1h")
    with script(server, STUCK) as wire:
        server.signal()
        eventually(lambda: server.logged("Terminating ..."), "the first signal was heard")
        server.signal(second)
        assert server.wait() == 0
        assert wire.rest() == b""
    assert not os.path.exists(server.socket)


@pytest.mark.parametrize(
    ("number", "options"),
    [(signal.SIGINT, ()), (signal.SIGTERM, ("-d", "compat_sigterm=fast"))],
    ids=["SIGINT", "SIGTERM as in php-fpm"],
)
def test_a_signal_that_means_now_waits_for_nobody(pyfpm, script, number, options):
    server = pyfpm(*options)
    with script(server, STUCK) as wire:
        server.signal(number)
        assert server.wait() == 0
        assert wire.rest() == b""
    assert not server.logged("is still busy"), "nobody has waited for it"


def test_requests_get_no_longer_than_process_control_timeout(pyfpm, script):
    server = pyfpm("-d", "process_control_timeout=1s")
    stuck = server.worker
    with script(server, STUCK):
        assert server.stop() == 0
    assert server.logged(f"child {stuck} is still busy, it is killed") == 1
    assert not processes.is_running(stuck)


def test_another_servers_socket_of_the_same_name_is_not_removed(pyfpm, tmp_path):
    first = pyfpm()
    os.unlink(first.socket)
    (tmp_path / "quick.py").write_text('echo("quick")')
    pyfpm("--socket", first.socket)
    assert first.stop() == 0
    assert ask(first.socket, str(tmp_path / "quick.py")).body == b"quick"


def test_a_new_start_on_the_same_socket_works_at_once(pyfpm, tmp_path):
    (tmp_path / "quick.py").write_text('echo("quick")')
    first = pyfpm()
    path = first.socket
    assert first.stop() == 0
    pyfpm("--socket", path)
    assert ask(path, str(tmp_path / "quick.py")).body == b"quick"
