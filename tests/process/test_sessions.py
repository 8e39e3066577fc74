"""Sessions with real workers: one request at a time has one, and whatever becomes of a worker, the next request can."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.redis_server import RedisServer
from support.server import Server, run_pyfpm
from support.waiting import PATIENCE_S, eventually
from support.wire import Answer, Wire, ask

SCRIPTS = {
    "count": """
import time
session_start()
before = _SESSION.get("n", 0)
time.sleep(0.01)
_SESSION["n"] = before + 1
echo(_SESSION["n"])
""",
    "read": "session_start(read_and_close=True); echo(repr(_SESSION))",
    "killed": "import os, signal; session_start(); _SESSION['n'] = -1; os.kill(os.getpid(), signal.SIGKILL)",
    "crashed": "import ctypes; session_start(); _SESSION['n'] = -1; ctypes.string_at(0)",
    "held": """
import os, time
session_start()
_SESSION["n"] = 100
open("held", "w").close()
while not os.path.exists("go"):
    time.sleep(0.01)
""",
    "stubborn": """
import os, time
session_start()
open("held", "w").close()
while True:
    try:
        while not os.path.exists("go"):
            time.sleep(0.01)
        break
    except BaseException:
        pass  # It has the same limit.
""",
    "forked": """
import os, time
session_start()
if not os.fork():
    try:
        while not os.path.exists("go"):
            time.sleep(0.01)
        session_status()
    finally:
        os._exit(0)
_SESSION["n"] = 7
""",
}


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.discard()


@pytest.fixture(params=["files", "redis"])
def start(request, place, pyfpm) -> Callable[..., Server]:
    """Starts a pyfpm over these scripts."""
    for name, source in SCRIPTS.items():
        (place / f"{name}.py").write_text(source)

    def start(*arguments: str, workers: int = 4) -> Server:
        if request.param == "redis":
            path = request.getfixturevalue("redis").url
        else:
            path = str(place / "sessions")
            os.mkdir(path, 0o700)
        store = (f"session.save_handler={request.param}", f"session.save_path={path}")
        switches = [word for setting in (*store, *arguments) for word in ("-d", setting)]
        return pyfpm("--docroot", str(place), "--workers", str(workers), *switches)

    return start


def begin(server: Server, place: Path) -> dict[str, str]:
    answer = ask(server.socket, f"{place}/count.py")
    assert answer.status == 200, server.log()
    return {"HTTP_COOKIE": re.match("PHPSESSID=[0-9a-f]{32}", answer.head["set-cookie"])[0]}


def in_threads(work: Callable[[], Answer], count: int) -> list[Answer]:
    answers: list[Answer] = []
    threads = [threading.Thread(target=lambda: answers.append(work()), daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    return answers


def test_no_change_is_lost_when_requests_come_at_once(start, place):
    server = start()
    cookie = begin(server, place)
    answers = in_threads(lambda: ask(server.socket, f"{place}/count.py", **cookie), 20)
    assert sorted(int(answer.body) for answer in answers) == list(range(2, 22))
    assert not any("set-cookie" in answer.head for answer in answers)


@pytest.mark.parametrize("how", ["killed", "crashed"])
def test_a_worker_that_dies_leaves_the_session_as_it_was(start, place, how):
    server = start()
    cookie = begin(server, place)
    with Wire(server.socket) as wire:
        wire.send(wire.request(f"{place}/{how}.py", **cookie))
        wire.rest()
    assert ask(server.socket, f"{place}/read.py", **cookie).body == b"{'n': 1}"


def test_waiting_for_a_session_ends_with_max_execution_time(start, place):
    server = start("max_execution_time=1s")
    cookie = begin(server, place)
    holder = threading.Thread(target=lambda: ask(server.socket, f"{place}/stubborn.py", **cookie), daemon=True)
    holder.start()
    eventually((place / "held").exists, "it has the session")
    assert ask(server.socket, f"{place}/count.py", **cookie).status == 504
    (place / "go").touch()
    holder.join(PATIENCE_S)
    assert ask(server.socket, f"{place}/read.py", **cookie).body == b"{'n': 1}"


def test_a_request_that_is_ended_by_its_limit_gives_its_session_free(start, place):
    server = start("request_terminate_timeout=1s")
    cookie = begin(server, place)
    assert ask(server.socket, f"{place}/held.py", **cookie).status == 504
    assert ask(server.socket, f"{place}/read.py", **cookie).body == b"{'n': 1}"


def test_a_process_that_a_script_forks_does_not_keep_its_session(start, place):
    server = start()
    cookie = begin(server, place)
    ask(server.socket, f"{place}/forked.py", **cookie)
    assert ask(server.socket, f"{place}/count.py", **cookie).body == b"8"
    (place / "go").touch()


def test_sessions_outlive_a_reload_and_a_restart_of_workers(start, place):
    server = start(workers=1)
    cookie = begin(server, place)
    server.kill_worker(server.worker)
    assert ask(server.socket, f"{place}/count.py", **cookie).body == b"2"
    server.control("reload")
    assert ask(server.socket, f"{place}/count.py", **cookie).body == b"3"


def test_redis_that_is_not_installed_is_told_at_the_start(place):
    (place / "redis.py").write_text("raise ImportError\n")
    arguments = ("--socket", f"{place}/fpm.sock", "--docroot", str(place), "-d", "session.save_handler=redis")
    root = ("-R",) if os.geteuid() == 0 else ()
    env = {**os.environ, "PYTHONPATH": f"{place}:{os.environ.get('PYTHONPATH', '')}"}
    ended = run_pyfpm(*arguments, *root, "-d", "session.save_path=redis://127.0.0.1", env=env)
    assert ended.returncode != 0
    assert "session.save_handler = redis needs the package redis: pip install 'pyfpm-server[redis]'" in ended.stderr


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (("session.save_handler=redis",), "session.save_handler = redis needs session.save_path = redis://HOST:PORT/"),
        (("session.save_path=relative",), "session.save_path = relative is not an absolute path"),
        (("session.name=a.b",), "session.name 'a.b' has one of = , ; . [ or white space in it"),
        (("session.cookie_path=/; x",), "session.cookie_path '/; x' cannot stand in a cookie"),
        (("session.cookie_samesite=none", "session.cookie_secure=no"), "cookie_samesite = none needs session.cookie_s"),
    ],
)
def test_a_configuration_without_sense_is_told_at_the_start(place, settings, why):
    switches = [word for setting in settings for word in ("-d", setting)]
    root = ("-R",) if os.geteuid() == 0 else ()
    ended = run_pyfpm("--socket", f"{place}/fpm.sock", "--docroot", str(place), *root, *switches)
    assert ended.returncode != 0 and why in ended.stderr
