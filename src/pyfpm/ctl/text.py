"""How things are written: columns, durations, sizes, and text that came from visitors."""

from __future__ import annotations

import re
from collections.abc import Sequence

# A URI is a visitor's; terminals act on these (the last ones turn the direction of what follows).
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(text: object) -> str:
    """Text of somebody else in one line, with nothing in it that a terminal acts on."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", str(text))


def columns(rows: Sequence[Sequence[object]], *, right: str = "") -> str:
    """A table; ``right`` has an ``r`` for each column whose text stands on its right side, anything else for others."""
    table = [[shown(cell) for cell in row] for row in rows]
    widths = [max(len(row[at]) for row in table) for at in range(len(table[0]))]
    lines = []
    for row in table:
        cells = [
            cell.rjust(width) if right[at : at + 1] == "r" else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """``0.123s``, ``12.3s``, ``5m07s``, ``3h05m``, ``12d03h``: six characters at most for what happens."""
    if seconds < 1:
        return f"{max(seconds, 0.0):.3f}s"
    if seconds < 60:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    for unit, small, each, per in (("m", "s", 60, 1), ("h", "m", 3600, 60)):
        if whole < each * (60 if unit == "m" else 24):
            return f"{whole // each}{unit}{whole % each // per:02}{small}"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def size(number: float) -> str:
    """Bytes as ``12.3M``."""
    for unit in ("B", "K", "M", "G"):
        if number < 1000:
            return f"{number:.0f}{unit}" if unit == "B" or number >= 100 else f"{number:.1f}{unit}"
        number /= 1024
    return f"{number:.1f}T"
