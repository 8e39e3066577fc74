"""pyfpmctl and the real master."""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyfpm.ctl import control
from support.master import Ctl, pyfpmctl
from support.server import Server
from support.waiting import eventually
from support.wire import Wire, ask

Start = Callable[..., Server]

SLOW = """
import os, time
def wait_here():
    while not os.path.exists(_GET["until"]):
        time.sleep(0.01)
wait_here()
echo("done")
"""


@pytest.fixture
def site(place: Path) -> Path:
    (place / "www").mkdir()
    (place / "www/pid.py").write_text("import os\necho(str(os.getpid()))\n")
    (place / "www/slow.py").write_text(SLOW)
    return place / "www"


@pytest.fixture
def server(pyfpm: Start, site: Path) -> Server:
    return pyfpm("--docroot", str(site), "--workers", "2")


@pytest.fixture
def path(server: Server) -> str:
    return f"{server.socket}.ctl"


@pytest.fixture
def slow(server: Server, site: Path, place: Path) -> Iterator[None]:
    """A request is running."""
    with Wire(server.socket) as wire:
        wire.send(wire.request(f"{site}/slow.py?until={place}/go"))
        eventually(
            lambda: control.ask(f"{server.socket}.ctl", {"do": "requests"}), "the worker tells what it does", within=20
        )
        yield
        (place / "go").touch()
        assert wire.answer().body == b"done"


def test_control_socket_is_for_its_owner_only(path: str) -> None:
    found = os.stat(path)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_uid == os.geteuid()


def test_it_is_found_among_those_that_run(path: str) -> None:
    assert path in control.running_ones()


def test_ping(ctl: Ctl, path: str) -> None:
    assert (done := ctl("ping", "--control", path)).status == 0
    assert done.out == "pong\n"


def test_status_and_top(ctl: Ctl, path: str, server: Server, site: Path) -> None:
    for _ in range(3):
        ask(server.socket, str(site / "pid.py"))
    lines = ctl("status", "--control", path).out.splitlines()
    assert f"pid {server.pid}" in lines[0]
    row = dict(zip(lines[2].split(), lines[3].split(), strict=True))
    assert row | {"QUEUE": "", "UP": ""} == {
        "POOL": "www", "PM": "static", "BUSY": "0", "IDLE": "2", "ALL": "2", "MAX": "2", "QUEUE": "",
        "ACCEPTED": "3", "FULL": "0", "SLOW": "0", "UP": "",
    }  # fmt: skip
    out = ctl("top", "--once", "--control", path).out
    assert "[www] 0/2 busy" in out
    assert all(f" {pid} Idle" in f" {out}" for pid in server.workers)
    [pool] = ctl("status", "--json", "--control", path).json["pools"]
    assert {each["pid"] for each in pool["processes"]} == set(server.workers)


@pytest.mark.usefixtures("slow")
def test_requests_and_trace(ctl: Ctl, path: str, site: Path) -> None:
    lines = ctl("requests", "--control", path).out.splitlines()
    age, pid, pool, method, uri, script = lines[1].split()
    assert re.fullmatch(r"\d+\.\d+s", age)
    assert (pool, method, script) == ("www", "GET", f"{site}/slow.py")
    assert "?until=" in uri
    assert uri.count("?") == 1
    done = ctl("trace", pid, "--control", path)
    assert done.status == 0
    assert re.search(rf'{site}/slow.py", line \d+ in wait_here', done.out)


def test_retired_worker_is_replaced(ctl: Ctl, path: str, server: Server) -> None:
    victim = server.workers[0]
    assert ctl("retire", victim, "--control", path).status == 0
    eventually(lambda: victim not in server.workers and len(server.workers) == 2, "another is in its place")


def test_pool_is_scaled(ctl: Ctl, path: str, server: Server) -> None:
    for number in (4, 1):
        assert ctl("scale", "www", number, "--control", path).status == 0
        eventually(lambda number=number: len(server.workers) == number, f"there are {number} workers")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["retire", "1"], "is no worker of this server"),
        (["trace", "1"], "is no worker of this server"),
        (["scale", "nowhere", "2"], "there is no pool 'nowhere'"),
        (["scale", "www", "0"], "not 0"),
        (["reload", "nowhere"], "there is no pool 'nowhere'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_order_that_cannot_be_followed_is_1(ctl: Ctl, path: str, arguments: list[str], word: str) -> None:
    done = ctl(*arguments, "--control", path)
    assert (done.status, done.out) == (1, "")
    assert word in done.err


def test_reload_waits_until_the_new_code_serves(ctl: Ctl, pyfpm: Start, place: Path) -> None:
    (place / "shop.py").write_text(APPLICATION.format(text="old"))
    server = pyfpm("--chdir", str(place), "shop:application", "--workers", "2")
    path = f"{server.socket}.ctl"
    assert ask(server.socket, "/").body == b"old"
    (place / "shop.py").write_text(APPLICATION.format(text="new code"))
    for arguments in (["reload"], ["reload", "www"]):
        assert ctl(*arguments, "--control", path).status == 0
        assert {ask(server.socket, "/").body for _ in range(10)} == {b"new code"}


def test_failed_reload_is_1_with_the_reason_and_the_old_code_serves(ctl: Ctl, pyfpm: Start, place: Path) -> None:
    (place / "shop.py").write_text(APPLICATION.format(text="old"))
    server = pyfpm("--chdir", str(place), "shop:application", "--workers", "2")
    (place / "shop.py").write_text("import no_such_module\n")
    done = ctl("reload", "--control", f"{server.socket}.ctl")
    assert (done.status, done.out) == (1, "")
    assert "No module named 'no_such_module'" in done.err
    assert "Traceback" in done.err
    assert ask(server.socket, "/").body == b"old"


def test_broken_configuration_is_for_the_running_master_to_refuse(ctl: Ctl, pyfpm: Start) -> None:
    """It used to be 2, with no word in the master's log, and nothing of that master could be looked at by -y."""
    text = "[www]\nlisten = $DIR/fpm.sock\npm = static\npm.max_children = 1\n"
    server = pyfpm(config=text)
    server.configure(text + "pm.no_such = 1\n")
    file = server.directory / "pyfpm.conf"
    done = ctl("reload", "-y", file)
    assert (done.status, done.out) == (1, "")
    assert "pm.no_such" in done.err
    assert server.logged("reload failed")
    assert ctl("ping", "-y", file).out == "pong\n"


APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"{text}"]
"""


def test_master_that_has_ended_is_2(ctl: Ctl, path: str, server: Server) -> None:
    server.stop()
    done = ctl("ping", "--control", path)
    assert done.status == 2
    assert path in done.err


def test_control_socket_and_pool_are_looked_up_in_the_configuration(ctl: Ctl, pyfpm: Start, place: Path) -> None:
    user = "user = nobody\n" if os.geteuid() == 0 else ""
    (place / "x.py").write_text("echo('from ' + _SERVER['SCRIPT_NAME'])\n")
    (place / "pyfpm.conf").write_text(
        f"[global]\npid = {place}/fpm.pid\nerror_log = /dev/stderr\ndaemonize = no\n"
        f"[api]\n{user}listen = {place}/api.sock\npm = static\npm.max_children = 1\nping.path = /ping\n"
        f"doc_root = {place}\n"
    )
    (place / "api.sock").unlink(missing_ok=True)
    server = pyfpm("-y", str(place / "pyfpm.conf"))
    options = ("-y", place / "pyfpm.conf")
    done = ctl("status", *options)
    assert done.status == 0, done.err
    assert f"pid {server.pid}" in done.out and str(place / "pyfpm.conf") in done.out
    assert ctl("ping", "--path", "/ping", *options).out == "pong\n"
    done = ctl("doctor", "--root", place, "--uri", "/x.py", *options, "--json")
    assert done.status == 0, done.out
    # A master with a file tells where that is, and the pool is in there.
    assert pyfpmctl("request", place / "x.py", "--control", f"{place}/fpm.pid.ctl").stdout.endswith(b"from /x.py")
    done = ctl("doctor", "--root", "/etc", "--uri", "/x.py", *options, "--json", "--no-request")
    assert done.status == 1
    (place / "pyfpm.conf").write_text("[global]\nwhat = 1\n")
    assert f"pid {server.pid}" in ctl("status", *options).out
    server.stop()
    done = ctl("status", *options)
    assert done.status == 2 and f"[{place}/pyfpm.conf:2]" in done.err


def test_reload_is_waited_for_by_several_at_once(path: str) -> None:
    done: list[object] = []
    threads = [
        threading.Thread(target=lambda: done.append(control.ask(path, {"do": "reload", "pool": None}, timeout_s=60)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 3
