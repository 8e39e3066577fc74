"""The zygote of a pool: the process that imports the application, and that all workers are forked from.

It is executed afresh, never forked from the master's trio loop, and has no thread and no event loop of its own, so
that a fork of it is a clean start. It becomes the pool's user before it imports anything of the user's. Workers share
the memory of all that was imported; ``gc.freeze`` keeps the collector from touching, and thus copying, it.

A worker is an orphan from the start (``csrc/orphan.h``), which makes it a child of the master, a subreaper. So the
master waits for its workers itself, and the zygote has nothing to wait for but orders.

Control socket (SOCK_SEQPACKET, one message each): the master sends what to run with the descriptors for it, then
``fork`` with the names and descriptors that are the new worker's own, or ``logs`` with log files that were opened
anew. The zygote answers ``ready`` with what a fork does not go well with (a JSON list of sentences), ``forked PID``, or
``failed TEXT`` to either. Its end ends the zygote.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from typing import NoReturn

from pyfpm.observe.log import Log
from pyfpm.observe.title import set_title
from pyfpm.sapi.asgi import ASGIAdapter
from pyfpm.sapi.failure import describe
from pyfpm.sapi.lifespan import StartupError
from pyfpm.sapi.load import LoadError
from pyfpm.sapi.revalidation import ImportedModules
from pyfpm.worker import identity
from pyfpm.worker._process import die_with_parent, fork_orphan
from pyfpm.worker.adapters import adapter_for, watched_modules
from pyfpm.worker.descriptors import Descriptors, receive
from pyfpm.worker.fork_safety import left_behind
from pyfpm.worker.inline import Adapter
from pyfpm.worker.settings import CONTROL_FD, LONGEST_MESSAGE, Orders, from_json
from pyfpm.worker.work import work

NO_SIGNAL = 0

# Of what a fork does not go well with, told to the master in one message: sentences, and characters of each.
MOST_WARNINGS = 20
MOST_OF_A_WARNING = 400

# sysexits.h
EX_SOFTWARE = 70


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
        # The terminal sends these to all of us; the master says what becomes of it.
        signal.signal(number, signal.SIG_IGN)
    control = socket.socket(fileno=CONTROL_FD)
    os.set_inheritable(CONTROL_FD, False)
    message, fds = receive(control)
    if not message:
        return
    orders = from_json(message)
    descriptors = Descriptors(orders.descriptors, fds)
    set_title(f"pool {orders.program.pool} zygote")
    try:
        identity.become(orders.program)
    except (LookupError, OSError, ValueError) as error:
        return _fail(control, str(error))
    # While we import we do not listen to the master, so its end has to reach us in another way. Only now: becoming
    # another user makes the kernel forget it.
    die_with_parent(signal.SIGKILL)
    if _has_ended(control):
        return
    log = Log(orders.program.pool, descriptors.first("error_log", 2), orders.log)
    try:
        modules = watched_modules(orders.program)
        adapter = adapter_for(orders.program, log, modules, orders.settings.pm_threads)
    except LoadError as error:
        return _fail(control, str(error))
    except BaseException as error:
        return _fail(control, describe(error))
    die_with_parent(NO_SIGNAL)
    with suppress(FileNotFoundError):
        # Found by writing into it, and remembered: a worker that is out of descriptors would find none.
        tempfile.gettempdir()
    warnings = left_behind({CONTROL_FD, *fds})
    gc.collect()
    gc.freeze()
    try:
        control.send(b"ready" + json.dumps(_that_fit(warnings)).encode())
        while True:
            message, own = receive(control)
            if not message:
                return
            names = tuple(json.loads(message[4:]))
            if message.startswith(b"logs"):
                descriptors.replace(names, own)
            else:
                _fork(control, Descriptors(names, own), descriptors, adapter, modules, orders, log)
    except ConnectionError:
        return  # the master ended while we were at it


def _that_fit(warnings: list[str]) -> list[str]:
    """An application that leaves a thousand threads behind has been told enough with the first ones."""
    shown = [text[:MOST_OF_A_WARNING] for text in warnings[:MOST_WARNINGS]]
    more = len(warnings) - len(shown)
    return [*shown, f"the application has left {more} more of these behind"] if more else shown


def _fail(control: socket.socket, reason: str) -> None:
    with suppress(ConnectionError):
        control.send(b"failed " + reason.encode("utf-8", "backslashreplace")[: LONGEST_MESSAGE - 64])


def _has_ended(control: socket.socket) -> bool:
    try:
        return not control.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


def _fork(
    control: socket.socket,
    own: Descriptors,
    shared: Descriptors,
    adapter: Adapter | ASGIAdapter,
    modules: ImportedModules | None,
    orders: Orders,
    log: Log,
) -> None:
    try:
        pid = fork_orphan()
    except OSError as error:
        own.close()
        return _fail(control, f"cannot fork: {error.strerror}")
    if pid:
        own.close()
        control.send(b"forked %d" % pid)
        return
    status = EX_SOFTWARE  # unless we get to the end
    try:
        control.close()
        set_title(f"pool {orders.program.pool}")
        # Should a request hold us while the master is killed, the kernel ends us. If it is gone already, its end of our
        # control socket is closed, and we end by that.
        die_with_parent(signal.SIGKILL)
        for name, number in (("stdout", 1), ("stderr", 2)):
            if (fd := own.first(name)) >= 0:
                os.dup2(fd, number)
                os.close(fd)
        work(own, shared, adapter, modules, orders, log)
        status = 0
    except StartupError as error:
        log("ERROR", str(error))
    except BaseException as error:
        log("ERROR", f"worker {os.getpid()} failed; please report this\n{describe(error)}")
    finally:
        # Never back into the zygote's code, nor into its exit handlers.
        _flush_and_exit(status)


def _flush_and_exit(status: int) -> NoReturn:
    try:
        sys.stderr.flush()
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
