"""The status as ``fpm_get_status()`` gives it to a script."""

from __future__ import annotations

from typing import Any

from pyfpm.observe.status.collect import PoolStatus, ProcessStatus
from pyfpm.observe.status.words import pool_fields


def as_php_array(status: PoolStatus) -> dict[str, Any]:
    """php-fpm's fields with dashes in their names, and the processes as a list in ``procs``.

    Times are Unix times, durations microseconds, and the query string has a field of its own here.

    Source (PHP): fpm_get_status().
    """
    fields = {name.replace(" ", "-"): value for name, value in pool_fields(status)}
    return fields | {"procs": [_process(process) for process in status.processes]}


def _process(process: ProcessStatus) -> dict[str, Any]:
    return {
        "pid": process.pid,
        "state": process.state,
        "start-time": process.start_time,
        "start-since": process.start_since,
        "requests": process.requests,
        "request-duration": process.request_duration_us,
        "request-method": process.request_method or "-",
        "request-uri": process.request_uri,
        "query-string": process.query_string,
        "request-length": process.content_length,
        "user": process.user or "-",
        "script": process.script or "-",
        "last-request-cpu": process.last_request_cpu,
        "last-request-memory": process.last_request_memory,
    }
