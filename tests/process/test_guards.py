"""What the master notices by itself: an application that no fork goes well with, crashes in a row, hanging code."""

from __future__ import annotations

import os
import signal
import time

import pytest

from support import processes
from support.waiting import eventually
from support.wire import ask

CONFIG = """
[global]
error_log = /dev/stderr
{main}
[www]
listen = $DIR/fpm.sock
pm = static
pm.max_children = 2
chdir = {place}
app = app:application
"""
APP = "\ndef application(environ, start):\n    start('200 OK', [])\n    return [b'well']\n"


@pytest.fixture
def start(pyfpm, place):
    def begin(before: str = "", main: str = "", **options: object):
        (place / "app.py").write_text(before + APP)
        environment = {"PYTHONDONTWRITEBYTECODE": "1"}
        return pyfpm(config=CONFIG.format(main=main, place=place), env=environment, **options)

    return begin


LEFT = {
    "a thread": (
        "import threading, time\n"
        "def poll():\n    time.sleep(3600)\n"
        "threading.Thread(target=poll, name='poller', daemon=True).start()\n",
        "left a thread behind, 'poller' (app.poll)",
    ),
    "a connection": (
        "import socket\n"
        "listening = socket.create_server(('127.0.0.1', 0))\n"
        "database = socket.create_connection(listening.getsockname())\n",
        "left a connection open, to 127.0.0.1:",
    ),
    "a thread of C's": (
        "import ctypes\n"
        "libc = ctypes.CDLL(None)\n"
        "thread = ctypes.c_ulong()\n"
        "libc.pthread_create(ctypes.byref(thread), None, ctypes.cast(libc.pause, ctypes.c_void_p), None)\n",
        "threads behind that are not Python's",
    ),
}


@pytest.mark.parametrize("what", LEFT)
def test_what_does_not_go_well_with_a_fork_is_named(start, what):
    source, warning = LEFT[what]
    server = start(source)
    assert server.logged(warning) == 1
    assert ask(server.socket).body == b"well"


def test_an_application_that_leaves_nothing_behind_is_not_warned_of(start):
    server = start("import logging, json, sqlite3, concurrent.futures\n")
    assert not server.logged("has left")


def test_crashes_in_a_row_initiate_a_reload(start):
    server = start(main="emergency_restart_threshold = 2\nemergency_restart_interval = 60s\n")
    for _ in range(2):
        crashed = server.logged("exited on signal 11")
        os.kill(server.workers[0], signal.SIGSEGV)
        eventually(lambda n=crashed: server.logged("exited on signal 11") == n + 1, "told")
    eventually(lambda: server.logged("failed processes threshold (2 in 60 sec) is reached, initiating reload"), "told")
    eventually(lambda: server.control("status")["pools"][0]["generations"] == {"2": 2}, "another generation")
    assert ask(server.socket).body == b"well"


def test_a_stop_does_not_wait_for_an_import_that_hangs(start, place):
    """A zygote was lost, and the next one hangs: a stop used to wait for it until process_control_timeout."""
    server = start()
    (place / "app.py").write_text(f"import time\nopen('{place}/hangs', 'w').close()\ntime.sleep(3600)\n")
    os.kill(server.zygote, signal.SIGKILL)
    eventually((place / "hangs").exists, "the import hangs")
    os.kill(server.workers[0], signal.SIGKILL)
    assert ask(server.socket).body == b"well"
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 15


def test_a_child_that_outlives_its_worker_does_not_keep_it(pyfpm, place):
    """It has the worker's output pipes; the place is filled, and what the child says is logged all the same."""
    (place / "leave.py").write_text(
        "import os, subprocess\n"
        f"subprocess.Popen('while [ ! -e {place}/go ]; do sleep 0.05; done; echo said later >&2', shell=True)\n"
        "os._exit(0)\n"
    )
    text = CONFIG.format(main="", place=place).replace("app = app:application", "catch_workers_output = yes")
    server = pyfpm(config=text)
    before = set(server.workers)
    with pytest.raises(AssertionError):
        ask(server.socket, f"{place}/leave.py")
    eventually(lambda: len(now := server.workers) == 2 and now != before, "its place is filled")
    (gone,) = before - set(server.workers)
    eventually(lambda: server.logged(f"child {gone} exited with code 0"), "its end is told")
    (place / "go").touch()
    eventually(lambda: server.logged(f'child {gone} said into stderr: "said later"'), "logged")


def test_the_pid_of_a_process_that_was_nobody_s_is_forgotten():
    """Ends were kept for whoever might ask: a later worker of the same number would have been taken for dead."""
    import trio

    from pyfpm.master.children import Children
    from pyfpm.observe.log import Log

    async def story() -> None:
        children = Children(Log())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(children.reap)
            stray = os.posix_spawn("/bin/true", ["true"], {})
            with trio.fail_after(30):
                while processes.state(stray):
                    await trio.sleep(0.01)
                with children.expecting():
                    early = os.posix_spawn("/bin/false", ["false"], {})
                    while processes.state(early):
                        await trio.sleep(0.01)
                    children.watch(early)
                assert os.waitstatus_to_exitcode(await children.wait(early)) == 1, "it ended before it was watched"
            with pytest.raises(ChildProcessError):
                children.watch(stray)  # an end of long ago is nobody's
            nursery.cancel_scope.cancel()

    trio.run(story)


def test_the_group_of_a_stray_process_is_ended_while_its_number_is_its_own(monkeypatch):
    """It was waited for first: then another process could have had the number, and begun a group of it."""
    import trio

    from pyfpm.master.children import Children
    from pyfpm.observe.log import Log

    ended = []
    killpg = os.killpg

    def end(group: int, number: signal.Signals) -> None:
        ended.append((group, processes.state(group)))
        killpg(group, number)

    monkeypatch.setattr("os.killpg", end)

    async def story() -> None:
        children = Children(Log())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(children.reap)
            leader = os.posix_spawn("/bin/sh", ["sh", "-c", "sleep 1000 & kill -KILL $$"], {}, setsid=True)
            with trio.fail_after(30):
                while processes.state(leader) or processes.running_session(leader):
                    await trio.sleep(0.01)
            assert ended == [(leader, "Z")]
            nursery.cancel_scope.cancel()

    trio.run(story)
