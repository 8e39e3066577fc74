"""The script request that is running here and now, and its superglobals, made when they are first asked for."""

from __future__ import annotations

import io
import os
import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from enum import IntEnum
from functools import lru_cache
from typing import Any, BinaryIO

from pyfpm.sapi.body import whole
from pyfpm.sapi.forms import read_form
from pyfpm.sapi.interface import ROLES, Output, Request
from pyfpm.sapi.response import ScriptResponse
from pyfpm.sapi.services import services
from pyfpm.sapi.settings import SapiSettings
from pyfpm.sapi.superglobals import (
    as_utf8,
    flat_cookies,
    flat_query,
    merge,
    parse_authorization,
    parse_cookies,
    parse_query,
)
from pyfpm.sapi.uploads import Uploads, directory_for
from pyfpm.sapi.variables import Variables

# The letters of request_order.
REQUEST_ARRAYS = {"G": "_GET", "P": "_POST", "C": "_COOKIE"}


@lru_cache
def _request_names(request_order: str) -> tuple[str, ...]:
    """Each letter once. Without C by default, as in php.ini-production, since others can set cookies."""
    letters = dict.fromkeys(request_order.upper())
    return tuple([REQUEST_ARRAYS[letter] for letter in letters if letter in REQUEST_ARRAYS])


class AtEnd(IntEnum):
    """What follows the script itself, in this order.

    Source (PHP): php_request_shutdown(), main/main.c.
    """

    SHUTDOWN = 0  # register_shutdown_function's
    # What output buffers hold; also before fastcgi_finish_request() ends the answer. Other than in PHP it is before the
    # script's data goes: a buffer's function may need it, and what destructors write goes out behind.
    OUTPUT = 1
    SESSION = 2  # it is written, and its lock let go of; then the answer ends. No function of the script's any more
    CLEANUP = 3  # what no visitor has to wait for: temporary files


class CurrentRequest:
    """One request of a script."""

    __slots__ = (
        "_body",
        "_made",
        "_text",
        "ends",
        "namespace",
        "output",
        "path_is_decoded",
        "request",
        "response",
        "server",
        "session",
        "settings",
        "timed_out",
        "uploads",
    )

    def __init__(self, request: Request, output: Output, settings: SapiSettings) -> None:
        self.request = request
        self.settings = settings
        self.output = output
        self.server: dict[str, Any] = request.params
        self.response = ScriptResponse(output, self.server.get("REQUEST_METHOD") == "HEAD", settings)
        self.response.ignores_abort = settings.ignore_user_abort
        # ExecutionTimeout was raised in it.
        self.timed_out = False
        self.namespace: dict[str, Any] = {}
        # The file's name was percent-encoded, so there may be other characters in ``server`` than the web server sent.
        self.path_is_decoded = False
        # By stage, in the order they came in; None: nothing is to be done.
        self.ends: dict[AtEnd, deque[Callable[[], object]]] | None = None
        # Of sapi.session, once the script calls a function for it.
        self.session: Any = None
        self._made: dict[str, dict[str, Any]] = {}
        self._body: BinaryIO | None = request.stdin
        self._text: io.TextIOWrapper | None = None
        # Its temporary files, once there are any.
        self.uploads: Uploads | None = None

    @property
    def body(self) -> BinaryIO:
        """The raw body, also while it is read as text."""
        if self._body is None:
            self._body = io.BytesIO()
        return self._body

    def open_body(self) -> BinaryIO:
        """The raw body from its beginning, wherever ``body`` has got to."""
        return whole(self._body)

    @property
    def body_text(self) -> io.TextIOWrapper:
        if self._text is None:
            self._text = io.TextIOWrapper(self.body, "utf-8", "surrogateescape", newline="")
        return self._text

    def at_end(self, stage: AtEnd, callback: Callable[[], object]) -> None:
        """Have ``callback()`` called once, at this stage of the request's end: also after an exception, exit(), or when
        the visitor has left. What it raises is reported as the script's own would be, and the next one is called.

        A callback may add others, of its own stage or a later one.
        """
        if self.ends is None:
            self.ends = {}
        self.ends.setdefault(stage, deque()).append(callback)

    def next_at_end(self, stage: AtEnd) -> Callable[[], object] | None:
        """Take the first that is left of this stage."""
        callbacks = (self.ends or {}).get(stage)
        return callbacks.popleft() if callbacks else None

    def has_at_end(self, stage: AtEnd) -> bool:
        return bool((self.ends or {}).get(stage))

    def drop_at_end(self, stage: AtEnd) -> None:
        if self.ends is not None:
            self.ends.pop(stage, None)

    def superglobal(self, name: str) -> dict[str, Any]:
        """One of SUPERGLOBALS; the same dict each time in one request."""
        found = self._made.get(name)
        if found is None:
            found = self._made[name] = SUPERGLOBALS[name](self)
        return found

    # -- uploads ------------------------------------------------------------------------------------------------------

    @property
    def upload_directory(self) -> str:
        return directory_for(self.settings.upload_tmp_dir)

    def new_upload(self) -> tuple[int, str]:
        """A file for it, as ``Uploads.create`` makes them."""
        if self.uploads is None:
            self.uploads = uploads = Uploads(self.upload_directory)
            self.at_end(AtEnd.CLEANUP, uploads.remove)
        return self.uploads.create()

    def tell(self, text: str, *, to_log: bool = False) -> None:
        """A line to the operator, in the web server's error log; of what is no visitor's doing, in our own as well."""
        line = services().error_log(text) if to_log else f"Python message: {text}".encode("utf-8", "backslashreplace")
        self.response.message(line)

    # -- superglobals -------------------------------------------------------------------------------------------------

    def _server(self) -> dict[str, Any]:
        server = self.server
        authorization = server.get("HTTP_AUTHORIZATION")
        credentials = parse_authorization(authorization) if authorization else None
        if self.request.non_ascii or self.path_is_decoded:
            # These are made of the bytes as they came, so before they are text.
            self.superglobal("_GET")
            self.superglobal("_COOKIE")
            for name, value in server.items():
                if not value.isascii():
                    server[name] = as_utf8(value)
        if credentials:
            server.update(credentials)
        server["FCGI_ROLE"] = ROLES[self.request.role]
        now = time.time()
        server["REQUEST_TIME"] = int(now)
        server["REQUEST_TIME_FLOAT"] = now
        script_name = server.get("SCRIPT_NAME", "")
        path_info = server.get("PATH_INFO")
        if path_info is None:
            server["PHP_SELF"] = script_name
        else:
            server["PHP_SELF"] = script_name + path_info if self.settings.cgi_fix_pathinfo else path_info
        # Of a form that has a single field without a name, as <isindex> once was. sys.argv is Python's own.
        query = server.get("QUERY_STRING")
        server["argv"] = argv = query.split("+") if query else []
        server["argc"] = len(argv)
        return server

    def _get(self) -> dict[str, Any]:
        text = self.server.get("QUERY_STRING", "")
        found = flat_query(text, self.settings.max_input_vars)
        return self.parsed("_GET", parse_query, text) if found is None else found

    def parsed(self, name: str, parse: Callable[[str, Variables], None], text: str) -> dict[str, Any]:
        """The variables of a superglobal; the operator is told if there are too many."""
        settings = self.settings
        variables = Variables(settings.max_input_vars, settings.max_input_nesting_level, name == "_COOKIE")
        parse(text, variables)
        if variables.overflowed:
            self.tell(
                f"{name}: there are more than max_input_vars = {settings.max_input_vars}; the others are left out"
            )
        if variables.too_deep:
            limit = settings.max_input_nesting_level
            self.tell(f"{name}: names with more brackets than max_input_nesting_level = {limit} are left out")
        return variables.result()

    def _post(self) -> dict[str, Any]:
        self._made["_POST"], self._made["_FILES"] = read_form(self)
        return self._made["_POST"]

    def _cookie(self) -> dict[str, Any]:
        text = self.server.get("HTTP_COOKIE", "")
        found = flat_cookies(text, self.settings.max_input_vars)
        return self.parsed("_COOKIE", parse_cookies, text) if found is None else found

    def _request(self) -> dict[str, Any]:
        names = _request_names(self.settings.request_order)
        return merge(*[self.superglobal(name) for name in names])

    def _files(self) -> dict[str, Any]:
        self.superglobal("_POST")
        return self._made["_FILES"]

    def _session(self) -> dict[str, Any]:
        return {}  # session_start() fills it

    def _env(self) -> dict[str, Any]:
        return dict(os.environ)

    def _globals(self) -> dict[str, Any]:
        return self.namespace


SUPERGLOBALS: dict[str, Callable[[CurrentRequest], dict[str, Any]]] = {
    "_SERVER": CurrentRequest._server,
    "_GET": CurrentRequest._get,
    "_POST": CurrentRequest._post,
    "_COOKIE": CurrentRequest._cookie,
    "_REQUEST": CurrentRequest._request,
    "_FILES": CurrentRequest._files,
    "_SESSION": CurrentRequest._session,
    "_ENV": CurrentRequest._env,
    "GLOBALS": CurrentRequest._globals,
}

_current: ContextVar[CurrentRequest | None] = ContextVar("pyfpm request", default=None)

enter = _current.set


def current() -> CurrentRequest:
    """Raises RuntimeError outside of a script's request."""
    request = _current.get()
    if request is None:
        raise RuntimeError("there is no request here: this works only while pyfpm runs a script")
    return request


def current_or_none() -> CurrentRequest | None:
    return _current.get()


def _in_forked_child() -> None:
    """A script forked (``os.fork``, ``multiprocessing``), and this is the child: the answer is its parent's to give.
    What it prints goes to the worker's own log."""
    request = _current.get()
    if request is not None:
        request.response.disown()
        if request.session is not None:
            request.session.disown()
        _current.set(None)


os.register_at_fork(after_in_child=_in_forked_child)
