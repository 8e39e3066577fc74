"""A new worker, from its fork on: the rooms are put together here, and nowhere else."""

from __future__ import annotations

import functools
import os
import random
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import trio

from pyfpm.observe.log import Log, cut
from pyfpm.protocol import AUTHORIZER, FILTER, RESPONDER
from pyfpm.sapi.asgi import ASGIAdapter
from pyfpm.sapi.interface import Output
from pyfpm.sapi.lifespan import StartupError
from pyfpm.sapi.revalidation import ImportedModules
from pyfpm.sapi.services import Services, provide
from pyfpm.sapi.uploads import directory_for, sweep
from pyfpm.worker import serve_asyncio
from pyfpm.worker._output import forks_are_the_users
from pyfpm.worker._reactor import Reactor
from pyfpm.worker._slot import Slot
from pyfpm.worker._watchdog import Watchdog
from pyfpm.worker.access import RequestLog
from pyfpm.worker.asynchronous import AsyncioExecutor, TrioExecutor
from pyfpm.worker.clients import AllowedClients
from pyfpm.worker.code import CodeWatch
from pyfpm.worker.control import Control
from pyfpm.worker.descriptors import Descriptors
from pyfpm.worker.inline import Adapter, InlineExecutor
from pyfpm.worker.memory import MemoryLimit, MemoryLimited
from pyfpm.worker.pages import ServerPages
from pyfpm.worker.refusal import Refusal
from pyfpm.worker.serve import GuardedLoop, serve
from pyfpm.worker.settings import Orders, Settings
from pyfpm.worker.threads import ThreadsExecutor


def work(
    own: Descriptors,
    shared: Descriptors,
    adapter: Adapter | ASGIAdapter,
    modules: ImportedModules | None,
    orders: Orders,
    log: Log,
) -> None:
    """Serve until the master says to stop.

    Args:
      own: descriptors of this worker, "control" and "slot"; ours from here on.
      shared: those that all workers of the pool have.
      modules: those that were imported, if they are to follow their files.
    Raises:
      StartupError: the application does not want to serve.
    """
    program, settings = orders.program, orders.settings
    slot = Slot(own.first("slot"))
    files = {name: shared.first(name) for name in ("error_log", "access_log") if shared.first(name) >= 0}
    control = Control(socket.socket(fileno=own.first("control")), files)
    watchdog = Watchdog(
        control.fileno(),
        slow_s=settings.request_slowlog_timeout_s,
        # What it raises in the main thread would hit the loop, or another request.
        soft_s=0 if isinstance(adapter, ASGIAdapter) or settings.pm_threads else settings.max_execution_time_s,
        hard_s=settings.request_terminate_timeout_s,
        track_finished=settings.request_terminate_timeout_track_finished,
        # Tasks and threads keep nobody waiting.
        move_ready=not isinstance(adapter, ASGIAdapter) and not settings.pm_threads and program.pm_max_children > 1,
        # A static pool can't do anything about it.
        tell_queue=settings.pm != "static",
    )
    pages = ServerPages(program.pm_status_path, program.ping_path, program.ping_response, control.ask_status)
    refusal = Refusal(log)
    executor: TrioExecutor | AsyncioExecutor | ThreadsExecutor | None = None
    if isinstance(adapter, ASGIAdapter):
        executor = (TrioExecutor if adapter.loop == "trio" else AsyncioExecutor)(
            adapter,
            log,
            pages,
            soft_s=settings.max_execution_time_s,
            hard_s=settings.request_terminate_timeout_s,
        )
    elif settings.pm_threads:
        executor = ThreadsExecutor(
            adapter,
            log,
            settings.pm_threads,
            refusal,
            pages,
            watchdog.guard,
            soft_s=settings.max_execution_time_s,
            hard_s=settings.request_terminate_timeout_s,
            slow_s=settings.request_slowlog_timeout_s,
            tell_slow=control.tell_slow,
            # Each worker has its share.
            queue_max=-(-settings.pm_queue_max // program.pm_max_children),
            queue_timeout_s=settings.pm_queue_timeout_s,
        )
    says = _stderr_log(orders, log)
    if program.app is None:
        _sweep_uploads(directory_for(program.sapi.upload_tmp_dir), says)
    access = None
    if "access_log" in files:
        paths = program.access_suppress_path
        is_json = orders.log.format == "json"
        access = RequestLog(files["access_log"], program.access_format, program.pool, paths, json=is_json)
    clients = settings.listen_allowed_clients
    memory = None if executor is not None else _memory_limit(program.sapi.memory_limit, says)
    threads = executor if isinstance(executor, ThreadsExecutor) else None
    reactor = Reactor(
        None if isinstance(adapter, ASGIAdapter) else InlineExecutor(pages.before(_limited(adapter, memory, log))),
        refusal,
        _with_jitter(settings),
        log,
        begin=None if executor is None else executor.begin,
        slot=slot,
        guard=watchdog.guard,
        access=access,
        allowed=AllowedClients(clients, says) if clients else None,
        on_exhausted=lambda reason: control.send("m", reason),
        # ASGI has no word for what the others are asked: a 200 for a page would let a visitor in.
        roles=(RESPONDER,) if isinstance(adapter, ASGIAdapter) else (RESPONDER, AUTHORIZER, FILTER),
        whole=threads is not None,
    )
    if threads is not None:
        threads.serve(reactor)
    provide(
        Services(
            error_log=functools.partial(_error_log, says, orders.log.limit),
            figures=control.ask_figures,
            retire=reactor.exhaust,
            output=_of_main_thread(reactor.output) if threads is None else threads.output,
            set_time_limit=_set_time_limit(executor, watchdog),
            out_of_memory=(lambda: None) if memory is None else memory.met,
            longest_s=settings.request_terminate_timeout_s or settings.max_execution_time_s,
        )
    )
    for fd in shared.all("listener"):
        reactor.listen(socket.socket(fileno=fd))
    reactor.share(socket.socket(fileno=shared.first("give")), socket.socket(fileno=shared.first("take")))
    forks_are_the_users()
    watchdog.start()
    code = None
    interval_s = program.sapi.python_revalidate_s
    if modules is not None and program.app is not None and interval_s:
        # Scripts look before a request.
        code = CodeWatch(modules, interval_s, control)
    try:
        _serve(reactor, control, slot, executor, code, watchdog)
    except StartupError as error:
        control.send("f", str(error))
        raise


def _of_main_thread(output: Callable[[], Output | None]) -> Callable[[], Output | None]:
    """A request has one thread here; others cannot tell which request they work for."""
    main = threading.get_ident()
    return lambda: output() if threading.get_ident() == main else None


def _set_time_limit(
    executor: TrioExecutor | AsyncioExecutor | ThreadsExecutor | None, watchdog: Watchdog
) -> Callable[[float], bool]:
    if executor is None:
        return watchdog.set_time_limit
    if isinstance(executor, ThreadsExecutor):
        return executor.set_time_limit
    return lambda seconds: False  # the thread has many requests, where they are tasks


def _memory_limit(size: int, says: Callable[[str, str], None]) -> MemoryLimit | None:
    if not size:
        return None
    try:
        return MemoryLimit(size)
    except OSError as error:
        says("WARNING", f"memory_limit has no effect: {error.strerror}: {error.filename!r}")
        return None


def _limited(adapter: Adapter, memory: MemoryLimit | None, log: Log) -> Adapter:
    return adapter if memory is None else MemoryLimited(adapter, memory, log)


def _serve(
    reactor: Reactor,
    control: Control,
    slot: Slot,
    executor: TrioExecutor | AsyncioExecutor | ThreadsExecutor | None,
    code: CodeWatch | None,
    watchdog: Watchdog,
) -> None:
    if isinstance(executor, AsyncioExecutor):
        serve_asyncio.run(reactor, control, slot, executor, code, watchdog.guard if watchdog.watches else None)
    elif isinstance(executor, TrioExecutor) and watchdog.watches:
        trio.run(serve, reactor, control, slot, executor, code, instruments=[GuardedLoop(watchdog.guard)])
    else:
        trio.run(serve, reactor, control, slot, executor, code)


def _sweep_uploads(directory: str, says: Callable[[str, str], None]) -> None:
    """The one before this worker may have been killed, and not have come to it."""
    if requests := sweep(directory):
        of = "a request" if requests == 1 else f"{requests} requests"
        says("NOTICE", f"removed the uploaded files of {of} in {directory} whose worker was killed")


def _stderr_log(orders: Orders, log: Log) -> Callable[[str, str], None]:
    """Where php-fpm's children write to their stderr: the master finds it there, or else we say it in its words."""
    if orders.program.catch_workers_output:

        def write(level: str, text: str) -> None:
            if log.writes(level):
                with suppress(OSError):  # there is no other place to say so
                    os.write(2, f"{level}: {text}\n".encode("utf-8", "backslashreplace"))

        return write
    pid = os.getpid()

    def say(level: str, text: str) -> None:
        if level == "ERROR":
            log("WARNING", f'child {pid} said into stderr: "{level}: {text}"')
        else:
            log(level, text)

    return say


def _error_log(says: Callable[[str, str], None], limit: int, message: str) -> bytes:
    """Source: what php-fpm makes of error_log(); "NOTICE: " comes before it and counts."""
    line = f"Python message: {message}\n".encode("utf-8", "backslashreplace")
    said = cut(line, limit - len("NOTICE: "))[:-1]
    says("NOTICE", said.decode())
    return said


def _with_jitter(settings: Settings) -> Settings:
    """Workers that were started together do not all retire together."""
    jitter = min(settings.pm_max_requests_jitter, max(0, settings.pm_max_requests - 1))
    # Not that of the random module, whose state all workers have inherited, and the application may have set.
    fewer = random.SystemRandom().randint(0, jitter) if jitter else 0
    return replace(settings, pm_max_requests=settings.pm_max_requests - fewer)
