"""The small orders: each is one question to the master, and a line or two about the answer."""

from __future__ import annotations

import argparse
from typing import Any

from pyfpm.ctl.control import ask
from pyfpm.ctl.text import columns, duration, shown


def ping(path: str, _: argparse.Namespace) -> tuple[Any, str]:
    result = ask(path, {"do": "ping"})
    return result, result if isinstance(result, str) else "pong"


def requests(path: str, _: argparse.Namespace) -> tuple[Any, str]:
    """What runs, the oldest first."""
    result = sorted(ask(path, {"do": "requests"}), key=lambda each: -each["age_s"])
    if not result:
        return result, "no request is running"
    rows: list[tuple[object, ...]] = [("AGE", "PID", "POOL", "METHOD", "URI", "SCRIPT")]
    for each in result:
        uri = each["uri"]
        # php-fpm's scoreboard has them in two fields, ours in one where the web server sent REQUEST_URI.
        if each.get("query") and "?" not in uri:
            uri = f"{uri}?{each['query']}"
        rows.append((duration(each["age_s"]), each["pid"], each["pool"], each["method"], uri, each["script"]))
    return result, columns(rows, right="rr")


def trace(path: str, arguments: argparse.Namespace) -> tuple[Any, str]:
    result = ask(path, {"do": "trace", "pid": arguments.pid})
    return result, "\n".join(shown(line) for line in result["trace"].rstrip("\n").split("\n"))


def retire(path: str, arguments: argparse.Namespace) -> tuple[Any, str]:
    result = ask(path, {"do": "retire", "pid": arguments.pid})
    return result, f"worker {arguments.pid} retires: it finishes what it has, and another takes its place"


def scale(path: str, arguments: argparse.Namespace) -> tuple[Any, str]:
    result = ask(path, {"do": "scale", "pool": arguments.pool, "workers": arguments.workers})
    return result, f"pool {shown(arguments.pool)}: {arguments.workers} workers"


def reload(path: str, arguments: argparse.Namespace) -> tuple[Any, str]:
    """Waits as long as it takes: only the master knows how long an application may take to start."""
    result = ask(path, {"do": "reload", "pool": arguments.pool}, timeout_s=None)
    what = f"pool {shown(arguments.pool)}" if arguments.pool else "all pools"
    return result, f"reloaded {what}"
