"""php-fpm's names for what the pages show, in its order, and how they show texts and times.

Scripts and exporters of many years look for these names, and some for their places.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

from pyfpm.observe.log import MONTHS
from pyfpm.observe.status.collect import PoolStatus, ProcessStatus

POOL = {
    "pool": "pool",
    "process manager": "process_manager",
    "start time": "start_time",
    "start since": "start_since",
    "accepted conn": "accepted_conn",
    "listen queue": "listen_queue",
    "max listen queue": "max_listen_queue",
    "listen queue len": "listen_queue_len",
    "idle processes": "idle_processes",
    "active processes": "active_processes",
    "total processes": "total_processes",
    "max active processes": "max_active_processes",
    "max children reached": "max_children_reached",
    "slow requests": "slow_requests",
}

PROCESS = (
    "pid",
    "state",
    "start time",
    "start since",
    "requests",
    "request duration",
    "request method",
    "request uri",
    "content length",
    "user",
    "script",
    "last request cpu",
    "last request memory",
)

# What ends a line or turns the direction of what follows would forge a line or hide one, and XML has no way to write
# most of it.
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def pool_fields(status: PoolStatus) -> Iterator[tuple[str, Any]]:
    """php-fpm's fields of a pool, by its names, in its order."""
    return ((name, getattr(status, attribute)) for name, attribute in POOL.items())


def process_fields(process: ProcessStatus) -> dict[str, Any]:
    """php-fpm's fields of a process, by its names, in its order; "-" for a text that is not there."""
    query = f"?{process.query_string}" if process.query_string else ""
    values = (
        process.pid,
        process.state,
        process.start_time,
        process.start_since,
        process.requests,
        process.request_duration_us,
        process.request_method or "-",
        (process.request_uri or "-") + query,
        process.content_length,
        process.user or "-",
        process.script or "-",
        process.last_request_cpu,
        process.last_request_memory,
    )
    return dict(zip(PROCESS, values, strict=True))


def shown(value: Any) -> str:
    """A value as a reader sees it: two digits behind the point, and control characters as ``\\x0a``."""
    if isinstance(value, float):
        return f"{value:.2f}"
    return _UNSEEN.sub(
        lambda found: f"\\x{ord(found[0]):02x}" if found[0] < "\u0100" else f"\\u{ord(found[0]):04x}", str(value)
    )


def with_local_times(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with ``start time`` as in ``22/Nov/2026:01:00:00 +0000``, in the zone of this process."""
    return fields | {"start time": local_time(fields["start time"])}


def local_time(unix: int) -> str:
    then = time.localtime(unix)
    sign, minutes = ("-", -then.tm_gmtoff // 60) if then.tm_gmtoff < 0 else ("+", then.tm_gmtoff // 60)
    day = f"{then.tm_mday:02}/{MONTHS[then.tm_mon - 1]}/{then.tm_year}"
    clock = f"{then.tm_hour:02}:{then.tm_min:02}:{then.tm_sec:02}"
    return f"{day}:{clock} {sign}{minutes // 60:02}{minutes % 60:02}"
