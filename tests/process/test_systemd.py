"""systemd's side of the talk: what it is told, and the sockets that it passes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.server import CommandFailed, configure
from support.waiting import PATIENCE_S, eventually
from support.wire import ask

CONFIG = """
[global]
error_log = /dev/stderr
systemd_interval = 1
[www]
listen = $DIR/fpm.sock
pm = static
pm.max_children = 1
"""
UNITS = sorted((Path(__file__).parents[2] / "examples" / "systemd").glob("*.service"))


class Systemd:
    """The socket that sd_notify(3) writes to."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(PATIENCE_S)

    def next(self, wanted: str) -> dict[str, str]:
        """The next message that has this variable."""
        while True:
            lines = self._socket.recv(4096).decode().splitlines()
            message = dict(line.split("=", 1) for line in lines)
            if wanted in message:
                return message

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(place):
    manager = Systemd(place / "notify")
    yield manager
    manager.close()


def test_systemd_is_told_what_becomes_of_us(pyfpm, systemd):
    server = pyfpm(config=CONFIG, env={"NOTIFY_SOCKET": systemd.path})
    ready = systemd.next("READY")
    assert ready["READY"] == "1" and ready["MAINPID"] == str(server.pid)
    status = systemd.next("STATUS")["STATUS"]
    assert status.startswith("Processes active: 0, idle: 1, Requests: 0, slow: 0, Traffic: 0.00req/sec")
    before = time.monotonic_ns() // 1000
    server.signal(signal.SIGHUP)
    reloading = systemd.next("RELOADING")
    assert before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    assert systemd.next("READY")["READY"] == "1"
    server.signal()
    assert systemd.next("STOPPING")["STOPPING"] == "1"


def test_a_reload_that_fails_is_over_for_systemd_as_well(pyfpm, systemd):
    server = pyfpm(config=CONFIG, env={"NOTIFY_SOCKET": systemd.path})
    systemd.next("READY")
    server.configure(CONFIG + "nosuch = 1\n")
    with pytest.raises(CommandFailed):
        server.control("reload")
    systemd.next("RELOADING")
    assert "Reload failed" in systemd.next("READY")["STATUS"]


def test_the_watchdog_hears_from_us(pyfpm, systemd):
    pyfpm(config=CONFIG, env={"NOTIFY_SOCKET": systemd.path, "WATCHDOG_USEC": "200000"})
    for _ in range(5):
        systemd.next("WATCHDOG")


def test_none_of_it_is_told_to_workers(pyfpm, systemd, place):
    (place / "env.py").write_text("import os\necho(' '.join(os.environ))\n")
    server = pyfpm(config=CONFIG + "clear_env = no\n", env={"NOTIFY_SOCKET": systemd.path, "WATCHDOG_USEC": "200000"})
    names = ask(server.socket, f"{place}/env.py").body.decode().split()
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID"} & set(names)


ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "pyfpm", *sys.argv[2:]])
"""


def test_a_socket_that_systemd_listens_on_is_taken_over_and_left_there(place):
    path = f"{place}/fpm.sock"
    configure(place, CONFIG)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        inode = os.stat(path).st_ino
        process = subprocess.Popen(
            [sys.executable, "-c", ACTIVATE, str(listening.fileno()), "-R", "-F", "-y", f"{place}/pyfpm.conf"],
            pass_fds=[listening.fileno()],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert ask(path).status == 404, "who comes before we are ready waits in the queue"
        process.terminate()
        _, log = process.communicate(timeout=PATIENCE_S)
    assert 'using inherited socket fd=3, "' in log
    assert os.stat(path).st_ino == inode, "it is systemd's to remove"


def test_a_socket_that_no_pool_listens_on_is_closed_and_named(place):
    configure(place, CONFIG)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        process = subprocess.Popen(
            [sys.executable, "-c", ACTIVATE, str(listening.fileno()), "-R", "-F", "-y", f"{place}/pyfpm.conf"],
            pass_fds=[listening.fileno()],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert ask_when_there(f"{place}/fpm.sock") == 404
        process.terminate()
        _, log = process.communicate(timeout=PATIENCE_S)
    assert "is no pool's, it is closed" in log


def ask_when_there(path: str) -> int:
    eventually(lambda: os.path.exists(path), "it listens")

    def answered() -> int:
        try:
            return ask(path).status
        except ConnectionError:
            return 0

    return eventually(answered, "it answers")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_example_unit_has_no_mistake(unit, tmp_path):
    text = unit.read_text()
    for name in ("pyfpm", "pyfpmctl"):
        text = text.replace(f"/opt/pyfpm/bin/{name} ", "/bin/true ")
    copy = tmp_path / unit.name.replace("@.", "@shop.")
    copy.write_text(text)
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=PATIENCE_S
    )
    said = [line for line in checked.stderr.splitlines() if unit.name.partition(".")[0].rstrip("@") in line]
    assert checked.returncode == 0 and not said, checked.stderr


def test_the_example_runs_in_a_foreground_that_systemd_watches():
    for unit in UNITS:
        assert "Type=notify" in unit.read_text()
