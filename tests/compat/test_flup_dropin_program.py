"""A program with one changed line: started with an address of its own, with a socket on descriptor 0, and as CGI."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyfpm.compat.flup import WSGIServer
from support import flup_client
from support.program import Program, write_program
from support.waiting import PATIENCE_S, eventually
from support.webservers import program
from support.wire import Wire

# What existing programs look like; their line "from flup.server.fcgi import WSGIServer" is the changed one.
TEXT = """
from pyfpm.compat.flup import FCGI_AUTHORIZER, FCGI_FILTER, FCGI_RESPONDER, WSGIServer
import json, os, sys, time

def application(environ, start_response):
    query = environ.get("QUERY_STRING", "")
    if query == "fail":
        raise ValueError("the reason")
    if query == "print":
        print("printed")
    if query.startswith("nap"):
        open("running", "w").close()
        time.sleep(0.5)
    if query == "large":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"x" * 1_000_000] * 5
    if query == "file":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return environ["wsgi.file_wrapper"](open(__file__, "rb"))
    if query == "child":
        os.system("readlink /proc/self/fd/0 > child")
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "application/json")])
    shown = {name: value for name, value in environ.items() if isinstance(value, (str, bool, int))}
    return [json.dumps({**shown, "body": body.decode("latin-1"), "pid": os.getpid()}).encode()]

if __name__ == "__main__":
    again = WSGIServer(application, @arguments@).run()
    with open("ended", "w") as file:
        json.dump({"again": again, "fd0": os.readlink("/proc/self/fd/0")}, file)
"""


@pytest.fixture
def write(place: Path) -> Any:
    def write(arguments: str = "") -> Path:
        return write_program(place / "app.fcgi", TEXT.replace("@arguments@", arguments))

    return write


@pytest.fixture
def alone(place: Path, write: Any) -> Iterator[Any]:
    """Starts one that listens on ``place/sock``."""
    started: list[Program] = []

    def start(arguments: str = "", **options: Any) -> Program:
        program = Program([str(write(f"bindAddress={str(place / 'sock')!r}, {arguments}"))], cwd=place, **options)
        started.append(program)
        program.wait_until_it_listens(str(place / "sock"))
        return program

    yield start
    for each in started:
        each.__exit__(None, None, None)


def ask(address: str, body: bytes = b"", query: str = "", **params: str) -> Any:
    with Wire(address) as wire:
        return wire.ask(f"/a?{query}", body, **params)


def environ_of(answer: Any) -> dict[str, Any]:
    assert answer.status == 200, answer
    found: dict[str, Any] = json.loads(answer.body)
    return found


def ended(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place / "ended").read_text())
    return found


# -- with an address of its own ----------------------------------------------------------------------------------------


def test_it_answers_on_a_path_and_takes_it_away_when_it_ends(alone, place):
    program = alone()
    environ = environ_of(ask(str(place / "sock"), b"abc"))
    assert (environ["body"], environ["CONTENT_LENGTH"], environ["PATH_INFO"]) == ("abc", "3", "/a")
    assert (environ["wsgi.multithread"], environ["wsgi.multiprocess"], environ["wsgi.run_once"]) == (False,) * 3
    assert program.stop() == 0, program.stderr()
    assert not (place / "sock").exists()
    assert program.stderr() == ""


def test_it_answers_on_host_and_port(place, write):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with Program([str(write(f"bindAddress=('127.0.0.1', {port}), multiprocess=True"))], cwd=place) as program:
        program.wait_until_it_listens(("127.0.0.1", port))
        assert environ_of(ask(f"127.0.0.1:{port}"))["wsgi.multiprocess"] is True
        assert program.stop() == 0


@pytest.mark.parametrize(("number", "again"), [(signal.SIGTERM, False), (signal.SIGINT, False), (signal.SIGHUP, True)])
def test_it_finishes_what_runs_and_says_whether_it_is_to_start_again(alone, place, number, again):
    program = alone()
    with Wire(str(place / "sock")) as wire:
        wire.send(wire.request("/?nap"))
        eventually((place / "running").exists, "it runs")
        program.kill(number)
        assert wire.answer().status == 200
    assert program.wait() == 0
    assert ended(place)["again"] is again


def test_who_sends_sigint_again_does_not_wait(alone, place):
    program = alone()
    with Wire(str(place / "sock")) as wire:
        wire.send(wire.request("/?large"))
        # Nobody reads the answer, so the program has to wait.
        assert wire.socket.recv(1, socket.MSG_PEEK)

        def has_ended_by_another() -> bool:
            program.kill(signal.SIGINT)
            return program.process.poll() is not None

        eventually(has_ended_by_another, "it ends")
        assert program.wait() == -signal.SIGINT


def test_the_umask_is_that_of_the_sockets_file_alone(alone, place):
    alone("umask=0o007")
    assert stat.S_IMODE((place / "sock").stat().st_mode) == 0o770
    ask(str(place / "sock"), query="nap")
    assert stat.S_IMODE((place / "running").stat().st_mode) == 0o644


def test_a_dead_socket_is_replaced(alone, place):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(place / "sock"))
    alone()
    assert ask(str(place / "sock")).status == 200


def test_a_living_servers_socket_is_left_alone(alone, place, write):
    alone()
    with Program([str(place / "app.fcgi")], cwd=place) as second:
        assert second.wait() == 1
        assert "another server is listening on" in second.stderr()
    assert ask(str(place / "sock")).status == 200


def test_a_file_that_is_no_socket_is_left_alone(place, write):
    (place / "sock").write_text("precious")
    with Program([str(write(f"bindAddress={str(place / 'sock')!r}"))], cwd=place) as program:
        assert program.wait() == 1
        assert "is not a socket" in program.stderr()
    assert (place / "sock").read_text() == "precious"


def test_variables_of_the_programs_own_are_put_over_the_web_servers(alone, place):
    alone("environ={'SCRIPT_NAME': '', 'trac.env_path': '/srv/trac'}")
    environ = environ_of(ask(str(place / "sock"), SCRIPT_NAME="/app.fcgi", PATH_INFO="/x"))
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"], environ["trac.env_path"]) == ("", "/x", "/srv/trac")


def test_an_exception_is_500_without_a_traceback(alone, place):
    program = alone()
    answer = ask(str(place / "sock"), query="fail")
    assert answer.status == 500
    assert b"the reason" not in answer.stdout
    assert b"the reason" in answer.stderr
    assert "the reason" in program.stderr()
    assert ask(str(place / "sock")).status == 200


def test_debug_shows_it(alone, place):
    alone("debug=True")
    assert b"the reason" in ask(str(place / "sock"), query="fail").body


@pytest.mark.parametrize(
    ("arguments", "served"),
    [("", {1}), ("roles=(FCGI_AUTHORIZER,)", {2}), ("roles=[FCGI_RESPONDER, FCGI_FILTER]", {1, 3})],
)
def test_only_the_roles_it_was_told_are_served(alone, place, arguments, served):
    alone(arguments)
    for role in (1, 2, 3):
        with Wire(str(place / "sock")) as wire:
            wire.send(wire.request(role=role) + (wire.client.send_data(1, b"") if role == 3 else b""))
            answer = wire.answer()
            assert (answer.protocol_status == 0) is (role in served), role
            assert answer.protocol_status in (0, 3)


def test_only_the_web_servers_that_the_environment_names_are_let_in(place, write):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    env = {"FCGI_WEB_SERVER_ADDRS": "192.0.2.1, 127.0.0.1"}
    with Program([str(write(f"bindAddress=('', {port})"))], cwd=place, env=env) as program:
        program.wait_until_it_listens(("127.0.0.1", port))
        assert ask(f"127.0.0.1:{port}").status == 200
        with socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.2", 0)) as other:
            other.settimeout(PATIENCE_S)
            assert other.recv(1) == b""
        assert "Connection disallowed: IP address '127.0.0.2' has been dropped." in program.stderr()


def test_arguments_that_have_no_effect_are_told_and_unknown_ones_refused(alone, place):
    assert "maxSpare, minSpare: no effect" in alone("minSpare=1, maxSpare=5").stderr()
    with pytest.raises(TypeError, match="WSGIServer has no argument maxSpares"):
        WSGIServer(lambda environ, start: [], maxSpares=5)


def test_flups_own_client_is_served(alone, place):
    alone()
    params = {"REQUEST_METHOD": "POST", "SCRIPT_NAME": "", "PATH_INFO": "/x"}
    status, headers, body, _ = flup_client.ask(str(place / "sock"), params, b"abc")
    assert (status, headers["content-type"], json.loads(body)["body"]) == ("200 OK", "application/json", "abc")


def test_signals_are_given_back_and_it_can_run_again(place, tmp_path):
    """In this very process, by signals that a child of it sends."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    for number, again in ((signal.SIGHUP, True), (signal.SIGTERM, False)):
        server = WSGIServer(lambda environ, start: [b""], bindAddress=str(place / "sock"))
        with subprocess.Popen(
            [sys.executable, "-c", SEND_WHEN_IT_LISTENS, str(place / "sock"), str(os.getpid()), str(int(number))]
        ):
            assert server.run() is again
        assert {each: signal.getsignal(each) for each in handlers} == handlers
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()


SEND_WHEN_IT_LISTENS = """
import os, socket, sys, time
path, pid, number = sys.argv[1:]
probe = socket.socket(socket.AF_UNIX)
while probe.connect_ex(path):
    time.sleep(0.01)
os.kill(int(pid), int(number))
"""


# -- with a socket on descriptor 0 -------------------------------------------------------------------------------------


@pytest.fixture
def listener(place: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "sock"))
        listener.listen(100)
        yield listener


def test_the_socket_on_descriptor_0_is_served(place, write, listener):
    with Program([str(write())], stdin=listener, cwd=place) as program:
        environ = environ_of(ask(str(place / "sock"), query="child"))
        assert (environ["wsgi.multiprocess"], environ["wsgi.run_once"]) == (True, False)
        assert (place / "child").read_text() == "/dev/null\n", "what it starts does not get the socket"
        assert program.stop(signal.SIGHUP) == 0
    found = ended(place)
    assert found["again"] is True
    assert found["fd0"].startswith("socket:"), "it could execute itself again"


def test_several_share_the_socket(place, write, listener):
    path = str(write())
    with (
        Program([path], stdin=listener, cwd=place) as one,
        Program([path], stdin=listener, cwd=place) as other,
    ):
        seen: set[int] = set()

        def both() -> bool:
            with Wire(str(place / "sock")) as first, Wire(str(place / "sock")) as second:
                for wire in (first, second):
                    wire.send(wire.request("/?nap"))
                seen.update(environ_of(wire.answer())["pid"] for wire in (first, second))
            return len(seen) == 2

        eventually(both, "both answer")
        assert seen == {one.process.pid, other.process.pid}


def test_it_ends_after_max_requests_where_somebody_starts_it_again(place, write, listener):
    with Program([str(write("maxRequests=3"))], stdin=listener, cwd=place) as program:
        for _ in range(3):
            assert ask(str(place / "sock")).status == 200
        assert program.wait() == 0
    assert ended(place)["again"] is False


def test_closed_standard_descriptors_are_not_taken_for_something_else(place, write, listener):
    """Whatever opened next would else be stdout, and a child's output would go into somebody's connection."""
    text = 'exec "$@" >&- 2>&-'
    with Program(["/bin/sh", "-c", text, "sh", str(write())], stdin=listener, cwd=place) as program:
        assert ask(str(place / "sock"), query="print").status == 200
        assert [os.readlink(f"/proc/{program.process.pid}/fd/{fd}") for fd in (0, 1, 2)] == [os.devnull] * 3
        assert program.stop() == 0


def test_under_spawn_fcgi(place, write):
    spawn = program("spawn-fcgi", "spawn-fcgi")
    with Program([spawn, "-n", "-s", str(place / "sock"), "--", str(write())], cwd=place) as started:
        started.wait_until_it_listens(str(place / "sock"))
        assert environ_of(ask(str(place / "sock"), b"abc"))["body"] == "abc"
        assert started.stop() == 0


def test_under_cgi_fcgi_which_starts_it(place, write):
    """cgi-fcgi is the specification's own starter: it listens, and starts the program with the socket."""
    starter = program("cgi-fcgi", "libfcgi-bin")
    path = str(place / "sock")
    subprocess.run([starter, "-start", "-connect", path, str(write())], cwd=place, check=True, timeout=PATIENCE_S)
    environ = environ_of(ask(path, b"abc"))
    assert environ["body"] == "abc"
    os.kill(environ["pid"], signal.SIGTERM)
    eventually((place / "ended").exists, "it has ended")


# -- as a CGI program --------------------------------------------------------------------------------------------------


def as_cgi(program: Path, body: bytes = b"", **environ: str) -> subprocess.CompletedProcess[bytes]:
    params = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "/cgi-bin/app.fcgi", "SERVER_PROTOCOL": "HTTP/1.1", **environ}
    if body:
        params.setdefault("CONTENT_LENGTH", str(len(body)))
    return subprocess.run(
        [str(program)], input=body, env={**os.environ, **params}, cwd=program.parent, capture_output=True,
        timeout=PATIENCE_S,
    )  # fmt: skip


def split(answer: bytes) -> tuple[str, bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.decode(), body


def test_as_a_cgi_program_it_answers_one_request(write):
    done = as_cgi(write(), b"abc and more", CONTENT_LENGTH="3", PATH_INFO="/x", REQUEST_METHOD="POST")
    head, body = split(done.stdout)
    environ = json.loads(body)
    assert "Content-Type: application/json" in head
    assert (environ["body"], environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("abc", "/cgi-bin/app.fcgi", "/x")
    assert (environ["wsgi.multiprocess"], environ["wsgi.run_once"], environ["wsgi.multithread"]) == (True, True, False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_as_a_cgi_program_the_script_is_where_it_is_mounted(write):
    environ = json.loads(split(as_cgi(write()).stdout)[1])
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/cgi-bin/app.fcgi", "")


def test_as_a_cgi_program_bytes_of_the_path_are_characters(write):
    environ = json.loads(split(as_cgi(write(), PATH_INFO="/Jürgen").stdout)[1])
    assert environ["PATH_INFO"].encode("latin-1").decode() == "/Jürgen"


def test_as_a_cgi_program_a_chunked_body_ends_where_it_ends(write):
    done = as_cgi(write(), b"x" * 200_000, CONTENT_LENGTH="", HTTP_TRANSFER_ENCODING="chunked")
    assert len(json.loads(split(done.stdout)[1])["body"]) == 200_000


def test_as_a_cgi_program_prints_do_not_get_into_the_answer(write):
    done = as_cgi(write(), QUERY_STRING="print")
    assert json.loads(split(done.stdout)[1])["QUERY_STRING"] == "print"
    assert done.stderr == b"printed\n"


def test_as_a_cgi_program_an_exception_is_500(write):
    done = as_cgi(write(), QUERY_STRING="fail")
    assert split(done.stdout)[0].startswith("Status: 500")
    assert b"the reason" not in done.stdout
    assert b"the reason" in done.stderr


def test_as_a_cgi_program_large_answers_and_files_are_whole(write):
    program = write()
    assert split(as_cgi(program, QUERY_STRING="large").stdout)[1] == b"x" * 5_000_000
    assert split(as_cgi(program, QUERY_STRING="file").stdout)[1] == program.read_bytes()


def test_a_reader_that_leaves_is_no_error(write, place):
    env = {**os.environ, "REQUEST_METHOD": "GET", "QUERY_STRING": "large"}
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        [str(write())], stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.PIPE, env=env, cwd=place
    )
    os.close(writer)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert said == b""


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_it_can_be_told_to_be_a_cgi_program(place, write, listener, how):
    env = {"REQUEST_METHOD": "GET", **({"FCGI_FORCE_CGI": "Y"} if how == "environment" else {})}
    program = write("forceCGI=True" if how == "argument" else "")
    with Program([str(program)], stdin=listener, cwd=place, env=env) as started:
        assert started.wait() == 0
        assert json.loads(started.stdout().partition("\r\n\r\n")[2])["wsgi.run_once"] is True


def test_who_starts_it_by_hand_is_told_what_it_takes_it_for(place, write):
    env = {name: value for name, value in os.environ.items() if name != "REQUEST_METHOD"}
    done = subprocess.run(
        [str(write())], cwd=place, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_S
    )
    assert b"no listening socket on descriptor 0 and no bindAddress" in done.stderr
    assert done.stdout.startswith(b"Content-Type: application/json")


def test_the_example_runs(place):
    example = Path(__file__).parents[2] / "examples" / "flup" / "app.fcgi"
    path = str(place / "sock")
    with Program([sys.executable, str(example), path], env={"PYTHONPATH": os.pathsep.join(sys.path)}) as program:
        program.wait_until_it_listens(path)
        assert b"<tr><th>SCRIPT_NAME<td>" in ask(path).body
        assert program.stop() == 0
