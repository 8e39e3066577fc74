"""fastcgi_finish_request in real workers: the visitor has the answer, the connection is free, the script goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.server import Server
from support.waiting import eventually
from support.wire import Wire, ask

# Goes on until there is a file called "go".
FINISH = """
import os, time
echo(os.getpid())
fastcgi_finish_request()
echo("to nobody"); flush()
while not os.path.exists("go"):
    time.sleep(0.005)
"""
WHO = "import os\necho(os.getpid())"
STATUS = "pm.status_path = /status\n"


@pytest.fixture
def site(tmp_path: Path):
    (tmp_path / "who.py").write_text(WHO)

    def write(source: str = FINISH, name: str = "finish.py") -> str:
        (tmp_path / name).write_text(source)
        return str(tmp_path / name)

    return write


@pytest.fixture
def go(tmp_path: Path):
    """Ends the scripts that go on."""
    yield (tmp_path / "go").touch
    (tmp_path / "go").touch()


def stages(server: Server, name: str = "www") -> list[str]:
    (pool,) = server.control("status")["pools"]
    return sorted(each["state"] for each in pool["processes"])


def is_finishing(server: Server) -> None:
    eventually(lambda: "Finishing" in stages(server), "a request is finishing")


def pool(workers: int, more: str = "") -> str:
    return f"[www]\nlisten = $DIR/fpm.sock\npm = static\npm.max_children = {workers}\n{more}"


def test_a_kept_connection_is_served_by_another_worker_while_the_script_goes_on(pyfpm, site, go, tmp_path):
    server = pyfpm(config=pool(2))
    with Wire(server.socket) as wire:
        first = wire.ask(site(), keep=True)
        assert (first.status, first.app_status, first.ends) == (200, 0, 1)
        is_finishing(server)
        others = {wire.ask(str(tmp_path / "who.py"), keep=True).body for _ in range(5)}
        assert len(others) == 1 and others != {first.body}
        go()
        eventually(lambda: stages(server) == ["Idle", "Idle"], "both are idle")


def test_a_connection_that_is_not_kept_ends_behind_the_answer(pyfpm, site, go):
    server = pyfpm(config=pool(1))
    with Wire(server.socket) as wire:
        assert wire.ask(site()).body
        assert wire.is_closed()
        is_finishing(server)
    go()
    eventually(lambda: stages(server) == ["Idle"])


@pytest.mark.parametrize("share", [True, False])
def test_the_only_worker_serves_a_kept_connection_when_the_script_has_ended(pyfpm, site, go, tmp_path, share):
    server = pyfpm(config=pool(1))
    with Wire(server.socket) as wire:
        first = wire.ask(site(), keep=True)
        is_finishing(server)
        wire.send(wire.request(str(tmp_path / "who.py"), keep=share))
        go()
        assert wire.answer().body == first.body
        assert share or wire.is_closed()


@pytest.mark.parametrize(
    "pm", ["ondemand", "dynamic\npm.min_spare_servers = 1\npm.max_spare_servers = 1\npm.start_servers = 1"]
)
def test_a_worker_is_started_for_a_kept_connection_that_nobody_takes(pyfpm, site, go, tmp_path, pm):
    """Connections that were given away were no reason to start one."""
    config = pool(2).replace("pm = static", f"pm = {pm}")
    server = pyfpm(config=config)
    with Wire(server.socket) as wire:
        first = wire.ask(site(), keep=True)
        is_finishing(server)
        assert wire.ask(str(tmp_path / "who.py"), keep=True).body != first.body
        go()


def test_requests_that_came_with_the_finished_one_are_served_behind_it(pyfpm, site, go, tmp_path):
    """They were read already, so the connection can go nowhere."""
    server = pyfpm(config=pool(2))
    with Wire(server.socket) as wire:
        finish, who = site(), str(tmp_path / "who.py")
        wire.send(wire.request(finish, keep=True) + wire.request(who, id=2, keep=True))
        first = wire.answer()
        is_finishing(server)
        go()
        assert wire.answer(2).body == first.body
        assert wire.ask(who, id=3, keep=True).body == first.body


def test_a_large_answer_is_complete_before_the_script_goes_on(pyfpm, site, go, tmp_path):
    server = pyfpm(config=pool(2))
    body = "echo(b'x' * (8 << 20))\nfastcgi_finish_request()\nopen('sent', 'w').close()\n"
    with Wire(server.socket) as wire:
        wire.send(wire.request(site(body), keep=True))
        assert b"".join(wire.pieces()).endswith(b"\r\n\r\n" + b"x" * (8 << 20))
        eventually((tmp_path / "sent").exists)
        wire.client = type(wire.client)()
        wire._answers.clear()
        assert wire.ask(str(tmp_path / "who.py"), keep=True).status == 200


def test_each_finished_request_counts_once_and_is_logged_with_its_whole_time(pyfpm, site, tmp_path):
    server = pyfpm(config=pool(2, 'access.log = $DIR/access.log\naccess.format = "%s %{milliseconds}d %l %f"\n'))
    script = site(
        "import time\necho('abc'); http_response_code(202); fastcgi_finish_request(); time.sleep(0.3); echo('de')"
    )
    with Wire(server.socket) as wire:
        for _ in range(4):
            assert wire.ask(script, keep=True).body == b"abc"
    access = server.directory / "access.log"
    eventually(lambda: len(access.read_text().splitlines()) == 4)
    for line in access.read_text().splitlines():
        status, took_ms, *_ = line.split()
        assert status == "202" and float(took_ms) >= 300
    (figures,) = server.control("status")["pools"]
    assert figures["accepted conn"] == 4
    assert sum(each["requests"] for each in figures["processes"]) == 4


def test_an_exception_behind_the_answer_is_in_the_log_alone(pyfpm, site):
    server = pyfpm(config=pool(1))
    answer = ask(server.socket, site("echo('a'); fastcgi_finish_request()\n1 / 0"), keep=True)
    assert (answer.body, answer.stderr, answer.app_status) == (b"a", b"", 0)
    eventually(lambda: "ZeroDivisionError" in server.log())


@pytest.mark.parametrize("keep", [True, False])
def test_the_body_is_there_behind_the_answer(pyfpm, site, tmp_path, keep):
    """As in PHP; also a large one, which lies in a file."""
    server = pyfpm(config=pool(2))
    source = "import os, sys\nfastcgi_finish_request()\ntext = sys.stdin.read()\n"
    source += "open('new', 'w').write(text); os.rename('new', 'body')"
    body = b"name=" + b"x" * (3 << 20)
    with Wire(server.socket) as wire:
        assert wire.ask(site(source), body, keep=keep).status == 200
        eventually((tmp_path / "body").exists)
        assert (tmp_path / "body").read_bytes() == body


# -- its time ----------------------------------------------------------------------------------------------------------

LONG = "import time\necho('a'); fastcgi_finish_request(); time.sleep(1.5); open('ended', 'w').close()"


def test_the_hard_limit_is_not_for_what_follows_the_answer(pyfpm, site, tmp_path):
    server = pyfpm(
        config=pool(1, "request_terminate_timeout = 1s\nrequest_slowlog_timeout = 1s\nslowlog = $DIR/slow\n")
    )
    with Wire(server.socket) as wire:
        assert wire.ask(site(LONG), keep=True).body == b"a"
        pid = server.worker
        eventually((tmp_path / "ended").exists)
        assert wire.ask(str(tmp_path / "who.py"), keep=True).body.decode() == str(pid)
    assert "terminat" not in server.log()
    assert not (server.directory / "slow").exists() or not (server.directory / "slow").read_text()


def test_it_is_with_track_finished_and_the_connection_goes_on(pyfpm, site, tmp_path):
    config = "request_terminate_timeout = 1s\nrequest_terminate_timeout_track_finished = yes\n"
    server = pyfpm(config=pool(1, config))
    with Wire(server.socket) as wire:
        first = server.worker
        assert wire.ask(site(LONG), keep=True).body == b"a"
        after = wire.ask(str(tmp_path / "who.py"), keep=True)
        assert (after.status, after.ends) == (200, 1)
        assert after.body.decode() != str(first)
    assert not (tmp_path / "ended").exists()
    assert server.logged("terminating") or server.logged("timed out"), server.log()


def test_nothing_is_written_to_a_pipelined_connection_when_the_rest_is_terminated(pyfpm, site, tmp_path):
    config = "request_terminate_timeout = 1s\nrequest_terminate_timeout_track_finished = yes\n"
    server = pyfpm(config=pool(1, config))
    with Wire(server.socket) as wire:
        wire.send(wire.request(site(LONG), keep=True) + wire.request(str(tmp_path / "who.py"), id=2, keep=True))
        assert wire.answer().body == b"a"
        assert wire.is_closed()


def test_max_execution_time_is_for_what_follows_the_answer(pyfpm, site):
    server = pyfpm(config=pool(1, "max_execution_time = 1s\n"))
    assert ask(server.socket, site("echo('a'); fastcgi_finish_request()\nwhile True: pass")).body == b"a"
    eventually(lambda: "Maximum execution time of 1 second exceeded" in server.log())


def test_a_crash_behind_the_answer_loses_no_connection(pyfpm, site, tmp_path):
    server = pyfpm(config=pool(1))
    crash = "import ctypes\necho('a'); fastcgi_finish_request(); ctypes.string_at(0)"
    with Wire(server.socket) as wire:
        assert wire.ask(site(crash), keep=True).body == b"a"
        assert wire.ask(str(tmp_path / "who.py"), keep=True).status == 200


def test_a_worker_that_retires_meanwhile_finishes_the_script(pyfpm, site, go, tmp_path):
    server = pyfpm(config=pool(1))
    with Wire(server.socket) as wire:
        first = wire.ask(site(FINISH + "open('ended', 'w').close()"), keep=True)
        is_finishing(server)
        server.control("reload")
        assert wire.ask(str(tmp_path / "who.py"), keep=True).body != first.body
        assert not (tmp_path / "ended").exists()
        go()
        eventually((tmp_path / "ended").exists)


# -- applications ------------------------------------------------------------------------------------------------------

APPLICATION = """
import os, time
import pyfpm
class Body(list):
    def close(self):
        assert pyfpm.fastcgi_finish_request() and not pyfpm.fastcgi_finish_request()
        while not os.path.exists("go"):
            time.sleep(0.005)
def application(environ, start_response):
    assert not pyfpm.fastcgi_finish_request()  # it has not begun
    start_response("200 OK", [("Content-Type", "text/plain")])
    body = [str(os.getpid()).encode()]
    return Body(body) if environ["QUERY_STRING"] else body
"""


def test_an_application_finishes_its_answer_when_it_is_closed(pyfpm, site, go, tmp_path):
    server = pyfpm("--workers", "2", site(APPLICATION, "app.py"), cwd=tmp_path)
    with Wire(server.socket) as wire:
        first = wire.ask("/?finish", keep=True)
        assert first.status == 200
        assert wire.ask("/", keep=True).body not in (b"", first.body)
        go()
