"""The log, in php-fpm's format: ``[23-Nov-2026 10:00:00] NOTICE: message``, to standard error."""

from __future__ import annotations

import os
import re
import time

# strftime would follow the locale that an application may have set.
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# Terminals act on these (the last ones turn the direction of what follows), and a forged line would look like ours.
# Lines after the first are set off by a tab.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def format_line(level: str, message: str, pool: str | None, now: time.struct_time) -> str:
    stamp = f"{now.tm_mday:02}-{MONTHS[now.tm_mon - 1]}-{now.tm_year} {now.tm_hour:02}:{now.tm_min:02}:{now.tm_sec:02}"
    where = f"[pool {pool}] " if pool else ""
    text = f"{level}: {where}{message}".rstrip("\n")
    return f"[{stamp}] {_CONTROL.sub(_shown, text)}\n".replace("\n", "\n\t").removesuffix("\t")


def _shown(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


class Log:
    """Writes lines for one pool, or for the master.

    Each line is one ``write``, so that the lines of several processes do not mix.
    """

    def __init__(self, pool: str | None = None, fd: int = 2) -> None:
        self._pool = pool
        self._fd = fd

    def __call__(self, level: str, message: str) -> None:
        line = format_line(level, message, self._pool, time.localtime())
        try:
            os.write(self._fd, line.encode("utf-8", "backslashreplace"))
        except OSError:
            pass  # The log cannot be written, and there is nowhere else to say so.
