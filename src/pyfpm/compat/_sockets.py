"""The listening socket of a program that speaks FastCGI: inherited on descriptor 0, or bound by itself."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pyfpm.master.listeners import ListenError, listen_tcp, make_way, too_long

# FCGI_LISTENSOCK_FILENO (FastCGI 1.0, 2.2).
LISTENSOCK = 0

# As many as the kernel allows; nginx does not wait when the queue of a unix socket is full.
BACKLOG = 4096

Address = str | os.PathLike[str] | tuple[str, int]


def is_started_by_web_server() -> bool:
    """Descriptor 0 is a socket that listens. (What has no peer, says the specification; a listening socket is the only
    such thing that would be of use.)"""
    try:
        if not stat.S_ISSOCK(os.fstat(LISTENSOCK).st_mode):
            return False
    except OSError:
        return False
    with socket.socket(fileno=os.dup(LISTENSOCK)) as found:
        return bool(found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


@contextmanager
def inherited() -> Iterator[socket.socket]:
    """The socket on descriptor 0. It is there again afterwards, for a program that executes itself anew; meanwhile
    descriptor 0 is /dev/null, so that what the application starts does not inherit it."""
    _open_standard_descriptors()
    with socket.socket(fileno=os.dup(LISTENSOCK)) as listener:
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, LISTENSOCK)
        os.close(null)
        try:
            yield listener
        finally:
            os.dup2(listener.fileno(), LISTENSOCK)


def _open_standard_descriptors() -> None:
    """The specification's process has descriptor 0 alone; the first sockets must not become stdout and stderr."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


@contextmanager
def bound(address: Address, umask: int | None) -> Iterator[socket.socket]:
    """A socket of our own. A unix socket's file is removed in the end, if it is still ours.

    Args:
      umask: while the file is made; None: that of the process.
    Raises:
      OSError: the address is in use, or cannot be had.
      TypeError: it is none.
    """
    try:
        if isinstance(address, (tuple, list)) and len(address) == 2:
            host, port = address
            listener = listen_tcp(host or "0.0.0.0", int(port), f"{host}:{port}", BACKLOG)
        elif isinstance(address, (str, os.PathLike)):
            listener = _bind_unix(os.fspath(address), umask)
        else:
            raise TypeError(f"bindAddress is a path or (host, port), not {address!r}")
    except ListenError as error:
        raise OSError(errno.EADDRINUSE, str(error)) from None
    with listener:
        made = _file_of(listener)
        try:
            yield listener
        finally:
            if made is not None and made == _file_of(listener):
                with suppress(OSError):  # its directory may be somebody else's
                    os.unlink(listener.getsockname())


def _bind_unix(path: str, umask: int | None) -> socket.socket:
    if not path.startswith("\0"):
        # Absolute, since the application may change the directory.
        path = os.path.abspath(path)
        if (said := too_long(path)) is not None:
            raise OSError(errno.ENAMETOOLONG, said)
        make_way(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = None if umask is None else os.umask(umask)
    try:
        listener.bind(path)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    finally:
        if before is not None:
            os.umask(before)
    return listener


def _file_of(listener: socket.socket) -> tuple[int, int] | None:
    name = listener.getsockname()
    if listener.family != socket.AF_UNIX or not isinstance(name, str):
        return None
    try:
        info = os.lstat(name)
    except OSError:
        return None
    return info.st_dev, info.st_ino
