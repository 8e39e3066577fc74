"""``pm.threads``: requests of one worker run beside each other, and none of them sees another."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support import processes
from support.server import run_pyfpm
from support.waiting import eventually
from support.wire import Wire, ask

# Goes on when there is a file of the name that the query says.
WAIT = """
import os, time
while not os.path.exists(_GET["until"]):
    time.sleep(0.005)
echo(_GET["name"])
"""
WHO = "import os\necho(os.getpid())\n"


@pytest.fixture
def site(place: Path):
    (place / "wait.py").write_text(WAIT)
    (place / "who.py").write_text(WHO)

    def write(source: str, name: str = "script.py") -> str:
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text(source)
        return str(place / name)

    return write


@pytest.fixture
def together():
    """Ask at the same time; their answers, in order."""
    with ThreadPoolExecutor(32) as pool:
        yield lambda address, requests: [pool.submit(ask, address, each) for each in requests]


def wait_for(place: Path, name: str) -> str:
    return f"{place}/wait.py?until={place}/go&name={name}"


def test_as_many_run_at_once_as_there_are_threads(pyfpm, site, together):
    # All four have to be there before one of them goes on.
    script = site("""
import sys, threading, time
barrier = sys.modules.setdefault("barrier", threading.Barrier(4))
echo(_GET["name"], " ", barrier.wait(30) >= 0)
""")
    server = pyfpm("--threads", "4")
    answers = [each.result() for each in together(server.socket, [f"{script}?name=n{at}" for at in range(4)])]
    assert [each.body for each in answers] == [b"n%d True" % at for at in range(4)]


def test_what_belongs_to_a_request_is_its_own(pyfpm, site, together):
    script = site("""
import contextvars, sys, threading, time
name = _GET["name"]
header("X-Name: " + name)
for at in range(20):
    print(name, end=" ")
    time.sleep(0.001)
    assert _GET["name"] == name and _SERVER["QUERY_STRING"].endswith(name)

def other():
    print("thread of", name, end="")

thread = threading.Thread(target=contextvars.copy_context().run, args=(other,))
thread.start()
thread.join()
""")
    server = pyfpm("--threads", "8", "-d", "output_buffering=0")
    asked = together(server.socket, [f"{script}?name=n{at}" for at in range(40)])
    for at, answer in enumerate(each.result() for each in asked):
        assert answer.body == f"n{at} ".encode() * 20 + f"thread of n{at}".encode()
        assert answer.head["x-name"] == f"n{at}"


def test_a_thread_that_the_script_starts_without_its_context_has_no_request(pyfpm, site):
    script = site("""
import threading
found = []
def other():
    try:
        connection_aborted()
    except RuntimeError as error:
        found.append(str(error))
thread = threading.Thread(target=other)
thread.start()
thread.join()
echo(found)
""")
    server = pyfpm("--threads", "2")
    assert b"there is no request here" in ask(server.socket, script).body


def test_fastcgi_finish_request_frees_the_connection_while_the_thread_goes_on(pyfpm, site, place):
    finish = site(f"""
import os, time
echo("answer")
fastcgi_finish_request()
echo("to nobody"); flush()
while not os.path.exists("{place}/go"):
    time.sleep(0.005)
open("{place}/done", "w").close()
""")
    server = pyfpm("--threads", "2")
    with Wire(server.socket) as wire:
        assert wire.ask(finish, keep=True).body == b"answer"
        assert wire.ask(f"{place}/who.py", keep=True).body == str(server.worker).encode()
    assert ask(server.socket, finish).body == b"answer", "the connection is closed, or this would wait"
    (place / "go").touch()
    eventually((place / "done").exists)


def test_a_slow_reader_holds_only_its_own_thread(pyfpm, site, place):
    large = site("echo('x' * 20_000_000)", "large.py")
    server = pyfpm("--threads", "2")
    with Wire(server.socket) as wire:
        wire.send(wire.request(large))
        for _ in range(20):
            assert ask(server.socket, f"{place}/who.py").status == 200
        assert len(wire.answer().body) == 20_000_000


def test_several_requests_of_one_connection_run_at_once(pyfpm, site, place):
    server = pyfpm("--threads", "3")
    with Wire(server.socket) as wire:
        wire.send(wire.request(wait_for(place, "first"), id=1, keep=True))
        wire.send(wire.request(f"{place}/who.py", id=2, keep=True))
        assert wire.answer(2).status == 200
        (place / "go").touch()
        assert wire.answer(1).body == b"first"


def test_an_aborted_request_tells_its_script_and_frees_its_id(pyfpm, site, place):
    script = site(f"""
import time
try:
    while not connection_aborted():
        echo("x"); flush(); time.sleep(0.005)
finally:
    open("{place}/ended", "w").close()
""")
    server = pyfpm("--threads", "2")
    with Wire(server.socket) as wire:
        wire.send(wire.request(script, id=7, keep=True))
        eventually(lambda: wire._read() and wire._answers.get(7))
        wire.send(wire.client.abort_request(7))
        assert wire.answer(7).app_status == 1
        assert wire.ask(f"{place}/who.py", id=7, keep=True).status == 200
    eventually((place / "ended").exists, "the script has heard of it")


def test_when_the_web_server_hangs_up_the_thread_is_free_again(pyfpm, site, place):
    script = site(f"""
import time
open("{place}/began", "w").close()
while True:
    echo("x" * 1000); flush(); time.sleep(0.001)
""")
    server = pyfpm("--threads", "1")
    with Wire(server.socket) as wire:
        wire.send(wire.request(script))
        eventually((place / "began").exists)
    assert ask(server.socket, f"{place}/who.py").status == 200


def test_max_execution_time_is_raised_in_the_thread_of_that_request(pyfpm, site, place):
    # Not as long as it takes for whoever is slow, but longer than the others need.
    script = site("""
import time
try:
    while True: time.sleep(0.001)
except BaseException as error:
    echo(type(error).__name__)
""")
    server = pyfpm("--threads", "2", "-d", "max_execution_time=0.3s")
    assert ask(server.socket, script).body == b"ExecutionTimeout"
    assert ask(server.socket, f"{place}/who.py").status == 200


def test_set_time_limit_is_the_requests_own(pyfpm, site, place):
    script = site("""
import time
assert set_time_limit(0.1)
while True: time.sleep(0.001)
""")
    server = pyfpm("--threads", "2")
    assert ask(server.socket, script).status == 504
    assert ask(server.socket, f"{place}/who.py").status == 200


def test_a_stuck_thread_is_answered_for_and_its_worker_replaced_and_nobody_else_suffers(pyfpm, site, place):
    stuck = site("import time\ntime.sleep(1000)", "stuck.py")
    server = pyfpm("--threads", "3", "-d", "request_terminate_timeout=1s")
    before = server.worker
    with Wire(server.socket) as wire, Wire(server.socket) as other:
        wire.send(wire.request(stuck))
        assert wire.answer().status == 504
        other.send(other.request(f"{place}/who.py", keep=True))
        assert other.answer().status == 200
    eventually(lambda: server.workers and before not in server.workers, "another worker is in its place")
    assert "stuck.py" in server.log() and "request_terminate_timeout" in server.log()
    assert ask(server.socket, f"{place}/who.py").body == str(server.worker).encode()


def test_a_time_that_is_up_while_its_thread_waits_for_a_slow_reader_ends_only_that_request(pyfpm, site, place):
    """The answer is ended under the hands of the thread, which goes on with it when the reader does."""
    large = site("for _ in range(200): echo('x' * 100_000)", "large.py")
    server = pyfpm("--threads", "2", "-d", "request_terminate_timeout=1s")
    before = server.worker
    with Wire(server.socket) as wire:
        wire.send(wire.request(large))
        eventually(lambda: "large.py" in server.log(), "its time is up")
        body = b"".join(wire.pieces())
        assert body.count(b"x") < 20_000_000
    eventually(lambda: server.workers and before not in server.workers, "another worker is in its place")
    assert ask(server.socket, f"{place}/who.py").status == 200
    assert "SIGSEGV" not in server.log()


def test_a_visitor_who_leaves_while_a_thread_waits_for_him_harms_nobody(pyfpm, site, place):
    large = site("echo('x' * 20_000_000)", "large.py")
    server = pyfpm("--threads", "2")
    before = server.worker
    for _ in range(20):
        with Wire(server.socket) as wire:
            wire.send(wire.request(large, keep=True))
            wire.socket.recv(1)
            wire.send(wire.client.abort_request(1))
    assert ask(server.socket, f"{place}/who.py").body == str(before).encode()
    assert "uncaught" not in server.log(), "that a visitor leaves is no error"


def test_a_thread_that_keeps_the_interpreter_for_itself_is_the_watchdogs(pyfpm, site, place):
    stuck = site("import ctypes\nctypes.PyDLL(None).sleep(1000)", "stuck.py")
    server = pyfpm("--threads", "2", "-d", "request_terminate_timeout=1s")
    before = server.worker
    with Wire(server.socket) as wire:
        wire.send(wire.request(stuck))
        assert wire.is_closed()
    eventually(lambda: server.workers and before not in server.workers, "another worker is in its place")
    assert "stuck.py" in server.log()
    assert ask(server.socket, f"{place}/who.py").status == 200


def test_what_a_script_imports_while_its_superglobals_are_made_is_found(pyfpm, site, place):
    body = b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\none\r\n--x--\r\n"
    script = site("import colorsys, sched\necho(_POST['a'])")
    server = pyfpm("--threads", "2")
    assert ask(server.socket, script, body, CONTENT_TYPE="multipart/form-data; boundary=x").body == b"one"


def test_the_slow_log_has_the_stack_of_that_thread(pyfpm, site, place):
    slow = site(f"""
import os, time
def query():
    while not os.path.exists("{place}/go"): time.sleep(0.005)
query()
""")
    server = pyfpm("--threads", "2", "-d", f"slowlog={place}/slow.log", "-d", "request_slowlog_timeout=0.1s")
    with Wire(server.socket) as wire:
        wire.send(wire.request(slow))
        eventually(lambda: (place / "slow.log").exists() and "query()" in (place / "slow.log").read_text())
        (place / "go").touch()
        assert wire.answer().status == 200


def test_a_worker_that_is_full_leaves_new_connections_to_the_others(pyfpm, site, place, together):
    stays = site(f"""
import os, time
open(f"{place}/by{{os.getpid()}}", "w").close()
while not os.path.exists("{place}/go"):
    time.sleep(0.005)
echo(_GET["name"])
""")
    server = pyfpm("--threads", "1", "--workers", "2")
    # One runs and one waits in a worker that is full. The third must run, and so in the other one.
    asked = together(server.socket, [f"{stays}?name=n{at}" for at in range(3)])
    eventually(lambda: len(list(place.glob("by*"))) == 2, "two run at once, in two workers")
    (place / "go").touch()
    assert [each.result().body for each in asked] == [b"n0", b"n1", b"n2"]


def test_a_request_that_waits_for_too_long_is_answered_and_never_run(pyfpm, site, place):
    ran = site(f"open('{place}/ran', 'a').write('x')", "ran.py")
    server = pyfpm("--threads", "1", "-d", "pm.queue_timeout=0.2s")
    with Wire(server.socket) as first, Wire(server.socket) as second:
        first.send(first.request(wait_for(place, "first")))
        eventually(lambda: server.control("status")["pools"][0]["processes"][0]["state"] == "Running")
        second.send(second.request(ran))
        answer = second.answer()
        assert answer.status == 503
        assert answer.head["retry-after"].isdigit()
        (place / "go").touch()
        assert first.answer().body == b"first"
    assert ask(server.socket, f"{place}/who.py").status == 200
    assert not (place / "ran").exists()


def test_more_than_queue_max_are_turned_away_at_once(pyfpm, site, place):
    server = pyfpm("--threads", "1", "-d", "pm.queue_max=1")
    with Wire(server.socket) as wire:
        for id in (1, 2, 3):
            wire.send(wire.request(wait_for(place, f"n{id}"), id=id, keep=True))
        assert wire.answer(3).status == 503
        (place / "go").touch()
        assert [wire.answer(id).body for id in (1, 2)] == [b"n1", b"n2"]


def test_who_begins_and_gives_up_again_and_again_fills_nothing(pyfpm, site, place):
    """Each costs its sender some bytes; a queue that keeps them would grow for as long as the threads are busy."""
    server = pyfpm("--threads", "1", "-d", "pm.status_path=/status")
    with Wire(server.socket) as first, Wire(server.socket) as flood:
        first.send(first.request(wait_for(place, "first")))
        eventually(lambda: server.control("status")["pools"][0]["processes"][0]["state"] == "Running")
        before = processes.own_memory(server.worker)
        for _ in range(10_000):
            flood.send(flood.request(f"{place}/who.py", keep=True) + flood.client.abort_request(1))
            assert flood.answer().app_status == 1
        assert processes.own_memory(server.worker) - before < 4 * 1024**2
        (place / "go").touch()
        assert first.answer().body == b"first"
        assert flood.ask(f"{place}/who.py", keep=True).status == 200


def test_fpm_get_status_may_be_asked_by_several_at_once(pyfpm, site, together):
    script = site("for _ in range(5): echo(fpm_get_status()['pool'], ' ')", "figures.py")
    server = pyfpm("--threads", "8")
    answers = [each.result() for each in together(server.socket, [script] * 24)]
    assert {each.body for each in answers} == {b"www " * 5}


def test_bodies_and_wsgi(pyfpm, site, place, together):
    (place / "app.py").write_text("""
def application(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['wsgi.multithread']} {len(body)} {body[:4].decode()}".encode()]
""")
    server = pyfpm("--threads", "4", "app:application", cwd=place)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask, server.socket, "/x", b"%04d" % at + b"x" * 300_000) for at in range(16)]
    assert [each.result().body for each in asked] == [b"True 300004 %04d" % at for at in range(16)]


def test_modules_are_found_beside_the_script_that_imports_them(pyfpm, site, together):
    one = site("import of_one\necho(of_one.NAME)", "one/page.py")
    two = site("import of_two\necho(of_two.NAME)", "two/page.py")
    site("NAME = 'one'", "one/of_one.py")
    site("NAME = 'two'", "two/of_two.py")
    server = pyfpm("--threads", "4")
    asked = together(server.socket, [one, two] * 10)
    assert [each.result().body for each in asked] == [b"one", b"two"] * 10


def test_a_cgi_program_in_python_is_a_process_of_its_own(pyfpm, place):
    program = place / "program.cgi"
    program.write_text(
        "#!/usr/bin/env python3\nimport os\nprint('Content-Type: text/plain\\n')\nprint(os.getpid(), os.getcwd())\n"
    )
    program.chmod(0o755)
    server = pyfpm("--threads", "2", "--docroot", str(place), "-d", "app.kind=cgi")
    pid, directory = ask(server.socket, str(program)).body.split()
    assert int(pid) != server.worker
    assert directory == os.fsencode(place)


def test_a_request_that_forks_is_answered_once(pyfpm, site, together):
    script = site("""
import os, warnings
warnings.simplefilter("ignore")
pid = os.fork()
if pid:
    os.waitpid(pid, 0)
    echo("parent")
""")
    server = pyfpm("--threads", "4")
    before = server.worker
    assert [each.result().body for each in together(server.socket, [script] * 12)] == [b"parent"] * 12
    assert server.worker == before


def test_a_reload_waits_for_what_runs(pyfpm, site, place):
    server = pyfpm("--threads", "2")
    with Wire(server.socket) as wire:
        wire.send(wire.request(wait_for(place, "old")))
        eventually(lambda: server.control("status")["pools"][0]["processes"][0]["state"] == "Running")
        server.control("reload")
        assert ask(server.socket, f"{place}/who.py").status == 200
        (place / "go").touch()
        assert wire.answer().body == b"old"


def test_pm_max_requests_replaces_the_worker_and_loses_nothing(pyfpm, site, place, together):
    server = pyfpm("--threads", "4", "-d", "pm.max_requests=10")
    answers = [each.result() for each in together(server.socket, [f"{place}/who.py"] * 60)]
    assert {each.status for each in answers} == {200}
    assert len({each.body for each in answers}) >= 3


def test_the_access_log_has_each_request_as_it_came(pyfpm, site, place, together):
    log = place / "access.log"
    server = pyfpm("--threads", "4", "-d", f"access.log={log}", "-d", "access.format=%r %q %s")
    for each in together(server.socket, [f"{place}/who.py?n={at}" for at in range(20)]):
        assert each.result().status == 200
    eventually(lambda: len(log.read_text().splitlines()) == 20)
    assert {line.split()[1] for line in log.read_text().splitlines()} == {f"n={at}" for at in range(20)}


def test_an_asgi_application_is_told_apart_at_the_start(place):
    (place / "app.py").write_text("async def app(scope, receive, send): ...\n")
    done = run_pyfpm("-R", "--socket", f"{place}/s.sock", "--threads", "2", "app:app", cwd=place)
    assert done.returncode != 0
    assert "pm.threads is for scripts and WSGI" in done.stderr


def test_sigterm_ends_idle_threads_at_once(pyfpm, site, place, together):
    server = pyfpm("--threads", "4")
    for each in together(server.socket, [f"{place}/who.py"] * 8):
        assert each.result().status == 200
    assert server.stop() == 0
    server.is_gone()
