"""ASGI 3 applications: one request's ``scope``, ``receive`` and ``send``.

A request begins when its headers are there. Its body is given piece by piece as it comes, and so is the answer sent:
each message goes out before ``send`` returns, which waits only when the web server has not taken ``max_queued`` bytes.
A complete body in one message goes with its headers, and with a Content-Length if the application has given none.

It runs on trio and on asyncio alike: all it has to know of them is how an event is made.

What FastCGI has no place for: WebSockets, trailers, early hints (an answer has one header block), HTTP/2 push.

Sources: the ASGI specification 3.0; HTTP & WebSocket ASGI message format 2.4; the extensions "Zero Copy Send" and "Path
Send".
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import Any

from pyfpm.sapi import pages
from pyfpm.sapi.failure import Log, describe, report
from pyfpm.sapi.headers import check_value, prefix_of
from pyfpm.sapi.interface import Event, Live
from pyfpm.sapi.mount import mount_of
from pyfpm.sapi.printable import printable
from pyfpm.sapi.settings import SapiSettings

Application = Callable[[dict[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[Any]]], Awaitable[Any]]

DEFAULTS = SapiSettings()

VERSIONS = {"version": "3.0", "spec_version": "2.4"}

DISCONNECT = "http.disconnect"

_LENGTH = re.compile("[0-9]{1,18}")

# Names that come and go are few and the same each time; these are of what visitors and applications make up at most.
_MOST_NAMES = 500
# Characters of a param's name that is kept: it may be as long as all of them together.
_LONGEST_NAME = 100
# param: header name, b"" for one that is no header.
_headers_of_params: dict[str, bytes] = {
    "CONTENT_TYPE": b"content-type",
    "CONTENT_LENGTH": b"content-length",
    # nginx passes these twice.
    "HTTP_CONTENT_TYPE": b"",
    "HTTP_CONTENT_LENGTH": b"",
    # httpoxy: of no use to anybody else (CVE-2016-5385).
    "HTTP_PROXY": b"",
}
# header name: "Name: ", "" for one that is not passed on.
_prefixes: dict[bytes, str] = {}
_status_lines: dict[int, str] = {200: ""}
# SERVER_PROTOCOL: http_version.
_versions: dict[str, str] = {}


class Departed(ConnectionAbortedError):
    """The visitor has gone. An OSError, as the specification wants it."""


def header_of_param(name: str) -> bytes:
    """``b""`` if it is none."""
    header = b""
    if name.startswith("HTTP_"):
        header = name[5:].replace("_", "-").lower().encode("latin-1")
    if len(_headers_of_params) < _MOST_NAMES and len(name) <= _LONGEST_NAME:
        _headers_of_params[name] = header
    return header


def headers_of(params: dict[str, str]) -> list[tuple[bytes, bytes]]:
    found = []
    for name, value in params.items():
        header = _headers_of_params.get(name)
        if header is None:
            header = header_of_param(name)
        # nginx sends the two of a body empty where there is none.
        if header and (value or name[0] == "H"):
            found.append((header, value.encode("latin-1")))
    return found


def text_of_path(path: str) -> str:
    """A path as people write it: its bytes are UTF-8. What is not comes out as U+FFFD; raw_path has it all."""
    return path if path.isascii() else path.encode("latin-1").decode("utf-8", "replace")


def address_of(host: str | None, port: str | None) -> tuple[str, int] | None:
    # "unix:" is what nginx says of a unix socket's client.
    if not host or host == "unix:":
        return None
    return host, int(port) if port and len(port) < 6 and port.isdecimal() else 0


def version_of(protocol: str) -> str:
    version = protocol.rpartition("/")[2]
    version = version.removesuffix(".0") if version >= "2" else version
    if len(_versions) < _MOST_NAMES:
        _versions[protocol] = version
    return version


def scope_of(params: dict[str, str]) -> dict[str, Any]:
    """The scope of a request, but for ``state``."""
    script_name, path_info = mount_of(params)
    https = params.get("HTTPS")
    scheme = "https" if params.get("REQUEST_SCHEME") == "https" or (https and https.lower() != "off") else "http"
    protocol = params.get("SERVER_PROTOCOL", "HTTP/1.0")
    version = _versions.get(protocol)
    if version is None:
        version = version_of(protocol)
    uri = params.get("REQUEST_URI", "")
    end = uri.find("?")
    raw_path = None
    if uri and uri[0] == "/":
        raw_path = (uri if end < 0 else uri[:end]).encode("latin-1")
    query = params.get("QUERY_STRING", "")
    method = params.get("REQUEST_METHOD", "GET")
    return {
        "type": "http",
        "asgi": VERSIONS,
        "http_version": version,
        "method": method if method == "GET" else method.upper(),
        "scheme": scheme,
        "path": text_of_path(script_name + path_info),
        "raw_path": raw_path,
        "query_string": query.encode("latin-1"),
        "root_path": text_of_path(script_name),
        "headers": headers_of(params),
        "client": address_of(params.get("REMOTE_ADDR"), params.get("REMOTE_PORT")),
        "server": address_of(params.get("SERVER_NAME"), params.get("SERVER_PORT")),
        "extensions": {
            "http.response.zerocopysend": {},
            "http.response.pathsend": {},
            # What the web server says beside HTTP: REMOTE_USER, SSL_CLIENT_S_DN and the like.
            "fastcgi": {"params": params},
        },
    }


def status_line(status: int) -> str:
    """``"Status: ...\\r\\n"``; ``""`` for the one that web servers take for granted. Raises TypeError, ValueError."""
    line = _status_lines.get(status)
    if line is None:
        if not isinstance(status, int):
            raise TypeError(f"the status must be an int, not {type(status).__name__}")
        if not 200 <= status <= 999:
            raise ValueError(f"{int(status)} is not the status of an answer")
        try:
            line = f"Status: {int(status)} {HTTPStatus(status).phrase}\r\n"
        except ValueError:
            line = f"Status: {int(status)} Unknown\r\n"
        _status_lines[int(status)] = line
    return line


def prefix_of_bytes(name: bytes) -> str:
    if not isinstance(name, bytes):
        raise TypeError(f"the name of a header must be bytes, not {type(name).__name__}")
    prefix = prefix_of(name.decode("latin-1"))
    if len(_prefixes) < _MOST_NAMES:
        _prefixes[name] = prefix
    return prefix


class Exchange:
    """One request on its way through the application.

    Args:
      make_event: of trio or asyncio.
      is_head: what the answer's body would be is not sent.
    """

    __slots__ = ("_bodiless", "_head", "_input_over", "_is_head", "_length", "_live", "_make_event")

    def __init__(self, live: Live, make_event: Callable[[], Event], is_head: bool) -> None:
        self._live = live
        self._make_event = make_event
        self._is_head = is_head
        self._bodiless = is_head
        self._head: str | None = None
        # It has a Content-Length.
        self._length = False
        # All of the request's body was given.
        self._input_over = False

    # -- receive ------------------------------------------------------------------------------------------------------

    async def receive(self) -> dict[str, Any]:
        live = self._live
        while not (live.gone or live.over):
            if not self._input_over and (live.has_input or live.at_end):
                body = live.take()
                self._input_over = live.at_end
                return {"type": "http.request", "body": body, "more_body": not self._input_over}
            await live.when_input(self._make_event).wait()
        return {"type": DISCONNECT}

    # -- send ---------------------------------------------------------------------------------------------------------

    async def send(self, message: dict[str, Any]) -> None:
        live = self._live
        kind = message["type"]
        if live.over:
            raise RuntimeError(f"the answer is complete, and {kind!r} comes after it")
        if live.gone:
            raise Departed("the visitor does not wait for the answer any more")
        if kind == "http.response.start":
            if self._head is not None:
                raise RuntimeError("http.response.start was sent twice")
            self._head = self._block(message["status"], message.get("headers", ()))
            if message.get("trailers"):
                raise RuntimeError("FastCGI cannot carry trailers: the extension is not in the scope")
            return
        if self._head is None:
            raise RuntimeError(f"{kind!r} came before http.response.start")
        if kind == "http.response.body":
            body = message.get("body", b"")
            if not isinstance(body, (bytes, bytearray, memoryview)):
                raise TypeError(f"the body must be bytes, not {type(body).__name__}")
            self._add(body, bool(message.get("more_body", False)))
        elif kind == "http.response.zerocopysend":
            self._add_file(
                message["file"], message.get("offset"), message.get("count"), message.get("more_body", False)
            )
        elif kind == "http.response.pathsend":
            with open(message["path"], "rb") as file:
                self._add_file(file, 0, None, False)
        else:
            raise RuntimeError(f"{kind!r} is no message of an answer over FastCGI")
        if not live.has_room:
            await self._wait_for_room()

    async def _wait_for_room(self) -> None:
        live = self._live
        while not (live.has_room or live.over or live.gone):
            await live.when_output(self._make_event).wait()
        if live.gone:
            raise Departed("the visitor does not wait for the answer any more")

    def _block(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> str:
        block = status_line(status)
        without_length = status == 204
        if status == 204 or status == 304:
            self._bodiless = True
        for name, value in headers:
            prefix = _prefixes.get(name)
            if prefix is None:
                prefix = prefix_of_bytes(name)
            if not isinstance(value, bytes):
                raise TypeError(f"the value of the header {prefix[:-2]} must be bytes, not {type(value).__name__}")
            text = value.decode("latin-1")
            if not text.isprintable():
                check_value(prefix[:-2], text)
            # By its length first, which is all that most names cost.
            length = len(prefix)
            if length == 16 and prefix.lower() == "content-length: ":
                if without_length:
                    continue  # "A server MUST NOT" (RFC 9110, 8.6), and frameworks do.
                if not _LENGTH.fullmatch(text):
                    raise ValueError(f"the Content-Length {text!r} is not a number of bytes")
                self._length = True
            elif length == 14 and prefix.lower() == "content-type: " and text.startswith("text/event-stream"):
                # Events are to be seen when they happen; the header is for nginx alone, and stays there.
                if "x-accel-buffering: " not in block.lower():
                    block += "X-Accel-Buffering: no\r\n"
            elif length == 10 and prefix.lower() == "location: " and status == 200:
                # In CGI a Location alone is a redirect (RFC 3875, 6.2.3); an application that says 200 means it.
                block = "Status: 200 OK\r\n" + block
            elif length == 8 and prefix.lower() == "status: ":
                continue  # It would override the real one (RFC 3875, 6.3.3).
            if length:
                block += f"{prefix}{text}\r\n"
        # A CGI answer has one header at least (RFC 3875, 6.2).
        return block or "Status: 200 OK\r\n"

    def _add(self, body: Any, more: bool) -> None:
        live = self._live
        output = live.output
        try:
            if self._head:
                head = self._head
                if not (more or self._length or self._bodiless):
                    head += f"Content-Length: {len(body)}\r\n"
                output.write((head + "\r\n").encode("latin-1"))
                self._head = ""
            if body and not self._bodiless:
                output.write(body)
        except BaseException:
            output.discard()  # Nothing may be left in there, see Live.output.
            raise
        if more:
            live.flush()
        else:
            live.end()

    def _add_file(self, file: Any, offset: int | None, count: int | None, more: bool) -> None:
        live = self._live
        fd = file if isinstance(file, int) else file.fileno()
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise ValueError("only a regular file can be sent without being read")
        if offset is None:
            offset = os.lseek(fd, 0, os.SEEK_CUR)
        most = max(info.st_size - offset, 0)
        count = most if count is None else min(count, most)
        output = live.output
        try:
            if self._head:
                head = self._head
                if not (more or self._length or self._bodiless):
                    head += f"Content-Length: {count}\r\n"
                output.write((head + "\r\n").encode("latin-1"))
                self._head = ""
            if not self._bodiless:
                output.sendfile(fd, offset, count)
        except BaseException:
            output.discard()
            raise
        if more:
            live.flush()
        else:
            live.end()

    # -- the end of the application -----------------------------------------------------------------------------------

    def returned(self, log: Log) -> None:
        """It has nothing more to say."""
        live = self._live
        if live.over or live.gone:
            return
        what = "in the middle of its answer" if self._head == "" else "without an answer"
        log("ERROR", f"the application returned {what} to {self._uri()}")
        self._end(500)

    def failed(self, error: BaseException, log: Log, settings: SapiSettings) -> None:
        live = self._live
        if has_departed(error):
            log("DEBUG", f"the visitor of {self._uri()} has left: {type(error).__name__}: {error}")
        elif live.timed_out:
            self._end(504)  # What it has made of being cancelled.
        elif live.over or live.gone:
            log("ERROR", f"uncaught exception in request {self._uri()}\n{describe(error)}")
        else:
            report(live.output, log, error, self._uri(), settings)
            live.end(1)

    def cancelled(self, log: Log) -> None:
        """By us, since its time was up or the worker has to end; or by itself."""
        live = self._live
        if live.timed_out:
            self._end(504)
        elif not (live.over or live.gone):
            log("WARNING", f"request {self._uri()} was cancelled")
            self._end(500)

    def _end(self, status: int) -> None:
        live = self._live
        if not (live.over or live.gone):
            if live.output.discard():
                pages.answer(live.output, status)
            live.end(1)

    def _uri(self) -> str:
        params = self._live.params
        return printable(str(params.get("REQUEST_URI") or params.get("PATH_INFO") or "?"))


def has_departed(error: BaseException | None, depth: int = 20) -> bool:
    """The visitor left, and that is all that this exception has to say, however it was wrapped.

    Args:
      depth: how far to look; exceptions can lead back to themselves.
    """
    if error is None or depth == 0:
        return False
    if isinstance(error, BaseExceptionGroup):
        return all(has_departed(each, depth - 1) for each in error.exceptions)
    return isinstance(error, Departed) or has_departed(error.__cause__ or error.__context__, depth - 1)


class ASGIAdapter:
    """Runs requests with one ASGI application.

    Args:
      application: the callable.
      log: where uncaught exceptions are reported: ``log(level, text)``.
      loop: ``trio`` or ``asyncio``, which it has to be run on.
    """

    def __init__(
        self, application: Application, log: Log, settings: SapiSettings = DEFAULTS, *, loop: str = "asyncio"
    ) -> None:
        self.application = application
        self.loop = loop
        self.log = log
        self._settings = settings
        # Of its lifespan; each request gets a copy. None: it has none.
        self.state: dict[str, Any] | None = None

    async def run(self, live: Live, make_event: Callable[[], Event], cancelled: type[BaseException]) -> None:
        """Returns when the application has returned, and the request has ended. Raises nothing: whoever cancels it
        wants it to be over, and it is.

        Args:
          make_event: of trio or asyncio; cancelled: what is raised where a task is cancelled.
        """
        if live.gone or live.over:
            live.end(1)  # Given up before it began.
            return
        params = live.params
        exchange = Exchange(live, make_event, params.get("REQUEST_METHOD") == "HEAD")
        try:
            scope = scope_of(params)
            if self.state is not None:
                scope["state"] = self.state.copy()
            await self.application(scope, exchange.receive, exchange.send)
        except cancelled:
            exchange.cancelled(self.log)
        except BaseException as error:
            exchange.failed(error, self.log, self._settings)
        else:
            exchange.returned(self.log)
        finally:
            live.end(1)
