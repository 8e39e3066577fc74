"""The hello page as a WSGI application, the same one for pyfpm, uWSGI and flup.

It takes the name out of the query string by hand: urllib's parse_qs takes as long as a whole request of the faster
servers here, and would hide most of the difference between them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    name = environ["QUERY_STRING"].partition("=")[2] or "world"
    body = f"Hello, {name}. This page has read its query string, and that is all it does.\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
