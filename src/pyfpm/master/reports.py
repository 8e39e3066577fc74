"""What the log says of requests that went wrong in a worker, in php-fpm's words.

A worker's message is the time that the request has run, in microseconds, or the signal that it crashed on, then a line
end and what faulthandler has written. All of it may be made up.
"""

from __future__ import annotations

import signal
import time

from pyfpm.observe.scoreboard import SlotView
from pyfpm.observe.slowlog import of_application, parse_trace, slow_entry


def text_of(message: bytes) -> str:
    return message.decode("utf-8", "replace")


def _number(message: bytes) -> tuple[int, str]:
    head, _, trace = message.partition(b"\n")
    return int(head[:18]) if head[:18].isdigit() else 0, text_of(trace)


def _request(view: SlotView) -> str:
    uri = view.uri + (f"?{view.query}" if view.query else "")
    return f"script '{view.script}' (request: \"{view.method} {uri}\")"


def _traceback(trace: str) -> str:
    """The frames of the user's code, as Python shows them."""
    lines = []
    for thread in of_application(parse_trace(trace)):
        lines += [f'  File "{frame.file}", line {frame.line} in {frame.function}' for frame in thread.frames]
    return "\n".join(lines)


def slow(pid: int, view: SlotView, message: bytes) -> list[tuple[str, str]]:
    """Log lines (level, text) for a request over request_slowlog_timeout."""
    us, _ = _number(message)
    return [("WARNING", f"child {pid}, {_request(view)} executing too slow ({us / 1e6:.6f} sec), logging")]


def slow_entry_of(pool: str, pid: int, view: SlotView, message: bytes, depth: int) -> str:
    """The block for the slow log."""
    _, trace = _number(message)
    return slow_entry(time.localtime(), pool, pid, view.script, trace, depth)


def terminated(pid: int, view: SlotView, message: bytes) -> str:
    """The log line for a request over request_terminate_timeout, and where it was."""
    us, trace = _number(message)
    text = f"child {pid}, {_request(view)} execution timed out ({us / 1e6:.6f} sec), terminating"
    where = _traceback(trace)
    return f"{text}\n{where}" if where else text


def crashed(pid: int, view: SlotView, message: bytes) -> str:
    """The log line for a worker that a signal of the kernel's ends, and where it was."""
    number, trace = _number(message)
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = "unknown"
    text = f"child {pid} crashes on signal {number} ({name}), last request: {_request(view)}"
    where = _traceback(trace)
    return f"{text}\n{where}" if where else text
