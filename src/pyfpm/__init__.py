"""pyfpm: a FastCGI application server and process manager for Python.

Scripts have these names without an import; importing them tells editors and type checkers what they are, and makes
them usable in modules:

    from pyfpm import _GET, echo, header

In a script a superglobal is the dict itself; in a module it follows the request that runs.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyfpm.sapi.buffering import (
        ob_clean,
        ob_end_clean,
        ob_end_flush,
        ob_flush,
        ob_get_clean,
        ob_get_contents,
        ob_get_flush,
        ob_get_length,
        ob_get_level,
        ob_implicit_flush,
        ob_list_handlers,
        ob_start,
    )
    from pyfpm.sapi.error_log import error_log
    from pyfpm.sapi.files import send_file
    from pyfpm.sapi.functions import (
        apache_request_headers,
        echo,
        exit,
        flush,
        fpm_get_status,
        getallheaders,
        header,
        header_register_callback,
        header_remove,
        headers_list,
        headers_sent,
        http_response_code,
        sapi_name,
        setcookie,
        setrawcookie,
    )
    from pyfpm.sapi.input import (
        BodyError,
        data_stream,
        input_stream,
        is_uploaded_file,
        json_body,
        move_uploaded_file,
        request_parse_body,
    )
    from pyfpm.sapi.lifecycle import (
        connection_aborted,
        connection_status,
        fastcgi_finish_request,
        ignore_user_abort,
        memory_get_peak_usage,
        memory_get_usage,
        register_shutdown_function,
        set_time_limit,
    )
    from pyfpm.sapi.session.errors import SessionError
    from pyfpm.sapi.session.functions import (
        PHP_SESSION_ACTIVE,
        PHP_SESSION_DISABLED,
        PHP_SESSION_NONE,
        session_abort,
        session_cache_expire,
        session_cache_limiter,
        session_commit,
        session_create_id,
        session_destroy,
        session_gc,
        session_get_cookie_params,
        session_id,
        session_name,
        session_regenerate_id,
        session_reset,
        session_set_cookie_params,
        session_start,
        session_status,
        session_unset,
        session_write_close,
    )
    from pyfpm.sapi.timeout import ExecutionTimeout
    from pyfpm.sapi.uploads import (
        UPLOAD_ERR_CANT_WRITE,
        UPLOAD_ERR_EXTENSION,
        UPLOAD_ERR_FORM_SIZE,
        UPLOAD_ERR_INI_SIZE,
        UPLOAD_ERR_NO_FILE,
        UPLOAD_ERR_NO_TMP_DIR,
        UPLOAD_ERR_OK,
        UPLOAD_ERR_PARTIAL,
    )

    GLOBALS: dict[str, Any]
    _COOKIE: dict[str, str]
    _ENV: dict[str, str]
    _FILES: dict[str, Any]
    _GET: dict[str, str]
    _POST: dict[str, str]
    _REQUEST: dict[str, str]
    _SERVER: dict[str, Any]
    _SESSION: dict[str, Any]

__version__ = "0.1.0"

__all__ = [
    "BodyError",
    "ExecutionTimeout",
    "GLOBALS",
    "PHP_SESSION_ACTIVE",
    "PHP_SESSION_DISABLED",
    "PHP_SESSION_NONE",
    "SessionError",
    "UPLOAD_ERR_CANT_WRITE",
    "UPLOAD_ERR_EXTENSION",
    "UPLOAD_ERR_FORM_SIZE",
    "UPLOAD_ERR_INI_SIZE",
    "UPLOAD_ERR_NO_FILE",
    "UPLOAD_ERR_NO_TMP_DIR",
    "UPLOAD_ERR_OK",
    "UPLOAD_ERR_PARTIAL",
    "_COOKIE",
    "_ENV",
    "_FILES",
    "_GET",
    "_POST",
    "_REQUEST",
    "_SERVER",
    "_SESSION",
    "data_stream",
    "apache_request_headers",
    "connection_aborted",
    "connection_status",
    "echo",
    "error_log",
    "exit",
    "fastcgi_finish_request",
    "flush",
    "fpm_get_status",
    "getallheaders",
    "header",
    "header_register_callback",
    "header_remove",
    "headers_list",
    "headers_sent",
    "http_response_code",
    "ignore_user_abort",
    "input_stream",
    "is_uploaded_file",
    "json_body",
    "memory_get_peak_usage",
    "memory_get_usage",
    "move_uploaded_file",
    "ob_clean",
    "ob_end_clean",
    "ob_end_flush",
    "ob_flush",
    "ob_get_clean",
    "ob_get_contents",
    "ob_get_flush",
    "ob_get_length",
    "ob_get_level",
    "ob_implicit_flush",
    "ob_list_handlers",
    "ob_start",
    "request_parse_body",
    "register_shutdown_function",
    "sapi_name",
    "send_file",
    "session_abort",
    "session_cache_expire",
    "session_cache_limiter",
    "session_commit",
    "session_create_id",
    "session_destroy",
    "session_gc",
    "session_get_cookie_params",
    "session_id",
    "session_name",
    "session_regenerate_id",
    "session_reset",
    "session_set_cookie_params",
    "session_start",
    "session_status",
    "session_unset",
    "session_write_close",
    "set_time_limit",
    "setcookie",
    "setrawcookie",
]


def __getattr__(name: str) -> Any:
    # Imported when asked for: the protocol, the client and the master have no use for the SAPI.
    if name not in __all__:
        raise AttributeError(f"module 'pyfpm' has no attribute {name!r}")
    if name == "BodyError":
        from pyfpm.sapi.input import BodyError

        return BodyError
    if name == "ExecutionTimeout":
        from pyfpm.sapi.timeout import ExecutionTimeout

        return ExecutionTimeout
    if name == "SessionError":
        from pyfpm.sapi.session.errors import SessionError

        return SessionError
    from pyfpm.sapi.current import SUPERGLOBALS, current
    from pyfpm.sapi.following import Following
    from pyfpm.sapi.names import FUNCTIONS

    if name not in SUPERGLOBALS:
        globals().update(FUNCTIONS)
        return FUNCTIONS[name]
    # A module is imported once and would keep the dict of the request that happened to import it.
    if sys._getframe(1).f_globals.get("__name__") == "__main__":
        return current().superglobal(name)
    return Following(name)
