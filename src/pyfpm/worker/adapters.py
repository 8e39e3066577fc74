"""Which adapter runs a pool's requests; chosen in the zygote, before it forks."""

from __future__ import annotations

from pyfpm.observe.log import Log
from pyfpm.sapi.cgi.programs import CGIPrograms
from pyfpm.sapi.load import load
from pyfpm.sapi.script import ScriptAdapter
from pyfpm.sapi.script_file import ScriptFiles, cgi_extensions, extensions_of
from pyfpm.sapi.wsgi import WSGIAdapter
from pyfpm.worker.inline import Adapter
from pyfpm.worker.settings import Program


def adapter_for(program: Program, log: Log) -> Adapter:
    """Imports the application, if there is one.

    Raises:
      LoadError: it cannot be found.
      BaseException: whatever it raises itself.
    """
    if program.app is None:
        return script_adapter(program, log)
    multiprocess = program.pm_max_children > 1
    return WSGIAdapter(load(program.app), log, program.sapi, multiprocess=multiprocess)


def script_adapter(program: Program, log: Log) -> ScriptAdapter:
    """For files of the document root: in a CGI pool all of them are CGI programs, else those whose names say so."""
    kind = program.app_kind
    files = ScriptFiles(program.docroots, extensions_of(kind, program.extensions), cgi_extensions(kind))
    names = tuple(name for name, _ in program.env)
    return ScriptAdapter(files, log, program.sapi, CGIPrograms(log, program.sapi, names))
