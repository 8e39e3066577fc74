"""One worker without a master: what ``support.worker`` starts, and the application that it serves."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import trio

from pyfpm import ExecutionTimeout
from pyfpm.sapi.wsgi import WSGIAdapter
from pyfpm.worker._output import forks_are_the_users
from pyfpm.worker._reactor import Reactor
from pyfpm.worker._slot import Slot
from pyfpm.worker._watchdog import Watchdog
from pyfpm.worker.clients import AllowedClients
from pyfpm.worker.control import Control
from pyfpm.worker.inline import InlineExecutor
from pyfpm.worker.refusal import Refusal
from pyfpm.worker.serve import serve
from pyfpm.worker.settings import Settings

PAGE = [("Content-Type", "text/plain")]


def endless() -> None:
    while True:
        pass


def crash_in_a_child() -> None:
    pid = os.fork()
    if not pid:
        ctypes.string_at(0)
    os.waitpid(pid, 0)


def hold_the_gil() -> None:
    # More than once, since a signal ends it.
    while True:
        ctypes.PyDLL(None).sleep(60)


def crash_in_a_thread() -> None:
    thread = threading.Thread(target=ctypes.string_at, args=(0,))
    thread.start()
    thread.join()
    time.sleep(60)


DEEDS: dict[str, Callable[[], Any]] = {
    "endless": endless,
    "sleep": lambda: time.sleep(60),
    "gil": hold_the_gil,
    "nap": lambda: time.sleep(0.6),
    "moment": lambda: time.sleep(0.05),
    "segv": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "child-segv": crash_in_a_child,
    "thread-segv": crash_in_a_thread,
    "allocate": lambda: KEPT.append(b"x" * (200 << 20)),
}
KEPT: list[bytes] = []
SEEN: list[str] = []


def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    what, _, deed = environ["QUERY_STRING"].partition("-then-")
    if what == "status":
        start("200 OK", PAGE)
        return [control.ask_status("json") or b"nothing"]
    if what == "seen":
        start("200 OK", PAGE)
        return [" ".join(SEEN).encode()]
    if what == "finally":
        try:
            endless()
        except Exception:
            SEEN.append("caught")
        finally:
            SEEN.append("finally")
    if what == "catch":
        try:
            endless()
        except ExecutionTimeout as error:
            start("200 OK", PAGE)
            return [str(error).encode()]
    if what == "begun":
        start("200 OK", PAGE)(b"beginning")
        DEEDS[deed]()
    if what == "large":
        write = start("200 OK", PAGE)
        for _ in range(64):
            write(bytes(1 << 20))
        DEEDS[deed]()
    if what == "unsent":
        start("200 OK", PAGE)
        environ["wsgi.errors"].write("said before\n")
        DEEDS[deed]()
    if what == "missing":
        start("404 Not Found", PAGE)
        return [b"none"]
    DEEDS.get(what, lambda: None)()
    start("200 OK", PAGE)
    return [str(os.getpid()).encode()]


def main() -> None:
    global control
    told = json.loads(sys.argv[1])

    def log(level: str, text: str) -> None:
        os.write(2, f"{level}: {text}\n".encode())

    control = Control(socket.socket(fileno=told["control"]), {"error_log": 2})
    watchdog = Watchdog(control.fileno(), **told["watchdog"])
    slot = Slot(told["slot"])
    reactor = Reactor(
        InlineExecutor(WSGIAdapter(application, log)),
        Refusal(log),
        Settings(**told["settings"]),
        log,
        slot=slot,
        guard=watchdog.guard,
        allowed=AllowedClients(told["allowed"], log) if told["allowed"] else None,
        on_exhausted=lambda reason: control.send("m", reason),
    )
    reactor.listen(socket.socket(fileno=told["listener"]))
    if told["share"]:
        reactor.share(*[socket.socket(fileno=fd) for fd in told["share"]])
    forks_are_the_users()
    watchdog.start()
    trio.run(serve, reactor, control, slot)
    os._exit(0)


if __name__ == "__main__":
    main()
