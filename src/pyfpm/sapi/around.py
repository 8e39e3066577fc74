"""auto_prepend_file and auto_append_file: scripts that run before and after each script, in its namespace.

They are the operator's choice, so they may be anywhere and have any name; otherwise they are found, looked at for
changes and kept like scripts. Each is looked for when it is its turn: when one cannot run, or raises, or exits,
nothing of what comes after it runs.

Source (PHP): php_execute_script(), main/main.c.
"""

from __future__ import annotations

from pyfpm.sapi.current import CurrentRequest
from pyfpm.sapi.script_file import NotRunnable, Script, ScriptFiles
from pyfpm.sapi.settings import SapiSettings


class Around:
    """Runs a script between the two, where there are any."""

    def __init__(self, settings: SapiSettings) -> None:
        self._files = ScriptFiles((), ("",), fix_pathinfo=False)
        self._before = settings.auto_prepend_file
        self._behind = settings.auto_append_file

    def run(self, script: Script, current: CurrentRequest) -> None:
        """Raises whatever they do, and RuntimeError when one is not there."""
        if self._before:
            self._include("auto_prepend_file", self._before, current)
        current.namespace["__file__"] = script.path
        exec(script.code, current.namespace)
        if self._behind:
            self._include("auto_append_file", self._behind, current)

    def _include(self, directive: str, path: str, current: CurrentRequest) -> None:
        try:
            found = self._files.find({"SCRIPT_FILENAME": path.encode("utf-8", "surrogateescape").decode("latin-1")})
        except NotRunnable as refused:
            # It begins with the name of the parameter that it was looked for by.
            reason = str(refused).rpartition(": ")[2]
            raise RuntimeError(f"{directive} = {path!r} cannot run: {reason}") from None
        namespace = current.namespace
        for name, function in found.functions.items():
            namespace.setdefault(name, function)
        for name in found.superglobals:
            namespace.setdefault(name, current.superglobal(name))
        namespace["__file__"] = found.path
        exec(found.code, namespace)
