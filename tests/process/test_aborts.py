"""The web server hangs up, or sends ABORT_REQUEST, while a script runs; and how long one may run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.server import Server
from support.waiting import eventually
from support.webservers import free_port
from support.wire import Wire, ask

# Writes what becomes of it into a file called "told".
SCRIPT = """
import json, os, time
def tell(**what):
    with open("told.new", "w") as file:
        json.dump(what, file)
    os.rename("told.new", "told")
register_shutdown_function(lambda: tell(status=connection_status(), how=how, text=echo("to nobody")))
how = "begun"
open("runs", "w").close()
"""
POLL = "while not connection_aborted(): time.sleep(0.005)\nhow = 'asked'\necho('x')\nflush()\nhow = 'went on'"
FLUSH = "while True:\n  echo('x'); flush(); time.sleep(0.005)"
SILENT = "echo('x')\nwhile not os.path.exists('go'): time.sleep(0.005)\nflush()\nhow = 'went on'"


@pytest.fixture
def site(tmp_path: Path):
    def write(source: str, name: str = "x.py") -> str:
        (tmp_path / name).write_text(source)
        return str(tmp_path / name)

    return write


@pytest.fixture
def runs(tmp_path: Path):
    return lambda: eventually((tmp_path / "runs").exists, "the script runs")


@pytest.fixture
def told(tmp_path: Path) -> Callable[[], Any]:
    def told() -> Any:
        eventually((tmp_path / "told").exists, "the script has ended")
        return json.loads((tmp_path / "told").read_text())

    return told


def somewhere(kind: str) -> str:
    return "$DIR/fpm.sock" if kind == "unix" else f"127.0.0.1:{free_port()}"


def config(more: str = "", listen: str = "$DIR/fpm.sock") -> str:
    return f"[www]\nlisten = {listen}\npm = static\npm.max_children = 1\n{more}\n"


def abort(id: int) -> bytes:
    """Its record, also where there is no such request [5.4]."""
    return bytes([1, 2, 0, id, 0, 0, 0, 0])


def address(server: Server, listen: str) -> str:
    return listen.replace("$DIR", str(server.directory))


@pytest.mark.parametrize("kind", ["unix", "tcp"])
@pytest.mark.parametrize(("source", "how"), [(POLL, "asked"), (FLUSH, "begun")], ids=["asked", "flushed"])
@pytest.mark.parametrize("gone", ["closed", "aborted"])
def test_a_script_notices_that_its_visitor_has_left(pyfpm, site, runs, told, kind, source, how, gone):
    listen = somewhere(kind)
    server = pyfpm(config=config(listen=listen))
    with Wire(address(server, listen)) as wire:
        wire.send(wire.request(site(SCRIPT + source), keep=True))
        runs()
        if gone == "closed":
            wire.socket.close()
        else:
            wire.send(abort(1))
        assert told() == {"status": 1, "how": how, "text": None}
        if gone == "aborted":
            answer = wire.answer()
            assert (answer.ends, answer.app_status) == (1, 1)
            assert b"to nobody" not in answer.stdout
            assert wire.ask(site("echo('next')"), id=1, keep=True).body == b"next"
    assert "Traceback" not in server.log()


def test_an_abort_of_another_request_is_none_of_this_one(pyfpm, site, runs, told, tmp_path):
    server = pyfpm(config=config())
    with Wire(server.socket) as wire:
        wire.send(wire.request(site(SCRIPT + SILENT), keep=True))
        runs()
        wire.send(abort(2) + wire.request(site("echo('next')", "next.py"), id=3, keep=True) + abort(3))
        (tmp_path / "go").touch()
        assert wire.answer().body == b"xto nobody"
        assert told() == {"status": 0, "how": "went on", "text": None}
        assert wire.answer(3).body == b"next"


def test_an_abort_that_came_with_the_request_is_seen_and_what_lies_behind_it_is_served(pyfpm, site, told):
    server = pyfpm(config=config())
    with Wire(server.socket) as wire:
        wire.send(
            wire.request(site(SCRIPT + POLL), keep=True)
            + abort(1)
            + wire.request(site("echo('next')", "next.py"), id=2, keep=True)
        )
        assert wire.answer(1).app_status == 1
        assert wire.answer(2).body == b"next"
        assert told()["status"] == 1


def test_a_later_request_is_not_lost_by_looking(pyfpm, site, runs, told, tmp_path):
    """It lies in the socket while we look for an abort, and may be cut anywhere."""
    server = pyfpm(config=config())
    looks = "while not os.path.exists('go'): connection_aborted(); echo('x'); flush(); time.sleep(0.002)"
    with Wire(server.socket) as wire:
        wire.send(wire.request(site(SCRIPT + looks), keep=True))
        runs()
        later = wire.request(site("echo(_GET['a'])", "next.py") + "?a=" + "b" * 3000, id=2, keep=True)
        for at in (5, 100, len(later) - 3):
            wire.send(later[:at])
            later = later[at:]
        (tmp_path / "go").touch()
        wire.send(later)
        assert wire.answer().body.startswith(b"x")
        assert wire.answer(2).body == b"b" * 3000
        assert told()["status"] == 0


def test_a_web_server_that_only_ends_its_sending_gets_the_whole_answer(pyfpm, site, runs, tmp_path):
    import socket

    server = pyfpm(config=config())
    with Wire(server.socket) as wire:
        wire.send(
            wire.request(site(SCRIPT + "for n in range(20): echo(connection_status()); flush(); time.sleep(0.005)"))
        )
        runs()
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.answer().body == b"0" * 20 + b"to nobody"


@pytest.mark.parametrize("more", ["ignore_user_abort = yes", ""])
def test_a_script_that_ignores_aborts_goes_on_to_its_end(pyfpm, site, runs, told, tmp_path, more):
    server = pyfpm(config=config(more))
    source = (
        "" if more else "ignore_user_abort(True)\n"
    ) + "for n in range(30): echo('x'); flush(); time.sleep(0.005)\n"
    with Wire(server.socket) as wire:
        wire.send(wire.request(site(SCRIPT + source + "how = 'to its end'")))
        runs()
    assert told() == {"status": 1, "how": "to its end", "text": None}
    assert ask(server.socket, site("echo('next')")).body == b"next"


# -- its time ----------------------------------------------------------------------------------------------------------

LOOP = "while True: pass"


def test_a_limit_of_the_script_raises_where_there_was_none(pyfpm, site, told):
    server = pyfpm(config=config())
    source = "import pyfpm\nassert set_time_limit(0.2)\ntry:\n    time.sleep(60)\nfinally: how = 'finally'"
    answer = ask(server.socket, site(SCRIPT + source))
    assert (answer.status, answer.body) == (504, b"to nobody")
    assert told() == {"status": 2, "how": "finally", "text": None}
    assert "Maximum execution time of 0.2 seconds exceeded" in server.log()


@pytest.mark.parametrize(
    "source",
    [
        "import time\nfor n in range(8): set_time_limit(1); time.sleep(0.2)\necho('good')",
        "import time\nset_time_limit(0); time.sleep(1.3); echo('good')",
        "import time\nset_time_limit(60); time.sleep(1.3); echo('good')",
        "import time\nset_time_limit(-1); time.sleep(1.3); echo('good')",
    ],
)
def test_a_script_gives_itself_more_time(pyfpm, site, source):
    server = pyfpm(config=config("max_execution_time = 1s"))
    answer = ask(server.socket, site(source))
    assert (answer.status, answer.body) == (200, b"good"), answer.stderr


def test_what_a_script_gave_itself_is_not_the_next_ones(pyfpm, site):
    server = pyfpm(config=config("max_execution_time = 1s"))
    with Wire(server.socket) as wire:
        assert wire.ask(site("set_time_limit(0)"), keep=True).status == 200
        answer = wire.ask(site(LOOP), keep=True)
        assert answer.status == 504 and b"Maximum execution time of 1 second exceeded" in answer.stderr
        assert wire.ask(site("set_time_limit(0.2)\n" + LOOP), keep=True).status == 504
        assert wire.ask(site("import time\ntime.sleep(0.5); echo('good')"), keep=True).body == b"good"


def test_shutdown_functions_have_their_own_time_after_a_timeout(pyfpm, site):
    """They are not limited until they ask for it, and then as everybody is."""
    server = pyfpm(config=config("max_execution_time = 1s"))
    late = (
        "def late():\n    time.sleep(0.3); echo('sorry')\n    set_time_limit(0.2)\n"
        "    time.sleep(5)\nregister_shutdown_function(late)\n"
    )
    answer = ask(server.socket, site("import time\nhow = ''\n" + late + LOOP))
    assert answer.status == 504
    assert server.logged("Maximum execution time of 1 second exceeded") == 1
    assert server.logged("Maximum execution time of 0.2 seconds exceeded") == 1


def test_a_process_that_the_script_forks_has_no_limit_to_set(pyfpm, site):
    server = pyfpm(config=config())
    source = "import os\npid = os.fork()\nif not pid: os._exit(7 + set_time_limit(1))\necho(os.waitpid(pid, 0)[1] >> 8)"
    assert ask(server.socket, site(source)).body == b"7"
