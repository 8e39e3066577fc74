"""The worker's end of the channel to its master: a SOCK_SEQPACKET socket, each message a letter and what belongs to it.

We say ``r`` (ready; and whether requests go on while others do), ``f`` (we never will be, and why), ``h`` (we have
heard that we are to retire, and begin no more requests), ``m`` (we retire by ourselves, and why), ``c`` (when a file of
the application was changed, and which one), ``s`` (what does the status page say?) and ``g`` (the same for
fpm_get_status()); the watchdog says more on the same socket, without us. We hear ``S`` (the status) and ``l`` (the log
files were opened anew).
Nothing that is said here may keep a request waiting, but for the status page, which is one.
"""

from __future__ import annotations

import json
import os
import select
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pyfpm.worker.descriptors import LONGEST_MESSAGE, receive

# Behind ``r``: a request is no reason for not hearing, as it is where only one runs at a time.
ASYNCHRONOUS = "async"

# How long a status page may take, in seconds. The master has nothing to do that takes longer than some milliseconds.
STATUS_DEADLINE_S = 2.0

# Bytes of a query string that the master gets to see; all that it understands are a few words.
LONGEST_QUERY = 1024


class Control:
    """
    Args:
      sock: the connected socket, which is owned from here on.
      files: name: descriptor, of the log files that the master may open anew: ``error_log``, ``access_log``.
    """

    def __init__(self, sock: socket.socket, files: Mapping[str, int] | None = None) -> None:
        self._socket = sock
        self._files = dict(files or {})
        # Where requests run on threads, one of them may ask while the thread that serves listens.
        self._lock = threading.RLock()
        # What we have asked for, and what the answer was; another's was given up, and comes late.
        self._asked: bytes | None = None
        self._page: bytes | None = None

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def send(self, letter: str, payload: str = "") -> None:
        """Never waits: a master that does not listen misses it."""
        self._send((letter + payload).encode("utf-8", "backslashreplace")[:LONGEST_MESSAGE])

    def _send(self, message: bytes) -> None:
        with suppress(OSError):
            self._socket.send(message, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def tell_slow(self, age_s: float, stack: str) -> None:
        """A request has run for longer than ``request_slowlog_timeout``; as the watchdog says it."""
        self.send("L", f"{age_s * 1e6:.0f}\n{stack}")

    def receive(self) -> bool:
        """Do what the master has said so far. False: it is gone."""
        with self._lock:
            return self._receive()

    def _receive(self) -> bool:
        while True:
            try:
                message, fds = receive(self._socket, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return True
            except ConnectionError:
                return False
            try:
                if not message:
                    return False
                self._handle(message[:1], message[1:], fds)
            finally:
                for fd in fds:
                    os.close(fd)

    def _handle(self, letter: bytes, payload: bytes, fds: list[int]) -> None:
        if letter == b"S" and payload == self._asked:
            self._asked = None
            self._page = _content(fds[0]) if fds else None
        elif letter == b"l":
            for name, fd in zip(json.loads(payload), fds, strict=False):
                if name in self._files:
                    # Whoever writes to the old one by its number writes to the new one from now on.
                    os.dup2(fd, self._files[name], inheritable=self._files[name] <= 2)

    def ask_status(self, query: str) -> bytes | None:
        """The status page of the pool as a complete CGI answer; blocks up to STATUS_DEADLINE_S, and
        whoever listens on another thread as well.

        Args:
          query: the query string, which says what kind of page.
        Returns:
          None if the master does not say: it is gone, or busy.
        """
        return self._ask(b"s" + query.encode("latin-1", "backslashreplace")[:LONGEST_QUERY])

    def ask_figures(self) -> dict[str, Any] | None:
        """The same for programs: what fpm_get_status() returns."""
        answer = self._ask(b"g")
        return None if answer is None else json.loads(answer)

    def _ask(self, question: bytes) -> bytes | None:
        with self._lock:
            return self._ask_alone(question)

    def _ask_alone(self, question: bytes) -> bytes | None:
        deadline = time.monotonic() + STATUS_DEADLINE_S
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        self._asked = question
        self._page = None
        self._send(question)
        while self.receive() and self._asked is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            poll.poll(left * 1000)
        self._asked = None
        page, self._page = self._page, None
        return page


def _content(fd: int) -> bytes:
    pieces = []
    at = 0
    while piece := os.pread(fd, 1 << 20, at):
        pieces.append(piece)
        at += len(piece)
    return b"".join(pieces)
