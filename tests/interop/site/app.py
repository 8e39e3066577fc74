"""The large answers of a WSGI application: by an iterator, by wsgi.file_wrapper."""

import os

PLACE = os.path.dirname(os.path.abspath(__file__))


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    blocks = int(environ["QUERY_STRING"] or 0)
    if environ["SCRIPT_NAME"].endswith("/file") or environ.get("REQUEST_URI", "").startswith("/file"):
        return environ["wsgi.file_wrapper"](open(os.path.join(PLACE, "large"), "rb"))
    with open(os.path.join(PLACE, "block"), "rb") as file:
        block = file.read()
    return (block for _ in range(blocks))
