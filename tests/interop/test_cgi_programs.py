"""CGI programs behind real web servers: those of examples/cgi-bin, and others that do what such programs do.

nginx and Apache are set up as docs/migrating-from-cgi.md says.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import processes
from support.server import Server
from support.waiting import eventually
from support.web import fetch
from support.webservers import Apache, Nginx
from support.wire import Wire

EXAMPLES = Path(__file__).parents[2] / "examples" / "cgi-bin"

PROGRAMS = {
    "env.py": """#!/usr/bin/env python3
import json, os, sys
print("Content-Type: application/json\\n")
print(json.dumps([dict(os.environ), sys.argv, os.getcwd()]))
""",
    "env.sh": "#!/bin/sh\necho 'Content-Type: text/plain'; echo; exec env",
    "echo.py": "#!/usr/bin/python3\nimport sys\nprint('Content-Type: text/plain\\n', flush=True)\n"
    "sys.stdout.buffer.write(sys.stdin.buffer.read())",
    "echo.sh": "#!/bin/sh\necho 'Content-Type: text/plain'; echo; exec cat",
    "missing.py": "#!/usr/bin/python3\nprint('Status: 404 Not here\\nContent-Type: text/plain\\n\\nno such page')",
    "away.py": "#!/usr/bin/python3\nprint('Location: https://example.com/\\n')",
    "there.sh": "#!/bin/sh\necho Location: /echo.py; echo",
    "large.py": "#!/usr/bin/python3\nprint('Content-Type: text/plain\\n')\nfor n in range(100): print('x' * 99_999)",
    "large.sh": "#!/bin/sh\necho A: 1; echo; exec head -c 10000000 /dev/zero",
    "fail.py": "#!/usr/bin/python3\nprint('Content-Type: text/plain\\n\\nhalf')\nraise ValueError('the reason')",
    "fail.sh": "#!/bin/sh\necho the reason >&2",
    "slow.sh": "#!/bin/sh\necho A: 1; echo; echo $$ > slow.pid; (sleep 300 & sleep 300) & sleep 300",
    "stubborn.sh": "#!/bin/sh\ntrap '' TERM HUP INT\necho $$ > stubborn.pid\nwhile :; do sleep 1; done",
    "stream.py": "#!/usr/bin/python3\nimport sys\nprint('Content-Type: text/plain\\nX-Accel-Buffering: no\\n')\n"
    "print('first', flush=True)\nopen('go').close()\nprint('second')",
    "stream.sh": "#!/bin/sh\necho 'Content-Type: text/plain'; echo 'X-Accel-Buffering: no'; echo\n"
    "echo first; read x < go; echo second",
    "fork.py": "#!/usr/bin/python3\nimport os, sys\nprint('A: 1\\n', flush=True)\n"
    "if not os.fork():\n    print('child')\n    sys.exit(3)\nprint(os.waitstatus_to_exitcode(os.wait()[1]))",
    "state.py": """#!/usr/bin/env python3
import json, os, sys
print("Content-Type: application/json\\n")
descriptors = len(os.listdir("/proc/self/fd"))
print(json.dumps([sorted(os.environ), os.getcwd(), sorted(sys.modules), descriptors, os.getpid()]))
""",
    "messy.py": "#!/usr/bin/env python3\nimport os, sys, tempfile\nprint('A: 1\\n')\nos.environ['LEFT'] = '1'\n"
    "os.chdir('/tmp')\nfile = tempfile.TemporaryFile()\nsys.stdout = file\nos.system('true')\nsys.exit(1)",
}  # fmt: skip


@pytest.fixture(scope="module")
def bin(site: Path) -> Path:
    for path in EXAMPLES.iterdir():
        shutil.copy(path, site)
    for name, text in PROGRAMS.items():
        (site / name).write_text(text)
        (site / name).chmod(0o755)
    # Programs of these tests write into their directory.
    site.chmod(0o777)
    return site


@pytest.fixture(scope="module", params=["nginx", "apache"])
def front(request, behind, bin):
    arguments = ["--docroot", str(bin), "-d", "app.kind=cgi", "--workers", "2", "-d", "env[GIVEN]=by the operator"]
    if request.param == "nginx":
        return behind(Nginx, *arguments, label="nginx")
    return behind(Apache, *arguments, label="apache", mapping='ProxyPass "/" "unix:@address@|fcgi://localhost@root@/"')


def test_the_example_greets(front):
    page = fetch(front.port, "/hello.py?name=J%C3%BCrgen+%3C")
    assert page.status == 200 and "Hello, Jürgen &lt;!" in page.body.decode()
    assert page.headers["content-type"] == "text/html; charset=utf-8"


def test_the_example_takes_a_file(front):
    pytest.importorskip("cgi", reason="Python 3.13 without legacy-cgi")
    content = os.urandom(3_000_000)
    body = (
        b'--x\r\nContent-Disposition: form-data; name="note"\r\n\r\nna\xc3\xafve\r\n'
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n' + content + b"\r\n--x--\r\n"
    )
    page = fetch(front.port, "/upload.py", body, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert f"a.bin: {hashlib.sha256(content).hexdigest()}<p>naïve" in page.body.decode()


def test_the_example_in_perl_lists_its_variables(front):
    page = fetch(front.port, "/environment.pl?a=b", headers={"Proxy": "http://evil/", "X-Custom": "1"})
    found = dict(line.split("=", 1) for line in page.body.decode().splitlines())
    assert found["QUERY_STRING"] == "a=b" and found["HTTP_X_CUSTOM"] == "1" and found["GIVEN"] == "by the operator"
    assert "HTTP_PROXY" not in found and found["GATEWAY_INTERFACE"] == "CGI/1.1"


def test_the_example_in_shell_shows_the_time(front):
    assert len(fetch(front.port, "/clock.sh").body.splitlines()) == 3


def test_both_kinds_are_told_the_same(front):
    """One in the worker, one as a process; the operator's environment is for the first alone."""
    inside, argv, cwd = json.loads(fetch(front.port, "/env.py?x+y").body)
    outside = dict(line.split("=", 1) for line in fetch(front.port, "/env.sh?x+y").body.decode().splitlines())
    here = str(front.web.root)
    assert (argv, cwd) == ([f"{here}/env.py", "x", "y"], here)
    of_the_request = {name for name in inside if name.startswith(("SERVER_", "REQUEST_", "REMOTE_", "SCRIPT_"))}
    assert of_the_request and of_the_request <= outside.keys()
    assert inside["SCRIPT_NAME"] == "/env.py" and outside["SCRIPT_NAME"] == "/env.sh"
    assert outside["PWD"] == here
    assert not {"CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_PROXY"} & (inside.keys() | outside.keys())


def test_what_goes_on_behind_a_program_is_its_path_info(front):
    for program in ("/env.py", "/env.sh"):
        page = fetch(front.port, program + "/a/b%20c?d=e").body.decode()
        found = json.loads(page)[0] if program == "/env.py" else dict(line.split("=", 1) for line in page.splitlines())
        assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == (program, "/a/b c")
        assert found["SCRIPT_FILENAME"] == str(front.web.root) + program


@pytest.mark.parametrize("program", ["/echo.py", "/echo.sh"])
@pytest.mark.parametrize("size", [0, 10, 2_000_000])
def test_bodies_come_back_whole(front, program, size):
    body = os.urandom(size)
    assert fetch(front.port, program, body).body == body


def test_a_body_of_unknown_length_has_one(front):
    page = fetch(front.port, "/env.py", iter([b"abc", b"de"]))
    assert json.loads(page.body)[0]["CONTENT_LENGTH"] == "5"


def test_status_and_redirects(front):
    page = fetch(front.port, "/missing.py")
    assert (page.status, page.body) == (404, b"no such page\n")
    for path, place in (("/away.py", "https://example.com/"), ("/there.sh", "/echo.py")):
        page = fetch(front.port, path)
        assert page.status == 302 and page.headers["location"].endswith(place)


@pytest.mark.parametrize(("program", "size"), [("/large.py", 10_000_000), ("/large.sh", 10_000_000)])
def test_large_answers_are_whole(front, program, size):
    assert fetch(front.port, program, keep_body=False).size == size


@pytest.mark.parametrize("program", ["/fail.py", "/fail.sh"])
def test_failures_are_500_with_their_reason_in_both_logs(front, program):
    page = fetch(front.port, program)
    assert page.status == 500 and b"reason" not in page.body and b"half" not in page.body
    assert "the reason" in front.pyfpm.log()
    eventually(lambda: "the reason" in front.web.log(), "it is in the web server's log")


def test_what_is_not_there_and_what_is_not_executable(front):
    assert fetch(front.port, "/nothing").status == 404
    (front.web.root / "library.py").write_text("secret = 1")
    assert fetch(front.port, "/library.py").status == 403


@pytest.mark.parametrize("program", ["/stream.py", "/stream.sh"])
def test_a_flush_reaches_the_visitor_while_the_program_runs(front, program):
    if front.label == "apache":
        pytest.skip("mod_proxy_fcgi passes output on when it has 8 KiB, or with flushpackets=on")
    go = front.web.root / "go"
    go.unlink(missing_ok=True)
    os.mkfifo(go)
    go.chmod(0o666)
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=60)
    connection.request("GET", program)
    response = connection.getresponse()
    assert response.read1(100) == b"first\n"
    go.open("w").close()
    assert response.read() == b"second\n"
    connection.close()


def test_a_child_that_is_forked_writes_into_the_answer(front):
    assert fetch(front.port, "/fork.py").body == b"child\n3\n"


def test_fifty_requests_leave_nothing(front):
    """Environment, directory, modules and descriptors of each worker are as they were."""

    def states() -> dict[int, list[object]]:
        found: dict[int, list[object]] = {}
        while len(found) < 2:
            *state, pid = json.loads(fetch(front.port, "/state.py").body)
            found[pid] = state
        return found

    for _ in range(20):
        fetch(front.port, "/messy.py")
    states()
    before = states()
    for _ in range(50):
        assert fetch(front.port, "/messy.py", b"body").status == 200
    assert states() == before
    for worker in front.pyfpm.workers:
        assert not processes.children(worker)


# -- how processes end ------------------------------------------------------------------------------------------------


@pytest.fixture
def alone(bin: Path) -> Iterator[Callable[..., Server]]:
    """Starts a pyfpm for these programs, without a web server."""
    started = []

    def start(*arguments: str) -> Server:
        server = Server("--docroot", str(bin), "-d", "app.kind=cgi", *arguments)
        started.append(server)
        server.wait_until_ready()
        return server

    yield start
    for server in started:
        server.discard()


def group_of(path: Path) -> int:
    return int(eventually(lambda: path.exists() and path.read_text().strip(), "it runs"))


def has_ended(group: int) -> None:
    eventually(lambda: not processes.running_session(group), "all of its group have ended")


@pytest.mark.parametrize("program", ["slow", "stubborn"])
def test_a_deadline_ends_the_whole_group(alone, bin, program):
    (bin / f"{program}.pid").unlink(missing_ok=True)
    server = alone("-d", "cgi.timeout=1s")
    with Wire(server.socket) as wire:
        answer = wire.ask(str(bin / f"{program}.sh"))
    has_ended(group_of(bin / f"{program}.pid"))
    assert answer.status == 504 and "cgi.timeout" in server.log()


def test_a_visitor_who_leaves_ends_the_whole_group(alone, bin):
    (bin / "slow.pid").unlink(missing_ok=True)
    server = alone()
    with Wire(server.socket) as wire:
        wire.send(wire.request(str(bin / "slow.sh")))
        group = group_of(bin / "slow.pid")
        assert len(processes.running_session(group)) > 1
    has_ended(group)
    assert server.logged("slow.sh") == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_the_end_of_the_worker_ends_the_whole_group(alone, bin, number):
    (bin / "slow.pid").unlink(missing_ok=True)
    server = alone()
    with Wire(server.socket) as wire:
        wire.send(wire.request(str(bin / "slow.sh")))
        group = group_of(bin / "slow.pid")
        eventually(lambda: len(processes.running_session(group)) == 4, "all of it runs")
        os.kill(server.worker, number)
        has_ended(group)


def test_request_terminate_timeout_ends_the_whole_group(alone, bin):
    (bin / "slow.pid").unlink(missing_ok=True)
    server = alone("-d", "request_terminate_timeout=2s")
    with Wire(server.socket) as wire:
        assert wire.ask(str(bin / "slow.sh")).status in (200, 504)
    has_ended(group_of(bin / "slow.pid"))


def test_a_cgi_pool_must_say_where_its_programs_are(alone):
    server = Server("-d", "app.kind=cgi")
    assert server.wait() == 78 and "app.kind = cgi needs doc_root" in server.log()
    server.discard()
