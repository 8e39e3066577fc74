"""``pyfpmctl top``: pools and workers, live.

Rates come from two samples; in the first one they are those since the start. Whatever else is shown is what the master
tells about itself, and the workers' memory, which the kernel tells about everybody.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pyfpm.ctl.control import ask
from pyfpm.ctl.status import master_line
from pyfpm.ctl.text import duration, shown, size

PERIOD_S = 1.0

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Sample:
    """What the master said, and when (in seconds of a clock that only goes forward)."""

    status: dict[str, Any]
    at: float


def take(path: str) -> Sample:
    return Sample(ask(path, {"do": "status"}), time.monotonic())


def rate(now: int, before: int | None, elapsed: float, since_start: float) -> float:
    """Per second. A counter that went back belongs to somebody new."""
    if before is None or before > now or elapsed <= 0:
        return now / since_start if since_start > 0 else 0.0
    return (now - before) / elapsed


def resident(pid: int) -> int | None:
    """Bytes of memory that a process has; None when there is no such process here (in another container, say)."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return None


def view(sample: Sample, before: Sample | None, rows: int | None = None) -> Table:
    """The table.

    Args:
      before: an earlier sample, for the rates.
      rows: how many lines there is room for; busy workers come first. None for all.
    """
    elapsed = sample.at - before.at if before else 0.0
    old_pools = {pool["pool"]: pool for pool in before.status["pools"]} if before else {}
    table = Table(box=None, expand=True, padding=(0, 1, 0, 0), show_edge=False, header_style="reverse")
    for name, width in (("PID", 7), ("STATE", 7), ("AGE", 6), ("REQ/S", 6), ("REQS", 7), ("MEM", 5)):
        table.add_column(name, width=width, justify="left" if name == "STATE" else "right", no_wrap=True)
    table.add_column("REQUEST", ratio=1, no_wrap=True, overflow="ellipsis")
    pools = sample.status["pools"]
    # Each pool has a line of its own, and perhaps one that says what was left out.
    room = None if rows is None else max(1, (rows - 1 - 2 * len(pools)) // max(1, len(pools)))
    for pool in pools:
        old = old_pools.get(pool["pool"])
        rate_now = rate(pool["accepted conn"], old["accepted conn"] if old else None, elapsed, pool["start since"])
        workers = pool.get("processes", [])
        table.add_row(
            "", "", "", f"{rate_now:.1f}", _count(pool["accepted conn"]), "", _pool_text(pool), style="bold"
        )  # fmt: skip
        old_workers = {each["pid"]: each for each in old.get("processes", [])} if old else {}
        workers = sorted(workers, key=lambda each: (each["state"] == "Idle", -each["request duration"]))
        for worker in workers[:room]:
            table.add_row(*_worker_row(worker, old_workers.get(worker["pid"]), elapsed))
        if room is not None and len(workers) > room:
            table.add_row("", "", "", "", "", "", Text(f"... and {len(workers) - room} more", style="dim"))
    return table


def _pool_text(pool: dict[str, Any]) -> Text:
    busy = f"{pool['active processes']}/{pool['total processes']} busy"
    queue = pool["listen queue"]
    text = Text(f"[{shown(pool['pool'])}] {busy}, queue ")
    text.append(str(queue), style="red" if queue else "")
    if pool["max children reached"]:
        text.append(f", full {pool['max children reached']}x")
    return text


def _worker_row(worker: dict[str, Any], old: dict[str, Any] | None, elapsed: float) -> tuple[str | Text, ...]:
    is_idle = worker["state"] == "Idle"
    # A pid that was given to another process meanwhile has other counters.
    same = old if old and old["start time"] == worker["start time"] else None
    each_second = rate(worker["requests"], same["requests"] if same else None, elapsed, worker["start since"])
    memory = resident(worker["pid"])
    if memory is None:
        memory = worker["last request memory"]
    asked = (
        "" if worker["request method"] == "-" else f"{shown(worker['request method'])} {shown(worker['request uri'])}"
    )
    return (
        str(worker["pid"]),
        Text(shown(worker["state"])[:7], style="" if is_idle else "green"),
        "" if is_idle else duration(worker["request duration"] / 1e6),
        f"{each_second:.1f}",
        _count(worker["requests"]),
        size(memory),
        Text(asked, style="dim" if is_idle else ""),
    )


def _count(number: int) -> str:
    return str(number) if number < 10_000_000 else f"{number / 1e6:.0f}M"


def run(path: str, arguments: argparse.Namespace) -> int:
    if arguments.json:
        print(json.dumps(take(path).status, indent=2))
        return 0
    if arguments.once or not sys.stdout.isatty():
        # Not narrower than a terminal, and wide enough for most URIs where nobody looks at lines' ends.
        width = None if sys.stdout.isatty() else 160
        console = Console(width=width, highlight=False, soft_wrap=False, force_terminal=None)
        sample = take(path)
        console.print(Text(master_line(sample.status["master"])))
        console.print(view(sample, None))
        return 0
    return _live(path)


def _live(path: str) -> int:
    console = Console(highlight=False)
    before, sample = None, take(path)
    with _keys() as key, Live(console=console, screen=True, auto_refresh=False) as live:
        try:
            while True:
                frame = Table.grid(expand=True)
                frame.add_column(no_wrap=True, overflow="ellipsis")
                frame.add_row(Text(f"{time.strftime('%H:%M:%S')}  {master_line(sample.status['master'])}  (q ends)"))
                frame.add_row(view(sample, before, console.height - 1))
                live.update(frame, refresh=True)
                if key(PERIOD_S) in ("q", "Q", "\x03", "\x04"):
                    return 0
                before, sample = sample, take(path)
        except KeyboardInterrupt:
            return 0  # That is the other way to end it.


@contextlib.contextmanager
def _keys() -> Iterator[Any]:
    """A function that waits so many seconds for a key, and gives it, or ""."""
    if not sys.stdin.isatty():

        def wait(seconds: float) -> str:
            time.sleep(seconds)
            return ""

        yield wait
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)

    def key(seconds: float) -> str:
        ready, _, _ = select.select([fd], [], [], seconds)
        # Of an arrow or a pasted line the first byte decides: none of them is q by accident, ESC is none.
        return os.read(fd, 64)[:1].decode("latin-1") if ready else ""

    try:
        tty.setcbreak(fd)
        yield key
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
