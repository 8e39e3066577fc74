"""Wait for a condition, not for a while: the machine that runs the tests may be slow, and shared."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Long enough for a machine that is busy with something else; a test that fails is the only one that waits for it.
PATIENCE_S = 60.0


def eventually(condition: Callable[[], T], what: str = "", within: float = PATIENCE_S, every: float = 0.02) -> T:
    """What ``condition`` returns, once that is true. AssertionError when it stays false for ``within`` seconds."""
    deadline = time.monotonic() + within
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"it did not happen within {within:.0f} s: {what or condition}")
        time.sleep(every)
