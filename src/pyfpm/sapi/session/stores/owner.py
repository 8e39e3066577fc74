"""Is the process that has a lock still there? Where locks only expire, this frees those of workers that were killed.

It can be known of the processes of this machine (this boot, this PID namespace) alone. Of others, and where /proc is
not there, an owner counts as alive.
"""

from __future__ import annotations

import os
from functools import lru_cache


def ours() -> str:
    """Names this process, for ``is_gone`` in another one."""
    pid = os.getpid()
    return f"{_machine()}/{pid}/{_started(pid)}"


def is_gone(owner: str) -> bool:
    machine, _, process = owner.partition("/")
    if not machine or machine != _machine():
        return False
    pid, _, started = process.partition("/")
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # Another user's, so it is there.
    except (ValueError, OverflowError):
        return False
    now = _started(int(pid))
    return bool(started and now) and now != started


@lru_cache(maxsize=1)
def _machine() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()}-{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When it did, in the kernel's ticks: a number that is used again belongs to another process."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            # The name, in parentheses, can have anything in it.
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
