"""What an application has left behind while it was imported, and a fork does not go well with.

Threads do not survive a fork, and the locks that they held stay locked; a connection that several workers share gives
the answer to one's question to another. Neither fails at once, so both are named when the application is loaded.
"""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Container
from contextlib import suppress


def left_behind(ours: Container[int]) -> list[str]:
    """A sentence for each thread and each connected socket of this process.

    Args:
      ours: descriptors that are not the application's.
    """
    return [*_threads(), *_connections(ours)]


def _threads() -> list[str]:
    named = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    found = [
        f"the application has left a thread behind, {thread.name!r} ({_target(thread)}): it does not run in the"
        " workers; start it when the first request comes"
        for thread in named
    ]
    # Threads of libraries in C; every Python thread is a thread of the kernel's.
    more = len(os.listdir("/proc/self/task")) - 1 - len(named) if os.path.isdir("/proc/self/task") else 0
    if more > 0:
        found.append(
            f"the application has left {more} threads behind that are not Python's; they do not run in the workers"
        )
    return found


def _target(thread: threading.Thread) -> str:
    target = getattr(thread, "_target", None) or type(thread)
    return f"{getattr(target, '__module__', '?')}.{getattr(target, '__qualname__', '?')}"


def _connections(ours: Container[int]) -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []:
        number = int(name)
        if number in ours:
            continue
        with suppress(OSError):  # no socket, not connected, or closed by now
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            with socket.socket(fileno=os.dup(number)) as connection:
                peer = connection.getpeername()
            found.append(
                f"the application has left a connection open, to {_shown(peer)} (descriptor {number}): all workers"
                " would share it; connect when the first request comes"
            )
    return found


def _shown(peer: object) -> str:
    if isinstance(peer, tuple) and len(peer) >= 2:
        return f"{peer[0]}:{peer[1]}"
    text = peer.decode("utf-8", "replace") if isinstance(peer, bytes) else str(peer)
    return repr(text) if text else "a socket pair"
