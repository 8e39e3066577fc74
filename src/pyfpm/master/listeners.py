"""Listening sockets: where php-fpm's ``listen`` says, and never in the place of a server that is alive."""

from __future__ import annotations

import errno
import grp
import os
import socket
import stat
import struct
from contextlib import suppress

import trio

from pyfpm.config import PoolConfig
from pyfpm.master import acl
from pyfpm.master.acl import group_id, user_id
from pyfpm.observe.log import Log

# Groups that web servers run as, for a socket that root makes without being told whose it is.
WEB_SERVER_GROUPS = ("www-data", "nginx", "http", "caddy", "apache")


# Of a unix socket, in bytes [unix(7), sun_path].
LONGEST_PATH = 107


class ListenError(Exception):
    """The address cannot be listened on; the message says which, and why."""


class Listener:
    """One listening socket, and the file that it may have made.

    Args:
      address: as it was configured, and as the log names it.
      inherited: it was made by somebody else (systemd), who also has its file removed.
    """

    def __init__(self, address: str, listening: socket.socket, inherited: bool = False) -> None:
        self.address = address
        self.socket = listening
        self.inherited = inherited
        # A task of the master's answers on it (pm.status_listen).
        self.is_served = False
        self._made: os.stat_result | None = None
        if listening.family == socket.AF_UNIX and not inherited:
            with suppress(OSError):
                self._made = os.lstat(listening.getsockname())

    def apply(self, config: PoolConfig) -> None:
        """Owner, permissions and backlog of a configuration that was read again. Raises ListenError."""
        if self.inherited:
            return
        try:
            if self._made is not None:
                _own(self.socket.getsockname(), config, self._made)
            self.socket.listen(_backlog(config))
        except OSError as error:
            raise ListenError(f"unable to change the listening socket {self.address!r}: {error.strerror}") from None

    def hide(self) -> None:
        """Unlink a unix socket's file, if it is still the one that we made: nobody new finds us."""
        if self._made is not None:
            with suppress(OSError):
                path = self.socket.getsockname()
                now = os.lstat(path)
                if (now.st_dev, now.st_ino) == (self._made.st_dev, self._made.st_ino):
                    os.unlink(path)

    def close(self) -> None:
        self.hide()
        trio.lowlevel.notify_closing(self.socket)
        self.socket.close()


def listen(address: str, config: PoolConfig, log: Log) -> Listener:
    """Listen on ``/path``, ``HOST:PORT``, ``[IPv6]:PORT`` or ``PORT``, as php-fpm's ``listen``.

    Raises:
      ListenError: the address is malformed, in use or not ours to use.
    """
    if "/" in address:
        return Listener(address, _listen_unix(address, config, log))
    host, port = _split(address)
    if not host:
        # A port alone means loopback, since who can connect can run code; and everywhere, as in php-fpm, where it is
        # said who may.
        if not config.listen_allowed_clients:
            return Listener(address, listen_tcp("127.0.0.1", port, address, _backlog(config)))
        try:
            return Listener(address, listen_tcp("::", port, address, _backlog(config)))
        except ListenError:
            log("NOTICE", "Failed implicitly binding to ::, retrying with 0.0.0.0")
            host = "0.0.0.0"
    return Listener(address, listen_tcp(host, port, address, _backlog(config)))


def adopt(address: str, offered: list[socket.socket]) -> Listener | None:
    """The one of these sockets that listens on this address already; it is taken out of the list."""
    for each in offered:
        if _is_at(each, address):
            offered.remove(each)
            return Listener(address, each, inherited=True)
    return None


def _is_at(listening: socket.socket, address: str) -> bool:
    name = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return "/" in address and os.path.abspath(address) == name
    if listening.family not in (socket.AF_INET, socket.AF_INET6) or "/" in address:
        return False
    try:
        host, port = _split(address)
        found = socket.getaddrinfo(host or "127.0.0.1", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (ListenError, OSError):
        return False
    return name[1] == port and (not host or any(where[0] == name[0] for *_, where in found))


def describe(listener: socket.socket) -> str:
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return str(name)
    return f"[{name[0]}]:{name[1]}" if listener.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"


def is_public(listener: socket.socket) -> bool:
    """Machines other than this one may be able to connect."""
    name = listener.getsockname()
    return listener.family != socket.AF_UNIX and not (name[0].startswith("127.") or name[0] == "::1")


def listen_tcp(host: str, port: int, address: str, backlog: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ListenError(f"cannot resolve the listening address {address!r}: {error.strerror}") from None
    family, kind, protocol, _, where = found[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted connections inherit it, so that it costs no system call each.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
        listening.bind(where)
        listening.listen(backlog)
    except OSError as error:
        listening.close()
        raise ListenError(_unable(address, error)) from None
    return listening


def _unable(address: str, error: OSError) -> str:
    return f"unable to bind listening socket for address '{address}': {error.strerror} ({error.errno})"


def _backlog(config: PoolConfig) -> int:
    """-1 is as many as the kernel allows, which cuts any larger number (net.core.somaxconn)."""
    return 65_535 if config.listen_backlog < 0 else config.listen_backlog


def too_long(path: str) -> str | None:
    """What is wrong with the path of a unix socket, if it is its length."""
    length = len(os.fsencode(path))
    if length <= LONGEST_PATH:
        return None
    found = f"(found length: {length}, maximal length: {LONGEST_PATH})"
    return f"cannot bind to UNIX socket '{path}' as path is too long {found}"


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ListenError(f"{address!r}: an IPv6 address is written in brackets, [{host}]:{port}")
    if not (port.isascii() and port.isdecimal() and 0 <= int(port) <= 65535):
        raise ListenError(f"invalid port value '{port}' in the listening address {address!r}")
    return ("0.0.0.0" if host == "*" else host), int(port)


def _listen_unix(address: str, config: PoolConfig, log: Log) -> socket.socket:
    path = os.path.abspath(address)
    if (said := too_long(path)) is not None:
        path = os.fsdecode(os.fsencode(path)[:LONGEST_PATH])
        log("WARNING", f"[pool {config.pool}] {said}, trying cut socket path instead '{path}'")
    make_way(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Nobody connects before owner and mode are right.
    umask = os.umask(0o777)
    try:
        listening.bind(path)
        os.umask(umask)
        _own(path, config)
        listening.listen(_backlog(config))
    except OSError as error:
        listening.close()
        raise ListenError(_unable(path, error)) from None
    finally:
        os.umask(umask)
    return listening


def _own(path: str, config: PoolConfig, made: os.stat_result | None = None) -> None:
    """listen.owner, .group and .mode; or the access control list, before which owner and group step back.

    The directory may be one that others can write to, who could have put a link to root's files there. So what is
    changed is one file that was looked at, whatever has its name meanwhile.

    Args:
      made: what bind made there; a file that is another by now is left alone.
    """
    owner, group = _ids(config.listen_owner, config.listen_group)
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        info = os.fstat(fd)
        if not stat.S_ISSOCK(info.st_mode):
            raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK), path)
        if made is not None and (info.st_dev, info.st_ino) != (made.st_dev, made.st_ino):
            return
        # Linux has no other name for what an O_PATH descriptor stands for. Without /proc the path has to do.
        there = f"/proc/self/fd/{fd}" if os.path.exists(f"/proc/self/fd/{fd}") else path
        if config.listen_acl_users or config.listen_acl_groups:
            os.chmod(there, config.listen_mode)
            acl.set_access(there, config.listen_mode, config.listen_acl_users, config.listen_acl_groups)
            return
        if (owner, group) != (-1, -1):
            os.chown(there, owner, group)
        os.chmod(there, config.listen_mode)
    finally:
        os.close(fd)


def _ids(owner: str | None, group: str | None) -> tuple[int, int]:
    """Ids to give to chown; -1 leaves one as it is."""
    uid = -1 if owner is None else user_id(owner)
    if group is not None:
        return uid, group_id(group)
    if owner is None and os.geteuid() == 0:
        for name in WEB_SERVER_GROUPS:
            with suppress(KeyError):
                return uid, grp.getgrnam(name).gr_gid
    return uid, -1


def make_way(path: str) -> None:
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
