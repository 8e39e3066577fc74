"""A drop-in for flup's and flipflop's WSGIServer: a program that used one of them needs one changed line.

    from pyfpm.compat.flup import WSGIServer

    WSGIServer(application).run()

As with them, the program may be started by the web server, which gives it a listening socket on descriptor 0
(mod_fcgid, lighttpd's ``bin-path``, spawn-fcgi); by itself, with ``bindAddress``; or as a plain CGI program.

What is different: a process runs one request at a time, whatever ``multithreaded`` says, and ``wsgi.multithread`` is
false. Web servers that start processes start several; alone, ``pyfpm --workers`` is the better choice. An exception is
answered with 500, and without a traceback unless ``debug`` is true (flup's default is true).
docs/migrating-from-flup.md says more.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from pyfpm.compat import _sockets
from pyfpm.compat._cgi import answer_as_cgi
from pyfpm.compat._sockets import Address
from pyfpm.config import PoolConfig
from pyfpm.observe.log import Log
from pyfpm.protocol import AUTHORIZER, FILTER, RESPONDER
from pyfpm.sapi.interface import Output, Request
from pyfpm.sapi.settings import SapiSettings
from pyfpm.sapi.wsgi import Application, WSGIAdapter
from pyfpm.worker.alone import serve_alone
from pyfpm.worker.clients import AllowedClients
from pyfpm.worker.inline import Adapter
from pyfpm.worker.settings import Settings

__all__ = ["FCGI_AUTHORIZER", "FCGI_FILTER", "FCGI_RESPONDER", "WSGIServer"]

FCGI_RESPONDER, FCGI_AUTHORIZER, FCGI_FILTER = RESPONDER, AUTHORIZER, FILTER

# What flup's servers take besides, for their threads and child processes.
NOT_USED = frozenset({"jobArgs", "jobClass", "maxChildren", "maxSpare", "maxThreads", "maxwait", "minSpare", "timeout"})


class WSGIServer:
    """Serves one WSGI application in this process.

    Args:
      application: the callable.
      environ: put into each request's environ, over what the web server said: ``{"SCRIPT_NAME": ""}``.
      multithreaded, multiplexed: taken for flup's sake. Requests run one at a time; several on one connection are
        understood in any case.
      multiprocess: what ``wsgi.multiprocess`` says. Always true where the web server starts the processes.
      bindAddress: a path or (host, port) to listen on; without it descriptor 0 decides.
      umask: while the file of a unix socket is made.
      debug: show tracebacks to visitors.
      roles: those that the application serves.
      forceCGI: be a plain CGI program, also where descriptor 0 is a socket. So does the environment's
        ``FCGI_FORCE_CGI=Y``.
      maxRequests: where the web server starts the processes, ``run`` returns after so many; it starts another one.
      others: those of flup's threads and child processes have no effect, which the log says.
    Raises:
      TypeError: an argument that flup does not have either.
    """

    def __init__(
        self,
        application: Application,
        environ: Mapping[str, Any] | None = None,
        multithreaded: bool = True,
        multiprocess: bool = False,
        bindAddress: Address | None = None,
        umask: int | None = None,
        multiplexed: bool = False,
        debug: bool = False,
        roles: Sequence[int] = (FCGI_RESPONDER,),
        forceCGI: bool = False,
        maxRequests: int = 0,
        **others: Any,
    ) -> None:
        if unknown := others.keys() - NOT_USED:
            raise TypeError(f"WSGIServer has no argument {', '.join(sorted(unknown))}")
        self.application = application
        self.environ = {} if environ is None else environ
        self.multithreaded = multithreaded
        self.multiprocess = multiprocess
        self.debug = debug
        self.roles = tuple(roles)
        self.forceCGI = forceCGI
        self._bind_address = bindAddress
        self._umask = umask
        self._max_requests = maxRequests
        self._not_used = sorted(others)
        self._log = Log()

    def run(self) -> bool:
        """Serve until SIGTERM, SIGINT or SIGHUP; requests that have begun are finished. As a CGI program: one request.

        Returns:
          True if it was SIGHUP, which asks for a restart.
        Raises:
          OSError: the address cannot be listened on.
          ValueError: not called in the main thread.
        """
        if self._bind_address is not None:
            self._tell_differences()
            with _sockets.bound(self._bind_address, self._umask) as listener:
                return self._serve(listener, self.multiprocess, most=0)
        forced = self.forceCGI or os.environ.get("FCGI_FORCE_CGI", "N").upper().startswith("Y")
        if not forced and _sockets.is_started_by_web_server():
            self._tell_differences()
            with _sockets.inherited() as listener:
                return self._serve(listener, True, most=self._max_requests)
        if "REQUEST_METHOD" not in os.environ:
            self._log(
                "NOTICE",
                "no listening socket on descriptor 0 and no bindAddress: this is one request, as of a CGI program",
            )
        answer_as_cgi(self._adapter(multiprocess=True, run_once=True), _settings().spool_threshold)
        return False

    def _serve(self, listener: Any, multiprocess: bool, most: int) -> bool:
        allowed = os.environ.get("FCGI_WEB_SERVER_ADDRS")
        return serve_alone(
            listener,
            self._adapter(multiprocess=multiprocess),
            replace(_settings(), pm_max_requests=most),
            self._log,
            roles=self.roles,
            # The specification would have unix sockets closed then (3.2); whoever reads the variable lets them be.
            allowed=None if allowed is None else AllowedClients(allowed.split(","), self._log),
        )

    def _adapter(self, *, multiprocess: bool, run_once: bool = False) -> Adapter:
        adapter = WSGIAdapter(
            self.application,
            self._log,
            SapiSettings(display_errors=self.debug),
            multiprocess=multiprocess,
            run_once=run_once,
            program=os.path.abspath(sys.argv[0]),
        )
        return _WithEnviron(adapter, self.environ) if self.environ else adapter

    def _tell_differences(self) -> None:
        if self._not_used:
            self._log(
                "NOTICE",
                f"{', '.join(self._not_used)}: no effect; a process runs one request at a time, and the web server or"
                " `pyfpm --workers` starts several",
            )
        if hasattr(self, "error"):
            self._log(
                "NOTICE",
                f"{type(self).__name__}.error() is not called; exceptions are answered with 500, and logged here",
            )


class _WithEnviron:
    """An adapter whose requests get some more variables."""

    def __init__(self, adapter: Adapter, environ: Mapping[str, Any]) -> None:
        self._adapter = adapter
        self._environ = environ

    def __call__(self, request: Request, output: Output) -> int:
        request.params.update(self._environ)
        return self._adapter(request, output)


def _settings() -> Settings:
    """What a pool has by default, but for the size of a body: flup has no bound for it, and it is on disk."""
    defaults: dict[str, Any] = {field.name: field.default for field in fields(PoolConfig)}
    pool = {field.name: defaults[field.name] for field in fields(Settings)}
    return Settings(**{**pool, "post_max_size": 0})
