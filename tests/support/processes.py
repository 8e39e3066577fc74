"""What Linux tells about processes in /proc."""

from __future__ import annotations

import os
import re
from collections import Counter
from contextlib import suppress

_TICK = os.sysconf("SC_CLK_TCK")


def _read(pid: int, name: str) -> str:
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read().decode("utf-8", "replace")


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third, the state, on."""
    return _read(pid, "stat").rpartition(")")[2].split()


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def state(pid: int) -> str:
    """The state letter, ``Z`` for a zombie; ``""`` when there is no such process."""
    try:
        return _stat(pid)[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_running(pid: int) -> bool:
    return state(pid) not in ("", "Z")


def title(pid: int) -> str:
    try:
        return _read(pid, "cmdline").replace("\0", " ").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children(parent: int) -> list[int]:
    found = []
    for pid in all_pids():
        with suppress(FileNotFoundError, ProcessLookupError):
            if int(_stat(pid)[1]) == parent:
                found.append(pid)
    return found


def session(leader: int) -> list[int]:
    """All processes of the session that ``leader`` began, itself included, zombies as well."""
    found = []
    for pid in all_pids():
        with suppress(FileNotFoundError, ProcessLookupError):
            if int(_stat(pid)[3]) == leader:
                found.append(pid)
    return found


def running_session(leader: int) -> list[int]:
    """Those of them that run. A zombie is init's to reap once its parent is gone, and some inits take their time."""
    return [pid for pid in session(leader) if is_running(pid)]


def owner(pid: int) -> tuple[int, int, set[int]]:
    """User, group and supplementary groups; the user's four ids must be one."""
    text = _read(pid, "status")
    uids = set(re.search(r"^Uid:(.*)", text, re.M)[1].split())  # type: ignore[index]
    gids = set(re.search(r"^Gid:(.*)", text, re.M)[1].split())  # type: ignore[index]
    groups = re.search(r"^Groups:(.*)", text, re.M)[1].split()  # type: ignore[index]
    assert len(uids) == len(gids) == 1, f"process {pid} can go back to what it was: {uids}, {gids}"
    return int(uids.pop()), int(gids.pop()), {int(group) for group in groups}


def cpu_seconds(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICK


def _kilobytes(pid: int, file: str, name: str) -> int:
    return sum(int(amount) for amount in re.findall(rf"^{name}:\s*(\d+) kB", _read(pid, file), re.M))


def peak_memory(pid: int) -> int:
    """Bytes of the largest resident set so far (VmHWM)."""
    return _kilobytes(pid, "status", "VmHWM") * 1024


def own_memory(pid: int) -> int:
    """Bytes that no other process shares (USS)."""
    return _kilobytes(pid, "smaps_rollup", "Private_[A-Za-z]+") * 1024


def sockets(pid: int) -> set[str]:
    """The open sockets of a process by inode: one that stays in here is the same connection."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
            if target.startswith("socket:"):
                found.add(target)
    return found


def descriptors(pid: int) -> dict[int, str]:
    """What each open descriptor leads to, as the kernel names it: a path, ``socket:[INODE]``, ``/memfd:NAME``."""
    found = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            found[int(fd)] = os.readlink(f"/proc/{pid}/fd/{fd}")
    return found


def kinds_of_descriptors(pid: int) -> Counter[str]:
    """How many descriptors there are of each kind, whatever their numbers and inodes."""
    return Counter(re.sub(r"\[?\d+\]?", "", target) for target in descriptors(pid).values())
