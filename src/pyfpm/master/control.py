"""The control socket: what ``pyfpmctl`` asks, and what it is told.

A unix socket of mode 0600; the peer must be root or whoever we run as, which is asked of the kernel and not of the
file's mode. One JSON object a line in, one out, then the end.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import trio

from pyfpm.observe.log import Log

# A command is a line of at most so many bytes, and has to come within so many seconds.
LONGEST_COMMAND = 4096
COMMAND_S = 10.0
MOST_CLIENTS = 32


class CommandError(Exception):
    """The answer is no; the message says why."""


Command = Callable[[dict[str, Any]], Awaitable[Any]]


class ControlSocket:
    """Listens from the start on; ``serve`` answers.

    Args:
      path: a file that is left of an earlier server is replaced.

    Raises:
      OSError: it cannot be listened on.
    """

    def __init__(self, path: str, commands: dict[str, Command], log: Log) -> None:
        self.path = path
        self._commands = commands
        self._log = log
        self._clients = trio.CapacityLimiter(MOST_CLIENTS)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        umask = os.umask(0o177)
        try:
            with suppress(FileNotFoundError):
                if not stat.S_ISSOCK(os.lstat(path).st_mode):
                    raise FileExistsError(errno.EEXIST, "exists and is not a socket", path)
                os.unlink(path)
            self._socket.bind(path)
        except BaseException:
            self._socket.close()
            raise
        finally:
            os.umask(umask)
        self._socket.listen(MOST_CLIENTS)
        info = os.lstat(path)
        self._made = (info.st_dev, info.st_ino)

    async def serve(self) -> None:
        async with trio.open_nursery() as nursery:
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._socket))
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:
                    self._log("WARNING", f"cannot accept a control connection: {error.strerror}")
                    await trio.sleep(1)
                    continue
                nursery.start_soon(self._answer, stream)

    async def _answer(self, stream: trio.SocketStream) -> None:
        async with stream:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                try:
                    async with self._clients:
                        answer: dict[str, Any] = {"ok": True, "result": await self._obey(stream)}
                except CommandError as error:
                    answer = {"ok": False, "error": str(error)}
                except Exception as error:  # A fault of ours must not end the master with all its pools.
                    self._log("ERROR", f"a control command failed: {type(error).__name__}: {error}; please report this")
                    answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
                await stream.send_all(json.dumps(answer).encode() + b"\n")

    async def _obey(self, stream: trio.SocketStream) -> Any:
        self._check_peer(stream)
        command = await self._read(stream)
        name = command.get("do")
        handler = self._commands.get(name) if isinstance(name, str) else None
        if handler is None:
            raise CommandError(f"there is no command {name!r}; there are: {', '.join(self._commands)}")
        return await handler(command)

    def _check_peer(self, stream: trio.SocketStream) -> None:
        credentials = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid, uid, _ = struct.unpack("3i", credentials)
        if uid not in (0, os.geteuid()):
            self._log("WARNING", f"control command of process {pid} refused: it runs as user id {uid}")
            raise CommandError(f"user id {uid} may not control this server, only root and user id {os.geteuid()} may")

    async def _read(self, stream: trio.SocketStream) -> dict[str, Any]:
        line = b""
        with trio.move_on_after(COMMAND_S):
            while not line.endswith(b"\n") and len(line) <= LONGEST_COMMAND:
                data = await stream.receive_some(LONGEST_COMMAND)
                if not data:
                    break
                line += data
        try:
            command = json.loads(line)
        except ValueError:
            raise CommandError("a command is one line with one JSON object") from None
        if not isinstance(command, dict):
            raise CommandError("a command is a JSON object")
        return command

    def close(self) -> None:
        with suppress(OSError):
            info = os.lstat(self.path)
            if (info.st_dev, info.st_ino) == self._made:
                os.unlink(self.path)
        self._socket.close()
