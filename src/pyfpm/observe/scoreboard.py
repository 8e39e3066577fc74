"""What the master has read from the scoreboard: plain values, checked. The pages themselves are in `_scoreboard`.

Counters belong to one worker, which alone writes them. The pool's total is the sum over its living workers and over
those that have ended, whose counters are added up when they are gone: no counter has two writers, so none is lost.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

# As csrc/scoreboard.h has them.
BUCKETS = 22
BUCKET_UNIT_US = 64
STATUS_CLASSES = 6


class Stage(enum.IntEnum):
    """Where a worker is; ``enum fpm_stage``."""

    STARTING = 0
    IDLE = 1
    RUNNING = 2
    FINISHING = 3
    RETIRING = 4


@dataclass(frozen=True, slots=True)
class Histogram:
    """Durations in microseconds: their sum, and how many of them fell into each bucket.

    Bucket b counts what is below ``64 * 2**b`` and not below the bucket before; the last one counts the rest.
    """

    sum_us: int = 0
    buckets: tuple[int, ...] = (0,) * BUCKETS

    @property
    def count(self) -> int:
        return sum(self.buckets)

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram(self.sum_us + other.sum_us, _added(self.buckets, other.buckets))


@dataclass(frozen=True, slots=True)
class Counters:
    """What a worker, or a pool, has done so far. ``+`` adds them up; ``Counters()`` is nothing yet."""

    accepted: int = 0  # requests that were begun
    requests: int = 0  # requests that were ended; fewer than begun where a worker died in one
    refused: int = 0
    aborted: int = 0
    slow: int = 0
    bytes_out: int = 0
    statuses: tuple[int, ...] = (0,) * STATUS_CLASSES  # by the first digit; 0 for any other
    service: Histogram = field(default_factory=Histogram)
    wait: Histogram = field(default_factory=Histogram)

    def __add__(self, other: Counters) -> Counters:
        return Counters(
            accepted=self.accepted + other.accepted,
            requests=self.requests + other.requests,
            refused=self.refused + other.refused,
            aborted=self.aborted + other.aborted,
            slow=self.slow + other.slow,
            bytes_out=self.bytes_out + other.bytes_out,
            statuses=_added(self.statuses, other.statuses),
            service=self.service + other.service,
            wait=self.wait + other.wait,
        )


@dataclass(frozen=True, slots=True)
class SlotView:
    """What one worker says of itself. Times are CLOCK_MONOTONIC, in microseconds, and never in the future.

    Texts are those of the request that runs, or of the last one; "" where there is none. Bytes that are not UTF-8 read
    as ``\\xff``, and control characters are still in them: whoever shows a text has to escape it.
    """

    stage: Stage = Stage.STARTING
    whole: bool = True  # False: the worker is, or died, in the middle of a change; this is how it was before
    started_us: int = 0  # when the request began; 0: there was none yet
    age_us: int = 0  # for how long it has run, if it still does
    duration_us: int = 0  # how long the last one took; means nothing while one runs
    content_length: int = 0
    cpu_us: int = 0  # of the last request
    method: str = ""
    uri: str = ""
    query: str = ""
    script: str = ""
    user: str = ""
    connections: int = 0  # open now
    counters: Counters = field(default_factory=Counters)

    @property
    def busy(self) -> bool:
        return self.stage in (Stage.RUNNING, Stage.FINISHING)


def _added(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(int.__add__, one, other))
