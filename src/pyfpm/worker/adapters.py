"""Which adapter runs a pool's requests; chosen in the zygote, before it forks."""

from __future__ import annotations

from pyfpm.observe.log import Log
from pyfpm.sapi.load import load
from pyfpm.sapi.script import ScriptAdapter
from pyfpm.sapi.script_file import ScriptFiles
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
        return ScriptAdapter(ScriptFiles(program.docroots, program.extensions), log, program.sapi)
    multiprocess = program.pm_max_children > 1
    return WSGIAdapter(load(program.app), log, program.sapi, multiprocess=multiprocess)
