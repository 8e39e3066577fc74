"""An application that wsgiref.validate stands around, on both sides."""

from wsgiref.validate import validator


def plain(environ, start_response):
    what = environ["PATH_INFO"]
    if what == "/fail":
        raise ValueError("the reason")
    body = b""
    if environ["REQUEST_METHOD"] == "POST":
        # In each of the ways there are.
        body = environ["wsgi.input"].read(10) + environ["wsgi.input"].readline(100)
        body += b"".join(environ["wsgi.input"]) + environ["wsgi.input"].read(1000)
    environ["wsgi.errors"].write("said to the log\n")
    environ["wsgi.errors"].flush()
    if what == "/write":
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"written, ")
        return [b"returned"]
    if what == "/again":
        start_response("200 OK", [("Content-Type", "text/plain")])
        try:
            raise ValueError("changed its mind")
        except ValueError as error:
            start_response("404 Not Found", [("Content-Type", "text/plain")], (type(error), error, error.__traceback__))
        return [b"nothing"]
    if what == "/empty":
        start_response("204 No Content", [])
        return []
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8"), ("X-Path", what)])
    return pieces(body)


def pieces(body):
    yield b"got "
    yield b""
    yield body


application = validator(plain)
