"""How soon the next worker may be started when the ones before have failed."""

from __future__ import annotations

from collections.abc import Callable

import trio

# A worker that ends this soon after its start, and has served nobody, did not get anywhere, and the next one may do the
# same.
TOO_SOON_S = 1.0
# How long the place of such a worker stays empty; doubled for each in a row, up to the longest.
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0


class Brake:
    """Off until the first failure, and again after a success or a quiet time.

    Args:
      log: ``log(level, text)``.
      clock: seconds, from any start.

    Attributes:
      not_before: when the next attempt may be made.
      last_failure: when it was put on last.
    """

    def __init__(self, log: Callable[[str, str], None], clock: Callable[[], float] = trio.current_time) -> None:
        self._log = log
        self._clock = clock
        self._in_a_row = 0
        self.not_before = 0.0
        self.last_failure = 0.0

    @property
    def is_on(self) -> bool:
        return self._clock() < self.not_before

    def failed(self, what: str) -> None:
        """Nobody new for a while, the longer the more attempts have failed in a row."""
        now = self._clock()
        if now > self.not_before + LONGEST_PAUSE_S:
            self._in_a_row = 0  # what there was before is over
        pause = FIRST_PAUSE_S * 2**self._in_a_row
        if pause < LONGEST_PAUSE_S:
            self._in_a_row += 1  # no further: a power that is let grow for hours is too large for a float
        pause = min(pause, LONGEST_PAUSE_S)
        if now < self.not_before:
            return  # several at once are one failure
        self.last_failure = now
        self.not_before = now + pause
        self._log("WARNING", f"{what}, the next one starts in {pause:.1f} seconds")

    def succeeded(self) -> None:
        """The next failure is the first one again."""
        self._in_a_row = 0

    def release(self) -> None:
        """Something is different now: no need to wait any longer."""
        self._in_a_row = 0
        self.not_before = 0.0
