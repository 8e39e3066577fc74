"""Scripts: a file of Python that runs for each request from its top, as PHP's do.

Each request gets a fresh ``__main__``. What the process has besides is put back before the next one: working directory,
environment, umask, the standard streams, sys.argv and sys.path. Imported modules stay, as in any Python process.

Budget of a request above that of WSGI: a stat of the file and a umask; one module with its namespace. A chdir if
another script, or this one, has left the directory.
"""

from __future__ import annotations

import os
import sys
from types import FunctionType, ModuleType
from typing import Any

from pyfpm.sapi import _changes, pages
from pyfpm.sapi.current import CurrentRequest, enter
from pyfpm.sapi.failure import Log, report
from pyfpm.sapi.functions import FUNCTIONS
from pyfpm.sapi.interface import Output, Request
from pyfpm.sapi.response import Aborted
from pyfpm.sapi.script_file import NotRunnable, Script, ScriptFiles
from pyfpm.sapi.streams import ScriptStreams

# What a script's namespace is given last, so that all that comes behind it is the script's own.
LAST_OF_OURS = "__file__"


class ScriptAdapter:
    """Runs requests by the file that SCRIPT_FILENAME names.

    Args:
      files: which files may run.
      log: ``log(level, text)``, for the reasons of a 404 and for uncaught exceptions.
      display_errors: show tracebacks to visitors.
    """

    def __init__(self, files: ScriptFiles, log: Log, *, display_errors: bool = False) -> None:
        self._files = files
        self._log = log
        self._display_errors = display_errors
        self._streams = ScriptStreams()
        self._process = _ProcessState()

    def __call__(self, request: Request, output: Output) -> int:
        server: dict[str, Any] = request.params
        # httpoxy: HTTP_PROXY would come from the client's Proxy header (CVE-2016-5385).
        server.pop("HTTP_PROXY", None)
        if "REQUEST_METHOD" not in server:
            server["REQUEST_METHOD"] = "GET"
        current = CurrentRequest(request, output)
        enter(current)
        try:
            script = self._files.find(server)
        except NotRunnable as reason:
            self._log("WARNING", f"script not found: {reason}")
            return self._refuse(output)
        except (SyntaxError, ValueError) as error:
            report(output, self._log, error, server.get("REQUEST_URI", "?"), display=self._display_errors)
            return 255
        return self._run(script, current)

    def _refuse(self, output: Output) -> int:
        try:
            output.error(b"Primary script unknown")
            pages.answer(output, 404)
        except ConnectionAbortedError:
            pass  # Nobody waits for it any more.
        return 255

    def _run(self, script: Script, current: CurrentRequest) -> int:
        module = ModuleType("__main__")
        namespace = module.__dict__
        namespace.update(FUNCTIONS)
        current.namespace = namespace
        for name in script.superglobals:
            namespace[name] = current.superglobal(name)
        namespace[LAST_OF_OURS] = script.path
        sys.modules["__main__"] = module
        sys.argv = [script.path]
        self._streams.install()
        self._process.restore(script)
        status = 0
        try:
            exec(script.code, namespace)
        except Aborted:
            return 1
        except SystemExit as end:
            status = self._exited(end, current)
        except BaseException as error:
            status = self._failed(error, current)
        try:
            current.response.end()
        except Aborted:
            status = 1
        except Exception as error:  # A header that cannot be encoded.
            status = self._failed(error, current)
        finally:
            _clear(namespace)
        return status

    def _exited(self, end: SystemExit, current: CurrentRequest) -> int:
        """What the interpreter does with SystemExit: None is success, an int the status, else a message."""
        if end.code is None:
            return 0
        if isinstance(end.code, int):
            return end.code & 0xFF
        current.output.error(f"{end.code}\n".encode("utf-8", "backslashreplace"))
        return 1

    def _failed(self, error: BaseException, current: CurrentRequest) -> int:
        response = current.response
        uri = current.server.get("REQUEST_URI") or current.server.get("SCRIPT_NAME") or "?"
        response.discard()
        response.head_sent = True  # by report, or before the exception
        report(current.output, self._log, error, uri, display=self._display_errors)
        return 255


class _ProcessState:
    """What a script can change of the process, and finds unchanged when it begins."""

    def __init__(self) -> None:
        self._path = list(sys.path)
        self._environ = dict(os.environ)
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
            sys.path[:] = path
        if _changes.take_environment_changed():
            for name in [name for name in os.environ if name not in self._environ]:
                del os.environ[name]
            for name, value in self._environ.items():
                if os.environ.get(name) != value:
                    os.environ[name] = value
            _changes.take_environment_changed()


def _clear(namespace: dict[str, Any]) -> None:
    """Let go of the script's data now, not when the collector comes by: files, connections and locks end with the
    request. Functions, classes and modules stay for threads that the script may have left behind."""
    kept = []
    # A dict gives back its newest first, and ours ends where the script's own names begin.
    while namespace:
        name, value = namespace.popitem()
        kind = type(value)
        if kind is FunctionType or kind is ModuleType or kind is type:
            kept.append((name, value))
        elif name == LAST_OF_OURS:
            kept.append((name, value))
            break
    namespace.update(reversed(kept))
