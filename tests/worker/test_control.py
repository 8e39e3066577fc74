"""The worker's end of the channel to its master."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyfpm.worker import control
from pyfpm.worker.control import Control
from support.wire import ask
from support.worker import Workers


@pytest.fixture
def ends() -> Iterator[tuple[Control, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.settimeout(10)
    worker = Control(ours)
    with theirs:
        yield worker, theirs
    worker.close()


def page(text: bytes) -> int:
    fd = os.memfd_create("page")
    os.write(fd, text)
    return fd


def send(master: socket.socket, message: bytes, *fds: int) -> None:
    socket.send_fds(master, [message], list(fds))
    for fd in fds:
        os.close(fd)


def test_a_status_page_comes_back(ends):
    worker, master = ends

    def answer() -> None:
        assert master.recv(100) == b"sjson&full"
        send(master, b"Ssjson&full", page(b"x" * 3_000_000))

    thread = threading.Thread(target=answer)
    thread.start()
    assert worker.ask_status("json&full") == b"x" * 3_000_000
    thread.join()


def test_a_master_that_does_not_answer_is_given_up_and_its_late_answer_dropped(ends, monkeypatch):
    worker, master = ends
    monkeypatch.setattr(control, "STATUS_DEADLINE_S", 0.01)
    assert worker.ask_status("first") is None
    send(master, b"Ssfirst", page(b"first"))
    send(master, b"Sssecond", page(b"second"))
    assert worker.ask_status("second") == b"second"


def test_a_question_that_was_never_answered_does_not_cost_the_next_one_its_answer(ends, monkeypatch):
    """The next answer used to be taken for the missing one, and so on for ever: each status page was a 503."""
    worker, master = ends
    monkeypatch.setattr(control, "STATUS_DEADLINE_S", 0.01)
    assert worker.ask_status("lost") is None
    for _ in range(3):
        send(master, b"Ssjson", page(b"found"))  # lies there when it is asked for
        assert worker.ask_status("json") == b"found"


def test_a_master_that_has_no_page_says_so_at_once(ends):
    worker, master = ends
    send(master, b"Ssjson")
    assert worker.ask_status("json") is None


def test_a_master_that_is_gone_has_no_status(ends):
    worker, master = ends
    master.close()
    assert worker.ask_status("") is None
    assert worker.receive() is False
    worker.send("m", "nobody hears this")


def test_a_master_that_does_not_read_holds_nobody_up(ends):
    worker, _ = ends
    for _ in range(10_000):
        worker.send("m", "x" * 1000)


def test_log_files_are_opened_anew(tmp_path: Path):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    old = os.open(tmp_path / "old", os.O_WRONLY | os.O_CREAT)
    new = os.open(tmp_path / "new", os.O_WRONLY | os.O_CREAT)
    other = os.open(tmp_path / "other", os.O_WRONLY | os.O_CREAT)
    worker = Control(ours, {"access_log": old})
    descriptors = len(os.listdir("/proc/self/fd"))
    send(theirs, b"l" + json.dumps(["error_log", "access_log"]).encode(), other, new)
    assert worker.receive()
    os.write(old, b"here")
    assert (tmp_path / "new").read_bytes() == b"here"
    assert not os.get_inheritable(old)
    assert len(os.listdir("/proc/self/fd")) == descriptors - 2
    theirs.close()
    worker.close()
    os.close(old)


def test_a_request_can_ask_for_the_status_page():
    with Workers() as pool:
        worker = pool.start()

        def answer() -> None:
            assert worker.message_of(b"s") == b"sjson"
            send(worker.control, b"Ssjson", page(b"the page"))

        thread = threading.Thread(target=answer)
        thread.start()
        assert ask(pool.address, "/x?status").body == b"the page"
        thread.join()


def test_a_worker_ends_with_its_master():
    with Workers() as pool:
        worker = pool.start()
        worker.control.close()
        assert worker.wait() == 0
