"""Requests that are not run: each gets an answer, and the log a bounded number of lines."""

from __future__ import annotations

import time
from collections.abc import Callable

from pyfpm.sapi import pages
from pyfpm.sapi.interface import Output, Request

# Lines a second. A refused request costs its sender 16 bytes, and must not cost us a line in the log each.
MOST_LINES = 10


class Refusal:
    """Answers a request with an HTTP status instead of running it, and logs why.

    Args:
      log: ``log(level, text)``.
      clock: seconds, from any start.
    """

    def __init__(self, log: Callable[[str, str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._second = 0
        self._lines = 0

    def __call__(self, request: Request, status: int, reason: str, output: Output) -> None:
        second = int(self._clock())
        if second != self._second:
            if self._lines > MOST_LINES:
                self._log("WARNING", f"{self._lines - MOST_LINES} more requests refused in that second")
            self._second = second
            self._lines = 0
        self._lines += 1
        if self._lines <= MOST_LINES:
            self._log("WARNING", f"request refused with {status}: {reason}")
        pages.answer(output, status)
