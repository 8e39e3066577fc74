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
    from pyfpm.sapi.functions import (
        echo,
        exit,
        flush,
        header,
        header_remove,
        headers_list,
        headers_sent,
        http_response_code,
        sapi_name,
        setcookie,
    )
    from pyfpm.sapi.input import BodyError, input_stream, is_uploaded_file, json_body, move_uploaded_file
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

__version__ = "0.1.0"

__all__ = [
    "GLOBALS",
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
    "BodyError",
    "ExecutionTimeout",
    "echo",
    "exit",
    "flush",
    "header",
    "header_remove",
    "headers_list",
    "headers_sent",
    "http_response_code",
    "input_stream",
    "is_uploaded_file",
    "json_body",
    "move_uploaded_file",
    "sapi_name",
    "setcookie",
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
