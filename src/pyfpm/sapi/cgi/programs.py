"""CGI programs, whichever way each of them runs."""

from __future__ import annotations

from pyfpm.sapi.cgi.inside import Inside
from pyfpm.sapi.cgi.process import Process
from pyfpm.sapi.cgi.variables import split_path
from pyfpm.sapi.failure import Log
from pyfpm.sapi.interface import Output, Request
from pyfpm.sapi.script import _ProcessState
from pyfpm.sapi.script_file import Script
from pyfpm.sapi.settings import SapiSettings


class CGIPrograms:
    """What a ``ScriptAdapter`` calls for a file that is a CGI program.

    Args:
      env_names: what the operator gives to programs by name (``env[]``).
      inside: those in Python run in the worker; needs the process for themselves.
    """

    def __init__(self, log: Log, settings: SapiSettings, env_names: tuple[str, ...] = (), inside: bool = True) -> None:
        self._inside = Inside(log, settings, env_names) if inside else None
        self._process = Process(log, settings, env_names)

    def __call__(self, script: Script, request: Request, output: Output, process: _ProcessState) -> int:
        split_path(request.params, script.asked.decode("latin-1"))
        run = self._process if script.code is None or self._inside is None else self._inside
        return run(script, request, output, process)
