"""What pyfpmctl asks the master, what it shows, and its exit status."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from pyfpm.ctl import control
from support.master import Ctl, FakeMaster, pool, process, pyfpmctl, status


@pytest.mark.parametrize(
    ("arguments", "order"),
    [
        (["ping"], {"do": "ping"}),
        (["status"], {"do": "status"}),
        (["top", "--once"], {"do": "status"}),
        (["requests"], {"do": "requests"}),
        (["reload"], {"do": "reload", "pool": None}),
        (["reload", "www"], {"do": "reload", "pool": "www"}),
        (["trace", "12"], {"do": "trace", "pid": 12}),
        (["retire", "12"], {"do": "retire", "pid": 12}),
        (["scale", "www", "5"], {"do": "scale", "pool": "www", "workers": 5}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_command_is_this_order(ctl: Ctl, master: FakeMaster, arguments: list[str], order: dict[str, object]) -> None:
    master.results |= {"requests": [], "trace": {"pid": 12, "trace": "Thread ..."}}
    assert ctl("--control", master.path, *arguments).status == 0
    assert master.orders == [order]
    # The same with its options behind, and the result is JSON then.
    done = ctl(*arguments, "--json", "--control", master.path)
    assert (done.status, done.json) == (0, master.results.get(order["do"], {}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "arguments",
    [[], ["what"], ["trace"], ["trace", "x"], ["trace", "0"], ["scale", "www", "-1"], ["scale", "www"], ["--what"],
     ["ping", "--timeout", "0"], ["request"], ["request", "/x", "-p", "A", "--connect", "/s"],
     ["request", "/x", "--connect", "nowhere"], ["doctor"], ["doctor", "--nginx", "/nowhere", "--uri", "/x"],
     ["request", "/x", "--connect", "/s", "--body", "/nowhere"]],
    ids=" ".join,
)  # fmt: skip
def test_wrong_command_line_is_64_and_says_so_on_stderr(ctl: Ctl, arguments: list[str]) -> None:
    done = ctl(*arguments)
    assert (done.status, done.out) == (64, "")
    assert "pyfpmctl: " in done.err


def test_status_is_a_table_of_pools(ctl: Ctl, master: FakeMaster) -> None:
    waiting = pool("api", process(1), **{"listen queue": 9, "generations": {"4": 1, "5": 2}})
    master.results["status"] = status(pool("www", process(101), process(102, "Running")), waiting)
    lines = ctl("--control", master.path, "status").out.splitlines()
    assert lines[0] == "pyfpm 0.1.0, pid 77, up 1h01m, running, /etc/pyfpm.conf"
    assert lines[2].split() == ["POOL", "PM", "BUSY", "IDLE", "ALL", "MAX", "QUEUE", "ACCEPTED", "FULL", "SLOW", "UP"]
    assert lines[3].split() == ["www", "static", "1", "1", "2", "4", "0/511", "7400", "0", "1", "1h01m"]
    assert lines[4].split() == ["api", "static", "0", "1", "1", "4", "9/511", "7400", "0", "1", "1h01m"]
    assert lines[5] == "api: a reload is under way: generations 4 (1 workers), 5 (2 workers)"
    assert max(map(len, lines[:5])) <= 80


def test_requests_are_shown_the_oldest_first(ctl: Ctl, master: FakeMaster) -> None:
    base = {"pool": "www", "method": "GET", "query": "", "script": "/srv/x.py", "generation": 1}
    master.results["requests"] = [
        {**base, "pid": 1, "age_s": 0.5, "uri": "/young", "query": "a=b"},
        {**base, "pid": 2, "age_s": 300.0, "uri": "/old?a=b", "query": "a=b"},
    ]
    done = ctl("--control", master.path, "requests")
    assert [line.split() for line in done.out.splitlines()[1:]] == [
        ["5m00s", "2", "www", "GET", "/old?a=b", "/srv/x.py"],
        ["0.500s", "1", "www", "GET", "/young?a=b", "/srv/x.py"],
    ]
    master.results["requests"] = []
    assert ctl("--control", master.path, "requests").out == "no request is running\n"


def test_what_a_visitor_sent_cannot_steer_the_terminal(ctl: Ctl, master: FakeMaster) -> None:
    evil = "/\x1b]0;title\x07\n\u202e\ud800\x9b2J"
    master.results["requests"] = [
        {
            "pid": 1,
            "pool": "www",
            "age_s": 1,
            "method": "G\x1bT",
            "uri": evil,
            "query": "",
            "script": "",
            "generation": 1,
        }
    ]
    master.results["status"] = status(pool("www", process(1, "Running", **{"request uri": evil})))
    master.results["trace"] = {"pid": 1, "trace": f'File "{evil}"\n  line 2\n'}
    for command in (["requests"], ["top", "--once"], ["trace", "1"]):
        out = ctl("--control", master.path, *command).out
        assert out and not set(evil) - {"/", "\n"} - set("]0;title2J") & set(out), command


def test_trace_is_printed_as_it_is(ctl: Ctl, master: FakeMaster) -> None:
    master.results["trace"] = {"pid": 1, "trace": 'Thread 0x1:\n  File "/srv/é.py", line 3 in work\n'}
    assert ctl("--control", master.path, "trace", "1").out == 'Thread 0x1:\n  File "/srv/é.py", line 3 in work\n'


def test_failed_reload_is_1_with_the_traceback_on_stderr(ctl: Ctl, master: FakeMaster) -> None:
    master.results["reload"] = RuntimeError("the new code does not start\nTraceback:\n  SyntaxError: invalid syntax")
    done = ctl("--control", master.path, "reload")
    assert (done.status, done.out) == (1, "")
    assert "the new code does not start\nTraceback:\n  SyntaxError" in done.err
    done = ctl("--json", "--control", master.path, "reload")
    assert done.status == 1
    assert done.json["error"].endswith("SyntaxError: invalid syntax")


# -- who cannot be reached


def test_unreachable_master_is_2_and_says_why(ctl: Ctl, place: Path) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(place / "dead.ctl"))
    for path, word in (
        (place / "none.ctl", "there is no control socket"),
        (place / "dead.ctl", "the pyfpm that made it has ended"),
    ):
        done = ctl("--control", path, "status")
        assert (done.status, done.out) == (2, "")
        assert word in done.err and str(path) in done.err
    dead.close()


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (b"", "talks to root and to its own user only"),
        (b"HTTP/1.1 400\r\n", "is no pyfpm"),
        (b"[]\n", "is no pyfpm"),
        (b'{"ok": false}\n', "is no pyfpm"),
    ],
)
def test_answer_that_is_none_is_2(ctl: Ctl, master: FakeMaster, answer: bytes, word: str) -> None:
    master.results["ping"] = answer
    done = ctl("--control", master.path, "ping")
    assert done.status == 2
    assert word in done.err


def test_silent_master_is_2(master: FakeMaster, place: Path) -> None:
    silent = socket.socket(socket.AF_UNIX)
    silent.bind(str(place / "silent"))
    silent.listen()
    with pytest.raises(control.Unreachable, match=r"no answer within 0\.05 s"):
        control.ask(str(place / "silent"), {"do": "ping"}, timeout_s=0.05)
    silent.close()


# -- which master


def test_control_socket_is_found_by_the_environment(
    ctl: Ctl, master: FakeMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYFPM_CONTROL", master.path)
    assert ctl("ping").out == "pong\n"
    assert ctl("--control", "/nowhere", "ping").status == 2


def test_only_one_that_runs_is_found(
    ctl: Ctl, master: FakeMaster, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [master.path]
    monkeypatch.setattr(control, "running_ones", lambda: found)
    assert ctl("ping").out == "pong\n"
    found.append("/other.ctl")
    done = ctl("ping")
    assert done.status == 2 and "several run" in done.err and "/other.ctl" in done.err
    found.clear()
    done = ctl("ping")
    assert done.status == 2 and "found no pyfpm that runs" in done.err


def test_running_ones_are_those_that_listen_of_trusted_users_and_are_called_pyfpm(
    master: FakeMaster, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open("/proc/net/unix") as file:
        assert master.path in control.candidates(file.read())
    # We are its process here, and are not called so.
    monkeypatch.setattr(control, "candidates", lambda table: {master.path, str(place / "gone.ctl"), "/etc/passwd"})
    with open(f"/proc/{os.getpid()}/cmdline", "rb") as file:
        is_called_so = b"pyfpm" in file.read()
    assert control.running_ones() == ([master.path] if is_called_so else [])
    assert master.orders == []


def test_table_of_sockets() -> None:
    table = (
        "Num       RefCount Protocol Flags    Type St Inode Path\n"
        "0000000000000000: 00000002 00000000 00010000 0001 01 1 /run/a b.ctl\n"
        "0000000000000000: 00000002 00000000 00010000 0001 01 2 @abstract.ctl\n"
        "0000000000000000: 00000003 00000000 00000000 0001 03 3 /run/connected.ctl\n"
        "0000000000000000: 00000002 00000000 00010000 0001 01 4\n"
        "0000000000000000: 00000002 00000000 00010000 0001 01 5 /run/other.sock\n"
    )
    assert control.candidates(table) == {"/run/a b.ctl"}


# -- output


def test_pipe_gets_no_colours_and_a_narrow_locale_no_traceback(master: FakeMaster) -> None:
    master.results["status"] = status(
        pool("www", process(1, "Running", **{"request uri": "/é"}), **{"listen queue": 3})
    )
    for command in ("status", "top"):
        done = pyfpmctl("--control", master.path, command, env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"\x1b" not in done.stdout
    assert b"/\\xe9" in done.stdout


def test_closed_pipe_is_no_traceback(master: FakeMaster) -> None:
    master.results["trace"] = {"pid": 1, "trace": "x\n" * 200_000}
    read, write = os.pipe()
    os.close(read)
    done = pyfpmctl("--control", master.path, "trace", "1", stdout=write, stderr=-1, capture_output=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_json_is_ascii(ctl: Ctl, master: FakeMaster) -> None:
    master.results["trace"] = {"pid": 1, "trace": "\ud800é"}
    out = ctl("--control", master.path, "trace", "1", "--json").out
    assert out.isascii()
    assert json.loads(out)["trace"] == "\ud800é"
