"""A master that runs out of descriptors has fewer workers, and goes on."""

from __future__ import annotations

import os
import resource
import signal

from support import processes
from support.waiting import eventually
from support.wire import ask

CONFIG = """
[global]
error_log = /dev/stderr
[www]
listen = $DIR/fpm.sock
pm = static
pm.max_children = 2
pm.status_path = /status
"""


def fill(server) -> tuple[int, int]:
    """Leave the master not one descriptor. Returns its limits before."""
    taken = set(processes.descriptors(server.pid))
    free = next(number for number in range(3, 1000) if number not in taken)
    limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (free, limits[1]))
    return limits


def test_no_worker_can_be_started_for_a_while(pyfpm, place):
    """The error used to end the master, and all pools with it."""
    (place / "hello.py").write_text("echo('hello')\n")
    server = pyfpm(config=CONFIG)
    before = server.workers
    limits = fill(server)
    os.kill(server.pid, signal.SIGTTIN)
    eventually(lambda: server.logged("no worker could be started") or server.process.poll() is not None, "it is said")
    assert server.process.poll() is None, server.log()
    assert ask(server.socket, f"{place}/hello.py").body == b"hello"
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
    eventually(lambda: len(server.workers) == len(before) + 1, "and done once it can be")


def test_a_status_page_that_cannot_be_made_is_an_answer_of_503(pyfpm):
    server = pyfpm(config=CONFIG)
    limits = fill(server)
    answer = ask(server.socket, "/status", SCRIPT_NAME="/status", QUERY_STRING="json")
    assert answer.status == 503
    assert server.process.poll() is None, server.log()
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
    # Each worker had its turn of giving up, and none is out of step.
    for _ in range(6):
        answer = ask(server.socket, "/status", SCRIPT_NAME="/status", QUERY_STRING="json")
        assert answer.status == 200 and b'"pool":"www"' in answer.body


def test_a_lost_zygote_is_replaced_once_there_are_descriptors(pyfpm, place):
    server = pyfpm(config=CONFIG)
    zygote = server.zygote
    limits = fill(server)
    # Its end gives some back.
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    os.kill(zygote, signal.SIGKILL)
    eventually(lambda: server.logged("cannot load the application") or server.process.poll() is not None, "it fails")
    assert server.process.poll() is None, server.log()
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
    eventually(lambda: len(server.workers_of("www zygote")) == 1, "and then there is one")
