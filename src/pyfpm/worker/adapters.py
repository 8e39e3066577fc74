"""Which adapter runs a pool's requests; chosen in the zygote, before it forks."""

from __future__ import annotations

from pyfpm.observe.log import Log
from pyfpm.sapi.load import load
from pyfpm.sapi.revalidation import ImportedModules, Revalidation
from pyfpm.sapi.script import ScriptAdapter
from pyfpm.sapi.script_file import ScriptFiles
from pyfpm.sapi.services import services
from pyfpm.sapi.wsgi import WSGIAdapter
from pyfpm.worker.inline import Adapter
from pyfpm.worker.settings import Program

# python.revalidate of scripts, where it is not set. Precedent: PHP's opcache.revalidate_freq.
REVALIDATE_SCRIPTS_S = 2.0


def watched_modules(program: Program) -> ImportedModules | None:
    """The modules that are imported from now on, if they are to follow their files."""
    interval_s = program.sapi.python_revalidate_s
    if not (REVALIDATE_SCRIPTS_S if interval_s is None and program.app is None else interval_s):
        return None
    modules = ImportedModules(program.docroots)
    modules.install()
    return modules


def adapter_for(program: Program, log: Log, modules: ImportedModules | None) -> Adapter:
    """Imports the application, if there is one.

    Args:
      modules: see ``watched_modules``.
    Raises:
      LoadError: it cannot be found.
      BaseException: whatever it raises itself.
    """
    if program.app is None:
        revalidation = None
        if modules is not None:
            interval_s = program.sapi.python_revalidate_s or REVALIDATE_SCRIPTS_S
            revalidation = Revalidation(modules, interval_s, lambda reason: services().retire(reason))
        return ScriptAdapter(ScriptFiles(program.docroots, program.extensions), log, program.sapi, revalidation)
    multiprocess = program.pm_max_children > 1
    application = load(program.app) if modules is None else load(program.app, modules.note)
    return WSGIAdapter(application, log, program.sapi, multiprocess=multiprocess)
