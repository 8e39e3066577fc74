"""Scripts in a real worker: what they find unchanged, what they may start, and what they leave to the collector."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support import processes
from support.waiting import eventually
from support.wire import Wire, ask

# Changes all that a script can reach.
CHANGE = """
import builtins, contextvars, decimal, gc, os, sys, threading, time, warnings
os.environ["LEFT"] = "1"; os.environ["PATH"] = "/left"; del os.environ["HOME"]
os.putenv("LANG", "left"); os.putenv("PUT", "left"); os.environ["TZ"] = "Asia/Tokyo"; time.tzset()
os.mkdir("left") if not os.path.exists("left") else None
os.chdir("left"); os.umask(0o077)
sys.path.insert(0, "/left"); sys.path = tuple(sys.path); sys.argv.append("left"); sys.argv = None
sys.stdout.close(); sys.stdout = sys.stderr = sys.stdin = None
sys.setrecursionlimit(200); gc.disable()
sys.modules["__main__"] = None
decimal.getcontext().prec = 3
variable = contextvars.ContextVar("left"); variable.set("left"); builtins_left = 1
warnings.variable = variable
_GET["left"] = _POST["left"] = _COOKIE["left"] = _SERVER["left"] = _ENV["left"] = GLOBALS["left"] = "left"
http_response_code(418); header("X-Left: 1")
__builtins__["__name__"]
file = open("/dev/null"); os.set_inheritable(file.fileno(), True)
class Left: pass
def left(): return left
threading.current_thread().left = file.fileno()
raise SystemExit(3)
"""

# Tells all that a script can see, as JSON.
DUMP = """
import contextvars, decimal, gc, json, os, subprocess, sys, threading, time, warnings
_SERVER.pop("REQUEST_TIME"); _SERVER.pop("REQUEST_TIME_FLOAT")
umask = os.umask(0); os.umask(umask)
before = getattr(threading.current_thread(), "left", None)
print(json.dumps({
    "names": sorted(globals()), "server": _SERVER, "get": _GET, "post": _POST, "cookie": _COOKIE, "env": _ENV,
    "environ": dict(os.environ),
    "child": sorted(subprocess.run(["/usr/bin/env"], capture_output=True, text=True).stdout.splitlines()),
    "cwd": os.getcwd(), "umask": umask, "zone": time.tzname, "path": sys.path, "argv": sys.argv,
    "streams": [type(each).__name__ + str(each.closed) for each in (sys.stdin, sys.stdout, sys.stderr)],
    "limit": sys.getrecursionlimit(), "collects": gc.isenabled(), "status": http_response_code(),
    "headers": headers_list(), "precision": decimal.getcontext().prec, "main": repr(sys.modules["__main__"]),
    "context": str(getattr(warnings, "variable", contextvars.ContextVar("x")).get(None)),
    "files": before is None or not os.path.exists(f"/proc/self/fd/{before}") or
        os.readlink(f"/proc/self/fd/{before}") != "/dev/null",
}))
"""


@pytest.fixture
def site(tmp_path: Path):
    def write(source: str, name: str = "x.py") -> str:
        (tmp_path / name).write_text(source)
        return str(tmp_path / name)

    return write


def test_a_script_finds_the_process_as_a_fresh_one(pyfpm, site):
    change, dump = site(CHANGE, "change.py"), site(DUMP, "dump.py")
    server = pyfpm("--docroot", os.path.dirname(dump), env={"LANG": "C.UTF-8", "HOME": "/root"})
    fresh = json.loads(ask(server.socket, dump).body)
    with Wire(server.socket) as wire:
        for _ in range(2):
            left = wire.ask(change, b"a=1", keep=True, CONTENT_TYPE="application/x-www-form-urlencoded")
            assert (left.status, left.app_status, left.head.get("x-left")) == (418, 3, "1"), left.stderr
            after = json.loads(wire.ask(dump, keep=True).body)
            assert after == fresh
    assert fresh["cwd"] == os.path.dirname(dump) and fresh["streams"] == [
        "ScriptStdinFalse", "ScriptStdoutFalse", "ScriptStderrFalse",
    ]  # fmt: skip


COUNT = "import gc\necho(sum(each['collections'] for each in gc.get_stats()))\n"
FUNCTIONS = """
def f(): return g()
def g(): return _GET
x = [f() for n in range(9)]
GLOBALS['y'] = open('/dev/null')
"""
HELLO_WSGI = """
import gc
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ.get("QUERY_STRING"):
        return [str(sum(each["collections"] for each in gc.get_stats())).encode()]
    return [b"hello"]
"""


@pytest.mark.parametrize("source", ["echo('hello')", FUNCTIONS, "import json\nfrom pyfpm import echo\necho(_GET)"])
def test_scripts_leave_nothing_to_the_collector(pyfpm, site, source):
    """A function and the namespace that it is in are a cycle."""
    server = pyfpm()
    script, count = site(source), site(COUNT, "count.py")
    with Wire(server.socket) as wire:
        wire.ask(script, keep=True)
        before = int(wire.ask(count, keep=True).body)
        for _ in range(1500):
            assert wire.ask(script, keep=True).status == 200
        assert int(wire.ask(count, keep=True).body) == before


def test_a_wsgi_application_leaves_nothing_to_the_collector(pyfpm, site):
    server = pyfpm(site(HELLO_WSGI, "app.py"))
    with Wire(server.socket) as wire:
        wire.ask("/", keep=True)
        before = int(wire.ask("/?count", keep=True).body)
        for _ in range(1500):
            assert wire.ask("/", keep=True).body == b"hello"
        assert int(wire.ask("/?count", keep=True).body) == before


def test_what_a_thread_still_runs_stays(pyfpm, site):
    script = site(
        "import threading, time\n"
        "def work(): time.sleep(0.05); finish()\n"
        "def finish(): open(PLACE, 'w').close()\n"
        "import builtins; builtins.PLACE = __file__ + '.done'\n"
        "threading.Thread(target=lambda: work()).start()\n"
    )
    server = pyfpm()
    assert ask(server.socket, script).status == 200
    eventually(lambda: os.path.exists(script + ".done"), "the thread's functions were there to the end")


def test_a_thread_writes_into_the_answer_it_was_given_and_no_other(pyfpm, site):
    script = site(
        "import contextvars, threading, time\n"
        "def say(text): print(text, end='')\n"
        "t = threading.Thread(target=contextvars.copy_context().run, args=(say, 'in time'))\n"
        "t.start(); t.join()\n"
        "def late():\n    time.sleep(0.2)\n    try: print('LATE')\n"
        "    except ValueError: open(__file__ + '.over', 'w').close()\n"
        "threading.Thread(target=contextvars.copy_context().run, args=(late,)).start()\n"
    )
    wait = site("import os, time\nwhile not os.path.exists('x.py.over'): time.sleep(0.01)\necho('mine')", "wait.py")
    server = pyfpm()
    assert ask(server.socket, script).body == b"in time"
    assert ask(server.socket, wait).body == b"mine"


@pytest.mark.parametrize(
    "child", ["echo('c' * 99999)", "flush()", "print('c' * 99999); import sys; sys.exit(7)", "1/0", "pass"]
)
def test_a_forked_child_neither_answers_nor_serves(pyfpm, site, child):
    """More than 32 KiB, or a flush, went to the web server in the middle of the parent's answer."""
    script = site(
        f"import os\npid = os.fork()\nif pid == 0:\n    {child}\nelse:\n"
        "    status = os.waitpid(pid, 0)[1]\n    echo('parent ', os.WIFEXITED(status))\n"
    )
    server = pyfpm()
    for _ in range(2):
        assert ask(server.socket, script).body == b"parent True"
    assert len(processes.running_session(server.pid)) == 3  # master, zygote, worker


def test_multiprocessing_children_print_to_the_log(pyfpm, site):
    script = site(
        "import multiprocessing\ndef f(): print('from the child')\n"
        "p = multiprocessing.get_context('fork').Process(target=f)\np.start(); p.join()\necho(p.exitcode)\n"
    )
    server = pyfpm()
    assert ask(server.socket, script).body == b"0"
    eventually(lambda: server.logged("from the child"), "it is in the log")


RUNS = """
import warnings
warnings.simplefilter("always")
import {library}, sniffio
async def main():
    await {library}.sleep(0)
    echo(sniffio.current_async_library())
try:
    sniffio.current_async_library()
except sniffio.AsyncLibraryNotFoundError:
    echo("none ")
{library}.run(main{call})
"""


@pytest.mark.parametrize(("library", "call"), [("asyncio", "()"), ("trio", "")])
def test_a_script_can_run_an_event_loop_of_its_own(pyfpm, site, library, call):
    """sniffio said "trio" inside of asyncio.run(), and with it anyio and httpx went wrong."""
    script = site(RUNS.replace('warnings.simplefilter("always")\n', "").format(library=library, call=call))
    server = pyfpm()
    for _ in range(2):
        answer = ask(server.socket, script)
        assert (answer.body.decode(), answer.stderr) == (f"none {library}", b"")
    assert server.logged("collided") == 0


UNCOMPILED = """
import importlib.machinery, os, sys
PLAIN = {"current", "functions", "headers", "response", "script", "script_file", "streams", "superglobals", "wsgi"}
class PyFirst:
    def find_spec(self, name, path, target=None):
        if name.startswith("pyfpm.sapi.") and name.rpartition(".")[2] in PLAIN:
            place = os.path.join(path[0], name.rpartition(".")[2] + ".py")
            loader = importlib.machinery.SourceFileLoader(name, place)
            return importlib.util.spec_from_file_location(name, place, loader=loader)
import importlib.util
sys.meta_path.insert(0, PyFirst())
import pyfpm.sapi.script
assert pyfpm.sapi.script.__file__.endswith(".py")
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


def test_uncompiled_modules_behave_the_same(tmp_path):
    """They run so in interpreters that no Cython module can be imported in."""
    here = Path(__file__).parent
    names = ["headers", "wsgi", "wsgi_environ", "wsgi_files", "body", "uploads_files"]
    names += [f"script_{name}" for name in ("input", "output", "failure", "file")]
    files = [str(here / f"test_{name}.py") for name in names]
    done = subprocess.run(
        [sys.executable, "-c", UNCOMPILED, "-q", "-x", "-p", "no:cacheprovider", f"--basetemp={tmp_path}/t", *files],
        capture_output=True, text=True, cwd=here.parent.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def test_a_child_of_a_wsgi_application_does_not_answer_either(pyfpm, site):
    """More than 256 KiB of its answer went out before that of its parent."""
    application = site(
        "import os\n"
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        "    pid = os.fork()\n"
        "    if pid == 0: return [b'child' * 200000]\n"
        "    os.waitpid(pid, 0)\n"
        "    return [b'parent']\n"
    )
    assert ask(pyfpm(application).socket, "/").body == b"parent"


def catches_sigterm(pid: int) -> bool:
    caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.M)[1]
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def test_a_worker_can_be_stopped_whatever_a_script_does_to_the_signals(pyfpm, site):
    script = site(
        "import signal\nfor number in (signal.SIGTERM, signal.SIGQUIT): signal.signal(number, signal.SIG_IGN)\n"
        "signal.set_wakeup_fd(-1)\necho('done')"
    )
    server = pyfpm()
    assert ask(server.socket, script).body == b"done"
    eventually(lambda: catches_sigterm(server.worker), "the worker's own handler is there again")
    server.stop()
    assert server.logged("SIGKILL") == 0
