"""How many connections wait in the queue of a listening socket, and for how many there is room.

The kernel knows; no worker is asked. For TCP it says so in TCP_INFO, where the two numbers of a listening socket are in
the fields that count segments otherwise. For a unix socket nothing but the sock_diag netlink protocol tells: one
request for the socket of this inode. The kernel answers before our send returns, so there is nothing to wait for. Seen:
3 us for TCP, 40 us for a unix socket.

Whatever the kernel does not want to tell (a container's rules, a kernel without unix_diag, a socket of another network
namespace) counts as an empty queue: a number on a status page is no reason to fail.

Source: tcp(7), sock_diag(7), netlink(7); <linux/tcp.h>, <linux/unix_diag.h>.
"""

from __future__ import annotations

import os
import socket
import struct

# struct tcp_info: eight bytes, the first of them the state, and four numbers; then tcpi_unacked and tcpi_sacked.
TCP_INFO = struct.Struct("=B7x16xII")
TCP_LISTEN = 10

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST = 1
UDIAG_SHOW_RQLEN = 0x10
UNIX_DIAG_RQLEN = 4
ANY_COOKIE = (0xFFFFFFFF, 0xFFFFFFFF)

HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
UNIX_REQUEST = struct.Struct("=BBHIIIII")  # struct unix_diag_req: family, protocol, pad, states, inode, show, cookie
UNIX_REPLY = struct.Struct("=BBBBIII")  # struct unix_diag_msg: family, type, state, pad, inode, cookie
ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length, type
RQLEN = struct.Struct("=II")  # struct unix_diag_rqlen; of a listening socket: waiting, room


def listen_queue(sock: socket.socket, backlog: int = 0) -> tuple[int, int]:
    """Connections that wait to be accepted, and for how many ``sock`` has room (php-fpm: "listen queue", "listen queue
    len").

    Args:
      sock: a listening socket, TCP or unix; it is not touched.
      backlog: what it was asked to have room for; for a kernel that does not tell.

    Never raises and never blocks; (0, backlog) when there is nothing to be learned.
    """
    try:
        if sock.family == socket.AF_UNIX:
            found = _of_unix(sock)
        else:
            found = _of_tcp(sock)
    except (OSError, struct.error):
        found = None
    return found or (0, backlog)


def _of_tcp(sock: socket.socket) -> tuple[int, int] | None:
    state, waiting, room = TCP_INFO.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO.size))
    return (waiting, room) if state == TCP_LISTEN else None


def _of_unix(sock: socket.socket) -> tuple[int, int] | None:
    inode = os.fstat(sock.fileno()).st_ino
    request = UNIX_REQUEST.pack(socket.AF_UNIX, 0, 0, 1 << TCP_LISTEN, inode, UDIAG_SHOW_RQLEN, *ANY_COOKIE)
    header = HEADER.pack(HEADER.size + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0)
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_NETLINK, kind, NETLINK_SOCK_DIAG) as netlink:
        netlink.sendto(header + request, (0, 0))
        return _rqlen(netlink.recv(4096), inode)


def _rqlen(reply: bytes, inode: int) -> tuple[int, int] | None:
    """The queue in a reply of unix_diag; None for an error, another socket, or one that does not listen."""
    length, kind, *_ = HEADER.unpack_from(reply)
    if kind != SOCK_DIAG_BY_FAMILY or not HEADER.size + UNIX_REPLY.size <= length <= len(reply):
        return None
    _, _, state, _, found, *_ = UNIX_REPLY.unpack_from(reply, HEADER.size)
    if state != TCP_LISTEN or found != inode:
        return None
    at = HEADER.size + UNIX_REPLY.size
    while at + ATTRIBUTE.size <= length:
        size, name = ATTRIBUTE.unpack_from(reply, at)
        if name == UNIX_DIAG_RQLEN and size == ATTRIBUTE.size + RQLEN.size:
            waiting, room = RQLEN.unpack_from(reply, at + ATTRIBUTE.size)
            return waiting, room
        at += max(ATTRIBUTE.size, -(-size // 4) * 4)
    return None
