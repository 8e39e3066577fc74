"""Supervise: processes are killed, and the others go on."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from support import processes
from support.waiting import eventually
from support.wire import Wire, ask

WHO = "import os\necho(os.getpid())\n"
STUCK = "open(_GET['mark'], 'w').close()\nwhile True: pass\n"


@pytest.fixture
def who(tmp_path: Path) -> str:
    """A script that tells its process id."""
    (tmp_path / "who.py").write_text(WHO)
    return str(tmp_path / "who.py")


class Load:
    """Clients that ask again and again, each on a new connection, and count what they get."""

    def __init__(self, address: str, script: str, clients: int = 4) -> None:
        self.answered = 0
        self.lost = 0
        self._address = address
        self._script = script
        self._stop = threading.Event()
        self._count = threading.Lock()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                good = ask(self._address, self._script).status == 200
            except (AssertionError, ConnectionError):
                good = False
            with self._count:
                self.answered += good
                self.lost += not good

    def goes_on(self) -> None:
        before = self.answered
        eventually(lambda: self.answered > before + 20, "requests are answered")


def test_a_killed_worker_takes_only_its_own_request_with_it(pyfpm, who):
    server = pyfpm("--workers", "3")
    with Load(server.socket, who) as load:
        load.goes_on()
        victim = server.workers[0]
        server.kill_worker(victim)
        load.goes_on()
    # The one it was running, and the one that it may have accepted just before.
    assert load.lost <= 2
    assert server.logged(f"child {victim} exited on signal 9 (SIGKILL)") == 1


def test_workers_that_are_killed_one_after_the_other_are_all_replaced(pyfpm, who):
    server = pyfpm("--workers", "2")
    for _ in range(5):
        server.kill_worker(int(ask(server.socket, who).body))
    assert int(ask(server.socket, who).body) in server.workers


def test_a_worker_that_crashes_fails_one_request(pyfpm, who, tmp_path):
    (tmp_path / "crash.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    server = pyfpm("--workers", "1")
    before = server.worker
    with Wire(server.socket) as wire:
        wire.send(wire.request(str(tmp_path / "crash.py")))
        wire.rest()
    assert ask(server.socket, who).body != b"%d" % before
    assert server.logged(f"child {before} exited on signal 11 (SIGSEGV") == 1


def test_a_worker_that_exits_in_a_request_is_replaced(pyfpm, who, tmp_path):
    (tmp_path / "leave.py").write_text("import os\nos._exit(7)\n")
    server = pyfpm("--workers", "1")
    before = server.worker
    with Wire(server.socket) as wire:
        wire.send(wire.request(str(tmp_path / "leave.py")))
        assert wire.rest() == b""
    assert int(ask(server.socket, who).body) != before
    assert server.logged(f"child {before} exited with code 7") == 1


def test_all_workers_busy_is_no_error_for_the_next(pyfpm, who, tmp_path):
    (tmp_path / "hold.py").write_text(
        "import os, time\nopen(_GET['mark'], 'w').close()\n"
        f"while not os.path.exists('{tmp_path}/go'): time.sleep(0.01)\necho(os.getpid())\n"
    )
    server = pyfpm("--workers", "2")
    with Wire(server.socket) as first, Wire(server.socket) as second, Wire(server.socket) as third:
        for number, wire in enumerate((first, second)):
            wire.send(wire.request(f"{tmp_path}/hold.py?mark={tmp_path}/{number}"))
            eventually((tmp_path / str(number)).exists, "the script runs")
        third.send(third.request(who))
        (tmp_path / "go").touch()
        assert int(third.answer().body) in server.workers
        assert first.answer().body != second.answer().body


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "in a busy loop"])
def test_a_killed_master_leaves_no_process_and_no_obstacle(pyfpm, who, tmp_path, busy):
    (tmp_path / "stuck.py").write_text(STUCK)
    server = pyfpm("--workers", "3")
    with Wire(server.socket) as wire:
        if busy:
            wire.send(wire.request(f"{tmp_path}/stuck.py?mark={tmp_path}/stuck"))
            eventually((tmp_path / "stuck").exists, "a worker is stuck")
        server.signal(signal.SIGKILL)
        server.wait()
        server.is_gone()
    assert os.path.exists(server.socket), "nobody was left to remove it"
    pyfpm("--socket", server.socket)
    assert ask(server.socket, who).status == 200


def test_a_killed_zygote_is_replaced_when_it_is_needed_and_nobody_notices(pyfpm, who):
    server = pyfpm("--workers", "2")
    workers = set(server.workers)
    os.kill(zygote := server.zygote, signal.SIGKILL)
    eventually(lambda: not processes.state(zygote), "the zygote is gone, and reaped")
    for _ in range(20):
        assert int(ask(server.socket, who).body) in workers
    assert set(server.workers) == workers, "workers outlive their zygote"
    server.kill_worker(workers.pop())
    assert server.zygote != zygote
    assert int(ask(server.socket, who).body) in server.workers


def test_an_application_that_broke_meanwhile_leaves_the_workers_it_has(pyfpm, tmp_path):
    source = "def application(environ, start):\n    start('200 OK', [])\n    return [b'as before']\n"
    (tmp_path / "app.py").write_text(source)
    server = pyfpm("--workers", "2", "app:application", cwd=tmp_path)
    (tmp_path / "app.py").write_text("raise RuntimeError('half a deploy')\n")
    os.kill(server.zygote, signal.SIGKILL)
    os.kill(server.workers[0], signal.SIGKILL)
    eventually(lambda: server.logged("half a deploy"), "the new zygote cannot load it")
    for _ in range(5):
        assert ask(server.socket).body == b"as before"
    (tmp_path / "app.py").write_text(source)
    eventually(lambda: len(server.workers) == 2, "the pool is whole again")
    assert ask(server.socket).body == b"as before"


def test_workers_that_die_at_once_are_braked(pyfpm, tmp_path):
    """A worker that cannot live is started again, but not as fast as a processor can fork."""
    (tmp_path / "app.py").write_text(
        "import os\nos.register_at_fork(after_in_child=lambda: os.path.exists('poison') and os._exit(9))\n"
        "def application(environ, start):\n    start('200 OK', [])\n    return [b'well']\n"
    )
    server = pyfpm("--workers", "1", "app:application", cwd=tmp_path)
    (tmp_path / "poison").touch()
    os.kill(server.worker, signal.SIGKILL)
    eventually(lambda: server.logged("the next one starts in"), "it has noticed")
    before, began = processes.cpu_seconds(server.pid), time.monotonic()
    time.sleep(3)
    assert processes.cpu_seconds(server.pid) - before < 1.5
    # 0.1 + 0.2 + 0.4 + 0.8 + 1.6 + 3.2 s: one attempt each.
    assert server.logged("the next one starts in") <= 8 + (time.monotonic() - began) / 3
    (tmp_path / "poison").unlink()
    eventually(lambda: server.workers, "a worker that lives")
    assert ask(server.socket).body == b"well"


def test_workers_that_die_when_they_are_ready_are_braked(pyfpm, tmp_path):
    (tmp_path / "app.py").write_text(
        "import os, threading\n"
        "def die():\n    if os.path.exists('poison'): threading.Timer(0.1, os._exit, [9]).start()\n"
        "os.register_at_fork(after_in_child=die)\n"
        "def application(environ, start):\n    start('200 OK', [])\n    return [b'well']\n"
    )
    server = pyfpm("--workers", "2", "app:application", cwd=tmp_path)
    (tmp_path / "poison").touch()
    for worker in server.workers:
        os.kill(worker, signal.SIGKILL)
    time.sleep(3)
    assert server.logged("exited with code 9") < 20
    (tmp_path / "poison").unlink()
    eventually(lambda: len(server.workers) == 2, "workers that live")
    eventually(lambda: ask(server.socket).body == b"well", "they serve")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be sure of a user that nothing else runs as")
@pytest.mark.parametrize("others", [1, 2], ids=["the second fork", "the first fork"])
def test_a_fork_that_fails_is_tried_again_later(pyfpm, place, others):
    """Nobody answered the master when the process between zygote and worker could not fork; it waited for ever."""
    # Three at once is what a pool of one worker needs: the zygote, the process in between, the worker.
    limits = {resource.RLIMIT_NPROC: 3}
    hindering = [subprocess.Popen(["sleep", "600"], user="games", group="games") for _ in range(others)]
    try:
        server = pyfpm("--user", "games", python=_python_for_others(), limits=limits, wait=False)
        eventually(lambda: server.logged("no worker could be started (cannot fork: ") > 1, "the failure is told")
    finally:
        for process in hindering:
            process.kill()
            process.wait()
    server.wait_until_ready()
    (place / "who.py").write_text(WHO)
    assert int(ask(server.socket, f"{place}/who.py").body) == server.worker


def test_there_are_no_zombies(pyfpm, who, tmp_path):
    # Children that a script starts and forgets lose their parent with the worker, and become the master's.
    (tmp_path / "forget.py").write_text("import subprocess\nsubprocess.Popen(['sleep', '0.2'])\necho('ok')\n")
    server = pyfpm("--workers", "2")
    for _ in range(5):
        ask(server.socket, str(tmp_path / "forget.py"))
        server.kill_worker(server.workers[0])

    def zombies() -> list[int]:
        return [pid for pid in processes.session(server.pid) if processes.state(pid) == "Z"]

    # A worker that is alive still has those of its own scripts, as in any Python program.
    eventually(lambda: not set(zombies()) & set(processes.children(server.pid)), "no zombie is the master's")


# -- other users ------------------------------------------------------------------------------------------------------


def _python_for_others() -> str:
    """An interpreter that other users can run, with pyfpm in it: ours, if the way to it is open to them."""
    import pyfpm

    for needed in (sys.executable, pyfpm.__file__):
        seen = subprocess.run(
            ["/bin/sh", "-c", '[ -r "$0" ]', needed], user="nobody", group="nogroup", extra_groups=[], check=False
        )
        if seen.returncode:
            pytest.skip(f"{needed} cannot be read by other users")
    return sys.executable


IDENTITY = "import os, json\necho(json.dumps([os.getresuid(), os.getresgid(), sorted(os.getgroups())]))\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize(
    ("options", "user", "group"),
    [
        (("--user", "nobody"), 65534, 65534),
        (("--user", "nobody", "--group", "daemon"), 65534, 1),
    ],
    ids=["user", "user and group"],
)
def test_the_application_runs_as_the_user_who_was_named(pyfpm, place, options, user, group):
    (place / "identity.py").write_text(IDENTITY)
    server = pyfpm(*options, "--workers", "2", python=_python_for_others())
    for pid in (server.zygote, *server.workers):
        assert processes.owner(pid) == (user, group, {group})
    assert processes.owner(server.pid)[0] == 0, "the master stays who it was"
    told = ask(server.socket, f"{place}/identity.py").body.decode()
    assert told == f"[[{user}, {user}, {user}], [{group}, {group}, {group}], [{group}]]"
    server.kill_worker(server.workers[0])
    assert all(processes.owner(pid) == (user, group, {group}) for pid in server.workers)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_killed_master_takes_workers_of_another_user_with_it(pyfpm, place):
    (place / "stuck.py").write_text("import sys\nsys.stderr.flush()\nwhile True: pass\n")
    server = pyfpm("--user", "nobody", "--workers", "2", python=_python_for_others())
    with Wire(server.socket) as wire:
        wire.send(wire.request(f"{place}/stuck.py"))
        eventually(lambda: any(processes.state(pid) == "R" for pid in server.workers), "a worker is stuck")
        server.signal(signal.SIGKILL)
        server.wait()
        server.is_gone()


def test_running_as_root_is_warned_about(pyfpm):
    if os.geteuid() != 0:
        pytest.skip("not root")
    assert "runs as root" not in pyfpm().log()  # the fixture says -R
