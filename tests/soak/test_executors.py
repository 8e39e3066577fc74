"""All executors beside each other, reloaded and killed for a while: nobody else fails, and nothing is left behind.

Fifteen seconds; PYFPM_TEST_FULL=1 makes it ten minutes.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from contextlib import suppress

import pytest

from support import processes
from support.kept_client import Client
from support.load import amount
from support.waiting import eventually

WORKERS = 2
CLIENTS = 2  # of each pool
MB = 1024**2

SCRIPT = "import os\necho(os.getpid())\n"
WSGI = """
import os

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""
ASGI = """
import os

async def application(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("only http")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""

# Pool: its directives.
EXECUTORS = {
    "inline-script": "",
    "inline-wsgi": "app = wsgi_pid:application",
    "threads-script": "pm.threads = 4",
    "threads-wsgi": "app = wsgi_pid:application\npm.threads = 4",
    "asyncio": "app = asgi_pid:application\napp.loop = asyncio",
    "trio": "app = asgi_pid:application\napp.loop = trio",
}
if sys.version_info >= (3, 12):
    EXECUTORS |= {
        "interpreters-script": "pm.interpreters = 2",
        "interpreters-wsgi": "app = wsgi_pid:application\npm.interpreters = 2",
    }


def config_of(names: list[str]) -> str:
    text = "[global]\nerror_log = /dev/stderr\ncontrol_socket = $DIR/fpm.sock.ctl\n"
    for name in names:
        text += (
            f"[{name}]\nlisten = $DIR/{name}.sock\npm = static\npm.max_children = {WORKERS}\nchdir = $DIR\n"
            f"{EXECUTORS[name]}\n"
        )
    return text


@pytest.fixture
def site(place):
    (place / "pid.py").write_text(SCRIPT)
    (place / "wsgi_pid.py").write_text(WSGI)
    (place / "asgi_pid.py").write_text(ASGI)
    return place


def start(pyfpm, site, names):
    config = config_of(names).replace("chdir = $DIR", f"chdir = {site}")
    server = pyfpm(config=config)
    eventually(lambda: all(len(server.workers_of(name)) == WORKERS for name in names), "all pools are whole")
    return server


def is_whole(server, names) -> bool:
    return all(
        len(now := server.workers_of(name)) == WORKERS
        and all(map(processes.is_running, now))
        and len(server.workers_of(f"{name} zygote")) == 1
        for name in names
    )


def test_all_executors_live_through_reloads_and_kills_and_leave_nothing(pyfpm, site):
    names, chance = list(EXECUTORS), random.Random(20_27)
    server = start(pyfpm, site, names)
    # What the first reload of a master brings along stays.
    server.control("reload")
    eventually(lambda: is_whole(server, names), "all pools are whole")
    kept = processes.kinds_of_descriptors(server.pid)
    memory = processes.own_memory(server.pid)
    stop, killed = threading.Event(), set()
    clients = [Client(f"{server.directory}/{name}.sock", f"{site}/pid.py", stop) for name in names * CLIENTS]
    reloads, end = 0, time.monotonic() + amount(15, 600)
    try:
        while time.monotonic() < end:
            for name in chance.sample(names, 2):
                victim = chance.choice(server.workers_of(name) or [0])
                if victim:
                    killed.add(victim)
                    with suppress(ProcessLookupError):
                        os.kill(victim, chance.choice((signal.SIGKILL, signal.SIGSEGV)))
            time.sleep(chance.uniform(0, 0.5))
            if chance.random() < 0.5:
                server.control("reload")
                reloads += 1
    finally:
        stop.set()
        for client in clients:
            client.thread.join()
    failures = [pid for client in clients for pid in client.failed_on]
    print(
        f"{reloads} reloads, {len(killed)} killed, {sum(client.answered for client in clients)} answered, "
        f"{len(failures)} failed; master {memory / MB:.1f} MB before, {processes.own_memory(server.pid) / MB:.1f} after"
    )
    assert not [client.wrong for client in clients if client.wrong]
    # 0: it was the first on its connection, so nobody knows whose it was.
    assert {pid for pid in failures if pid} <= killed
    assert len(failures) <= len(killed) * len(clients)
    assert all(client.answered for client in clients)
    eventually(lambda: is_whole(server, names), "all pools are whole")
    eventually(lambda: processes.kinds_of_descriptors(server.pid) == kept, "the master has no descriptor more")
    assert not [pid for pid in processes.children(server.pid) if processes.state(pid) == "Z"]
    # Slots: as many as there are workers, none of the dead.
    pools = server.control("status")["pools"]
    assert {pool["pool"]: pool["total processes"] for pool in pools} == dict.fromkeys(names, WORKERS)
    assert processes.own_memory(server.pid) - memory < 8 * MB


@pytest.mark.parametrize("name", EXECUTORS)
def test_a_worker_does_not_grow(pyfpm, site, load, name):
    server = start(pyfpm, site, [name])
    address = f"{server.directory}/{name}.sock"

    def serve(requests: int) -> None:
        for keep in (False, True):
            result = load(address, site / "pid.py", "", connections=8, keep=keep, requests=requests).result()
            assert result["wrong"] == result["missing"] == 0, result

    def state() -> dict[int, tuple[int, int]]:
        return {pid: (processes.own_memory(pid), len(processes.descriptors(pid))) for pid in server.workers_of(name)}

    serve(3_000)  # caches, freelists, what is imported late
    before = state()
    serve(amount(10_000, 300_000))
    eventually(
        lambda: all(len(processes.descriptors(pid)) <= before[pid][1] for pid in before), "no descriptor is left"
    )
    after = state()
    assert after.keys() == before.keys(), "no worker had to be replaced"
    grown = {pid: after[pid][0] - before[pid][0] for pid in before}
    print(f"{name}: {[f'{each / 1024:.0f} kB' for each in grown.values()]} more")
    # Heaps settle; a leak of 100 bytes a request would be more.
    assert max(grown.values()) < MB, grown
