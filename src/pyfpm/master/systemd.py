"""What systemd is told, and what it tells: sd_notify(3) and sd_listen_fds(3).

Own code, since it is one datagram, and the library would be larger than this file.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

# The first of the descriptors that systemd passes.
LISTEN_FDS_START = 3


class Notifier:
    """Tells systemd how we are; does nothing where there is no systemd.

    Args:
      environ: where NOTIFY_SOCKET and WATCHDOG_USEC stand. They are taken out, as they are not meant for workers.
    """

    def __init__(self, environ: dict[str, str] | os._Environ[str] = os.environ) -> None:
        self._address = environ.pop("NOTIFY_SOCKET", "")
        watchdog_us = environ.pop("WATCHDOG_USEC", "")
        is_ours = environ.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        # Seconds between two signs of life, half of the limit [sd_watchdog_enabled(3)]; 0: nobody waits for them.
        self.watchdog_s = int(watchdog_us) / 2e6 if watchdog_us.isdecimal() and is_ours else 0.0

    def __bool__(self) -> bool:
        return bool(self._address)

    def __call__(self, **state: str | int) -> None:
        """``notify(READY=1, STATUS="...")``."""
        if not self._address:
            return
        text = "\n".join(f"{name}={str(value).replace(chr(10), ' ')}" for name, value in state.items())
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.setblocking(False)
            channel.sendto(text.encode(), address)

    def reloading(self) -> None:
        """For Type=notify-reload, which compares our clock with its own."""
        self(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000, STATUS="Reloading")


def inherited(environ: dict[str, str] | os._Environ[str] = os.environ) -> list[socket.socket]:
    """Listening sockets that were passed to us (LISTEN_FDS); the variables are taken out."""
    count = environ.pop("LISTEN_FDS", "")
    pid = environ.pop("LISTEN_PID", "")
    environ.pop("LISTEN_FDNAMES", None)
    if not count.isdecimal() or pid != str(os.getpid()):
        return []
    found = []
    for fd in range(LISTEN_FDS_START, LISTEN_FDS_START + int(count)):
        try:
            os.set_inheritable(fd, False)
            found.append(socket.socket(fileno=fd))
        except OSError:
            continue  # there is no such descriptor, whatever the variable says, or it is no socket
    return found


def status_text(pools: Mapping[str, tuple[int, int, int, int]], requests_per_s: float) -> str:
    """What ``systemctl status`` shows, in php-fpm's words. pools: name: active, idle, requests, slow."""
    active, idle, requests, slow = (sum(each[i] for each in pools.values()) for i in range(4))
    processes = f"Processes active: {active}, idle: {idle}"
    return f"{processes}, Requests: {requests}, slow: {slow}, Traffic: {requests_per_s:.2f}req/sec"
