"""The status page's counters against what has really happened."""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path
from typing import Any

from support.load import amount, order
from support.waiting import eventually

# A byte for each request that begins, and one for each that ends.
COUNTED = """
import os
def count(name):
    fd = os.open(f"{place}/{{name}}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(fd, b".")
    os.close(fd)
count("begun")
echo("hello ", _GET["name"])
count("ended")
"""


def counted(place: Path, name: str) -> int:
    return os.path.getsize(place / name)


def pool_of(control: str) -> dict[str, Any]:
    (pool,) = order(control, do="status")["result"]["pools"]
    return pool


def test_the_counters_are_exact_after_reloads_and_retirements(pyfpm, place, load):
    script = place / "counted.py"
    script.write_text(COUNTED.format(place=place))
    server = pyfpm("--workers", "3", "-d", "pm.max_requests=50", "-d", "pm.max_requests_jitter=20")
    control = server.socket + ".ctl"
    wanted = amount(3_000, 30_000)
    clients = [
        load(server.socket, script, "hello n########", connections=8, keep=keep, requests=wanted)
        for keep in (False, True)
    ]
    while any(each.is_running for each in clients):
        order(control, do="reload")
    results = [each.result() for each in clients]
    assert all(result["missing"] == result["wrong"] == 0 for result in results), results
    pool = pool_of(control)
    assert counted(place, "begun") == counted(place, "ended") == 2 * wanted
    assert pool["accepted conn"] == pool["requests ended"] == 2 * wanted
    assert pool["statuses"]["2xx"] == 2 * wanted


def test_the_counters_miss_nothing_when_workers_are_killed(pyfpm, place, load):
    """A worker may be killed after it has counted a request and before the script has; that is all that may differ."""
    script = place / "counted.py"
    script.write_text(COUNTED.format(place=place))
    server = pyfpm("--workers", "3")
    clients = load(server.socket, script, "hello n########", connections=8, keep=False, requests=amount(5_000, 50_000))
    kills = 0
    over = threading.Event()
    while clients.is_running:
        over.wait(0.1)
        workers = server.workers
        if workers:
            os.kill(random.choice(workers), signal.SIGKILL)
            kills += 1
    eventually(lambda: len(server.workers) == 3, "the pool is whole again")
    pool = pool_of(server.socket + ".ctl")
    begun, ended = counted(place, "begun"), counted(place, "ended")
    assert begun <= pool["accepted conn"] <= begun + kills
    assert ended - kills <= pool["requests ended"] <= ended
