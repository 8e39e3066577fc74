"""What can be asked of the master over the control socket, by name; ``pyfpmctl`` has the words for people."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import trio

from pyfpm import __version__
from pyfpm.master.control import Command, CommandError
from pyfpm.master.pool import Pool, ReloadError
from pyfpm.master.worker import Worker
from pyfpm.observe.status import as_json_object

if TYPE_CHECKING:
    from pyfpm.master.supervisor import Master

# Of pm.max_children, for an order that is a slip of the keyboard.
MOST_WORKERS = 10_000


def commands(master: Master) -> dict[str, Command]:
    """The commands, each a function of the decoded order; what it returns is the result.

    Each raises CommandError for an order that cannot be followed.
    """

    async def ping(order: dict[str, Any]) -> Any:
        return "pong"

    async def status(order: dict[str, Any]) -> Any:
        return {
            "master": {
                "pid": os.getpid(),
                "version": __version__,
                "start_since": int(trio.current_time() - master.started),
                "state": master.state.value,
                "config": master.config.path,
            },
            "pools": [as_json_object(pool.status(), full=True) for pool in master.pools.values()],
        }

    async def requests(order: dict[str, Any]) -> Any:
        found = []
        for pool in master.pools.values():
            for worker in pool.workers:
                view = worker.look()
                if view.busy:
                    found.append(
                        {
                            "pool": pool.name,
                            "pid": worker.pid,
                            "age_s": view.age_us / 1e6,
                            "method": view.method,
                            "uri": view.uri,
                            "query": view.query,
                            "script": view.script,
                            "generation": worker.generation,
                        }
                    )
        return sorted(found, key=lambda request: -float(str(request["age_s"])))

    async def trace(order: dict[str, Any]) -> Any:
        pool, worker = _worker(master, order)
        text = await pool.trace(worker)
        if not text:
            raise CommandError(f"child {worker.pid} did not tell where it is")
        return {"pid": worker.pid, "trace": text}

    async def retire(order: dict[str, Any]) -> Any:
        pool, worker = _worker(master, order)
        pool.retire(worker)
        return {"pid": worker.pid}

    async def scale(order: dict[str, Any]) -> Any:
        pool = _pool(master, order.get("pool"))
        workers = order.get("workers")
        if not isinstance(workers, int) or isinstance(workers, bool) or not 1 <= workers <= MOST_WORKERS:
            raise CommandError(f"a pool can have 1 to {MOST_WORKERS} workers, not {workers!r}")
        pool.scale(workers)
        return {"pool": pool.name, "workers": workers}

    async def reload(order: dict[str, Any]) -> Any:
        name = order.get("pool")
        if name is not None:
            name = _pool(master, name).name
        try:
            await master.reload(name)
        except ReloadError as error:
            raise CommandError(str(error)) from None
        return {"generations": {pool.name: pool.generation.number for pool in master.pools.values() if pool.generation}}

    every = (ping, status, requests, trace, retire, scale, reload)
    return {command.__name__: command for command in every}


def _pool(master: Master, name: object) -> Pool:
    found = master.pools.get(name) if isinstance(name, str) else None
    if found is None:
        raise CommandError(f"there is no pool {name!r}; there are: {', '.join(master.pools)}")
    return found


def _worker(master: Master, order: dict[str, Any]) -> tuple[Pool, Worker]:
    pid = order.get("pid")
    for pool in master.pools.values():
        worker = pool.worker(pid) if isinstance(pid, int) else None
        if worker is not None:
            return pool, worker
    raise CommandError(f"process {pid!r} is no worker of this server")
