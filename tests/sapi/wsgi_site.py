"""The application of test_wsgi_process: each path is a story of its own."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from typing import Any
from wsgiref.validate import validator

kept: list[Any] = []


def echo(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    lines = [f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']} {environ['wsgi.multiprocess']}".encode(), body]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"\n".join(lines)]


def lazily(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return (b"%d\n" % number for number in range(3))


def note(environ: dict[str, Any], text: str) -> None:
    with open(environ["HTTP_NOTES"], "a") as file:
        file.write(text + "\n")


class Watched:
    """Pieces that go on when the file they are told of appears."""

    def __init__(self, environ: dict[str, Any], pieces: Iterator[bytes]) -> None:
        self.environ = environ
        self.pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return self.pieces

    def close(self) -> None:
        note(self.environ, "closed")


def slow(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """A piece, and the next when its reader says so through a pipe."""
    start_response("200 OK", [("Content-Type", "text/plain")])

    def pieces() -> Iterator[bytes]:
        for number in range(3):
            yield b"piece %d" % number
            with open(environ["HTTP_GO_ON"]) as told:
                told.read()

    return Watched(environ, pieces())


def endless(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])

    def pieces() -> Iterator[bytes]:
        while True:
            yield bytes(100_000)

    return Watched(environ, pieces())


def file(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    opened = open(environ["HTTP_FILE"], "rb")
    opened.seek(int(environ.get("HTTP_OFFSET", 0)))
    return environ["wsgi.file_wrapper"](opened)  # type: ignore[no-any-return]


def memory(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return environ["wsgi.file_wrapper"](io.BytesIO(bytes(200_000)), 1000)  # type: ignore[no-any-return]


def fails(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    raise {"exit": SystemExit, "interrupt": KeyboardInterrupt}.get(environ["QUERY_STRING"], ValueError)("s3cret")


def keeps(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    kept[:] = [start_response("200 OK", [("Content-Type", "text/plain")]), environ["wsgi.errors"]]
    return [b"kept"]


def uses(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    write, errors = kept
    said = []
    for late in (lambda: write(b"late"), lambda: errors.write("late")):
        try:
            late()
        except ValueError as error:
            said.append(str(error).encode())
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"\n".join(said)]


def filters(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["fastcgi.data"].read().upper(), b" ", environ["wsgi.input"].read()]


def authorizes(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    if environ.get("HTTP_AUTHORIZATION") == "good":
        start_response("200 OK", [("Variable-AUTH_TYPE", "test")])
        return []
    start_response("401 Unauthorized", [("WWW-Authenticate", "Basic")])
    return [b"who are you?"]


def nothing(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("304 Not Modified", [])
    return []


STORIES = {
    "/echo": validator(echo),
    "/lazily": validator(lazily),
    "/slow": slow,
    "/endless": endless,
    "/file": file,
    "/memory": memory,
    "/fails": fails,
    "/keeps": keeps,
    "/uses": uses,
    "/filters": filters,
    "/authorizes": authorizes,
    "/nothing": nothing,
}


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    assert os.getpid() > 1
    return STORIES[environ["PATH_INFO"]](environ, start_response)
