"""The master's own life: start, serve, reload, stop.

The rule of a reload: everything that can fail is tried before anything that serves is touched. The configuration is
read, new sockets are bound, and each pool gets a new generation with a worker that is ready; only then do the old
workers go. If one of it fails, what was made for it is undone and the old generation goes on.
"""

from __future__ import annotations

import enum
import functools
import os
import resource
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress

import trio

from pyfpm.config import Config, ConfigError, MainConfig, PoolConfig, StartOptions
from pyfpm.master import scaling, status_listener, systemd
from pyfpm.master.children import Children
from pyfpm.master.commands import commands
from pyfpm.master.control import ControlSocket
from pyfpm.master.daemon import Launch, PidFile, daemonize, let_go_of_terminal
from pyfpm.master.generation import ZygoteError
from pyfpm.master.listeners import ListenError
from pyfpm.master.logs import LogFile
from pyfpm.master.pool import Pool, Prepared, ReloadError
from pyfpm.master.resources import FileError, Held, Places, Resources
from pyfpm.observe.log import Log, LogSettings
from pyfpm.observe.title import set_title
from pyfpm.worker._process import adopt_orphans
from pyfpm.worker.clients import AllowedClients

EX_CONFIG = 78


class State(enum.Enum):
    """php-fpm's states of the master."""

    STARTING = "starting"
    NORMAL = "normal"
    RELOADING = "reloading"
    FINISHING = "finishing"
    TERMINATING = "terminating"


# Which order may override the one under way: a second SIGTERM ends what the first lets finish, and no reload revives a
# master that stops.
MAY_BECOME = {
    State.STARTING: {State.NORMAL, State.FINISHING, State.TERMINATING},
    State.NORMAL: {State.RELOADING, State.FINISHING, State.TERMINATING},
    State.RELOADING: {State.NORMAL, State.FINISHING, State.TERMINATING},
    State.FINISHING: {State.TERMINATING},
    State.TERMINATING: set(),
}


class StartError(Exception):
    """We cannot start; the message is for the log."""


# What may go wrong in a reload without being a bug.
NOT_THIS_TIME = (ReloadError, StartError, ListenError, FileError, OSError, LookupError)


def run(config: Config, options: StartOptions) -> int:
    """Serve until told to stop. Returns the exit status: 0 after a clean end, 78 if it could not start."""
    launch = daemonize() if options.daemonize else Launch()
    try:
        error_log = _error_log(config.main)
    except OSError as error:
        for said in (
            f"failed to open error_log ({config.main.error_log}): {error.strerror} ({error.errno})",
            "failed to post process the configuration",
        ):
            Log()("ERROR", said)
        return _failed(Log(), launch)
    log = _log(config.main, error_log, options)
    adopt_orphans()
    set_title("master process" + (f" ({config.path})" if config.path else ""))
    master = Master(config, options, error_log, log, launch)
    try:
        master.open_places()
        return trio.run(master.main)
    except StartError as error:
        log("ERROR", str(error))
        if not _is_stderr(log.fd):
            Log()("ERROR", str(error))  # whoever starts us looks at the terminal
        return _failed(log, launch)
    finally:
        master.close()


def _failed(log: Log, launch: Launch) -> int:
    log("ERROR", "FPM initialization failed")
    launch.tell(EX_CONFIG)
    return EX_CONFIG


def _error_log(main: MainConfig) -> LogFile | None:
    """The file of ``error_log``; None for stderr and syslog. As in php-fpm it is there with -O as well, and empty."""
    return None if main.error_log in (None, "syslog") else LogFile(main.error_log)


def _log(main: MainConfig, file: LogFile | None, options: StartOptions) -> Log:
    to_syslog = main.error_log == "syslog" and not options.force_stderr
    settings = LogSettings(
        level=main.log_level,
        limit=main.log_limit,
        buffering=main.log_buffering,
        format=main.log_format,
        mask_secrets=main.log_mask_secrets,
        syslog_ident=main.syslog_ident if to_syslog else None,
        syslog_facility=main.syslog_facility,
    )
    return Log(None, 2 if file is None or options.force_stderr else file.fd, settings)


class Master:
    """Everything that is not one pool's. ``open_places`` before ``main``, ``close`` after it."""

    def __init__(
        self, config: Config, options: StartOptions, error_log: LogFile | None, log: Log, launch: Launch
    ) -> None:
        self.config = config
        self.pools: dict[str, Pool] = {}
        self.state = State.STARTING
        self.log = log
        self.started = 0.0
        self._options = options
        self._error_log = error_log
        self._launch = launch
        self._children = Children(log)
        self._notify = systemd.Notifier()
        # With a file, php-fpm's users know where it listens, and their log parsers do not know that line.
        self._resources = Resources(systemd.inherited(), log, quiet=config.path is not None)
        self._pid_file: PidFile | None = None
        self._control: ControlSocket | None = None
        # Who may ask for the page of a pool, where it has an address of its own; None: all.
        self._clients: dict[str, AllowedClients | None] = {}
        self._reloading = trio.Lock()
        # Of the one that loads a changed application, which a reload does not wait for: it may hang for ever, and is
        # one pool's affair.
        self._refreshing = trio.CancelScope()
        self._reload_waits = False
        self._nursery: trio.Nursery | None = None
        self._crashes: deque[float] = deque()

    # -- places: sockets and files -------------------------------------------------------------------------------------

    def open_places(self) -> None:
        """All that has to be there before a process is started.

        Raises:
          StartError: an address cannot be listened on, a file not be opened.
        """
        main = self.config.main
        _limit_ourselves(main, self.log)
        for level, message in self.config.notes:
            self.log(level, message)
        try:
            for pool in self.config.pools:
                self._resources.open(pool)
            if main.pid:
                try:
                    self._pid_file = PidFile(main.pid)
                except OSError as error:
                    why = f"{error.strerror} ({error.errno})"
                    raise StartError(f"Unable to create the PID file ({main.pid}).: {why}") from None
            if self.config.control_socket is not None:
                self._control = ControlSocket(self.config.control_socket, commands(self), self.log)
        except (ListenError, FileError) as error:
            raise StartError(str(error)) from None
        except (OSError, LookupError) as error:
            raise StartError(_text_of(error)) from None
        self._resources.refuse_strangers()

    def close(self) -> None:
        self._resources.close()
        if self._control is not None:
            self._control.close()
        if self._pid_file is not None:
            self._pid_file.remove()

    # -- life ----------------------------------------------------------------------------------------------------------

    async def main(self) -> int:
        self.started = trio.current_time()
        numbers = (
            signal.SIGTERM,
            signal.SIGINT,
            signal.SIGQUIT,
            signal.SIGUSR1,
            signal.SIGUSR2,
            signal.SIGHUP,
            signal.SIGTTIN,
            signal.SIGTTOU,
        )
        failure: StartError | None = None
        with trio.open_signal_receiver(*numbers) as signals:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._children.reap)
                self._nursery.start_soon(self._obey, signals)
                try:
                    await self._start()
                except StartError as error:
                    failure = error
                    self._nursery.cancel_scope.cancel()
                else:
                    await trio.sleep_forever()
        if failure is not None:
            raise failure
        return 0

    @property
    def _tasks(self) -> trio.Nursery:
        assert self._nursery is not None  # main() runs
        return self._nursery

    async def _start(self) -> None:
        waiting = scaling.waiting_pools(self.config.pools)
        try:
            async with trio.open_nursery() as nursery:
                for config in self.config.pools:
                    pool = self._new_pool(config, self._resources.open(config), self.log)
                    self.pools[config.pool] = pool
                    await self._tasks.start(pool.hold)
                    nursery.start_soon(self._start_pool, pool, config.pool in waiting)
        except ExceptionGroup as group:
            raise _only(group, StartError) from None
        if self.state is not State.STARTING:
            return  # told to stop meanwhile
        self._serve_pages()
        self._become(State.NORMAL)
        self._say_running()
        if self._control is not None:
            self._tasks.start_soon(self._control.serve)
        if self._options.daemonize:
            let_go_of_terminal(keep_stderr=_is_stderr(self.log.fd) and self.log.settings.syslog_ident is None)
        self._launch.tell(0)
        self._notify(READY=1, STATUS="Ready to handle connections", MAINPID=os.getpid())
        self._tasks.start_soon(self._tell_systemd)
        self._tasks.start_soon(self._watchdog)

    def _new_pool(self, config: PoolConfig, places: Places, log: Log) -> Pool:
        return Pool(config, places, self._children, log, self._may_spawn, self._crashed, self._refresh, self._patience)

    def _patience(self) -> float:
        return self.config.main.retire_timeout_s

    async def _start_pool(self, pool: Pool, waits: bool) -> None:
        config = pool.config
        try:
            await pool.start(waits)
        except ZygoteError as error:
            what = config.app or "scripts"
            raise StartError(f"[pool {config.pool}] cannot load the application {what}: {error}") from None
        if not self.config.path:
            what = f"application {config.app}" if config.app else "scripts" + _where(config)
            self.log.for_pool(config.pool)("NOTICE", f"{config.pm_max_children} workers serve {what}")

    def _say_running(self) -> None:
        self.log("NOTICE", f"fpm is running, pid {os.getpid()}")
        self.log("NOTICE", "ready to handle connections")
        for pool in self.pools.values():
            pool.announced()

    def _serve_pages(self) -> None:
        """Status and ping, where they have an address of their own."""
        for name, pool in self.pools.items():
            address = pool.config.pm_status_listen
            if address is not None and not (listener := self._resources.listener(address)).is_served:
                listener.is_served = True
                page, allowed = functools.partial(self._page, name), functools.partial(self._may_ask, name)
                self._tasks.start_soon(status_listener.serve, listener.socket, page, allowed)
            clients = pool.config.listen_allowed_clients
            # Anew with each configuration.
            self._clients[name] = AllowedClients(clients, self.log.for_pool(name)) if clients and address else None

    def _may_ask(self, name: str, address: bytes) -> bool:
        allowed = self._clients.get(name)
        return allowed is None or allowed(address)

    def _page(self, name: str, path: str, query: str, method: str) -> bytes | None:
        pool = self.pools.get(name)  # it may be another by now, or gone
        return None if pool is None else pool.page(path, query, method)

    def _become(self, state: State) -> bool:
        if state not in MAY_BECOME[self.state]:
            return False
        self.state = state
        return True

    def _may_spawn(self) -> int:
        most = self.config.main.process_max
        return most - sum(pool.size for pool in self.pools.values()) if most else sys.maxsize

    # -- orders --------------------------------------------------------------------------------------------------------

    async def _obey(self, signals: AsyncIterator[int]) -> None:
        stopping: trio.CancelScope | None = None
        async with trio.open_nursery() as nursery:
            async for number in signals:
                if number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
                    at_once = number == signal.SIGINT or (number == signal.SIGTERM and self._sigterm_is_fast)
                    if stopping is not None:
                        self._become(State.TERMINATING)  # whoever says it twice means now
                        stopping.cancel()
                    elif self._become(State.TERMINATING if at_once else State.FINISHING):
                        for pool in self.pools.values():
                            pool.hear_out()
                        self.log("NOTICE", "Finishing ..." if number == signal.SIGQUIT else "Terminating ...")
                        stopping = trio.CancelScope()
                        if at_once:
                            stopping.cancel()
                        nursery.start_soon(self._stop, stopping)
                elif number == signal.SIGUSR1:
                    self.reopen_logs()
                elif number in (signal.SIGUSR2, signal.SIGHUP):
                    if not self._reload_waits:
                        nursery.start_soon(self._reload_quietly)
                elif self.state is State.NORMAL:
                    for pool in self.pools.values():
                        pool.scale(max(1, pool.max_children + (1 if number == signal.SIGTTIN else -1)))
                    sizes = ", ".join(f"{name} {pool.max_children}" for name, pool in self.pools.items())
                    self.log("NOTICE", f"pm.max_children is now: {sizes}")

    @property
    def _sigterm_is_fast(self) -> bool:
        return self.config.main.compat_sigterm == "fast"

    async def _stop(self, patience: trio.CancelScope) -> None:
        self._notify(STOPPING=1, STATUS="Stopping")
        self._resources.hide()
        patience.deadline = trio.current_time() + self.config.main.process_control_timeout_s
        with patience:
            async with trio.open_nursery() as nursery:
                for pool in self.pools.values():
                    nursery.start_soon(pool.stop)
        for pool in self.pools.values():
            pool.kill(expected=self.state is State.TERMINATING)
        with trio.CancelScope(shield=True):
            for pool in self.pools.values():
                await pool.end()
        self.log("NOTICE", "exiting, bye-bye!")
        self._tasks.cancel_scope.cancel()

    def reopen_logs(self) -> None:
        """After a log rotation: the files of those names, for us and for every worker."""
        files: list[tuple[str, LogFile | None]] = [("error log", self._error_log)]
        files += [(directive.replace(".", " "), file) for directive, file in self._resources.files()]
        said = set()
        for what, file in files:
            if file is None:
                continue
            try:
                file.reopen()
            except OSError as error:
                self.log("ERROR", f"failed to re-open {what} file ({file.path}): {error.strerror}")
                continue
            if what not in said:
                self.log("NOTICE", f"{what} file re-opened")
                said.add(what)
        for pool in self.pools.values():
            pool.reopen()

    async def _reload_quietly(self) -> None:
        # One that waits for its turn reads what is there then; a second one would find nothing new.
        self._reload_waits = True
        self._refreshing.cancel()
        async with self._reloading:
            self._reload_waits = False
            with suppress(ReloadError):  # it is in the log
                await self._reload_now(None)

    async def reload(self, only: str | None = None) -> None:
        """Read the configuration again and exchange all workers; or those of one pool.

        Raises:
          ReloadError: something of the new does not work. The old goes on as if nothing had been.
        """
        self._refreshing.cancel()
        async with self._reloading:
            await self._reload_now(only)

    async def _reload_now(self, only: str | None) -> None:
        if not self._become(State.RELOADING):
            raise ReloadError(f"the server is {self.state.value}")
        self.log("NOTICE", "Reloading in progress ...")
        self._notify.reloading()
        try:
            await self._reload(only)
        except ReloadError as error:
            self.log("ERROR", f"reload failed, the old generation goes on: {error}")
            self._notify(READY=1, STATUS=f"Reload failed: {str(error).splitlines()[-1]}")
            raise
        else:
            self._notify(READY=1, STATUS="Ready to handle connections")
        finally:
            self._become(State.NORMAL)

    async def _reload(self, only: str | None) -> None:
        try:
            config = self._options.reload()
        except ConfigError as error:
            raise ReloadError(str(error)) from None
        wanted = {pool.pool: pool for pool in config.pools}
        if only is not None and (only not in wanted or only not in self.pools):
            raise ReloadError(f"there is no pool {only!r}; there are: {', '.join(self.pools)}")
        names = [name for name in wanted if only in (None, name)]
        self.log("NOTICE", f"reloading: a new generation of {', '.join(f'pool {name}' for name in names)}")
        held = self._resources.held()
        prepared: dict[str, Prepared] = {}
        added: dict[str, Pool] = {}
        try:
            places = {name: self._resources.open(wanted[name]) for name in names}
            log = self._new_log(config.main)
            waiting = scaling.waiting_pools(config.pools)
            async with trio.open_nursery() as nursery:
                for name in names:
                    if name in self.pools:
                        is_waiting = name in waiting
                        nursery.start_soon(
                            self._prepare, self.pools[name], wanted[name], places[name], log, is_waiting, prepared
                        )
                    else:
                        added[name] = self._new_pool(wanted[name], places[name], log)
                        await self._tasks.start(added[name].hold)
                        nursery.start_soon(self._start_pool, added[name], name in waiting)
            if self.state is not State.RELOADING:
                raise ReloadError(f"the server is {self.state.value}")
        except (*NOT_THIS_TIME, ExceptionGroup) as error:
            reason = _text_of(_only(error, NOT_THIS_TIME))
            await self._undo(prepared, added, held)
            raise ReloadError(reason) from None
        await self._take_over(config, only, log, prepared, added)

    async def _prepare(
        self,
        pool: Pool,
        config: PoolConfig,
        places: Places,
        log: Log,
        waits: bool,
        prepared: dict[str, Prepared],
    ) -> None:
        try:
            prepared[pool.name] = await pool.prepare(config, places, log, waits)
        except ReloadError as error:
            raise ReloadError(f"[pool {pool.name}] {error}") from None

    async def _undo(self, prepared: dict[str, Prepared], added: dict[str, Pool], held: Held) -> None:
        for name, each in prepared.items():
            self.pools[name].abandon(each)
        for pool in added.values():
            pool.kill()
            await pool.end()
        self._resources.back_to(held)

    async def _take_over(
        self, config: Config, only: str | None, log: Log, prepared: dict[str, Prepared], added: dict[str, Pool]
    ) -> None:
        self.pools.update(added)
        async with trio.open_nursery() as nursery:
            for name, each in prepared.items():
                nursery.start_soon(self.pools[name].commit, each)
            if only is None:
                for name in self.pools.keys() - {pool.pool for pool in config.pools}:
                    nursery.start_soon(self._remove, self.pools.pop(name))
        # Also those that nobody wants any more: what has listened until now is what the new generations have inherited.
        inherited = [(listening.fileno(), address) for address, listening in self._resources.listening()]
        if only is None:
            self.config = config
            self._switch_log(config.main, log)
            self._resources.keep_only(config)
        if self.state is not State.RELOADING:
            return  # told to stop meanwhile
        self._serve_pages()
        for number, address in inherited:
            said = f'using inherited socket fd={number}, "{address}"'
            self.log("NOTICE", said)
            if not self._options.daemonize and not _is_stderr(self.log.fd):
                # Of a reload php-fpm's terminal shows this line, and no other.
                Log(settings=self.log.settings)("NOTICE", said)
        self._say_running()

    async def _remove(self, pool: Pool) -> None:
        with trio.move_on_after(self.config.main.process_control_timeout_s):
            await pool.stop()
        pool.kill()
        await pool.end()

    def _new_log(self, main: MainConfig) -> Log:
        """By the new configuration, written to where the present one is; ``_switch_log`` is what moves it."""
        return _log(main, self._error_log, self._options)

    def _switch_log(self, main: MainConfig, log: Log) -> None:
        self.log = log
        if self._error_log is not None and main.error_log not in (None, "syslog", self._error_log.path):
            before, self._error_log.path = self._error_log.path, str(main.error_log)
            try:
                self._error_log.reopen()
            except OSError as error:
                self._error_log.path = before
                self.log("ERROR", f"failed to open error_log ({main.error_log}), it stays: {error.strerror}")
        for pool in self.pools.values():
            pool.reopen()

    def _crashed(self) -> None:
        """A worker has crashed in C. Too many in a row may be the fault of something that all have in common."""
        main = self.config.main
        if not main.emergency_restart_threshold:
            return
        now = trio.current_time()
        self._crashes.append(now)
        while now - self._crashes[0] > main.emergency_restart_interval_s:
            self._crashes.popleft()
        if len(self._crashes) >= main.emergency_restart_threshold and self.state is State.NORMAL:
            interval = f"{main.emergency_restart_interval_s:.0f}"
            self.log(
                "WARNING",
                f"failed processes threshold ({len(self._crashes)} in {interval} sec) is reached, initiating reload",
            )
            self._crashes.clear()
            self._tasks.start_soon(self._reload_quietly)

    def _refresh(self, pool: Pool, generation: int) -> None:
        """Its application's files have changed (python.revalidate)."""
        self._tasks.start_soon(self._refresh_quietly, pool, generation)

    async def _refresh_quietly(self, pool: Pool, generation: int) -> None:
        async with self._reloading:
            pool.is_refreshing = False  # a change from here on is another one, which is told again
            newest = pool.generation
            if self.state is not State.NORMAL or newest is None or newest.number != generation:
                return  # what was reloaded meanwhile has the new code
            try:
                with trio.CancelScope() as self._refreshing:
                    prepared = await pool.prepare_again()
            except ReloadError as error:
                self.log(
                    "ERROR",
                    f"[pool {pool.name}] the changed application cannot be loaded, the old one goes on: {error}",
                )
                return
            if self._refreshing.cancelled_caught:
                pool.forget_change()  # so that it is told again, should the reload have left it out
            else:
                await pool.commit(prepared)

    # -- systemd -------------------------------------------------------------------------------------------------------

    async def _tell_systemd(self) -> None:
        interval = self.config.main.systemd_interval_s
        if not self._notify or not interval:
            return
        before = 0
        while True:
            await trio.sleep(interval)
            figures = {}
            for name, pool in self.pools.items():
                status = pool.status()
                figures[name] = (
                    status.active_processes,
                    status.idle_processes,
                    status.accepted_conn,
                    status.slow_requests,
                )
            requests = sum(each[2] for each in figures.values())
            self._notify(STATUS=systemd.status_text(figures, (requests - before) / interval))
            before = requests

    async def _watchdog(self) -> None:
        while self._notify.watchdog_s:
            self._notify(WATCHDOG=1)
            await trio.sleep(self._notify.watchdog_s)


def _limit_ourselves(main: MainConfig, log: Log) -> None:
    for name, which, value in (
        ("rlimit_files", resource.RLIMIT_NOFILE, main.rlimit_files),
        ("rlimit_core", resource.RLIMIT_CORE, main.rlimit_core),
    ):
        if value is not None:
            limit = resource.RLIM_INFINITY if isinstance(value, str) else value
            try:
                resource.setrlimit(which, (limit, limit))
            except (OSError, ValueError) as error:
                log("WARNING", f"failed to set {name} for this process: {error}")
    if main.process_priority is not None:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, main.process_priority)
        except OSError as error:
            log("WARNING", f"Unable to set priority for the master process: {error.strerror}")


def _is_stderr(fd: int) -> bool:
    """Also where error_log is /dev/stderr."""
    return os.path.sameopenfile(fd, 2)


def _only(error: BaseException, expected: type[Exception] | tuple[type[Exception], ...]) -> BaseException:
    """The first of what tasks have raised, if all of it was to be expected; else raises the rest."""
    if not isinstance(error, ExceptionGroup):
        return error
    _, rest = error.split(expected)
    if rest is not None:
        raise rest
    found: BaseException = error
    while isinstance(found, ExceptionGroup):
        found = found.exceptions[0]
    return found


def _text_of(error: BaseException) -> str:
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror or error}{where}"
    return str(error.args[0]) if isinstance(error, LookupError) and error.args else str(error)


def _where(config: PoolConfig) -> str:
    if config.docroots:
        return " in " + ", ".join(config.docroots)
    return " anywhere that the user may read (--docroot DIR keeps them inside of DIR)"
