"""Limits that end workers, many times in a row: the visitors get an answer each time."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from support.load import amount
from support.server import Server
from support.waiting import eventually
from support.web import fetch
from support.webservers import Nginx

MB = 1024**2

# Keeps a megabyte a request, and tells on itself when it is over the limit by more than that and what Python needs.
LEAK = """
import sys
kept = sys.modules.setdefault("kept", type(sys)("kept"))
kept.__dict__.setdefault("all", []).append(bytearray(b"x" * {mb}))
with open("/proc/self/statm") as file:
    resident = int(file.read().split()[1]) * 4096
echo("hello " if resident <= {limit} + 2 * {mb} else f"{{resident}} is over the limit ", _GET["name"])
"""


@pytest.mark.parametrize("keep", [False, True], ids=["new connections", "kept connections"])
def test_workers_that_leak_are_replaced_before_they_are_over_the_limit_and_nobody_notices(pyfpm, place, load, keep):
    limit = 64 * MB
    script = place / "leak.py"
    script.write_text(LEAK.format(mb=MB, limit=limit))
    server = pyfpm("--workers", "4", "-d", f"pm.max_memory={limit}")
    first = set(server.workers)
    clients = load(server.socket, script, "hello n########", connections=16, keep=keep, requests=amount(2_000, 20_000))
    result = clients.result()
    assert result["wrong"] == result["missing"] == result["not_kept"] == 0, result
    eventually(lambda: not first & set(server.workers), "all workers were replaced")


@pytest.mark.parametrize("keep", [False, True], ids=["new connections", "kept connections"])
def test_pm_max_requests_costs_no_request_and_no_connection(pyfpm, hello, load, keep):
    server = pyfpm("--workers", "2", "-d", "pm.max_requests=100")
    clients = load(server.socket, hello, "hello n########", connections=8, keep=keep, requests=amount(10_000, 100_000))
    result = clients.result()
    assert result["wrong"] == result["missing"] == result["not_kept"] == 0, result


@pytest.fixture
def nginx(place: Path):
    started = []

    def start(server: Server, **options: str) -> Nginx:
        started.append(Nginx(server.socket, place, **options))
        return started[-1]

    yield start
    for each in started:
        each.discard()


@pytest.mark.parametrize(
    "options",
    [{}, {"upstream": "keepalive 16;", "location": "fastcgi_keep_conn on;"}],
    ids=["new connections", "kept connections"],
)
def test_a_timeout_is_an_answer_each_time(pyfpm, place, nginx, options):
    """php-fpm drops the connection, and nginx says "upstream prematurely closed connection" and 502."""
    (place / "stuck.py").write_text("while True: pass\n")
    (place / "quick.py").write_text("echo('quick')\n")
    server = pyfpm("--workers", "4", "-d", "request_terminate_timeout=0.3s", "--socket-mode", "0666")
    web = nginx(server, **options)
    wanted = amount(40, 1000)
    statuses: list[int] = []
    others: list[int] = []
    over = threading.Event()

    def ask_stuck() -> None:
        while len(statuses) < wanted:
            statuses.append(fetch(web.port, "/stuck.py").status)

    def ask_quick() -> None:
        while not over.is_set():
            others.append(fetch(web.port, "/quick.py").status)

    visitor = threading.Thread(target=ask_quick)
    stuck = [threading.Thread(target=ask_stuck) for _ in range(3)]
    for thread in (visitor, *stuck):
        thread.start()
    for thread in stuck:
        thread.join()
    over.set()
    visitor.join()
    assert set(statuses) == {504}, statuses
    assert set(others) == {200}, "who asks for something else is not concerned"
    assert "prematurely" not in web.log()
    assert "reset by peer" not in web.log()
