"""Scripts: a file of Python that runs for each request from its top, as PHP's do.

Each request gets a fresh ``__main__``. Of the process, we put back before the next one what PHP would, where looking
costs next to nothing: working directory, environment and time zone, umask, the standard streams, sys.argv and sys.path,
the recursion limit, whether the collector runs. The executor gives each request a context (contextvars) of its own.

Where the boundary is: imported modules stay, and what is changed in them or through them (attributes, builtins, warning
filters, the locale, signal handlers and alarms, threads, raw descriptors). Some of that is meant to last, as what a
library sets while it is imported, and nothing tells which. docs/scripts.md says so to users.

Budget of a request above that of WSGI: a stat of the file and a umask; one module with its namespace. A chdir if
another script, or this one, has left the directory. No cycle, so the collector has nothing to do.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from sys import getrefcount
from types import FunctionType, ModuleType
from typing import Any

from pyfpm.protocol import AUTHORIZER
from pyfpm.sapi import _changes, pages
from pyfpm.sapi.around import Around
from pyfpm.sapi.authorizer import AuthorizerFile
from pyfpm.sapi.beside_script import BesideScript
from pyfpm.sapi.current import AtEnd, CurrentRequest, enter
from pyfpm.sapi.failure import Log, report
from pyfpm.sapi.input import BodyError
from pyfpm.sapi.interface import Output, Request
from pyfpm.sapi.response import Aborted, Nowhere
from pyfpm.sapi.revalidation import Revalidation
from pyfpm.sapi.script_file import NotRunnable, Script, ScriptFiles
from pyfpm.sapi.session.functions import session_start
from pyfpm.sapi.settings import SapiSettings
from pyfpm.sapi.streams import ScriptStreams
from pyfpm.sapi.timeout import is_timeout

RunCGI = Callable[[Script, Request, Output, "_ProcessState"], int]

# What a script's namespace is given last, so that all that comes behind it is the script's own.
LAST_OF_OURS = "__file__"

DEFAULTS = SapiSettings()

# What stays while something may still run the script's code.
KEPT = (FunctionType, ModuleType, type)


class ScriptAdapter:
    """Runs requests by the file that SCRIPT_FILENAME names.

    Args:
      files: which files may run.
      log: ``log(level, text)``, for the reasons of a 404 and for uncaught exceptions.
      revalidation: of imported modules, if they are to follow their files.
      cgi: runs what ``files`` says is a CGI program.
      shares_process: other requests run at the same time. What belongs to the process is left as it is then: the
        working directory and umask, sys.argv, ``__main__`` in sys.modules, what a script did to the environment.
    """

    def __init__(
        self,
        files: ScriptFiles,
        log: Log,
        settings: SapiSettings = DEFAULTS,
        revalidation: Revalidation | None = None,
        cgi: RunCGI | None = None,
        shares_process: bool = False,
    ) -> None:
        self._files = files
        self._log = log
        self._settings = settings
        self._revalidation = revalidation
        has_around = settings.auto_prepend_file or settings.auto_append_file
        self._around = Around(settings) if has_around else None
        self._cgi = cgi
        self._authorizer = AuthorizerFile(settings.authorizer_file)
        self._streams = ScriptStreams()
        self._shares_process = shares_process
        self._process = _SharedProcessState() if shares_process else _ProcessState()
        self._starts_sessions = settings.session_auto_start

    def __call__(self, request: Request, output: Output) -> int:
        server: dict[str, Any] = request.params
        # httpoxy: HTTP_PROXY would come from the client's Proxy header (CVE-2016-5385).
        server.pop("HTTP_PROXY", None)
        if "REQUEST_METHOD" not in server:
            server["REQUEST_METHOD"] = "GET"
        if self._revalidation is not None:
            self._revalidation.look()
        current = CurrentRequest(request, output, self._settings)
        enter(current)
        try:
            script = self._files.find(server) if request.role != AUTHORIZER else self._authorizer.find()
        except NotRunnable as reason:
            self._log("WARNING", f"{'script not found' if reason.status == 404 else 'access denied'}: {reason}")
            return self._refuse(output, reason.status)
        except Exception as error:  # It is not Python, or too much of it.
            report(output, self._log, error, server.get("REQUEST_URI", "?"), self._settings)
            return 255
        if self._cgi is not None and script.is_cgi:
            enter(None)  # Its output is another one than a script's.
            return self._cgi(script, request, output, self._process)
        try:
            return self._run(script, current)
        except BaseException:
            # The time was up between two things that follow a script. What would have been called then leads back to
            # the request: it would stay, with the lock of its session, until the collector comes by, and the next
            # request of that session would wait for us in this same worker.
            current.ends = None
            raise

    def _refuse(self, output: Output, status: int) -> int:
        try:
            output.error(b"Primary script unknown" if status == 404 else b"Access to the script has been denied")
            pages.answer(output, status)
        except ConnectionAbortedError:
            pass  # Nobody waits for it any more.
        return 255

    def _run(self, script: Script, current: CurrentRequest) -> int:
        module = ModuleType("__main__")
        namespace = module.__dict__
        current.namespace = namespace
        references = 0
        try:
            self._streams.install()
            # Before _ENV is made.
            self._process.restore(script)
            if script.is_decoded:
                current.path_is_decoded = True
            namespace.update(script.functions)
            for name in script.superglobals:
                namespace[name] = current.superglobal(name)
            namespace[LAST_OF_OURS] = script.path
            if not self._shares_process:
                sys.modules["__main__"] = module
                sys.argv = [script.path]
            references = getrefcount(namespace)
            if self._starts_sessions:
                session_start()
            if self._around is None:
                exec(script.code, namespace)
            else:
                self._around.run(script, current)
            status = 0
        except BaseException as error:
            status = self._status_of(error, current)
        if current.ends is not None:
            status = self._at_end(AtEnd.SHUTDOWN, current, status)
        self._streams.finish()
        if current.ends is not None:
            status = self._at_end(AtEnd.OUTPUT, current, status)
        if current.session is not None:
            try:
                current.session.take_bound(current)
            except BaseException as error:  # Out of a dict of the script's own kind.
                status = self._status_of(error, current)
        # Before the answer ends, so that destructors still have a say, as in PHP.
        kept = _let_go(namespace)
        functions = _functions_of(namespace, kept)
        if kept and (getrefcount(namespace) != references + len(functions) or _are_held(functions)):
            namespace.update(kept)
        else:
            namespace.clear()
        if current.ends is not None:
            status = self._at_end(AtEnd.SESSION, current, status)
        try:
            current.response.end()
        except BaseException as error:
            status = self._status_of(error, current)
        if current.ends is not None:
            status = self._at_end(AtEnd.CLEANUP, current, status)
        return status

    def _at_end(self, stage: AtEnd, current: CurrentRequest, status: int) -> int:
        while (callback := current.next_at_end(stage)) is not None:
            try:
                callback()
            except BaseException as error:
                if stage == AtEnd.SHUTDOWN:
                    current.drop_at_end(stage)
                elif stage == AtEnd.CLEANUP:
                    # The answer is complete, and nothing is wrong with it.
                    self._report(error, Nowhere(), current)
                    continue
                status = self._status_of(error, current)
        if stage == AtEnd.SHUTDOWN:
            current.response.keep_page()
        return status

    def _status_of(self, error: BaseException, current: CurrentRequest) -> int:
        """What ended the script, as the interpreter's exit status: of SystemExit None is success, an int the status,
        else a message."""
        if isinstance(error, Aborted):
            # Who still prints something, a shutdown function or a destructor, is not to be ended by it again.
            current.response.disown()
            return 1
        if not isinstance(error, SystemExit):
            return self._failed(error, current)
        if error.code is None:
            return 0
        if isinstance(error.code, int):
            return error.code & 0xFF
        try:
            current.response.error(f"{error.code}\n".encode("utf-8", "backslashreplace"))
        except Aborted:
            pass
        except BaseException as other:
            return self._failed(other, current)
        return 1

    def _refuse_body(self, error: BodyError, current: CurrentRequest) -> int:
        """What was sent is at fault, not the script."""
        try:
            told = b"; " * current.response.told
            current.output.error(told + f"Python message: {error}".encode("utf-8", "backslashreplace"))
            if current.output.discard():
                pages.answer(current.output, error.status)
        except ConnectionAbortedError:
            pass  # Nobody waits for it any more.
        return 255

    def _failed(self, error: BaseException, current: CurrentRequest) -> int:
        current.timed_out = current.timed_out or is_timeout(error)
        takes_a_message = current.response.takes_a_message()
        current.response.give_up()
        if isinstance(error, BaseExceptionGroup) and error.split(Aborted)[1] is None:
            return 1  # It wrote from tasks, of trio or asyncio, when the visitor left.
        if isinstance(error, BodyError):
            return self._refuse_body(error, current)
        self._report(error, current.output, current, takes_a_message)
        if current.has_at_end(AtEnd.SHUTDOWN) and not self._settings.display_errors:
            status = 504 if is_timeout(error) else 500
            current.response.go_on(status, current.server.get("REQUEST_METHOD") == "HEAD")
        return 255

    def _report(
        self, error: BaseException, output: Output, current: CurrentRequest, takes_a_message: bool = False
    ) -> None:
        uri = current.server.get("REQUEST_URI") or current.server.get("SCRIPT_NAME") or "?"
        told = current.response.told
        report(output, self._log, error, uri, self._settings, told=told, takes_a_message=takes_a_message)


class _ProcessState:
    """What a script can change of the process, and finds unchanged when it begins."""

    def __init__(self) -> None:
        self._path = list(sys.path)
        # Ours to keep: "os.environ = {...}" in a script changes nothing for the next.
        self._live_environ = os.environ
        self._environ = dict(os.environ)
        self._recursion_limit = sys.getrecursionlimit()
        self._collects = gc.isenabled()
        self._umask = os.umask(0o022)
        os.umask(self._umask)
        self._for: Script | None = None
        _changes.watch()

    def restore(self, script: Script) -> None:
        os.umask(self._umask)
        # Not only when it is another directory: a new file may be in a new directory under the old name.
        if _changes.take_directory_changed() or script is not self._for:
            os.chdir(script.directory)
            _changes.take_directory_changed()
            self._for = script
        path = [script.directory]
        path += self._path
        if sys.path != path:
            sys.path = path
        if sys.getrecursionlimit() != self._recursion_limit:
            sys.setrecursionlimit(self._recursion_limit)
        if gc.isenabled() != self._collects:
            (gc.enable if self._collects else gc.disable)()
        if _changes.take_environment_changed():
            self.restore_environment()

    def restore_environment(self) -> None:
        os.environ = environ = self._live_environ
        # os.putenv() goes around os.environ, which cannot tell what there is besides.
        _changes.clear_environment()
        for name in [name for name in environ if name not in self._environ]:
            del environ[name]
        environ.update(self._environ)
        time.tzset()
        _changes.take_environment_changed()


class _SharedProcessState(_ProcessState):
    """The same of a process where others run as well: nothing can be put back without changing it under their hands."""

    def __init__(self) -> None:
        super().__init__()
        self._beside = BesideScript()
        self._beside.install()

    def restore(self, script: Script) -> None:
        self._beside.enter(script.directory)

    def restore_environment(self) -> None:
        pass


def _let_go(namespace: dict[str, Any]) -> dict[str, Any]:
    """Let go of the script's data now, not when the collector comes by: files, connections and locks end with the
    request. Returns the functions, classes and modules."""
    kept = {}
    # A dict gives back its newest first, and ours ends where the script's own names begin. Not "while there is one":
    # a destructor may put something in again, for ever.
    for _ in range(len(namespace)):
        name, value = namespace.popitem()
        if name == LAST_OF_OURS:
            namespace[name] = value
            break
        if isinstance(value, KEPT):
            kept[name] = value
        value = None  # Its destructor runs now, while what is older is still there for it.
    return kept


def _functions_of(namespace: dict[str, Any], kept: dict[str, Any]) -> list[FunctionType]:
    return [value for value in kept.values() if type(value) is FunctionType and value.__globals__ is namespace]


def _are_held(functions: list[FunctionType]) -> bool:
    """Somebody else has one of them: a thread, a signal handler, a module that was given a callback.

    A function and the namespace it lives in are a cycle. Where nobody is left to run any of them, the namespace is
    emptied, and no collector has to find out. It stays whole when there is a reference that we cannot account for.
    """
    return bool(functions) and max(map(getrefcount, functions)) > UNHELD


def _unheld() -> int:
    """The references to a function that only our caller's dict and list have, counted as above."""
    kept = {"function": FunctionType(compile("", "", "exec"), {})}
    return max(map(getrefcount, list(kept.values())))


UNHELD = _unheld()
