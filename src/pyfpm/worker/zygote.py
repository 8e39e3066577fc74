"""The zygote of a pool: the process that imports the application, and that all workers are forked from.

It is executed afresh, never forked from the master's trio loop, and has no thread and no event loop of its own, so
that a fork of it is a clean start. It becomes the pool's user before it imports anything of the user's. Workers share
the memory of all that was imported; ``gc.freeze`` keeps the collector from touching, and thus copying, it.

A worker is forked twice: the process in between ends at once, which makes the worker a child of the master (a
subreaper). So the master waits for its workers itself, and the zygote has nothing to wait for but orders.

Control socket (SOCK_SEQPACKET, one message each): the master sends what to run with the listeners, then ``fork`` with
the socket for the new worker; the zygote answers ``ready``, ``forked PID``, or ``failed TEXT`` to either. Its end ends
the zygote.
"""

from __future__ import annotations

import errno
import gc
import grp
import os
import pwd
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from typing import NoReturn

import trio

from pyfpm.observe.log import Log
from pyfpm.observe.title import set_title
from pyfpm.sapi.failure import describe
from pyfpm.sapi.load import LoadError, load
from pyfpm.sapi.script import ScriptAdapter
from pyfpm.sapi.script_file import ScriptFiles
from pyfpm.sapi.wsgi import WSGIAdapter
from pyfpm.worker._process import die_with_parent
from pyfpm.worker._reactor import Reactor
from pyfpm.worker.inline import Adapter, InlineExecutor
from pyfpm.worker.refusal import Refusal
from pyfpm.worker.serve import serve
from pyfpm.worker.settings import CONTROL_FD, LONGEST_MESSAGE, Program, Settings, from_json

MOST_LISTENERS = 64
NO_SIGNAL = 0

# sysexits.h
EX_SOFTWARE = 70
EX_OSERR = 71


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
        # The terminal sends these to all of us; the master says what becomes of it.
        signal.signal(number, signal.SIG_IGN)
    control = socket.socket(fileno=CONTROL_FD)
    os.set_inheritable(CONTROL_FD, False)
    message, fds, _, _ = socket.recv_fds(control, LONGEST_MESSAGE, MOST_LISTENERS)
    if not message:
        return
    program, settings = from_json(message)
    listeners = [socket.socket(fileno=fd) for fd in fds]
    set_title(f"pool {program.pool} zygote")
    try:
        _become(program)
    except (LookupError, OSError) as error:
        return _fail(control, str(error))
    # While we import we do not listen to the master, so its end has to reach us in another way. Only now: becoming
    # another user makes the kernel forget it.
    die_with_parent(signal.SIGKILL)
    if _has_ended(control):
        return
    try:
        adapter = _adapter(program)
    except LoadError as error:
        return _fail(control, str(error))
    except BaseException as error:
        return _fail(control, describe(error))
    die_with_parent(NO_SIGNAL)
    with suppress(FileNotFoundError):
        # Found by writing into it, and remembered: a worker that is out of descriptors would find none.
        tempfile.gettempdir()
    gc.collect()
    gc.freeze()
    try:
        control.send(b"ready")
        while True:
            message, fds, _, _ = socket.recv_fds(control, LONGEST_MESSAGE, 1)
            if not message:
                return
            _fork(control, fds[0], listeners, adapter, program, settings)
    except ConnectionError:
        return  # the master ended while we were at it


def _fail(control: socket.socket, reason: str) -> None:
    with suppress(ConnectionError):
        control.send(b"failed " + reason.encode("utf-8", "backslashreplace")[: LONGEST_MESSAGE - 64])


def _has_ended(control: socket.socket) -> bool:
    try:
        return not control.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


def _become(program: Program) -> None:
    """Take the pool's user, group and directory, before any code of the user's is touched."""
    if program.user is not None and os.geteuid() == 0:
        user = pwd.getpwnam(program.user)
        gid = grp.getgrnam(program.group).gr_gid if program.group else user.pw_gid
        os.setgroups(os.getgrouplist(program.user, gid))
        os.setresgid(gid, gid, gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    if program.chdir is not None:
        os.chdir(program.chdir)
    if program.app is not None:
        # As "python -m" would: the application is looked for where we are. A script brings its own directory.
        sys.path.insert(0, os.getcwd())


def _adapter(program: Program) -> Adapter:
    log = Log(program.pool)
    if program.app is None:
        files = ScriptFiles(program.docroots, program.extensions)
        return ScriptAdapter(files, log, display_errors=program.display_errors)
    return WSGIAdapter(load(program.app), log, multiprocess=program.workers > 1, display_errors=program.display_errors)


def _fork(
    control: socket.socket,
    worker_fd: int,
    listeners: list[socket.socket],
    adapter: Adapter,
    program: Program,
    settings: Settings,
) -> None:
    try:
        between = os.fork()
    except OSError as error:
        os.close(worker_fd)
        return _fail(control, f"cannot fork: {error.strerror}")
    if between:
        os.close(worker_fd)
        _, wait_status = os.waitpid(between, 0)
        if wait_status:
            # It did not get to say so itself, and the master waits for a word.
            _fail(control, f"cannot fork: {os.strerror(errno.EAGAIN)}")
        return
    status = EX_SOFTWARE  # unless we get to the end
    between = os.getpid()
    try:
        try:
            pid = os.fork()
        except OSError:
            _flush_and_exit(EX_OSERR)
        if pid:
            control.send(b"forked %d" % pid)
            status = 0
        else:
            control.close()
            _work(socket.socket(fileno=worker_fd), listeners, adapter, program, settings, between)
            status = 0
    except BaseException as error:
        Log(program.pool)("ERROR", f"worker {os.getpid()} failed; please report this\n{describe(error)}")
    finally:
        # Never back into the zygote's code, nor into its exit handlers.
        _flush_and_exit(status)


def _work(
    control: socket.socket,
    listeners: list[socket.socket],
    adapter: Adapter,
    program: Program,
    settings: Settings,
    between: int,
) -> None:
    set_title(f"pool {program.pool}")
    # Should a request hold us while the master is killed, the kernel ends us. Only the master itself counts: the
    # process in between may still be there.
    while os.getppid() == between:
        os.sched_yield()
    die_with_parent(signal.SIGKILL)
    log = Log(program.pool)

    reactor = Reactor(InlineExecutor(adapter), Refusal(log), settings, log)
    for listener in listeners:
        reactor.listen(listener)
    trio.run(serve, reactor, control)


def _flush_and_exit(status: int) -> NoReturn:
    try:
        sys.stderr.flush()
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
