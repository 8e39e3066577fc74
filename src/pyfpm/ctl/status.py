"""``pyfpmctl status``: the pools in a table. The names are those of the status page's JSON."""

from __future__ import annotations

from typing import Any

from pyfpm.ctl.text import columns, duration, shown

_HEADER = ("POOL", "PM", "BUSY", "IDLE", "ALL", "MAX", "QUEUE", "ACCEPTED", "FULL", "SLOW", "UP")


def master_line(master: dict[str, Any]) -> str:
    config = f", {shown(master['config'])}" if master.get("config") else ""
    state = f", {shown(master['state'])}" if master.get("state") else ""
    return (
        f"pyfpm {shown(master.get('version', '?'))}, pid {master.get('pid', '?')},"
        f" up {duration(float(master.get('start_since') or 0))}{state}{config}"
    )


def render(status: dict[str, Any]) -> str:
    """The whole answer to {"do": "status"}."""
    rows: list[tuple[object, ...]] = [_HEADER]
    notes = []
    for pool in status["pools"]:
        name = pool["pool"]
        most = pool.get("max children")
        queue = f"{pool['listen queue']}/{pool['listen queue len']}"
        rows.append((
            name, pool["process manager"], pool["active processes"], pool["idle processes"], pool["total processes"],
            "-" if most is None else most, queue, pool["accepted conn"], pool["max children reached"],
            pool["slow requests"], duration(pool["start since"]),
        ))  # fmt: skip
        generations = pool.get("generations") or {}
        if len(generations) > 1:
            each = ", ".join(f"{number} ({count} workers)" for number, count in sorted(generations.items()))
            notes.append(f"{shown(name)}: a reload is under way: generations {each}")
    table = columns(rows, right="l" + "l" + "r" * 9)
    return "\n".join([master_line(status["master"]), "", table, *notes])
