"""The way to the master: which control socket it is, and one question and one answer over it.

The question is one JSON object in one line, the answer as well, and then the connection ends.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyfpm.config import Config

ENVIRONMENT = "PYFPM_CONTROL"

# How long the master may take for what it answers at once. A reload takes as long as the application needs to start.
ANSWER_S = 15.0

# More than any status of thousands of workers; what is larger does not come from a master.
MAX_ANSWER = 256 * 1024**2

# A listening socket in /proc/net/unix (__SO_ACCEPTCON).
_LISTENS = 0x10000


class Unreachable(Exception):
    """The master (or a FastCGI server) cannot be asked."""


class Declined(Exception):
    """The answer is no. The message may have several lines, a traceback say."""


def ask(path: str, order: dict[str, Any], *, timeout_s: float | None = ANSWER_S) -> Any:
    """The result of an order.

    Args:
      path: of the control socket.
      order: "do" and what belongs to it.
      timeout_s: longest wait for the answer; None for as long as it takes.
    Raises:
      Unreachable: there is no answer.
      Declined: the answer is no.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(path)
        except OSError as error:
            raise Unreachable(f"cannot reach the master: {_why(path, error)}") from None
        try:
            connection.sendall(json.dumps(order).encode() + b"\n")
            line = _line(connection)
        except TimeoutError:
            raise Unreachable(f"the master gave no answer within {timeout_s:g} s ({path})") from None
        except OSError as error:
            raise Unreachable(f"the connection to the master broke: {error.strerror} ({path})") from None
    if not line:
        raise Unreachable(
            f"the master ended the connection without an answer ({path}): it talks to root and to its own user only,"
            f" and you are uid {os.geteuid()}"
        )
    try:
        answer = json.loads(line)
        if answer["ok"] is True:
            return answer["result"]
        error_text = str(answer["error"])
    except (ValueError, KeyError, TypeError):
        raise Unreachable(f"what answers at {path} is no pyfpm: {line[:80]!r}") from None
    raise Declined(error_text)


def _line(connection: socket.socket) -> bytes:
    pieces, size = [], 0
    while size < MAX_ANSWER and (piece := connection.recv(1 << 16)):
        pieces.append(piece)
        size += len(piece)
        if piece.endswith(b"\n"):
            break
    return b"".join(pieces)


def _why(path: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"there is no control socket {path}; is pyfpm running?"
    if isinstance(error, ConnectionRefusedError):
        return f"nobody listens on {path}; the pyfpm that made it has ended"
    if isinstance(error, PermissionError):
        return f"permission denied for {path}: it is for root and the user that the master runs as"
    if isinstance(error, TimeoutError | BlockingIOError):
        return f"it is too busy to be asked ({path})"
    return f"{path}: {error.strerror or error}"


# -- which one


def find(control: str | None, config_file: str | None) -> str:
    """The path of the control socket: as given, else of that configuration file, else of the environment, else of the
    one pyfpm that runs.

    Raises:
      Unreachable: there is none, or more than one.
    """
    if control:
        return control
    if config_file:
        return _of_file(config_file)
    if found := os.environ.get(ENVIRONMENT):
        return found
    running = running_ones()
    if len(running) == 1:
        return running[0]
    if not running:
        raise Unreachable(
            "found no pyfpm that runs; if there is one, name its control socket: --control PATH,"
            f" {ENVIRONMENT}=PATH, or -y with its configuration file"
        )
    raise Unreachable("several run; choose one with --control:\n" + "\n".join(f"  {path}" for path in running))


def _of_file(config_file: str) -> str:
    """The control socket that the file names; or that of the master which was started with it, where the file is broken
    or has another name for it by now. Such a file is a reason to look at that master, and it is for the master to say
    what a reload makes of it."""
    try:
        path = load(config_file).control_socket
    except Unreachable:
        if running := running_ones(config_file):
            return running[0]
        raise
    if path is not None and os.path.exists(path):
        return path
    if running := running_ones(config_file):
        return running[0]
    if path is None:
        raise Unreachable(f"{config_file} says of no control socket: it has neither control_socket, pid nor a socket")
    return path


def load(config_file: str) -> Config:
    """Raises Unreachable with the reason: nobody can be asked about a file that says nothing."""
    from pyfpm import config

    try:
        return config.load(config_file)
    except config.ConfigError as error:
        raise Unreachable(str(error)) from None
    except OSError as error:
        raise Unreachable(f"{config_file}: {error.strerror}") from None


def running_ones(config_file: str | None = None) -> list[str]:
    """Control sockets that masters listen on, of root and of our own user; with a file, of those that were started with
    it. No byte is sent to anybody for this."""
    try:
        with open("/proc/net/unix", encoding="utf-8", errors="surrogateescape") as file:
            table = file.read()
    except OSError:
        return []
    title = b"pyfpm" if config_file is None else os.fsencode(f"master process ({os.path.abspath(config_file)})")
    return sorted(path for path in candidates(table) if _is_of_a_master(path, title))


def candidates(table: str) -> set[str]:
    """Paths of listening sockets whose names end in .ctl, from the text of /proc/net/unix."""
    found = set()
    for line in table.splitlines()[1:]:
        # Num RefCount Protocol Flags Type St Inode Path; a path may have blanks in it.
        fields = line.split(None, 7)
        if (
            len(fields) == 8
            and int(fields[3], 16) & _LISTENS
            and fields[7].startswith("/")
            and fields[7].endswith(".ctl")
        ):
            found.add(fields[7])
    return found


def _is_of_a_master(path: str, title: bytes) -> bool:
    try:
        found = os.stat(path)
        # Anybody can make a socket in /tmp, and we are going to believe what it says.
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid not in (0, os.geteuid()):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(1.0)
            connection.connect(path)
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, _, _ = struct.unpack("3i", credentials)
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return title in file.read()
    except OSError:
        return False
