"""The status as OpenMetrics: php-fpm's families, word for word, and ours.

php-fpm's break the format's rules in places (a counter that does not end in ``_total``, TYPE before HELP); Prometheus
takes them, and dashboards are built on them. Ours keep the rules. They come first, so that php-fpm's are one piece from
the first of them to ``# EOF``, as checks expect that look at the text.

URIs, scripts and users are in none of them: they would make a new series each, and are nobody's business there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate

from pyfpm.observe.scoreboard import BUCKET_UNIT_US, Histogram
from pyfpm.observe.status.as_json import by_class
from pyfpm.observe.status.collect import PoolStatus
from pyfpm.observe.status.words import shown

# Name, type, help, attribute.
PHP_FPM = (
    ("start_since", "counter", "The number of seconds since FPM has started.", "start_since"),
    ("accepted_connections", "counter", "The number of requests accepted by the pool.", "accepted_conn"),
    ("listen_queue", "gauge", "The number of requests in the queue of pending connections.", "listen_queue"),
    (
        "max_listen_queue",
        "counter",
        "The maximum number of requests in the queue of pending connections since FPM has started.",
        "max_listen_queue",
    ),
    ("listen_queue_length", "gauge", "The size of the socket queue of pending connections.", "listen_queue_len"),
    ("idle_processes", "gauge", "The number of idle processes.", "idle_processes"),
    ("active_processes", "gauge", "The number of active processes.", "active_processes"),
    ("total_processes", "gauge", "The number of idle + active processes.", "total_processes"),
    (
        "max_active_processes",
        "counter",
        "The maximum number of active processes since FPM has started.",
        "max_active_processes",
    ),
    (
        "max_children_reached",
        "counter",
        "The number of times, the process limit has been reached, when pm tries to start more children "
        "(works only for pm 'dynamic' and 'ondemand').",
        "max_children_reached",
    ),
    (
        "slow_requests",
        "counter",
        "The number of requests that exceeded your 'request_slowlog_timeout' value.",
        "slow_requests",
    ),
)

Samples = Iterable[tuple[str, Mapping[str, str], float]]


def as_openmetrics(status: PoolStatus, full: bool) -> bytes:
    page = _ours(status)
    if full:
        page += _processes(status)
    page += _php_fpms(status)
    return f"{page}# EOF\n".encode("utf-8", "backslashreplace")


def _php_fpms(status: PoolStatus) -> str:
    question = _help(f"Could pool {status.pool} using a {status.process_manager} PM on PHP-FPM be reached?")
    page = f"# HELP phpfpm_up {question}\n# TYPE phpfpm_up gauge\nphpfpm_up 1\n"
    for name, kind, text, attribute in PHP_FPM:
        lines = [f"# HELP phpfpm_{name} {text}\n", f"# TYPE phpfpm_{name} {kind}\n"]
        if name == "listen_queue_length":
            lines.reverse()
        page += f"{''.join(lines)}phpfpm_{name} {getattr(status, attribute)}\n"
    return page


def _ours(status: PoolStatus) -> str:
    pool = {"pool": status.pool}

    def counter(name: str, text: str, value: int, unit: str = "") -> str:
        return _family(name, "counter", text, [("_total", pool, value)], unit)

    def gauge(name: str, text: str, value: float, unit: str = "") -> str:
        return _family(name, "gauge", text, [("", pool, value)], unit)

    statuses = [("_total", pool | {"class": name}, count) for name, count in by_class(status.statuses).items()]
    generations = [("", pool | {"generation": str(number)}, count) for number, count in status.generations.items()]
    wait, service = _histogram(status.wait_histogram, pool), _histogram(status.service_histogram, pool)
    return (
        gauge("max_children", "How many workers the pool may have (pm.max_children).", status.max_children)
        + gauge("connections", "Open connections of web servers, busy or kept.", status.connections)
        + gauge(
            "oldest_waiting_seconds",
            "For how long there have been connections in the listen queue.",
            status.oldest_waiting_s,
            "seconds",
        )
        + counter("requests", "Requests that have ended.", status.requests)
        + counter("requests_refused", "Requests that were answered without being run.", status.refused)
        + counter("requests_aborted", "Requests that the web server gave up before they ran.", status.aborted)
        + counter("sent_bytes", "Content that was sent to the web servers.", status.bytes_out, "bytes")
        + _family("responses", "counter", "Answers by the class of their status.", statuses)
        + _family("workers", "gauge", "Workers of each generation.", generations)
        + _family("queue_wait_seconds", "histogram", "How long requests waited to be run.", wait, "seconds")
        + _family("service_seconds", "histogram", "How long requests ran.", service, "seconds")
    )


def _processes(status: PoolStatus) -> str:
    labels = [
        {"pool": status.pool, "pid": str(process.pid), "generation": str(process.generation)}
        for process in status.processes
    ]
    each = list(zip(status.processes, labels, strict=True))
    return (
        _family(
            "process_state",
            "gauge",
            "1, with the state of each worker.",
            [("", label | {"state": process.state}, 1) for process, label in each],
        )
        + _family(
            "process_requests",
            "counter",
            "Requests that the worker has begun.",
            [("_total", label, process.requests) for process, label in each],
        )
        + _family(
            "process_request_duration_seconds",
            "gauge",
            "For how long the request has run, or how long the last one did.",
            [("", label, process.request_duration_us / 1e6) for process, label in each],
            "seconds",
        )
        + _family(
            "process_last_request_cpu_percent",
            "gauge",
            "The processor time of the last request; 0 when the worker is not idle.",
            [("", label, process.last_request_cpu) for process, label in each],
            "percent",
        )
        + _family(
            "process_last_request_memory_bytes",
            "gauge",
            "The memory of the worker after its last request; 0 when it is not idle.",
            [("", label, process.last_request_memory) for process, label in each],
            "bytes",
        )
    )


def _histogram(histogram: Histogram, labels: Mapping[str, str]) -> Samples:
    """Cumulative, as the format wants it. A duration of exactly a bound is one bucket further up: they are counted
    below a bound, in whole microseconds."""
    bounds = [repr((BUCKET_UNIT_US << bucket) / 1e6) for bucket in range(len(histogram.buckets) - 1)]
    for bound, below in zip([*bounds, "+Inf"], accumulate(histogram.buckets), strict=True):
        yield "_bucket", {**labels, "le": bound}, below
    yield "_count", labels, histogram.count
    yield "_sum", labels, histogram.sum_us / 1e6


def _family(name: str, kind: str, text: str, samples: Samples, unit: str = "") -> str:
    name = f"pyfpm_{name}"
    page = f"# HELP {name} {_help(text)}\n# TYPE {name} {kind}\n"
    if unit:
        page += f"# UNIT {name} {unit}\n"
    for suffix, labels, value in samples:
        inside = ",".join(f'{label}="{_label(content)}"' for label, content in labels.items())
        page += f"{name}{suffix}{{{inside}}} {value}\n"
    return page


def _help(text: str) -> str:
    return shown(text).replace("\\", "\\\\").replace('"', '\\"')


def _label(text: str) -> str:
    return shown(text).replace("\\", "\\\\").replace('"', '\\"')
