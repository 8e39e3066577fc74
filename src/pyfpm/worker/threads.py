"""The executor of ``pm.threads``: each request has a thread of the worker's own interpreter for itself.

For requests that wait: for a database, another server, a file. Python code itself runs on one thread at a time.

A thread cannot be ended from outside. When its time is up, an exception is raised in it (``max_execution_time``). After
``request_terminate_timeout`` the visitor has his 504, and the worker retires: it takes nothing new, finishes what else
runs, and ends with the thread in it.
"""

from __future__ import annotations

import contextvars
import ctypes
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pyfpm.sapi import pages
from pyfpm.sapi.failure import Log
from pyfpm.sapi.interface import Output
from pyfpm.sapi.printable import printable
from pyfpm.sapi.timeout import ExecutionTimeout
from pyfpm.worker._live import Live
from pyfpm.worker._output import Staging
from pyfpm.worker._watchdog import Guard
from pyfpm.worker.inline import Adapter
from pyfpm.worker.pages import ServerPages
from pyfpm.worker.pooled import Pooled, Refuse

# Threads have it all the time, and in whatever context the request's own code runs, it knows its request by it.
_run: contextvars.ContextVar[Run | None] = contextvars.ContextVar("pyfpm thread", default=None)

_raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc


class Run:
    """A request on its thread.

    Attributes:
      soft_at: the moment when ExecutionTimeout is raised in it, by time.monotonic(); None: never.
    """

    __slots__ = ("_inside", "is_told_slow", "live", "soft_at", "soft_s", "thread")

    def __init__(self, live: Live, soft_s: float) -> None:
        self.live = live
        self.thread = threading.get_ident()
        self.is_told_slow = False
        self._inside = False
        self.limit(soft_s)

    def limit(self, seconds: float) -> None:
        """It may take so long from now on; 0: as long as it likes."""
        self.soft_s = seconds
        self.soft_at = time.monotonic() + seconds if seconds > 0 else None

    def interrupt(self, error: type[BaseException]) -> None:
        """Raise this in it. Between the look and the call no other thread can have the interpreter."""
        thread, what = ctypes.c_ulong(self.thread), ctypes.py_object(error)
        if self._inside:
            _raise_in(thread, what)

    def enter(self) -> None:
        """From now on ``interrupt`` may strike."""
        self._inside = True

    def leave(self) -> None:
        """From now on nothing is raised in the thread, also not what was on its way."""
        self._inside = False
        _raise_in(ctypes.c_ulong(self.thread), None)


class ThreadsExecutor(Pooled):
    """
    Args:
      soft_s, hard_s, slow_s: ``max_execution_time``, ``request_terminate_timeout``, ``request_slowlog_timeout``.
      guard: tells the watchdog whether we come round. With the interpreter in the hands of a thread that is stuck in C
        nobody here could do anything.
      tell_slow: called with a request's age in seconds and its stack, in faulthandler's format.
    """

    def __init__(
        self,
        adapter: Adapter,
        log: Log,
        threads: int,
        refuse: Refuse,
        pages: ServerPages,
        guard: Guard,
        *,
        soft_s: float = 0,
        hard_s: float = 0,
        slow_s: float = 0,
        tell_slow: Callable[[float, str], None] = lambda age_s, stack: None,
        **more: Any,
    ) -> None:
        super().__init__(threads, max(1, threads // 4), refuse, pages, **more)
        self._adapter = adapter
        self._guard = guard
        self._log = log
        self._soft_s = soft_s
        self._hard_s = hard_s
        self._slow_s = slow_s
        self._tell_slow = tell_slow
        # Who counts has the lock. A thread that finds nobody waiting is idle, until it is called.
        self._threads = 0
        self._idle = 0
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()
        # What a request begins in.
        self._context = contextvars.copy_context()

    @property
    def looks_every_s(self) -> float:
        shortest = min((each for each in (self._soft_s, self._hard_s, self._slow_s) if each), default=0.0)
        return max(0.01, min(super().looks_every_s, shortest / 20 or 1.0))

    def begin(self, live: Live) -> None:
        self._guard.busy()
        super().begin(live)

    def dispatch(self, live: Live) -> None:
        if self._idle:
            self._idle -= 1
            self._calls.put(None)
        elif self._threads < self.most:
            self._start_thread(live)

    def _start_thread(self, live: Live) -> None:
        self._threads += 1
        # A daemon, since one that is stuck must not keep the worker from ending.
        thread = threading.Thread(target=self._work, name=f"pyfpm-{self._threads}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # rlimits, a container's pids.max
            self._threads -= 1
            if not self._threads:
                self.waiting.remove(live)
                self.turn_away(live, f"there is no thread for it: {error}")

    def _work(self) -> None:
        staging = Staging()
        while True:
            live = self._next()
            if live is None:
                self._calls.get()
                continue
            live.work_with(staging)
            self.done(live, self._run(live))
            del live

    def _next(self) -> Live | None:
        with self.lock:
            live = self.take()
            if live is None:
                self._idle += 1
            return live

    def _run(self, live: Live) -> int:
        run = Run(live, self._soft_s)
        live.task = run
        status = 255
        try:
            status = self._context.copy().run(self._call, run)
        except ExecutionTimeout:
            # The time was up while the adapter had the word, before or behind the user's code.
            with suppress(ConnectionAbortedError, ValueError):
                if live.output.discard():
                    pages.answer(live.output, 504)
        except BaseException as error:
            self._log("ERROR", f"a request failed; please report this: {error!r}")
            with suppress(ConnectionAbortedError, ValueError):
                if live.output.discard():
                    pages.answer(live.output, 500)
        if self.forked:
            # User code forked, and the child has come back to us. It must not serve, or answer, what its parent does.
            os._exit(status & 0xFF)
        return status

    def _call(self, run: Run) -> int:
        _run.set(run)
        try:
            run.enter()
            return self._adapter(run.live.request, run.live.output)
        finally:
            while True:
                try:
                    run.leave()
                    break
                except ExecutionTimeout:
                    pass  # It was on its way already; there is no other behind it.

    # -- times -------------------------------------------------------------------------------------------------------

    def enforce(self, lives: list[Live]) -> None:
        # With the lock no thread is in the middle of a write when its time is up, nor between our look and our answer.
        with self.lock:
            super().enforce(lives)
            self._enforce_limits(lives)
        if lives:
            self._guard.busy()
        else:
            self._guard.idle()

    def _enforce_limits(self, lives: list[Live]) -> None:
        now = time.monotonic()
        for live in lives:
            run = live.task
            if run is None or live.over:
                continue
            age_s = live.age_s
            if self._slow_s and age_s >= self._slow_s and not run.is_told_slow:
                run.is_told_slow = True
                self._tell_slow(age_s, _stack_of(run.thread))
            if self._hard_s and age_s >= self._hard_s:
                self._give_up(live, run, age_s)
            elif run.soft_at is not None and now >= run.soft_at:
                run.soft_at = None
                live.timed_out = True
                self._log("WARNING", f"{_name_of(live)} is ended after {age_s:.3f} seconds (max_execution_time)")
                run.interrupt(ExecutionTimeout)

    def _give_up(self, live: Live, run: Run, age_s: float) -> None:
        text = f"{_name_of(live)} has run for {age_s:.3f} seconds (request_terminate_timeout = {self._hard_s:g}s)"
        self._log("WARNING", f"{text}, and is where this stack says:\n{_stack_of(run.thread)}")
        self.retire(f"the thread of a request that took too long ends with it: {text}")
        if not live.gone and live.output.discard():
            pages.answer(live.output, 504)
        live.end_in_its_place()
        run.interrupt(ExecutionTimeout)

    # -- for the code that runs --------------------------------------------------------------------------------------

    def output(self) -> Output | None:
        """Where the answer of the request goes that calls us, from its thread or one that has its context."""
        run = _run.get()
        return None if run is None or run.live.over else run.live.output

    def set_time_limit(self, seconds: float) -> bool:
        run = _run.get()
        if run is None or run.live.over:
            return False
        run.limit(seconds)
        return True


def _name_of(live: Live) -> str:
    params = live.params
    return "request " + printable(f"{params.get('REQUEST_METHOD', 'GET')} {params.get('REQUEST_URI', '')}")


def _stack_of(thread: int) -> str:
    """In faulthandler's format, which prints nothing else but all threads, and to a descriptor."""
    lines = [f"Current thread 0x{thread:016x} (most recent call first):"]
    frame = sys._current_frames().get(thread)
    while frame is not None and len(lines) <= 100:
        lines.append(f'  File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_name}')
        frame = frame.f_back
    return "\n".join(lines) + "\n"
