"""What a pool's status page tells beside its configuration: counters of workers that are gone, maxima, the queue."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import replace

import trio

from pyfpm.config import PoolConfig
from pyfpm.master.worker import Worker
from pyfpm.observe.queue import listen_queue
from pyfpm.observe.scoreboard import Counters
from pyfpm.observe.status import PoolStatus, collect
from pyfpm.observe.status import Worker as WorkerStatus


class Figures:
    """One pool's, since it began; a reload goes on with them."""

    def __init__(self) -> None:
        self._ended = Counters()
        self._started_unix = time.time()
        self._max_active = 0
        self._max_queue = 0
        self._queue_since: float | None = None
        # How often pm.max_children was in the way.
        self.max_children_reached = 0

    def saw_end(self, worker: Worker) -> None:
        """A worker is gone; what it has counted stays."""
        self._ended += worker.look().counters

    def saw_active(self, workers: int) -> None:
        self._max_active = max(self._max_active, workers)

    def queue(self, listeners: Sequence[socket.socket]) -> tuple[int, int]:
        """Connections that wait in the listen queues now, and how many could."""
        each = [listen_queue(listener) for listener in listeners]
        waiting, room = sum(figures[0] for figures in each), sum(figures[1] for figures in each)
        self._max_queue = max(self._max_queue, waiting)
        if not waiting:
            self._queue_since = None
        elif self._queue_since is None:
            self._queue_since = trio.current_time()
        return waiting, room

    def status(
        self, config: PoolConfig, max_children: int, workers: Sequence[Worker], listeners: Sequence[socket.socket]
    ) -> PoolStatus:
        """The pool as of now."""
        waiting, room = self.queue(listeners)
        found = collect(
            pool=config.pool,
            process_manager=config.pm,
            max_children=max_children,
            started=self._started_unix,
            now=time.time(),
            workers=[
                WorkerStatus(each.pid, each.started_unix, each.generation, each.look(), each.memory())
                for each in workers
            ],
            ended=self._ended,
            listen_queue=waiting,
            max_listen_queue=self._max_queue,
            listen_queue_len=room,
            oldest_waiting_s=0.0 if self._queue_since is None else trio.current_time() - self._queue_since,
            max_active_processes=self._max_active,
            max_children_reached=self.max_children_reached,
        )
        # A short request is over before we look. php-fpm's children count themselves, and one has been busy at least.
        self.saw_active(max(found.active_processes, min(found.accepted_conn, 1)))
        return replace(found, max_active_processes=self._max_active)
