"""The same filter as a WSGI application: the file is ``fastcgi.data`` in the environ.

pyfpm --socket /run/pyfpm/filter.sock filter_app:application
"""

from collections.abc import Callable, Iterable
from html import escape
from typing import Any


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    file = environ.get("fastcgi.data")
    if file is None:
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"This is a filter.\n"]
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return numbered(file)


def numbered(file: Any) -> Iterable[bytes]:
    yield b"<ol>\n"
    for line in file:
        yield f"<li>{escape(line.decode('utf-8', 'replace').rstrip())}</li>\n".encode()
    yield b"</ol>\n"
