"""Chaos: workers and zygotes are killed at random under load, and only the requests of those who were killed suffer.

Ten seconds; PYFPM_TEST_FULL=1 makes it a minute.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from contextlib import suppress

import pytest

from support import processes
from support.kept_client import Client
from support.load import amount
from support.waiting import eventually

WORKERS = 4
CLIENTS = 8
# How long a slow, shared machine may take to have the pool whole again. What it took is shown.
PATIENCE_S = 10.0

WHO = "import os\necho(os.getpid())\n"
CONFIG = f"""
[global]
error_log = /dev/stderr
[www]
listen = $DIR/fpm.sock
pm = static
pm.max_children = {WORKERS}
"""


def test_only_requests_of_killed_workers_fail_and_the_pool_is_soon_whole(pyfpm, place, record_property):
    (place / "who.py").write_text(WHO)
    server = pyfpm(config=CONFIG)
    stop, chance = threading.Event(), random.Random(20_26)
    kept = processes.kinds_of_descriptors(server.pid)
    clients = [Client(server.socket, f"{place}/who.py", stop) for _ in range(CLIENTS)]
    killed: set[int] = set()
    slowest, end = 0.0, time.monotonic() + amount(10, 60)
    try:
        while time.monotonic() < end:
            time.sleep(chance.uniform(0, 0.3))
            zygotes = server.workers_of("www zygote")
            victims = chance.sample(server.workers, chance.randint(0, WORKERS))
            if chance.random() < 0.3:
                victims += zygotes
            ending = False
            for pid in victims:
                number = chance.choice((signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP))
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
                if number != signal.SIGSTOP:
                    killed.add(pid)
                    ending = True
            if ending:
                began = time.monotonic()
                whole = lambda: (  # noqa: E731
                    len(now := server.workers) >= WORKERS
                    and not killed & set(now)
                    and all(map(processes.is_running, now))
                )
                eventually(whole, "the pool is full again", within=PATIENCE_S)
                slowest = max(slowest, time.monotonic() - began)
    finally:
        stop.set()
        for client in clients:
            client.thread.join()
    record_property("slowest recovery", slowest)
    record_property("killed", len(killed))
    print(f"killed {len(killed)}, answered {sum(c.answered for c in clients)}, slowest recovery {slowest:.2f} s")
    failures = [pid for client in clients for pid in client.failed_on]
    assert not [client.wrong for client in clients if client.wrong]
    # 0: it was the first on its connection, so nobody knows whose it was; there can't be more than there were deaths.
    assert {pid for pid in failures if pid} <= killed
    assert len(failures) <= len(killed) * CLIENTS
    assert all(client.answered for client in clients)
    assert server.process.poll() is None, "the master has never ended"
    eventually(lambda: len(server.workers) == WORKERS and len(server.workers_of("www zygote")) == 1, "whole again")
    eventually(lambda: processes.kinds_of_descriptors(server.pid) == kept, "no descriptor is left")
    assert not [pid for pid in processes.children(server.pid) if processes.state(pid) == "Z"]


def test_a_zygote_that_is_lost_is_there_again_before_it_is_needed(pyfpm):
    """It used to be started when the next worker was needed, who then had to wait for the application's import."""
    server = pyfpm(config=CONFIG)
    for _ in range(3):
        os.kill(old := server.zygote, signal.SIGKILL)
        eventually(lambda old=old: server.workers_of("www zygote") not in ([], [old]), "another zygote")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV], ids=lambda number: number.name)
def test_all_at_once_are_replaced_at_once(pyfpm, number):
    server = pyfpm(config=CONFIG)
    before = {*server.workers, server.zygote}
    for pid in before:
        os.kill(pid, number)
    eventually(lambda: len(now := server.workers) == WORKERS and not before & set(now), "all are replaced", within=20)


def test_a_worker_that_is_stopped_goes_on(pyfpm):
    server = pyfpm(config=CONFIG)
    for pid in (server.workers[0], server.zygote):
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda pid=pid: server.logged(f"child {pid} was stopped on signal 19 (SIGSTOP)"), "noticed")
        eventually(lambda pid=pid: processes.state(pid) != "T", "continued")
