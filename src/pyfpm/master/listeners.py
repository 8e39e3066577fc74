"""Listening sockets: where php-fpm's ``listen`` says, and never in the place of a server that is alive."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import socket
import stat
import struct
from contextlib import suppress

# Connections that may wait to be accepted. The kernel caps it (net.core.somaxconn, 4096). When a unix socket's queue
# is full, nginx does not wait: it answers 502. So this is generous; php-fpm's 511 is not.
BACKLOG = 4096

# Groups that web servers run as, for a socket that root makes without being told whose it is.
WEB_SERVER_GROUPS = ("www-data", "nginx", "http", "caddy", "apache")


class ListenError(Exception):
    """The address cannot be listened on; the message says which, and why."""


def listen(address: str, owner: str | None, group: str | None, mode: int) -> socket.socket:
    """A listening socket for ``/path``, ``HOST:PORT``, ``[IPv6]:PORT`` or ``PORT``.

    Args:
      owner, group, mode: of a unix socket.

    Raises:
      ListenError: the address is malformed, in use or not ours to use.
    """
    if "/" in address:
        return _listen_unix(os.path.abspath(address), *_ids(owner, group), mode)
    return _listen_tcp(address)


def describe(listener: socket.socket) -> str:
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return str(name)
    return f"[{name[0]}]:{name[1]}" if listener.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"


def is_public(listener: socket.socket) -> bool:
    """Machines other than this one may be able to connect."""
    name = listener.getsockname()
    return listener.family != socket.AF_UNIX and not (name[0].startswith("127.") or name[0] == "::1")


def remove(listener: socket.socket, made: os.stat_result | None) -> None:
    """Unlink a unix socket's file, if it is still the one that we made."""
    if listener.family == socket.AF_UNIX and made is not None:
        with suppress(OSError):
            path = listener.getsockname()
            now = os.lstat(path)
            if (now.st_dev, now.st_ino) == (made.st_dev, made.st_ino):
                os.unlink(path)


def _listen_tcp(address: str) -> socket.socket:
    host, port = _split(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ListenError(f"cannot resolve the listening address {address!r}: {error.strerror}") from None
    family, kind, protocol, _, where = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted connections inherit it, so that it costs no system call each.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
        listener.bind(where)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ListenError(
            f"unable to bind listening socket for address {address!r}: {error.strerror} ({error.errno})"
        ) from None
    return listener


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ListenError(f"{address!r}: an IPv6 address is written in brackets, [{host}]:{port}")
    if not (port.isascii() and port.isdecimal() and 0 <= int(port) <= 65535):
        raise ListenError(f"invalid port value '{port}' in the listening address {address!r}")
    # A port alone means loopback, and the world only if the world is named: who can connect can run code.
    return {"": "127.0.0.1", "*": "0.0.0.0"}.get(host, host), int(port)


def _listen_unix(path: str, owner: int, group: int, mode: int) -> socket.socket:
    if len(os.fsencode(path)) > 107:
        raise ListenError(f"the socket path {path!r} is longer than the 107 bytes that Linux allows")
    _make_way(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Nobody connects before owner and mode are right.
    umask = os.umask(0o777)
    try:
        listener.bind(path)
        os.umask(umask)
        if (owner, group) != (-1, -1):
            os.chown(path, owner, group)
        os.chmod(path, mode)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ListenError(
            f"unable to bind listening socket for address {path!r}: {error.strerror} ({error.errno})"
        ) from None
    finally:
        os.umask(umask)
    return listener


def _ids(owner: str | None, group: str | None) -> tuple[int, int]:
    """Ids to give to chown; -1 leaves one as it is."""
    uid = -1 if owner is None else pwd.getpwnam(owner).pw_uid
    if group is not None:
        return uid, grp.getgrnam(group).gr_gid
    if owner is None and os.geteuid() == 0:
        for name in WEB_SERVER_GROUPS:
            with suppress(KeyError):
                return uid, grp.getgrnam(name).gr_gid
    return uid, -1


def _make_way(path: str) -> None:
    """Remove a socket that nobody listens on any more; refuse to take one from a living server."""
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ListenError(f"unable to bind listening socket for address {path!r}: {error.strerror}") from None
    if not stat.S_ISSOCK(info.st_mode):
        raise ListenError(f"{path!r} exists and is not a socket; remove it, or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except OSError as error:
            if error.errno == errno.ECONNREFUSED:
                os.unlink(path)
                return
            if error.errno != errno.EAGAIN:  # EAGAIN: alive, with a full queue
                raise ListenError(f"cannot tell whether {path!r} is in use: {error.strerror}") from None
            raise ListenError(f"another server is listening on {path!r}, and is too busy to answer") from None
        pid, _, _ = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        raise ListenError(f"another server is listening on {path!r} already: process {pid}{_name_of(pid)}")


def _name_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(200).replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return ""
    return f" ({words})"
