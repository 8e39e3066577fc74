"""The status page in plain text: a name, a colon, and a value that begins in the 23rd column."""

from __future__ import annotations

from typing import Any

from pyfpm.observe.status.collect import PoolStatus
from pyfpm.observe.status.words import pool_fields, process_fields, shown, with_local_times

STARS = "************************"


def as_text(status: PoolStatus, full: bool) -> bytes:
    page = _lines(dict(pool_fields(status)))
    for process in status.processes if full else ():
        page += f"\n{STARS}\n{_lines(process_fields(process))}"
    return page.encode("utf-8", "backslashreplace")


def _lines(fields: dict[str, Any]) -> str:
    # Only here does php-fpm write it so.
    names = {name: "request URI" if name == "request uri" else name for name in fields}
    return "".join(f"{names[name] + ':':<22}{shown(value)}\n" for name, value in with_local_times(fields).items())
