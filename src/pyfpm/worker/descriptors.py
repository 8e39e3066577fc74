"""Descriptors that come with a message, by what they are for."""

from __future__ import annotations

import array
import os
import socket

LONGEST_MESSAGE = 64 * 1024
MOST_DESCRIPTORS = 250  # of one message [unix(7), SCM_MAX_FD]


def receive(channel: socket.socket, flags: int = 0) -> tuple[bytes, list[int]]:
    """One message and its descriptors, all of them close-on-exec; ``b""`` at the end.

    ``socket.recv_fds`` ignores its flags, so what it gives is inherited by every program that is executed.

    Raises:
      OSError: as ``recvmsg``.
    """
    message, ancillary, _, _ = channel.recvmsg(
        LONGEST_MESSAGE,
        socket.CMSG_SPACE(MOST_DESCRIPTORS * array.array("i").itemsize),
        flags | socket.MSG_CMSG_CLOEXEC,
    )
    found = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return message, list(found)


class Descriptors:
    """Those of one message."""

    def __init__(self, names: tuple[str, ...], fds: list[int]) -> None:
        self._all = list(zip(names, fds, strict=True))

    def all(self, name: str) -> list[int]:
        return [fd for each, fd in self._all if each == name]

    def first(self, name: str, default: int = -1) -> int:
        return next(iter(self.all(name)), default)

    def replace(self, names: tuple[str, ...], fds: list[int]) -> None:
        """Have these in the place of those of the same name, under the same numbers."""
        for name, fd in zip(names, fds, strict=True):
            for there in self.all(name):
                os.dup2(fd, there, inheritable=there <= 2)
            os.close(fd)

    def close(self) -> None:
        for _, fd in self._all:
            os.close(fd)
