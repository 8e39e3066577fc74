"""Workers of a pool that has no master: the test listens, and holds the other ends of everything."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from pyfpm.observe._scoreboard import create_slot
from pyfpm.observe.scoreboard import SlotView
from support.waiting import PATIENCE_S, eventually

SETTINGS: dict[str, Any] = {
    "max_requests": 16,
    "max_connections": 1000,
    "max_params_size": 1 << 18,
    "max_params": 1000,
    "max_held_connection": 1 << 24,
    "max_held_peer": 1 << 26,
    "max_held": 1 << 28,
    "spool_threshold": 1 << 20,
    "spool_directory": None,
    "post_max_size": 1 << 20,
    "max_queued": 1 << 20,
    "keepalive_timeout_s": 60,
    "request_read_timeout_s": 60,
    "send_timeout_s": 60,
}


class Worker:
    """Started by ``Workers``. ``control`` is the master's end."""

    def __init__(self, pool: Workers, settings: dict[str, Any], watchdog: dict[str, Any], allowed: list[str]) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(PATIENCE_S)
        self._slot = create_slot()
        self._stderr = tempfile.TemporaryFile()
        self._read: list[bytes] = []
        share = [each.fileno() for each in pool.handoff]
        told = {
            "control": theirs.fileno(),
            "slot": self._slot.fd,
            "listener": pool.listener.fileno(),
            "share": share,
            "settings": {**SETTINGS, **settings},
            "watchdog": watchdog,
            "allowed": allowed,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "support.worker_program", json.dumps(told)],
            pass_fds=[told["control"], told["slot"], told["listener"], *share],
            stderr=self._stderr,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        theirs.close()
        assert self.message() == b"r"

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stderr(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read().decode("utf-8", "replace")

    def slot(self) -> SlotView:
        return self._slot.read()

    def message(self) -> bytes:
        """The next message to the master; b"" at the end."""
        try:
            return self.control.recv(1 << 17)
        except ConnectionResetError:
            return b""

    def message_of(self, letter: bytes) -> bytes:
        """The next message of this kind; others are passed over."""
        while message := self.message():
            if message[:1] == letter:
                return message
        raise AssertionError(f"the worker ended without a message {letter!r}\n{self.stderr}")

    def has_message(self) -> bool:
        return bool(select.select([self.control], [], [], 0)[0])

    def kill(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """The exit status, below 0 for a signal."""
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.control.close()
        self._slot.close()
        self._stderr.close()


class Workers:
    """A pool's listening socket and handoff socket, and its workers."""

    def __init__(self, *, tcp: bool = False, share: bool = True) -> None:
        self.handoff: tuple[socket.socket, ...] = ()
        if share:
            self.handoff = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if tcp:
            self.listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
            self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        else:
            self._directory = tempfile.TemporaryDirectory(prefix="pyfpm-test-")
            self.address = str(Path(self._directory.name) / "s")
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(self.address)
            self.listener.listen(1000)
        self.all: list[Worker] = []

    def start(
        self, *, settings: dict[str, Any] | None = None, allowed: list[str] | None = None, **watchdog: Any
    ) -> Worker:
        worker = Worker(self, settings or {}, watchdog, allowed or [])
        self.all.append(worker)
        return worker

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for worker in self.all:
            worker.close()
        for each in (self.listener, *self.handoff):
            each.close()
        if "/" in self.address:
            self._directory.cleanup()


def retire(worker: Worker) -> None:
    worker.kill(signal.SIGQUIT)
    assert worker.wait() == 0, worker.stderr


def runs(worker: Worker) -> None:
    """Wait until it is in user code."""
    eventually(lambda: worker.slot().stage.name == "RUNNING", "a request runs", every=0.005)


def drain(sock: socket.socket) -> None:
    with suppress(BlockingIOError):
        while sock.recv(1 << 20, socket.MSG_DONTWAIT):
            pass
