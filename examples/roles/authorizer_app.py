"""An authorizer as a WSGI application: who has a ticket may read, and only some may read below /board/.

    TICKET_KEY=... pyfpm --socket /run/pyfpm/authorizer.sock authorizer_app:application

The web server asks it before it serves a request; its own configuration is in lighttpd.conf and apache.conf.
"""

from collections.abc import Callable, Iterable
from typing import Any

from tickets import name_in

BOARD = {"alice", "bob"}


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    # Asked for a page, by a web server that was told the wrong thing, it must not seem to let somebody in.
    if environ["FCGI_ROLE"] != "AUTHORIZER":
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"This is an authorizer.\n"]
    name = name_in(environ.get("HTTP_COOKIE", ""))
    if name is None:
        start_response("403 Forbidden", [("Content-Type", "text/html; charset=utf-8")])
        return [b'<p>Please <a href="/login">log in</a>.</p>\n']
    if environ["PATH_INFO"].startswith("/board/") and name not in BOARD:
        start_response("403 Forbidden", [("Content-Type", "text/html; charset=utf-8")])
        return [b"<p>This is for the board.</p>\n"]
    # What is called Variable-* goes to whoever serves the request, without that word; nothing goes to the visitor.
    start_response("200 OK", [("Variable-REMOTE_USER", name), ("Variable-IS_BOARD", str(int(name in BOARD)))])
    return []
