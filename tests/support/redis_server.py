"""A real Redis on a unix socket, with nothing of it on disk."""

from __future__ import annotations

import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

from support.server import public_directory
from support.waiting import PATIENCE_S, eventually


class RedisServer:
    def __init__(self) -> None:
        self.directory: Path = public_directory()
        self.socket = f"{self.directory}/redis.sock"
        self.url = f"unix://{self.socket}?db=1"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("redis-server")
        assert program is not None, "redis-server is not installed"
        arguments = {"port": "0", "unixsocket": self.socket, "save": "", "appendonly": "no", "dir": str(self.directory)}
        command = [program] + [word for name, value in arguments.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        eventually(self._answers, "Redis answers")

    def _answers(self) -> bool:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE_S)
            connection.connect(self.socket)
            connection.sendall(b"PING\r\n")
            return connection.recv(100) == b"+PONG\r\n"
        return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE_S)
            self._process = None

    def discard(self) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
