"""In the background: who has started us is told how it went, and let go."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

import pytest

from support import processes
from support.server import command, configure, public_directory
from support.waiting import PATIENCE_S, eventually
from support.wire import ask

CONFIG = """
[global]
pid = $DIR/pid
error_log = $DIR/error.log
daemonize = yes
[www]
listen = $DIR/fpm.sock
pm = static
pm.max_children = 1
access.log = $DIR/access.log
"""


@pytest.fixture
def directory():
    path = public_directory()
    yield path
    shutil.rmtree(path)


def start(directory, text: str = CONFIG) -> subprocess.CompletedProcess[str]:
    configure(directory, text)
    return subprocess.run(
        command("-R", "-y", f"{directory}/pyfpm.conf"), capture_output=True, text=True, timeout=PATIENCE_S
    )


@pytest.fixture
def daemon(directory):
    """The pid of one that runs in the background. It must leave nothing behind."""
    started = start(directory)
    assert (started.returncode, started.stdout) == (0, ""), started.stderr
    pid = int((directory / "pid").read_text())
    yield pid
    if processes.is_running(pid):
        os.kill(pid, signal.SIGTERM)
    eventually(lambda: not processes.running_session(pid), "all have ended")


def test_the_starter_returns_when_it_serves(daemon, directory):
    assert ask(f"{directory}/fpm.sock").status == 404
    assert os.getsid(daemon) == daemon


def test_nothing_holds_the_terminal(daemon):
    # subprocess.run would have waited for the end of its pipes otherwise.
    held = processes.descriptors(daemon)
    assert {held[fd] for fd in (0, 1, 2)} == {"/dev/null"}


def test_the_log_goes_on_in_its_file_and_the_pid_file_is_removed_at_the_end(daemon, directory):
    os.kill(daemon, signal.SIGTERM)
    eventually(lambda: not processes.is_running(daemon))
    log = (directory / "error.log").read_text()
    assert f"fpm is running, pid {daemon}" in log and log.rstrip().endswith("exiting, bye-bye!")
    assert not (directory / "pid").exists()


def test_a_start_that_fails_is_seen_by_the_starter(directory):
    failed = start(directory, CONFIG + "app = nosuchmodule:application\n")
    assert failed.returncode == 78
    assert "nosuchmodule" in failed.stderr
    assert not (directory / "pid").exists()


def test_all_logs_are_opened_again_and_everybody_writes_to_the_new_ones(daemon, directory):
    """After a rotation nobody may go on in the old file: not a worker, nor one that is started later."""
    (directory / "say.py").write_text("error_log('said by a script')\n")
    error_log = directory / "error.log"
    error_log.rename(directory / "error.log.1")
    os.kill(daemon, signal.SIGUSR1)
    eventually(lambda: error_log.exists() and "error log file re-opened" in error_log.read_text(), "opened again")
    assert "access log file re-opened" in error_log.read_text()
    old = (directory / "error.log.1").read_text()
    (worker,) = [pid for pid in processes.children(daemon) if processes.title(pid) == "pyfpm: pool www"]
    everybody = processes.running_session(daemon)
    assert worker in everybody and len(everybody) == 3
    for pid in everybody:
        eventually(
            lambda pid=pid: str(directory / "error.log.1") not in processes.descriptors(pid).values(),
            f"{processes.title(pid)} has let go of the old log",
        )
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: f"child {worker} exited on signal 9" in error_log.read_text(), "told in the new one")
    eventually(lambda: [pid for pid in processes.children(daemon) if processes.title(pid) == "pyfpm: pool www"], "next")
    for pid in processes.running_session(daemon):
        assert str(directory / "error.log.1") not in processes.descriptors(pid).values()
    assert (directory / "error.log.1").read_text() == old
