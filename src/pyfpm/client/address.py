"""Where a server listens, and the way there."""

from __future__ import annotations

import errno
import os
import re
import socket
from dataclasses import dataclass

import trio

# A unix socket whose listen queue is full refuses at once instead of letting us wait, so we have to ask again.
QUEUE_RETRY_S = 0.01


@dataclass(frozen=True, slots=True)
class Address:
    """Where a FastCGI server listens: a unix socket's ``path``, or ``host`` and ``port``."""

    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """``/path``, ``unix:/path``, ``HOST:PORT``, ``[IPv6]:PORT`` or ``PORT`` (on 127.0.0.1).

    Raises:
      ValueError: it is none of these.
    """
    path = text.removeprefix("unix:")
    if path.startswith("/") or path != text:
        if not path or "\0" in path:
            raise ValueError(f"{text!r} is no address: the path of the socket is missing")
        return Address(path=os.path.abspath(path))
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r} is no address: an IPv6 address is written in brackets, [::1]:9000")
    if not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536 or (colon and not host):
        raise ValueError(f"{text!r} is no address: /path, unix:/path, HOST:PORT or [IPv6]:PORT would be")
    return Address(host=host or "127.0.0.1", port=int(port))


async def connect_unix(path: str) -> trio.SocketStream:
    """Raises OSError."""
    while True:
        plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            plain.setblocking(False)
            plain.connect(path)
        except BlockingIOError:
            # trio's own connect would take this for "under way", which a unix socket never is.
            plain.close()
            await trio.sleep(QUEUE_RETRY_S)
        except BaseException:
            plain.close()
            raise
        else:
            return trio.SocketStream(trio.socket.from_stdlib_socket(plain))


async def connect_tcp(address: Address) -> trio.SocketStream:
    """Raises OSError, with its errno."""
    try:
        return await trio.open_tcp_stream(address.host, address.port)
    except OSError as error:
        # trio tries all addresses of a name and tells of their errors in the cause.
        cause: BaseException | None = error.__cause__
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        raise cause if isinstance(cause, OSError) else error from None


def why_not_connected(error: OSError) -> tuple[int, str]:
    if isinstance(error, socket.gaierror):
        return errno.ENOENT, f"the host is not known ({error.strerror})"
    number = error.errno or errno.EIO
    words = {
        errno.ENOENT: "there is no such socket",
        errno.ECONNREFUSED: "connection refused: nobody listens there",
        errno.EACCES: "permission denied",
        errno.EPERM: "permission denied",
        errno.ENOTSOCK: "it is not a socket",
        errno.ETIMEDOUT: "no connection: the host does not answer",
    }
    return number, words.get(number) or error.strerror or str(error)
