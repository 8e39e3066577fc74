"""A master that answers what a test tells it to, and ``pyfpmctl`` beside it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from support.waiting import PATIENCE_S


def process(pid: int, state: str = "Idle", **more: Any) -> dict[str, Any]:
    """A worker, as the status page has it."""
    return {
        "pid": pid, "state": state, "start time": 1_700_000_000, "start since": 100, "requests": 50,
        "request duration": 1500, "request method": "GET", "request uri": f"/page{pid}.py?a=b", "content length": 0,
        "user": "-", "script": "/srv/www/page.py", "last request cpu": 10.0, "last request memory": 2_000_000,
    } | more  # fmt: skip


def pool(name: str = "www", *processes: dict[str, Any], **more: Any) -> dict[str, Any]:
    busy = sum(each["state"] != "Idle" for each in processes)
    return {
        "pool": name, "process manager": "static", "start time": 1_700_000_000, "start since": 3700,
        "accepted conn": 7400, "listen queue": 0, "max listen queue": 3, "listen queue len": 511,
        "idle processes": len(processes) - busy, "active processes": busy, "total processes": len(processes),
        "max active processes": 2, "max children reached": 0, "slow requests": 1, "processes": list(processes),
        "max children": 4, "generations": {"1": len(processes)},
    } | more  # fmt: skip


def status(*pools: dict[str, Any]) -> dict[str, Any]:
    master = {"pid": 77, "version": "0.1.0", "start_since": 3700.5, "state": "running", "config": "/etc/pyfpm.conf"}
    return {"master": master, "pools": list(pools or [pool("www", process(101), process(102, "Running"))])}


class FakeMaster:
    """Listens on a control socket. ``results`` has what each order is answered with: a result, a list of results one
    after the other, an Exception for no, or bytes for exactly these."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.orders: list[dict[str, Any]] = []
        self.results: dict[str, Any] = {"ping": "pong", "status": status()}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                line = lines.readline()
                if line:
                    self.orders.append(json.loads(line))
                    connection.sendall(self._answer(self.orders[-1]["do"]))

    def _answer(self, order: str) -> bytes:
        result = self.results.get(order, {})
        if isinstance(result, bytes):
            return result
        if isinstance(result, Exception):
            return json.dumps({"ok": False, "error": str(result)}).encode() + b"\n"
        return json.dumps({"ok": True, "result": result}).encode() + b"\n"

    def end(self) -> None:
        # Only this wakes a thread that waits in accept.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE_S)


@dataclass
class Done:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Ctl = Callable[..., Done]


def pyfpmctl(*arguments: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Runs it as a process of its own."""
    command = [sys.executable, "-m", "pyfpm.ctl", *map(str, arguments)]
    options = {"capture_output": True, "timeout": PATIENCE_S, "stdin": subprocess.DEVNULL} | options
    return subprocess.run(command, env={**os.environ, "COLUMNS": "80"} | options.pop("env", {}), **options)
