#!/usr/bin/env python3
"""A program that was written for flup. One line is another one than it was: the import of WSGIServer.

The web server starts it (lighttpd.conf, apache.conf), or it listens by itself: ./app.fcgi /run/app/app.sock
"""

import sys
from html import escape

# It was: from flup.server.fcgi import WSGIServer
from pyfpm.compat.flup import WSGIServer


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    yield b"<!doctype html>\n<title>The environment</title>\n<h1>The environment</h1>\n<table>\n"
    for name, value in sorted(environ.items()):
        yield f"<tr><th>{escape(name)}<td>{escape(str(value))}\n".encode()
    yield b"</table>\n"


if __name__ == "__main__":
    address = sys.argv[1] if len(sys.argv) > 1 else None
    WSGIServer(application, bindAddress=address, umask=0o007).run()
