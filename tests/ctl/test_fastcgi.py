"""``pyfpmctl request`` and ``ping`` over FastCGI, against a real pyfpm and beside cgi-fcgi."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pyfpm.ctl.fastcgi import script_params
from support.master import Ctl, FakeMaster, pyfpmctl
from support.server import Server

Start = Callable[..., Server]

SCRIPT = """
import sys
http_response_code(201)
header("Content-Type: text/plain")
header("X-Method: " + _SERVER["REQUEST_METHOD"])
print("to the log", file=sys.stderr)
body = sys.stdin.buffer.read()
echo(_SERVER.get("QUERY_STRING", "") + "|" + _SERVER.get("NAME", "") + "|")
echo(body)
exit(int(_GET.get("exit", 0)))
"""


@pytest.fixture
def server(pyfpm: Start, place: Path) -> Server:
    (place / "x.py").write_text(SCRIPT)
    return pyfpm("--docroot", str(place))


def test_request_prints_the_answer_as_it_is_and_stderr_apart(server: Server, place: Path) -> None:
    done = pyfpmctl("request", place / "x.py", "-q", "a=b", "-p", "NAME=v=w", "--connect", server.socket)
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    assert body == b"a=b|v=w|"
    assert b"Status: 201" in head and b"X-Method: GET" in head
    assert b"to the log" in done.stderr
    assert done.returncode == 0


def test_request_sends_a_body_from_a_file_or_stdin(server: Server, place: Path) -> None:
    body = bytes(range(256)) * 1000
    (place / "body").write_bytes(body)
    done = pyfpmctl("request", place / "x.py", "--body", place / "body", "--connect", server.socket)
    assert b"X-Method: POST" in done.stdout and done.stdout.endswith(b"||" + body)
    done = pyfpmctl(
        "request", place / "x.py", "-X", "PUT", "--body", "-", "--connect", server.socket, stdin=None, input=b"piped"
    )
    assert b"X-Method: PUT" in done.stdout and done.stdout.endswith(b"||piped")


def test_exit_status_is_the_scripts(ctl: Ctl, server: Server, place: Path) -> None:
    for code, status in ((0, 0), (7, 7)):
        done = pyfpmctl("request", place / "x.py", "-q", f"exit={code}", "--connect", server.socket)
        assert done.returncode == status
    done = pyfpmctl("request", "/nowhere.py", "--connect", f"unix:{server.socket}")
    assert done.stdout.startswith(b"Status: 404")


def test_request_as_json(ctl: Ctl, server: Server, place: Path) -> None:
    done = ctl("request", place / "x.py", "--json", "--connect", server.socket)
    assert done.json["status"] == 201
    assert ["X-Method", "GET"] in done.json["headers"]
    assert done.json["body"] == "||"
    assert "to the log" in done.json["stderr"]
    assert done.json["app_status"] == 0


def test_socket_is_found_beside_the_control_socket(server: Server, place: Path) -> None:
    done = pyfpmctl("request", place / "x.py", "--control", f"{server.socket}.ctl")
    assert done.stdout.endswith(b"||")


def test_nobody_there_is_2(ctl: Ctl, place: Path, master: FakeMaster) -> None:
    for command in (["request", "/x.py"], ["ping"]):
        done = ctl(*command, "--connect", place / "none")
        assert done.status == 2
        assert "there is no such socket" in done.err
    # A control socket that is not named after the pool's, of a master that has no file.
    master.results["status"] = {"master": {"config": None}, "pools": []}
    done = ctl("request", "/x.py", "--control", master.path)
    assert done.status == 2 and "give --connect ADDRESS" in done.err


def test_ping_without_pong_is_1(ctl: Ctl, server: Server) -> None:
    done = ctl("ping", "--path", "/ping", "--connect", server.socket)
    assert (done.status, done.out) == (1, "")
    assert "/ping was answered with 404" in done.err


def test_ping_page_is_printed(ctl: Ctl, pyfpm: Start, place: Path) -> None:
    (place / "ping.py").write_text("header('Content-Type: text/plain')\necho('pong')\n")
    server = pyfpm("--docroot", str(place))
    done = ctl("ping", "--path", place / "ping.py", "--connect", server.socket)
    assert (done.status, done.out) == (0, "pong\n")


@pytest.mark.skipif(shutil.which("cgi-fcgi") is None, reason="cgi-fcgi is not installed")
def test_it_prints_what_cgi_fcgi_does(server: Server, place: Path) -> None:
    script = str(place / "x.py")
    params = script_params(script, query="a=b")
    theirs = subprocess.run(
        ["cgi-fcgi", "-bind", "-connect", server.socket], env=params, capture_output=True, check=True, timeout=30
    )
    ours = pyfpmctl("request", script, "-q", "a=b", "--connect", server.socket)
    assert ours.stdout == theirs.stdout
    assert ours.stderr == theirs.stderr


@pytest.mark.parametrize(
    ("script", "root", "name"),
    [
        ("/status", None, "/status"),
        ("/app/status", None, "/app/status"),
        ("{place}/sub/x.py", None, "/x.py"),
        ("{place}/sub/x.py", "{place}", "/sub/x.py"),
        ("{place}/sub/x.py", "{place}/", "/sub/x.py"),
    ],
)
def test_script_name(place: Path, script: str, root: str | None, name: str) -> None:
    (place / "sub").mkdir()
    (place / "sub/x.py").write_text("")
    script = script.format(place=place)
    params = script_params(f"{script}?a=b", root=root and root.format(place=place))
    assert params["SCRIPT_NAME"] == name
    assert params["REQUEST_URI"] == f"{name}?a=b"
    assert params["QUERY_STRING"] == "a=b"
    assert params["SCRIPT_FILENAME"] == script


def test_closed_pipe_ends_a_request_quietly(server: Server, place: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = pyfpmctl(
        "request",
        place / "x.py",
        "--connect",
        server.socket,
        stdout=write,
        stderr=subprocess.PIPE,
        capture_output=False,
    )
    os.close(write)
    assert done.returncode == 141
    assert b"Traceback" not in done.stderr
