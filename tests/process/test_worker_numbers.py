"""How many workers there are: static, dynamic, ondemand, with real ones."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack

import pytest

from support import processes
from support.server import CommandFailed
from support.waiting import eventually
from support.wire import Wire, ask

WAIT = (
    "import os, time\nopen(f\"{_GET['dir']}/runs{os.getpid()}\", 'w').close()\n"
    "while not os.path.exists(f\"{_GET['dir']}/go\"): time.sleep(0.02)\necho(os.getpid())\n"
)
CONFIG = """
[global]
error_log = /dev/stderr
[www]
listen = $DIR/fpm.sock
pm = {pm}
pm.max_children = 4
{more}
"""
STATIC = CONFIG.format(pm="static", more="")
DYNAMIC = CONFIG.format(pm="dynamic", more="pm.start_servers = 2\npm.min_spare_servers = 1\npm.max_spare_servers = 2\n")
ON_DEMAND = CONFIG.format(pm="ondemand", more="pm.process_idle_timeout = 1s\n")


@pytest.fixture
def wait(place):
    """A script that runs until there is a file ``go``."""
    (place / "wait.py").write_text(WAIT)
    return f"{place}/wait.py?dir={place}"


def running(place) -> int:
    return len(list(place.glob("runs*")))


def test_ondemand_begins_with_a_warm_zygote_and_nobody_else(pyfpm):
    server = pyfpm(config=ON_DEMAND)
    assert not server.workers
    assert server.zygote


def test_ondemand_serves_two_who_come_together_at_once(pyfpm, place, wait):
    """php-fpm lets the second wait until the first has left."""
    server = pyfpm(config=ON_DEMAND)
    with Wire(server.socket) as first, Wire(server.socket) as second:
        for wire in (first, second):
            wire.send(wire.request(wait))
        eventually(lambda: running(place) == 2, "both run")
        (place / "go").touch()
        assert first.answer().body != second.answer().body


def test_ondemand_workers_leave_when_they_have_nothing_to_do(pyfpm, place):
    (place / "hello.py").write_text("echo('hello')\n")
    server = pyfpm(config=ON_DEMAND)
    assert ask(server.socket, f"{place}/hello.py").body == b"hello"
    eventually(lambda: not server.workers, "they are gone")
    assert ask(server.socket, f"{place}/hello.py").body == b"hello"


def test_reaching_max_children_is_told_once(pyfpm, place, wait):
    server = pyfpm(config=ON_DEMAND)
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(server.socket)) for _ in range(7)]
        for wire in wires:
            wire.send(wire.request(wait))
        eventually(lambda: running(place) == 4, "as many as may run at once")
        eventually(lambda: server.logged("server reached pm.max_children setting (4), consider raising it"), "told")
        (place / "go").touch()
        for wire in wires:
            wire.answer()
    assert len(server.workers) <= 4
    assert server.logged("server reached pm.max_children setting (4), consider raising it") == 1


def test_dynamic_begins_with_start_servers_and_replaces_who_is_killed(pyfpm):
    server = pyfpm(config=DYNAMIC)
    assert len(server.workers) == 2
    before = set(server.workers)
    for worker in before:
        os.kill(worker, signal.SIGKILL)
    eventually(lambda: len(server.workers) == 2 and not before & set(server.workers), "both are replaced")


def test_ttin_and_ttou_change_the_number(pyfpm):
    server = pyfpm(config=STATIC)
    server.signal(signal.SIGTTIN)
    eventually(lambda: len(server.workers) == 5)
    assert server.logged("pm.max_children is now: www 5") == 1
    for _ in range(2):
        server.signal(signal.SIGTTOU)
        eventually(lambda: server.logged("pm.max_children is now"))
    eventually(lambda: len(server.workers) in (3, 4))


def test_the_scale_command_changes_the_number_until_the_next_reload(pyfpm):
    server = pyfpm(config=STATIC)
    assert server.control("scale", pool="www", workers=6) == {"pool": "www", "workers": 6}
    eventually(lambda: len(server.workers) == 6)
    server.control("scale", pool="www", workers=1)
    eventually(lambda: len(server.workers) == 1)
    server.control("reload")
    eventually(lambda: len(server.workers) == 4)
    for wrong in (0, -1, "many", True, 10**9):
        with pytest.raises(CommandFailed):
            server.control("scale", pool="www", workers=wrong)


def test_process_max_counts_all_pools(pyfpm):
    two = STATIC.replace("[global]", "[global]\nprocess.max = 5") + STATIC.partition("[www]")[2].replace(
        "listen = $DIR/fpm", "[shop]\nlisten = $DIR/shop"
    )
    server = pyfpm(config=two)
    assert len(server.workers_of("www")) + len(server.workers_of("shop")) == 5
    assert server.logged("The maximum number of processes has been reached") == 1
    os.kill(server.workers[0], signal.SIGKILL)
    eventually(lambda: len(server.workers_of("www")) + len(server.workers_of("shop")) == 5)


def test_a_worker_that_is_retired_by_order_is_replaced(pyfpm):
    server = pyfpm(config=STATIC)
    victim = server.workers[0]
    assert server.control("retire", pid=victim) == {"pid": victim}
    eventually(lambda: len(now := server.workers) == 4 and victim not in now)
    with pytest.raises(CommandFailed, match="is no worker of this server"):
        server.control("retire", pid=os.getpid())


def test_an_idle_kept_connection_keeps_no_worker_and_is_served_by_the_next(pyfpm, place):
    """It went from the worker that left to the next one, which was started for it, and so on."""
    (place / "who.py").write_text("import os\necho(os.getpid())\n")
    server = pyfpm(config=ON_DEMAND.replace("[www]", "log_level = debug\n[www]"))
    with Wire(server.socket) as wire:
        first = wire.ask(f"{place}/who.py", keep=True).body
        eventually(lambda: not server.workers, "nobody is there any more")
        started = server.logged(" started")
        time.sleep(2.5)  # two looks at who is idle, and there is nobody
        assert not server.workers and server.logged(" started") == started
        assert wire.ask(f"{place}/who.py", keep=True).body != first
        eventually(lambda: not server.workers, "nobody is there any more")
        before = len(processes.descriptors(server.pid))
    eventually(lambda: len(processes.descriptors(server.pid)) < before, "the master has seen its end")
    assert not server.workers
