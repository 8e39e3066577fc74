"""Which adapter runs a pool's requests; chosen in the zygote, before it forks."""

from __future__ import annotations

import sys

from pyfpm.observe.log import Log
from pyfpm.sapi.asgi import ASGIAdapter
from pyfpm.sapi.cgi.programs import CGIPrograms
from pyfpm.sapi.load import LoadError, kind_of, load, loop_of
from pyfpm.sapi.revalidation import ImportedModules, Revalidation
from pyfpm.sapi.script import ScriptAdapter
from pyfpm.sapi.script_file import ScriptFiles, cgi_extensions, extensions_of
from pyfpm.sapi.services import services
from pyfpm.sapi.session.errors import SessionError
from pyfpm.sapi.session.options import options_of
from pyfpm.sapi.session.stores import store_of
from pyfpm.sapi.settings import SapiSettings
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


def adapter_for(program: Program, log: Log, modules: ImportedModules | None, threads: int = 0) -> Adapter | ASGIAdapter:
    """Imports the application, if there is one.

    Args:
      threads: that call the adapter at the same time; 0: one request after the other.
      modules: see ``watched_modules``.
    Raises:
      LoadError: it cannot be found, or what the configuration wants of it is not installed.
      BaseException: whatever it raises itself.
    """
    if program.app is None:
        return _script_adapter(program, log, modules, threads)
    before = set(sys.modules)
    application = load(program.app) if modules is None else load(program.app, modules.note)
    kind = program.app_kind or kind_of(application, program.app)
    if kind == "asgi" and threads:
        raise LoadError(
            f"{program.app} is an ASGI application, whose requests are tasks of one loop: pm.threads is for scripts and"
            " WSGI applications. Leave it out"
        )
    if kind == "asgi":
        loop = program.app_loop or loop_of(sys.modules.keys() - before)
        return ASGIAdapter(application, log, program.sapi, loop=loop)
    several = program.pm_max_children > 1
    return WSGIAdapter(application, log, program.sapi, multiprocess=several, multithread=threads > 0)


def _script_adapter(program: Program, log: Log, modules: ImportedModules | None, threads: int) -> ScriptAdapter:
    """For files of the document root: in a CGI pool all of them are CGI programs, else those whose names say so."""
    kind = program.app_kind
    if kind != "cgi":
        _prepare_sessions(program.sapi)
    files = ScriptFiles(
        program.docroots,
        extensions_of(kind, program.extensions),
        cgi_extensions(kind),
        fix_pathinfo=program.sapi.cgi_fix_pathinfo,
        discard_path=program.sapi.cgi_discard_path,
    )
    revalidation = None
    if modules is not None:
        interval_s = program.sapi.python_revalidate_s or REVALIDATE_SCRIPTS_S
        revalidation = Revalidation(modules, interval_s, lambda reason: services().retire(reason), forgets=not threads)
    programs = CGIPrograms(log, program.sapi, tuple(name for name, _ in program.env), inside=not threads)
    return ScriptAdapter(files, log, program.sapi, revalidation, programs, shares_process=threads > 0)


def _prepare_sessions(settings: SapiSettings) -> None:
    """What is wrong with their configuration is told at the start; and a client of Redis is imported once for all
    workers. Nothing is connected."""
    try:
        options = options_of(settings)
        store_of(options.save_handler, options.save_path)
    except (SessionError, ValueError) as error:
        raise LoadError(str(error)) from None
