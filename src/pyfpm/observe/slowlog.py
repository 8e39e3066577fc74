"""The slow log: where a request was when it had run for too long, in php-fpm's block.

    [24-Nov-2026 10:00:00]  [pool www] pid 7
    script_filename = /srv/www/report.py
    [0x00007f1f9e86f040] query() /srv/www/db.py:31
    [0x00007f1f9e86f040] <module>() /srv/www/report.py:7

php-fpm stops the child and reads its memory; here the worker tells it of itself by faulthandler, which works without
ptrace and does not stop anything. So the text comes from a process that runs other people's code, and may be anything:
what does not look like a trace is passed over, and all that is shown is escaped.

Frames of pyfpm, of trio and of the interpreter's frozen modules are left out: they are the same in every trace, and it
is the script's that one wants to know. php-fpm's address of a frame is the address of its thread here.
"""

from __future__ import annotations

import importlib.util
import os
import re
import time
from dataclasses import dataclass
from functools import cache

from pyfpm.observe.log import escape, stamp

# As faulthandler does: it shows no more than 100 threads, with 100 frames each.
_MOST_THREADS = 100

_THREAD = re.compile(
    r"(?P<current>Current thread|Thread) (?P<address>0x[0-9a-fA-F]{1,16})"
    r"(?: \[(?P<name>.*)\])? \(most recent call first\):"
)
_FRAME = re.compile(
    r'  File (?:"(?P<file>.*)"|(?P<nowhere>\?\?\?)), line (?P<line>\d{1,10}|\?\?\?) in (?P<function>.+)'
)


@dataclass(frozen=True, slots=True)
class Frame:
    """One call. ``line`` is 0 where it is not known; ``file`` is ``unknown`` then, as in php-fpm."""

    function: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread and its calls, the most recent first. ``name`` is empty where faulthandler gives none (before 3.14)."""

    address: int
    name: str
    current: bool
    frames: tuple[Frame, ...]


def parse_trace(trace: str) -> list[Thread]:
    """Read what ``faulthandler.dump_traceback`` wrote, in its order.

    Whatever is not a thread or a frame is passed over; of a trace that was cut, the part that is whole is returned. The
    texts are as they came, not escaped.
    """
    threads: list[tuple[re.Match[str], list[Frame]]] = []
    # What has no newline at its end may have been cut within a number.
    for line in trace.split("\n")[:-1]:
        if found := _THREAD.fullmatch(line):
            if len(threads) == _MOST_THREADS:
                break
            threads.append((found, []))
        elif threads and (found := _FRAME.fullmatch(line)):
            number = int(found["line"]) if found["line"].isdecimal() else 0
            threads[-1][1].append(Frame(found["function"], found["file"] or "unknown", number))
    return [
        Thread(int(found["address"], 16), found["name"] or "", found["current"] == "Current thread", tuple(frames))
        for found, frames in threads
    ]


def of_application(threads: list[Thread]) -> list[Thread]:
    """The threads without the frames that are not the application's, and only those that have any left.

    If there is none at all, the one that ran is left as it was, or all where that is not known: better our frames than
    nothing.
    """
    left = []
    for thread in threads:
        frames = tuple(frame for frame in thread.frames if not _is_ours(frame.file))
        if frames:
            left.append(Thread(thread.address, thread.name, thread.current, frames))
    if left:
        return left
    known = [thread for thread in threads if thread.frames]
    return [thread for thread in known if thread.current] or known


def slow_entry(now: time.struct_time, pool: str, pid: int, script: str, trace: str, depth: int) -> str:
    """One block of the slow log, beginning with an empty line.

    Args:
      now: the local time.
      pool, pid: of the worker.
      script: the file that runs; empty: not known.
      trace: faulthandler's text, of one thread or all. If there are several with frames of the application, each has a
        line ``thread ADDRESS NAME`` before it.
      depth: frames to show of each thread (request_slowlog_trace_depth); 0: all.

    Source: php-fpm.conf, slowlog, request_slowlog_timeout.
    """
    lines = [
        "",
        f"[{stamp(now)}]  [pool {_line(pool)}] pid {pid}",
        f"script_filename = {_line(script) or '-'}",
    ]
    threads = of_application(parse_trace(trace))
    for thread in threads:
        if len(threads) > 1:
            name = f" {_line(thread.name)}" if thread.name else ""
            lines.append(f"thread 0x{thread.address:016x}{name}{' (current)' if thread.current else ''}")
        lines.extend(frame_lines(thread, depth))
    if not threads:
        lines.append("+++ dump failed")
    return "\n".join(lines) + "\n"


def frame_lines(thread: Thread, depth: int = 0) -> list[str]:
    """``[0xADDRESS] function() FILE:LINE`` for each frame, escaped."""
    frames = thread.frames[:depth] if depth > 0 else thread.frames
    return [f"[0x{thread.address:016x}] {_line(frame.function)}() {_line(frame.file)}:{frame.line}" for frame in frames]


def _line(text: str) -> str:
    return escape(text).replace("\n", "\\x0a")


def _is_ours(file: str) -> bool:
    return file.startswith(_left_out())


@cache
def _left_out() -> tuple[str, ...]:
    directories = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
    # Not imported: the master and pyfpmctl read traces too. outcome has two frames of each of trio's tasks.
    for package in ("trio", "outcome"):
        spec = importlib.util.find_spec(package)
        directories += (spec and spec.submodule_search_locations) or []
    # In the spelling of faulthandler, which writes ASCII.
    return ("<frozen ", *(f"{path}{os.sep}".encode("ascii", "backslashreplace").decode() for path in directories))
