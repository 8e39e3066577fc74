"""Executors that run several whole requests at once, and let others wait: what threads and interpreters have in common.

A request comes when all of it is there, and waits in one queue of the worker. The queue is short: with it and all who
run requests full, the worker takes no new connections, and other workers do. What comes on connections that it has is
queued nevertheless, up to ``pm.queue_max``; what has waited for ``pm.queue_timeout`` is answered and never run.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable

from pyfpm.sapi.interface import Output, Request
from pyfpm.worker._live import Live
from pyfpm.worker._lock import Lock
from pyfpm.worker._reactor import Reactor
from pyfpm.worker.pages import ServerPages

Refuse = Callable[[Request, int, str, Output], None]

# Seconds between two looks at the times of requests, at most; set_time_limit() may have set one.
LOOKS_EVERY_S = 1.0

# With fewer that wait, nobody looks which of them were given up.
FEWEST_LOOKED_AT = 256


class Pooled:
    """
    Args:
      most: requests that run at once.
      bound: requests that wait before no new connection is taken.
      refuse: writes the answer to a request that is not run: (request, HTTP status, reason, output).
      pages: the two paths that are not the application's.
      queue_max, queue_timeout_s: ``pm.queue_max`` and ``pm.queue_timeout`` of this worker; 0: none.
    """

    def __init__(
        self,
        most: int,
        bound: int,
        refuse: Refuse,
        pages: ServerPages,
        *,
        queue_max: int = 0,
        queue_timeout_s: float = 0.0,
    ) -> None:
        self.most = most
        self.running = 0
        # Requests that nobody has taken yet, the oldest first; those that were given up meanwhile are passed over.
        self.waiting: deque[Live] = deque()
        # User code has forked, and this is the child: the connections are its parent's.
        self.forked = False
        # The reactor's. Who counts has the lock.
        self._hold: Callable[[bool], None] = lambda on: None
        self.retire: Callable[[str], None] = lambda reason: None
        self.lock = Lock()
        self._full = most + bound
        self._most_waiting = FEWEST_LOOKED_AT
        self._held = False
        self._refuse = refuse
        self._pages = pages
        self._queue_max = queue_max
        self._queue_timeout_s = queue_timeout_s
        os.register_at_fork(after_in_child=self._note_fork)

    def _note_fork(self) -> None:
        self.forked = True

    def serve(self, reactor: Reactor) -> None:
        """To be called once, before its first request."""
        assert reactor.lock is not None
        self.lock = reactor.lock
        self._hold = reactor.hold
        self.retire = reactor.exhaust

    @property
    def looks_every_s(self) -> float:
        """How often ``enforce`` is to be called."""
        return max(0.01, min(LOOKS_EVERY_S, self._queue_timeout_s / 20 or LOOKS_EVERY_S))

    def begin(self, live: Live) -> None:
        """The reactor's ``begin``."""
        if self._pages.answer(live.request, live.output):
            self._end(live, 0)
        elif self._queue_max and self.running + len(self.waiting) >= self.most + self._queue_max:
            self.turn_away(live, f"{len(self.waiting)} requests wait already (pm.queue_max)")
        else:
            self.waiting.append(live)
            if len(self.waiting) > self._most_waiting:
                self._forget_given_up()
            if not self._held and self.running + len(self.waiting) >= self._full:
                self._held = True
                self._hold(True)
            self.dispatch(live)

    def dispatch(self, live: Live) -> None:
        """There is one more that waits."""
        raise NotImplementedError

    def _forget_given_up(self) -> None:
        """Who begins requests and gives them up, again and again, must not fill the queue of threads that are busy."""
        waiting, self.waiting = self.waiting, deque()
        for live in waiting:
            if live.gone:
                self._end(live, 1)
            else:
                self.waiting.append(live)
        self._most_waiting = max(FEWEST_LOOKED_AT, 2 * len(self.waiting))

    def take(self) -> Live | None:
        """The next to be run, which counts as running from now on; None if nobody waits. By whoever runs it."""
        with self.lock:
            while self.waiting:
                live = self.waiting.popleft()
                if live.over or live.gone:
                    self._end(live, 1)
                elif self._queue_timeout_s and live.age_s >= self._queue_timeout_s:
                    self._expire(live)
                else:
                    self.running += 1
                    return live
        return None

    def done(self, live: Live, app_status: int) -> None:
        """It has run."""
        with self.lock:
            self.running -= 1
            self._end(live, app_status)

    def _end(self, live: Live, app_status: int) -> None:
        live.end(app_status)
        live.close_streams()
        if self._held and self.running + len(self.waiting) < self._full:
            self._held = False
            self._hold(False)

    def _expire(self, live: Live) -> None:
        self.turn_away(live, f"it has waited for {live.age_s:.3f} seconds (pm.queue_timeout)")

    def turn_away(self, live: Live, reason: str) -> None:
        """Answer it with 503; it does not run."""
        if not live.gone:
            self._refuse(live.request, 503, reason, live.output)
        self._end(live, 0)

    def enforce(self, lives: list[Live]) -> None:
        """Look at the times of all requests; lives: the oldest first."""
        if self._queue_timeout_s:
            self._expire_waiting()

    def _expire_waiting(self) -> None:
        with self.lock:
            while self.waiting and self.waiting[0].age_s >= self._queue_timeout_s:
                live = self.waiting.popleft()
                if not live.over:
                    self._expire(live)
