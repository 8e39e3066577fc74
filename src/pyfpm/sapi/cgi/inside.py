"""A CGI program in Python, run in the worker: it finds what it would in a process of its own.

That is a ``__main__`` of its own; ``os.environ`` with the variables of the request, for its children as well; real text
streams over descriptors 0, 1 and 2; its directory as the working one; ``sys.argv``. At its end come, in this order, the
functions that it gave to ``atexit``, what its streams still hold, and its destructors.

Of the process, we put back what ``script`` does, the variables, the handlers of signals and a pending alarm (in a
process of its own they would end with it; here they would end the worker in somebody else's request). Imported modules
stay, which is where the speed comes from. So it is isolated from others as a script is: by order, not by a wall.

Not as in a process: ``os._exit`` and ``os.exec`` take the worker away, whose requests in the queue go to others;
threads that are not joined are not waited for.
"""

from __future__ import annotations

import atexit
import functools
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from sys import getrefcount
from types import ModuleType, TracebackType
from typing import Any, TextIO

from pyfpm.sapi import _changes, pages
from pyfpm.sapi.cgi import variables
from pyfpm.sapi.cgi.answer import BadAnswer, CGIAnswer
from pyfpm.sapi.cgi.descriptors import Descriptors, size_of
from pyfpm.sapi.failure import Log, report
from pyfpm.sapi.interface import Output, Request
from pyfpm.sapi.response import Aborted
from pyfpm.sapi.script import LAST_OF_OURS, _are_held, _functions_of, _let_go, _ProcessState
from pyfpm.sapi.script_file import Script
from pyfpm.sapi.settings import SapiSettings

# Handlers of these are put back. Those of TERM and QUIT are the worker's own, who looks after them itself.
SIGNALS = (
    signal.SIGALRM,
    signal.SIGCHLD,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGPIPE,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGXCPU,
)

# Read ahead of the body, in bytes.
BODY_BUFFER = 64 * 1024

# What Python 3.13 has no more, and a package brings back under the same name.
GONE = frozenset({"cgi", "cgitb"})


class Inside:
    """Runs CGI programs in this process.

    Args:
      env_names: what ``env[]`` sets.
    """

    def __init__(self, log: Log, settings: SapiSettings, env_names: tuple[str, ...] = ()) -> None:
        self._log = log
        self._settings = settings
        self._env_names = env_names
        self._descriptors = Descriptors()
        self._ours: dict[str, str] | None = None
        # Variables that are not to be seen, and those of the request.
        self._hidden: frozenset[str] = frozenset()
        self._named: frozenset[bytes] = frozenset()
        self._given: dict[bytes, bytes] = {}
        self._handlers: list[tuple[signal.Signals, Any]] = []

    def __call__(self, script: Script, request: Request, output: Output, process: _ProcessState) -> int:
        global _running
        params, body = request.params, request.stdin
        if not self._handlers:
            self._handlers = [(number, signal.getsignal(number)) for number in SIGNALS]
            atexit.register = _register_for_the_program
        run = _Run(self._descriptors, output, params.get("REQUEST_METHOD") == "HEAD", script.unbuffered)
        try:
            # Before the variables: these are put back as well.
            process.restore(script)
            self._descriptors.install(body)
            run.install_streams()
            self._set_variables(params, None if body is None else size_of(body))
            sys.argv = [script.path, *variables.search_words(params)]
            _running = run
            return self._execute(script, run, output, params)
        except Exception as error:  # Too many files are open, its directory is gone, and the like.
            return self._failed(error, output, params)
        finally:
            _running = None
            if not run.forked:
                try:
                    self._restore(run, process)
                except BaseException:
                    # The program's time is up, right now, or the alarm that it has set. What is left of its body and
                    # its variables would be the next one's.
                    self._restore(run, process, again=True)
                    raise

    def _execute(self, script: Script, run: _Run, output: Output, params: dict[str, str]) -> int:
        module = ModuleType("__main__")
        namespace = module.__dict__
        run.namespace = namespace
        namespace[LAST_OF_OURS] = script.path
        sys.modules["__main__"] = module
        references = getrefcount(namespace)
        status = 0
        try:
            status = _run_to_its_end(script, namespace, run)
        except Aborted:
            status = 1
        except BaseException as error:
            status = self._failed(error, output, params)
            run.is_over = True
        run.finish()
        kept = _let_go(namespace)
        functions = _functions_of(namespace, kept)
        if kept and (getrefcount(namespace) != references + len(functions) or _are_held(functions)):
            namespace.update(kept)
        else:
            namespace.clear()
        run.finish()  # Destructors may print.
        if run.forked or run.is_over:
            return status
        try:
            run.end()
        except ConnectionAbortedError:
            status = 1
        except BadAnswer as reason:
            self._log("ERROR", f"CGI program {script.path}: {reason}")
            status = 255
            _answer_500(output, f"CGI program: {reason}\n")
        return status

    def _failed(self, error: BaseException, output: Output, params: dict[str, str]) -> int:
        if isinstance(error, ModuleNotFoundError) and error.name in GONE:
            error.add_note(f"Python has no module {error.name} since 3.13; the package legacy-cgi brings it back")
        uri = params.get("REQUEST_URI") or params.get("SCRIPT_NAME") or "?"
        report(output, self._log, error, uri, self._settings)
        return 255

    def _set_variables(self, params: dict[str, str], body_size: int | None) -> None:
        environ = os.environ
        if self._ours is None:
            self._ours = variables.without_those_of_requests(environ, self._env_names)
            self._hidden = frozenset(environ) - self._ours.keys()
            self._named = frozenset([os.fsencode(name) for name in self._ours if name in environ])
        self._given = variables.of_the_request(params, self._ours, body_size)
        if "PATH" not in environ:
            self._given[b"PATH"] = os.fsencode(self._ours["PATH"])
        for name in self._hidden:
            del environ[name]
        _changes.lend(environ, self._given)
        _changes.take_environment_changed()

    def _take_variables_back(self, process: _ProcessState, whatever_was_changed: bool) -> None:
        given, self._given = self._given, {}
        if (
            whatever_was_changed
            or self._hidden
            or not given.keys().isdisjoint(self._named)
            or _changes.take_environment_changed()
        ):
            process.restore_environment()
            return
        # All that was changed is what we have added.
        _changes.take_back(os.environ, given)

    def _restore(self, run: _Run, process: _ProcessState, *, again: bool = False) -> None:
        """Each step can be done again: an exception out of a handler of a signal may strike anywhere."""
        self._restore_handlers()
        self._descriptors.restore()
        run.restore_streams()
        self._take_variables_back(process, again)

    def _restore_handlers(self) -> None:
        signal.alarm(0)
        for number, handler in self._handlers:
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def _run_to_its_end(script: Script, namespace: dict[str, Any], run: _Run) -> int:
    try:
        exec(script.code, namespace)
        return 0
    except Aborted:
        raise
    except SystemExit as end:
        return _status_of(end)
    except BaseException as error:
        hook = sys.excepthook
        if hook is run.excepthook:
            raise
        # The program has its own way to tell of it, cgitb for one.
        hook(type(error), error, _from(script, error.__traceback__))
        return 1
    finally:
        for function, arguments, named in reversed(run.at_exit):
            function(*arguments, **named)


def _status_of(end: SystemExit) -> int:
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 0xFF
    print(end.code, file=sys.stderr)
    return 1


def _from(script: Script, traceback: TracebackType | None) -> TracebackType | None:
    """Without our own frames."""
    first = traceback
    while first is not None and first.tb_frame.f_code is not script.code:
        first = first.tb_next
    return first or traceback


def _answer_500(output: Output, reason: str) -> None:
    try:
        output.error(reason.encode("utf-8", "backslashreplace"))
        if output.discard():
            pages.answer(output, 500)
    except ConnectionAbortedError:
        pass  # Nobody is there to read it; it is in the log.


class _Run:
    """One program while it runs, and where its output goes."""

    def __init__(self, descriptors: Descriptors, output: Output, bodiless: bool, unbuffered: bool) -> None:
        self._descriptors = descriptors
        self._output = output
        self._answer = CGIAnswer(output, bodiless)
        self._unbuffered = unbuffered
        self._bad: BadAnswer | None = None
        self._ending = False
        self._stdout: TextIO
        self._before: tuple[Any, ...] = ()
        self.excepthook = sys.excepthook
        # Somebody has answered in our place.
        self.is_over = False
        # We are a process that the program has forked.
        self.forked = False
        self.namespace: dict[str, Any] = {}
        self.at_exit: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []

    # -- its streams --------------------------------------------------------------------------------------------------

    def install_streams(self) -> None:
        stdin = io.BufferedReader(io.FileIO(0, "rb", closefd=False), BODY_BUFFER)
        self._before = sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__
        text: Any = io.TextIOWrapper
        if threading.active_count() > 1:
            text = functools.partial(_NotForStrangers, self._before[2])
        out, err = _Bytes(1, self.write, self.flush), _Bytes(2, self.error, _nothing)
        streams = (
            io.TextIOWrapper(stdin, "utf-8", "surrogateescape"),
            text(out, "utf-8", "surrogateescape", "\n", write_through=self._unbuffered),
            text(err, "utf-8", "backslashreplace", "\n", write_through=True),
        )
        self._stdout = streams[1]
        _set_streams((*streams, *streams))

    def restore_streams(self) -> None:
        sys.excepthook = self.excepthook
        if self._before:
            _set_streams(self._before)

    def write(self, data: bytes) -> None:
        if self.forked:
            return _write_all(1, data)
        if self._bad is not None or self.is_over:
            return
        try:
            # A child's output comes before what we held back while it ran, as it would on one descriptor.
            self._descriptors.take_over(self._answer)
            self._answer.write(data)
            if self._unbuffered and not self._ending:
                self._answer.flush()
        except BadAnswer as error:
            self._bad = error  # The program is told nothing, as on a pipe.
        except ConnectionAbortedError:
            raise Aborted from None

    def flush(self) -> None:
        """The program said flush(), or closes the stream."""
        if self._ending or self.forked or self.is_over or self._bad is not None:
            return
        self.write(b"")
        try:
            self._answer.flush()
        except ConnectionAbortedError:
            raise Aborted from None

    def error(self, data: bytes) -> None:
        if self.forked:
            return _write_all(2, data)
        if self.is_over:
            return
        try:
            self._output.error(data)
        except ConnectionAbortedError:
            raise Aborted from None

    def finish(self) -> None:
        """What the streams still hold comes out; nothing is sent for that alone."""
        self._ending = True
        # What it has put in the place of ours came later.
        for stream in (self._stdout, sys.stdout):
            try:
                stream.flush()
            except BaseException:
                pass  # It can be anything, None and closed files among them; that the visitor left is met at the end.

    def end(self) -> None:
        """The program is over, its answer complete.

        Raises:
          BadAnswer: it is none.
          ConnectionAbortedError: the web server is gone.
        """
        self.is_over = True
        if self._bad is not None:
            raise self._bad
        self._descriptors.take_over(self._answer)
        self._answer.end()


class _NotForStrangers(io.TextIOWrapper):
    """A stream for which there are threads that an earlier program has left. What they print goes elsewhere."""

    def __init__(self, elsewhere: TextIO, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._elsewhere = elsewhere
        self._strangers = {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}

    def write(self, text: str, /) -> int:
        if threading.get_ident() in self._strangers:
            return self._elsewhere.write(text)
        return super().write(text)


class _Bytes(io.RawIOBase):
    """The bytes below a text stream."""

    def __init__(self, fd: int, write: Callable[[bytes], None], flush: Callable[[], None]) -> None:
        self._fd = fd
        self._write = write
        self._flush = flush

    def fileno(self) -> int:
        return self._fd

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        copied = bytes(data)
        self._write(copied)
        return len(copied)

    def flush(self) -> None:
        self._flush()


def _set_streams(streams: tuple[Any, ...]) -> None:
    sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__ = streams  # type: ignore[misc]


def _nothing() -> None:
    pass


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


# -- what programs do to the process -----------------------------------------------------------------------------------

_running: _Run | None = None
_register = atexit.register


def _register_for_the_program(function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Callable[..., Any]:
    """``atexit.register``: of a program the function is called at its own end, of a module at the worker's."""
    run = _running
    if run is None or sys._getframe(1).f_globals is not run.namespace:
        return _register(function, *arguments, **named)
    run.at_exit.append((function, arguments, named))
    return function


def _in_forked_child() -> None:
    """The program forked, and this is the child: it writes to its descriptors, the answer is its parent's to give."""
    if _running is not None:
        _running.forked = True


os.register_at_fork(after_in_child=_in_forked_child)
