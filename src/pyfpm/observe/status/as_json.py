"""The status as JSON: php-fpm's fields by their names and, with ``full``, ours behind them and then the processes.

Without ``full`` there is nothing of ours in it: checks compare this line as a whole, up to the brace behind the slow
requests.
"""

from __future__ import annotations

import json
from typing import Any

from pyfpm.observe.scoreboard import BUCKET_UNIT_US, Histogram
from pyfpm.observe.status.collect import PoolStatus
from pyfpm.observe.status.words import pool_fields, process_fields


def as_json_object(status: PoolStatus, full: bool) -> dict[str, Any]:
    """What the page holds, as plain values that `json.dumps` takes."""
    fields = dict(pool_fields(status))
    if not full:
        return fields
    fields |= {
        "max children": status.max_children,
        "oldest waiting s": status.oldest_waiting_s,
        "open connections": status.connections,
        "requests ended": status.requests,
        "requests refused": status.refused,
        "requests aborted": status.aborted,
        "bytes out": status.bytes_out,
        "generations": {str(generation): workers for generation, workers in status.generations.items()},
        "statuses": by_class(status.statuses),
        "queue wait": _histogram(status.wait_histogram),
        "service time": _histogram(status.service_histogram),
    }
    processes = [process_fields(process) | {"generation": process.generation} for process in status.processes]
    return fields | {"processes": processes}


def as_json(status: PoolStatus, full: bool) -> bytes:
    fields = as_json_object(status, full)
    processes = fields.pop("processes", None)
    members = _members(fields)
    if processes is not None:
        members += ', "processes":[' + ",".join(f"{{{_members(process)}}}" for process in processes) + "]"
    return f"{{{members}}}".encode("ascii")


def by_class(statuses: tuple[int, ...]) -> dict[str, int]:
    """Answers by the class of their status: ``1xx`` to ``5xx``, and ``other``."""
    return {f"{digit}xx": count for digit, count in enumerate(statuses) if digit} | {"other": statuses[0]}


def _histogram(histogram: Histogram) -> dict[str, Any]:
    """How many durations were below each bound (in microseconds) and not below the one before it."""
    *below, rest = histogram.buckets
    bounds = {str(BUCKET_UNIT_US << bucket): count for bucket, count in enumerate(below)}
    return {"count": histogram.count, "sum us": histogram.sum_us, "buckets us": bounds | {"inf": rest}}


def _members(fields: dict[str, Any]) -> str:
    return ",".join(f"{json.dumps(name)}:{_value(value)}" for name, value in fields.items())


def _value(value: Any) -> str:
    # A float has two digits in php-fpm, also where they are 0.
    return f"{value:.2f}" if isinstance(value, float) else json.dumps(value, separators=(",", ":"))
