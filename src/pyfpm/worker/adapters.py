"""Which adapter runs a pool's requests; chosen in the zygote, before it forks."""

from __future__ import annotations

import sys

from pyfpm.observe.log import Log
from pyfpm.sapi.asgi import ASGIAdapter
from pyfpm.sapi.load import kind_of, load, loop_of
from pyfpm.sapi.script import ScriptAdapter
from pyfpm.sapi.script_file import ScriptFiles
from pyfpm.sapi.wsgi import WSGIAdapter
from pyfpm.worker.inline import Adapter
from pyfpm.worker.settings import Program


def adapter_for(program: Program, log: Log) -> Adapter | ASGIAdapter:
    """Imports the application, if there is one.

    Raises:
      LoadError: it cannot be found.
      BaseException: whatever it raises itself.
    """
    if program.app is None:
        return ScriptAdapter(ScriptFiles(program.docroots, program.extensions), log, program.sapi)
    before = set(sys.modules)
    application = load(program.app)
    kind = program.app_kind or kind_of(application, program.app)
    if kind == "asgi":
        loop = program.app_loop or loop_of(sys.modules.keys() - before)
        return ASGIAdapter(application, log, program.sapi, loop=loop)
    return WSGIAdapter(application, log, program.sapi, multiprocess=program.pm_max_children > 1)
