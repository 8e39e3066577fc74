"""A pool: workers of one configuration, their number kept right, their generations exchanged without a gap.

Who is here: ``scaling`` says how many workers there should be, ``Generation`` makes them, ``Worker`` is one of them,
and ``Pool`` looks after all of it. One loop (``_maintain``) changes their number; whatever happens only wakes it up.

What a worker says is said by somebody else's code. It is never followed, only logged, counted and clamped.
"""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import trio

from pyfpm.config import PoolConfig
from pyfpm.master import reports, scaling
from pyfpm.master.brake import TOO_SOON_S, Brake
from pyfpm.master.children import Children, describe_end
from pyfpm.master.figures import Figures
from pyfpm.master.generation import ForkError, Generation, Shared, ZygoteError
from pyfpm.master.parked import Parked
from pyfpm.master.resources import Places
from pyfpm.master.scaling import Census, Decision
from pyfpm.master.worker import CRASHED, SLOW, TERMINATED, Worker
from pyfpm.observe.log import Log
from pyfpm.observe.scoreboard import Stage
from pyfpm.observe.status import PoolStatus, answer, as_php_array, ping_answer

# How often a pool's numbers are looked at when nothing happens; php-fpm's FPM_IDLE_SERVER_MAINTENANCE_HEARTBEAT.
TICK_S = 1.0

# A new worker is ready in milliseconds. One that is not after this long hangs in what the application does at a fork.
READY_S = 30.0

# How soon connections that did not fit into the handoff socket are offered again.
PARKED_S = 0.1

# A worker's word that somebody waits is heeded so often at most: each time all workers are looked at.
QUEUED_S = 0.02

# How long a reload waits for the old workers to say that they take nobody new. They need a millisecond.
HEARD_S = 1.0

# After a worker's end what it has still said is waited for; whoever it has forked may hold its pipes for long.
LAST_WORDS_S = 0.5

# How long what workers say may wait for the lines of the start.
FIRST_WORDS_S = 0.25

# How long after a worker was told to dump its tracebacks they are waited for.
DUMP_S = 2.0

SIGDUMP = signal.SIGRTMAX


class ReloadError(Exception):
    """The new generation cannot serve, and the old one goes on. The message is the reason, maybe with a traceback."""


@dataclass(frozen=True)
class Prepared:
    """A new generation of a pool that is ready to take over; without a worker where nobody waits for one."""

    generation: Generation
    worker: Worker | None
    places: Places
    log: Log


class Pool:
    """Runs in the nursery of ``hold``; ``start`` raises what keeps it from serving.

    Args:
      config: of this pool.
      may_spawn: how many more workers all pools together may have (process.max).
      crashed: called when a worker has ended as emergency_restart_threshold counts them.
      refresh: called when a worker says that the application's files are not those that it runs.
      patience: how long a worker that was told to retire may take to finish, in seconds (retire_timeout).
    """

    def __init__(
        self,
        config: PoolConfig,
        places: Places,
        children: Children,
        log: Log,
        may_spawn: Callable[[], int],
        crashed: Callable[[], None],
        refresh: Callable[[Pool, int], None],
        patience: Callable[[], float],
    ) -> None:
        self.config = config
        self.places = places
        self.workers: list[Worker] = []
        self.max_children = config.pm_max_children
        self.generation: Generation | None = None
        self._children = children
        self._log = log.for_pool(config.pool)
        self._may_spawn = may_spawn
        self._crashed = crashed
        self._refresh = refresh
        self._patience = patience
        self._nursery: trio.Nursery | None = None
        self._policy = scaling.policy(config)
        # Idle kept connections of a worker that retires go through here to the others; it outlives them all.
        self._give, self._take = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._give.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self._give.setblocking(False)
        self._take.setblocking(False)
        self._parked = Parked(self._give, self._take)
        self._spawning = 0
        self._generations = 0
        self._stopping = False
        self._told_to_stop = trio.Event()
        self._restoring = trio.Lock()
        self._lost = 0
        self._told_of_process_max = False
        self._over = trio.Event()
        # Old workers leave and new ones come: the policy would see too many, or too few.
        self._exchanging = False
        self._wake = trio.Event()
        self._announced = trio.Event()
        self._queued = False
        # Of the changed files that we know of, the last: it was tried, and did not load if we still serve the old ones.
        self._newest_change_ns = 0
        # From our word that it has changed to the end of what the master makes of that.
        self.is_refreshing = False
        self._next_tick = 0.0
        self._next_look = 0.0
        self._brake = Brake(self._tell)
        self._figures = Figures()

    @property
    def name(self) -> str:
        return self.config.pool

    async def hold(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Be the parent of all tasks of the pool, until ``end``."""
        try:
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._parked.close()
            self._give.close()
            self._take.close()
            self._over.set()

    async def start(self, waits: bool = False) -> None:
        """Load the application and start the first workers; return when all of them serve.

        Args:
          waits: nothing is started before somebody comes (``scaling.waiting_pools``).
        Raises:
          ZygoteError: the application cannot be loaded.
        """
        generation = self._next_generation(self.config, self.places, self._log, waits)
        self.generation = generation
        if not generation.waits:
            await generation.start()
        first = self._allowed(scaling.first_workers(self.config))
        for _ in range(first):
            self._spawn()
        self._tasks.start_soon(self._maintain)
        self._tasks.start_soon(self._watch_queues)
        while not self._stopping and sum(worker.ready.is_set() for worker in self.workers) < first:
            await self._changed()

    async def end(self) -> None:
        """Forget about everything; to be called after ``stop`` or ``kill``. Listeners and files are their owner's."""
        self._tasks.cancel_scope.cancel()
        await self._over.wait()

    @property
    def _tasks(self) -> trio.Nursery:
        assert self._nursery is not None  # hold() runs
        return self._nursery

    def _tell(self, level: str, message: str) -> None:
        """Where the log is now: a reload may bring another."""
        self._log(level, message)

    # -- workers come and go -------------------------------------------------------------------------------------------

    def _next_generation(self, config: PoolConfig, places: Places, log: Log, waits: bool) -> Generation:
        self._generations += 1

        def shared() -> Shared:
            named = [("listener", listener.fileno()) for listener in places.listeners]
            named += [("give", self._give.fileno()), ("take", self._take.fileno()), ("error_log", log.fd)]
            if places.access_log is not None:
                named.append(("access_log", places.access_log.fd))
            return Shared(tuple(name for name, _ in named), tuple(fd for _, fd in named))

        return Generation(self._generations, config, shared, self._children, log, self._tasks, self._zygote_lost, waits)

    def _spawn(self, news: bool = False) -> None:
        self._spawning += 1
        self._tasks.start_soon(self._spawn_one, news)

    async def _spawn_one(self, news: bool) -> None:
        generation = self.generation
        assert generation is not None  # start() has made it
        try:
            worker = await generation.fork()
        except ForkError as error:
            self._brake.failed(f"no worker could be started ({error})")
            return
        except ZygoteError as error:
            if self._stopping or generation is not self.generation:
                return
            await self._restore(generation, error)
            return
        finally:
            self._spawning -= 1
            self._wake_up()
        self._welcome(worker, news)
        if generation is not self.generation:
            worker.surplus = True  # a reload has been faster
            self._retire(worker)

    def _zygote_lost(self, generation: Generation) -> None:
        self._tasks.start_soon(self._restore, generation, ZygoteError("the zygote is gone"))

    async def _restore(self, generation: Generation, error: ZygoteError) -> None:
        """Have another zygote in the place of the one that is lost, sooner or later; or stop."""
        lost = generation.zygote
        too_soon = not generation.has_got_somewhere(TOO_SOON_S)

        def is_missed() -> bool:
            return generation.zygote is lost and generation is self.generation and not self._stopping

        async with trio.open_nursery() as nursery:

            async def until_stop() -> None:
                await self._told_to_stop.wait()
                nursery.cancel_scope.cancel()  # the import may hang

            nursery.start_soon(until_stop)
            async with self._restoring:
                if is_missed() and too_soon:
                    self._brake.failed(f"{error} before it started any worker")
                    await trio.sleep_until(self._brake.not_before)
                while is_missed() and not await generation.replace(error):
                    self._brake.failed("no worker could be started")
                    await trio.sleep_until(self._brake.not_before)
            nursery.cancel_scope.cancel()

    def _welcome(self, worker: Worker, news: bool) -> None:
        self._log("NOTICE" if news else "DEBUG", f"child {worker.pid} started")
        self.workers.append(worker)
        self._tasks.start_soon(self._attend, worker)

    async def _attend(self, worker: Worker) -> None:
        """Be with a worker from its start to its end."""
        said = trio.Event()

        async def listen() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._log_output, worker)
                await worker.hear(self._heard)
                worker.ready.set()  # or never; nobody has to wait for it
            said.set()

        self._tasks.start_soon(listen)
        status = await self._children.wait(worker.pid)
        self._figures.saw_end(worker)
        self.workers.remove(worker)
        worker.ended.set()
        if not worker.surplus:
            self._lost += 1
        self._judge(worker, status)
        self._wake_up()
        with trio.move_on_after(LAST_WORDS_S):
            await said.wait()
        self._tell_end(worker, status)
        worker.close()

    async def _log_output(self, worker: Worker) -> None:
        # What the first workers say comes after the lines by which a start is known, as in php-fpm. Not for long: with
        # a full pipe they would wait for us while we wait for them.
        with trio.move_on_after(FIRST_WORDS_S):
            await self._announced.wait()
        await worker.read_output(self.name, self.config.decorate_workers_output, self._log)

    def announced(self) -> None:
        """The log has it that we serve."""
        self._announced.set()

    def hear_out(self) -> None:
        """Log what the workers have said until now."""
        for worker in self.workers:
            worker.hear_out()

    def _judge(self, worker: Worker, status: int) -> None:
        """Brake, if the next worker would end as this one."""
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGSEGV, signal.SIGBUS):
            self._crashed()
        served = worker.seen.counters.accepted > 0
        got_somewhere = worker.has_served or served or worker.age_s > TOO_SOON_S or worker.retiring
        if got_somewhere or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            self._brake.succeeded()
        elif not self._stopping:
            if any(other.started > self._brake.last_failure and self._is_well(other) for other in self._serving()):
                self._brake.succeeded()  # whoever came after the last failure is alive and well
            self._brake.failed("a worker ended as soon as it had started")

    def _is_well(self, worker: Worker) -> bool:
        return worker.is_ready and (worker.age_s > TOO_SOON_S or worker.look().counters.accepted > 0)

    def _tell_end(self, worker: Worker, status: int) -> None:
        level, how = describe_end(status)
        if (level == "NOTICE" and worker.surplus) or self._stopping:
            level = "DEBUG"  # as was to be expected
        self._log(level, f"child {worker.pid} {how} after {worker.age_s:.6f} seconds from start")

    def _retire(self, worker: Worker) -> None:
        """Let it finish what it has begun; its idle connections go to the others."""
        self._children.signal(worker.pid, signal.SIGQUIT)
        if not worker.retiring:
            worker.retiring = True
            self._tasks.start_soon(self._wait_for_retired, worker)

    async def _wait_for_retired(self, worker: Worker) -> None:
        patience_s = self._patience()
        with trio.move_on_after(patience_s):
            await worker.ended.wait()
            return
        if not self._stopping:
            self._log("WARNING", f"child {worker.pid} has not finished within {patience_s:.0f} seconds, it is killed")
            self._children.signal(worker.pid, signal.SIGKILL)

    # -- their number --------------------------------------------------------------------------------------------------

    def _wake_up(self) -> None:
        self._wake.set()
        self._wake = trio.Event()

    async def _changed(self) -> None:
        await self._wake.wait()

    def _serving(self) -> list[Worker]:
        return [worker for worker in self.workers if not worker.retiring and not worker.on_trial]

    def _census(self) -> Census:
        idle = active = starting = 0
        longest_idle_s = 0.0
        now_us = time.monotonic_ns() // 1000
        for worker in self._serving():
            if not worker.is_ready:
                starting += 1
                continue
            view = worker.look()
            if view.busy:
                active += 1
            else:
                idle += 1
                since = view.started_us + view.duration_us
                longest_idle_s = max(longest_idle_s, min((now_us - since) / 1e6, worker.age_s))
        self._figures.saw_active(active)
        waiting, _ = self._figures.queue(self.places.listeners)
        starting += self._spawning
        # A kept connection that a finishing worker gave away is no reason to say that there are too few. But somebody
        # should have it, if there can be somebody.
        if idle + active + starting < self.max_children:
            waiting += self._has_given()
        return Census(idle, active, starting, waiting, longest_idle_s)

    def _has_given(self) -> bool:
        """A connection that a worker gave away waits to be taken."""
        with suppress(OSError):
            return bool(self._take.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        return False

    async def _maintain(self) -> None:
        """The one place that changes the number of workers."""
        while not self._stopping:
            now = trio.current_time()
            is_tick = now >= self._next_tick
            if is_tick:
                self._next_tick = now + TICK_S
            deadline = self._next_tick
            if self._brake.is_on or self._exchanging:
                if is_tick:
                    self._census()  # for the figures
                if self._brake.is_on:
                    deadline = min(deadline, self._brake.not_before)
            else:
                if is_tick or self._lost or self._is_short() or (self._queued and now >= self._next_look):
                    self._decide(self._census(), is_tick)
                if self._queued:
                    deadline = min(deadline, self._next_look)
            wake = self._wake
            with trio.move_on_at(deadline):
                await wake.wait()

    def _decide(self, census: Census, is_tick: bool) -> None:
        if (replacements := self._replacements(census)) > 0:
            self._apply(Decision(spawn=replacements), census)
        elif self._queued:
            self._queued = False
            self._next_look = trio.current_time() + QUEUED_S
            self._apply(self._policy.queued(census), census)
        elif is_tick or self._is_short():
            self._apply(self._policy.tick(census), census)

    def _is_short(self) -> bool:
        return self.config.pm == "static" and len(self._serving()) + self._spawning < self.max_children

    def _replacements(self, census: Census) -> int:
        """Workers that have ended by themselves, and others take their place at once; ``static`` counts by itself, and
        ``ondemand`` waits for somebody to come."""
        lost, self._lost = self._lost, 0
        return min(lost, self.max_children - census.total) if self.config.pm == "dynamic" else 0

    def _allowed(self, wanted: int) -> int:
        """So many more workers process.max lets us have."""
        allowed = max(0, min(wanted, self._may_spawn()))
        if allowed == wanted:
            self._told_of_process_max = False
        elif not self._told_of_process_max:
            self._told_of_process_max = True
            self._log(
                "WARNING",
                "The maximum number of processes has been reached. Please review your configuration and consider"
                " raising 'process.max'",
            )
        return allowed

    @property
    def size(self) -> int:
        """Workers that there are, and that are about to be."""
        return len(self.workers) + self._spawning

    def _apply(self, decision: Decision, census: Census) -> None:
        if decision.reached:
            self._figures.max_children_reached += 1
        if decision.warning:
            self._log("WARNING", decision.warning)
        for _ in range(self._allowed(decision.spawn) if decision.spawn else 0):
            self._spawn(news=self.config.pm == "static")
        if decision.retire:
            # Who has been there the longest goes, an idle one if there is one.
            choice = sorted(self._serving(), key=lambda worker: (worker.seen.busy, worker.started))
            for worker in choice[: decision.retire]:
                worker.surplus = True
                self._retire(worker)

    async def _watch_queues(self) -> None:
        """Nobody is there: the first who comes wakes the pool. Workers tell it themselves."""
        while True:
            if self._stopping or self._serving() or self._spawning or self._exchanging:
                self._parked.give_back()
                with trio.move_on_after(PARKED_S if self._parked else math.inf):
                    await self._changed()
                continue
            found = await self._parked.somebody_comes(self.places.listeners, self._changed)
            if not found or self._serving() or self._spawning:
                continue
            if self._brake.is_on:
                await trio.sleep_until(self._brake.not_before)
            if self.config.pm == "ondemand" and not self._exchanging and not self._stopping:
                waiting, _ = self._figures.queue(self.places.listeners)
                decision = self._policy.queued(Census(0, 0, 0, max(1, waiting)))
                self._apply(decision, Census(0, 0, 0))
            if not self._spawning:
                # Nothing to be done about it now (another pool has all of process.max): not at once again.
                await trio.sleep(TICK_S)

    def scale(self, workers: int) -> None:
        """Have another pm.max_children, until the next reload."""
        self.max_children = workers
        self._policy = scaling.policy(scaling.with_max_children(self.config, workers))
        self._next_tick = 0.0
        self._wake_up()

    # -- what workers say ----------------------------------------------------------------------------------------------

    def _heard(self, worker: Worker, kind: bytes, rest: bytes) -> None:
        try:
            self._follow(worker, kind, rest)
        except Exception as error:
            # Somebody else's code has said it, and a fault of ours in what we make of it must not end the master with
            # all its pools.
            what = f"{type(error).__name__}: {error}"
            self._log("ERROR", f"a message of child {worker.pid} failed: {what}; please report this")

    def _follow(self, worker: Worker, kind: bytes, rest: bytes) -> None:
        if kind == b"r":
            if self._stopping:
                self._children.signal(worker.pid, signal.SIGTERM)  # it could not hear us before
            elif worker.retiring:
                self._children.signal(worker.pid, signal.SIGQUIT)  # likewise
            # Whoever waited for it while it started may need more than one.
            self._queued = self._queued or self.config.pm == "ondemand"
            self._wake_up()
        elif kind == b"q":
            self._queued = True
            self._wake_up()
        elif kind == b"m":
            worker.retiring = True
            worker.has_served = True
            self._log("DEBUG", f"child {worker.pid} retires: {reports.text_of(rest)}")
            self._wake_up()
        elif kind == b"c":
            self._heard_of_change(worker, rest)
        elif kind == b"s":
            self._send_status(worker, kind + rest, answer(self.status(), rest.decode("latin-1"), "GET"))
        elif kind == b"g":
            self._send_status(worker, kind, json.dumps(as_php_array(self.status())).encode())
        elif kind == SLOW:
            for level, message in reports.slow(worker.pid, worker.look(), rest):
                self._log(level, message)
            if self.places.slowlog is not None:
                depth = self.config.request_slowlog_trace_depth
                self.places.slowlog.write(reports.slow_entry_of(self.name, worker.pid, worker.seen, rest, depth))
                self._log("NOTICE", f"finished trace of {worker.pid}")
        elif kind == TERMINATED:
            self._log("WARNING", reports.terminated(worker.pid, worker.look(), rest))
        elif kind == CRASHED:
            self._log("WARNING", reports.crashed(worker.pid, worker.look(), rest))

    def _heard_of_change(self, worker: Worker, rest: bytes) -> None:
        """A file of the application has changed (python.revalidate). All workers say so, each time they look."""
        newest, _, path = rest.partition(b" ")
        is_ours = self.generation is not None and worker.generation == self.generation.number
        if not (self.config.python_revalidate_s and is_ours and newest.isdigit() and len(newest) < 20):
            return
        # One at a time, whatever a worker says and how often: it runs other people's code.
        if int(newest) > self._newest_change_ns and not (self._exchanging or self.is_refreshing):
            self._newest_change_ns = int(newest)
            self.is_refreshing = True
            self._log("NOTICE", f"{reports.text_of(path)} has changed, loading the application again")
            self._refresh(self, worker.generation)

    def _send_status(self, worker: Worker, question: bytes, status: bytes) -> None:
        """The answer repeats the question, so that one that comes late is not taken for another's."""
        try:
            fd = os.memfd_create("status", os.MFD_CLOEXEC)
        except OSError:
            worker.say(b"S" + question)  # we are out of descriptors: there is no page
            return
        try:
            os.write(fd, status)
            worker.say(b"S" + question, [fd])
        finally:
            os.close(fd)

    def status(self) -> PoolStatus:
        """What the status page shows, as of now."""
        return self._figures.status(self.config, self.max_children, self.workers, self.places.listeners)

    def page(self, path: str, query: str, method: str) -> bytes | None:
        """The answer to a request of pm.status_path or ping.path; None for any other path."""
        if path == self.config.pm_status_path:
            return answer(self.status(), query, method)
        if path == self.config.ping_path:
            return ping_answer(self.config.ping_response, method)
        return None

    def worker(self, pid: int) -> Worker | None:
        return next((worker for worker in self.workers if worker.pid == pid), None)

    async def trace(self, worker: Worker) -> str:
        """The tracebacks of a worker's threads; "" if it does not tell in time."""
        with trio.move_on_after(DUMP_S):
            async with trio.open_nursery() as nursery:
                found = ""

                async def wait() -> None:
                    nonlocal found
                    found = await worker.next_dump()

                nursery.start_soon(wait)
                await trio.lowlevel.checkpoint()
                self._children.signal(worker.pid, SIGDUMP)
            return found
        return ""

    def retire(self, worker: Worker) -> None:
        """Replace it: the next one is started at once, and it goes when it has finished."""
        self._retire(worker)
        self._wake_up()

    def reopen(self) -> None:
        """The log files were opened again: have everybody write to them."""
        named = [("error_log", self._log.fd)]
        if self.places.access_log is not None:
            named.append(("access_log", self.places.access_log.fd))
        names, descriptors = [name for name, _ in named], [fd for _, fd in named]
        if self.generation is not None:
            self.generation.reopen(names, descriptors)
        for worker in self.workers:
            worker.reopen(names, descriptors)

    # -- another generation --------------------------------------------------------------------------------------------

    async def prepare(self, config: PoolConfig, places: Places, log: Log, waits: bool = False) -> Prepared:
        """Start a new generation, up to a worker of it that is ready to serve. ``commit`` or ``abandon`` comes next.

        Raises:
          ReloadError: it does not get so far. Nothing has changed.
        """
        generation = self._next_generation(config, places, log.for_pool(config.pool), waits)
        worker = None
        if generation.waits and not self.workers:
            return Prepared(generation, None, places, log)
        try:
            await generation.start()
            worker = await generation.fork()
            worker.on_trial = True
            self._welcome(worker, news=False)
            await self._wait_until_ready(worker)
            if not worker.is_ready:
                await worker.ended.wait()
                why = f": {worker.failure}" if worker.failure else ""
                raise ReloadError(f"a worker of the new generation, child {worker.pid}, ended before it was ready{why}")
        except BaseException as error:
            # Also when we are cancelled, because another pool's new generation does not work.
            generation.close()
            if worker is not None:
                self._take_back(worker)
            if isinstance(error, (ZygoteError, ForkError)):
                raise ReloadError(str(error)) from None
            raise
        return Prepared(generation, worker, places, log)

    async def prepare_again(self) -> Prepared:
        """A new generation of the same configuration. Raises as ``prepare``."""
        return await self.prepare(self.config, self.places, self._log)

    def forget_change(self) -> None:
        """The changed application was not tried."""
        self._newest_change_ns = 0

    def _take_back(self, worker: Worker) -> None:
        worker.surplus = True
        self._retire(worker)

    def abandon(self, prepared: Prepared) -> None:
        """It is not wanted after all: another pool's new generation does not work, say."""
        prepared.generation.close()
        if prepared.worker is not None:
            self._take_back(prepared.worker)

    async def commit(self, prepared: Prepared) -> None:
        """Exchange all workers for those of the new generation, one after the other. Returns once the old ones have
        been told to finish."""
        if self._stopping:
            self.abandon(prepared)
            return
        old, self.generation = self.generation, prepared.generation
        self.config = config = prepared.generation.config
        self.places = prepared.places
        self._log = prepared.log.for_pool(config.pool)
        self.max_children = config.pm_max_children
        self._policy = scaling.policy(config)
        self._brake.release()
        self._newest_change_ns = 0
        if old is not None:
            old.close()
        self._exchanging = True
        try:
            await self._exchange(prepared)
        finally:
            self._exchanging = False
        self._wake_up()

    async def _exchange(self, prepared: Prepared) -> None:
        """Old workers go one after the other, each when there is a new one in its place."""
        if prepared.worker is not None:
            prepared.worker.on_trial = False
        leaving = [worker for worker in self._serving() if worker.generation != prepared.generation.number]
        for position, worker in enumerate(leaving):
            # The first is there already; the new configuration may want fewer, or none before somebody comes.
            if 0 < position < self.max_children and self.config.pm != "ondemand" and not self._stopping:
                await self._add_one()
            worker.surplus = True
            self._retire(worker)
        with trio.move_on_after(HEARD_S):
            for worker in leaving:
                while not self._has_heard(worker):
                    await trio.sleep(0.001)

    def _has_heard(self, worker: Worker) -> bool:
        """That it has to retire. In a request it can't say so, but it begins no other."""
        if worker.ended.is_set() or worker.has_heard or not worker.is_ready:
            return True
        return worker.look().stage is not Stage.IDLE and not worker.hears_always

    async def _add_one(self) -> None:
        generation = self.generation
        assert generation is not None  # it has just been proved
        try:
            worker = await generation.fork()
        except (ForkError, ZygoteError):
            return  # maintenance will find that there are too few, and say why
        self._welcome(worker, news=False)
        await self._wait_until_ready(worker)

    async def _wait_until_ready(self, worker: Worker) -> None:
        """Or until it has ended."""
        with trio.move_on_after(READY_S):
            await worker.ready.wait()
            return
        self._log("WARNING", f"child {worker.pid} is not ready after {READY_S:.0f} seconds, it is killed")
        self._children.signal(worker.pid, signal.SIGKILL)
        await worker.ready.wait()

    # -- the end -------------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Ask all workers to finish what they have begun; return when they have."""
        self._stopping = True
        self._told_to_stop.set()
        self._wake_up()
        if self.generation is None:
            return
        self.generation.close()
        for worker in self.workers:
            if worker.is_ready:
                self._children.signal(worker.pid, signal.SIGTERM)
        while self.workers or self._spawning:
            await self._changed()
        await self.generation.wait_closed()

    def kill(self, expected: bool = False) -> None:
        """End at once what ``stop`` did not end in its time; expected: nobody has waited for it."""
        self._stopping = True
        self._told_to_stop.set()
        if self.generation is not None:
            self.generation.kill()
        for worker in self.workers:
            if not expected:
                self._log("WARNING", f"child {worker.pid} is still busy, it is killed")
            self._children.signal(worker.pid, signal.SIGKILL)
