"""Which adapter runs a pool's requests; chosen in the zygote, before it forks."""

from __future__ import annotations

from pyfpm.observe.log import Log
from pyfpm.sapi.load import LoadError, load
from pyfpm.sapi.script import ScriptAdapter
from pyfpm.sapi.script_file import ScriptFiles
from pyfpm.sapi.session.errors import SessionError
from pyfpm.sapi.session.stores import store_of
from pyfpm.sapi.settings import SapiSettings
from pyfpm.sapi.wsgi import WSGIAdapter
from pyfpm.worker.inline import Adapter
from pyfpm.worker.settings import Program


def adapter_for(program: Program, log: Log) -> Adapter:
    """Imports the application, if there is one.

    Raises:
      LoadError: it cannot be found, or what the configuration wants of it is not installed.
      BaseException: whatever it raises itself.
    """
    if program.app is None:
        _prepare_sessions(program.sapi)
        return ScriptAdapter(ScriptFiles(program.docroots, program.extensions), log, program.sapi)
    multiprocess = program.pm_max_children > 1
    return WSGIAdapter(load(program.app), log, program.sapi, multiprocess=multiprocess)


def _prepare_sessions(settings: SapiSettings) -> None:
    """What is wrong with their configuration is told at the start; and a client of Redis is imported once for all
    workers. Nothing is connected."""
    try:
        store_of(settings.session_save_handler, settings.session_save_path)
    except SessionError as error:
        raise LoadError(str(error)) from None
