"""The master's own life: start, serve, stop."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import fields

import trio

from pyfpm.config import PoolConfig
from pyfpm.master import listeners
from pyfpm.master.children import Children
from pyfpm.master.pool import Pool
from pyfpm.master.zygote import ZygoteError
from pyfpm.observe.log import Log
from pyfpm.observe.title import set_title
from pyfpm.worker._process import adopt_orphans
from pyfpm.worker.settings import Program, Settings, to_json

EX_SOFTWARE = 70
EX_CONFIG = 78


def run(config: PoolConfig) -> int:
    """Serve until told to stop. Returns the exit status: 0 after a clean end, 78 if it could not start."""
    log = Log()
    adopt_orphans()
    set_title("master process")
    bound: list[tuple[socket.socket, os.stat_result | None]] = []
    try:
        for address in config.listen:
            listener = listeners.listen(address, config.listen_owner, config.listen_group, config.listen_mode)
            path = listener.getsockname() if listener.family == socket.AF_UNIX else None
            bound.append((listener, os.lstat(path) if path else None))
        return trio.run(_serve, config, bound, log)
    except listeners.ListenError as error:
        log("ERROR", str(error))
        log("ERROR", "FPM initialization failed")
        return EX_CONFIG
    finally:
        for listener, made in bound:
            listeners.remove(listener, made)
            listener.close()


async def _serve(config: PoolConfig, bound: list[tuple[socket.socket, os.stat_result | None]], log: Log) -> int:
    children = Children()
    pool = Pool(config.pool, config.workers, children)
    status = 0
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGQUIT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(children.reap)
            log("NOTICE", f"fpm is running, pid {os.getpid()}")
            for listener, _ in bound:
                _say_listening(listener, log)
            nursery.start_soon(_until_told, signals, pool, config, bound, log, nursery.cancel_scope)
            try:
                await pool.start(_orders(config), [each for each, _ in bound], nursery)
            except ZygoteError as error:
                log("ERROR", f"[pool {config.pool}] cannot load the application {config.app or 'scripts'}: {error}")
                log("ERROR", "FPM initialization failed")
                status = EX_CONFIG
                nursery.cancel_scope.cancel()
            else:
                what = f"application {config.app}" if config.app else "scripts" + _where(config)
                log("NOTICE", f"[pool {config.pool}] {config.workers} workers serve {what}")
                log("NOTICE", "ready to handle connections")
                await trio.sleep_forever()
    return status


async def _until_told(
    signals: AsyncIterator[int],
    pool: Pool,
    config: PoolConfig,
    bound: list[tuple[socket.socket, os.stat_result | None]],
    log: Log,
    everything: trio.CancelScope,
) -> None:
    """Stop at the first signal: gracefully within process_control_timeout, at a second signal at once."""
    told = aiter(signals)
    await anext(told)
    log("NOTICE", "Terminating ...")
    for listener, made in bound:
        # Nobody new finds us; who is in the queue already is still served.
        listeners.remove(listener, made)
    with trio.move_on_after(config.process_control_timeout_s):
        async with trio.open_nursery() as nursery:

            async def hurry() -> None:
                await anext(told)
                nursery.cancel_scope.cancel()

            nursery.start_soon(hurry)
            await pool.stop()
            nursery.cancel_scope.cancel()
    pool.kill()
    log("NOTICE", "exiting, bye-bye!")
    everything.cancel()


def _orders(config: PoolConfig) -> bytes:
    """What a zygote needs of the configuration: the fields that bear the same names."""
    return to_json(
        Program(**{field.name: getattr(config, field.name) for field in fields(Program)}),
        Settings(**{field.name: getattr(config, field.name) for field in fields(Settings)}),
    )


def _say_listening(listener: socket.socket, log: Log) -> None:
    text = f"listening on {listeners.describe(listener)}"
    if listener.family == socket.AF_UNIX:
        with suppress(OSError):
            info = os.stat(listener.getsockname())
            text += f" (mode {info.st_mode & 0o777:04o}, owner {info.st_uid}, group {info.st_gid})"
    log("NOTICE", text)
    if listeners.is_public(listener):
        log(
            "WARNING",
            f"{listeners.describe(listener)} can be reached from other machines, and whoever reaches it can run any"
            " script; listen on 127.0.0.1 or a unix socket, or keep others out with a firewall",
        )


def _where(config: PoolConfig) -> str:
    if config.docroots:
        return " in " + ", ".join(config.docroots)
    return " anywhere that the user may read (--docroot DIR keeps them inside of DIR)"
