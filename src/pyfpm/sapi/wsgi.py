"""WSGI 1.0.1 applications (PEP 3333).

A list or tuple is sent in one piece. Any other iterable is sent piece by piece, each before the next is asked for; the
header block goes with the first of them that is not empty.

The only header we add is Content-Length, to a body that is there as a whole; none where the status or the method rules
a body out, since what we would count is not what a GET had sent (RFC 9110, 8.6).
"""

from __future__ import annotations

import io
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from pyfpm.protocol import AUTHORIZER, FILTER, RESPONDER
from pyfpm.sapi.failure import ExcInfo, Log, report
from pyfpm.sapi.headers import check_value, prefix_of
from pyfpm.sapi.interface import ROLES, Output, Request
from pyfpm.sapi.mount import mount_of, mount_of_authorizer
from pyfpm.sapi.settings import SapiSettings

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

DEFAULTS = SapiSettings()

FILE_BLOCK = 64 * 1024

_CODE = re.compile("[1-9][0-9][0-9]")
_LENGTH = re.compile("[0-9]{1,18}")

# Applications use a handful of statuses. status: "Status: ...\r\n", "" for the one that web servers take for granted.
_status_lines: dict[str, str] = {"200 OK": ""}
_MOST_STATUS_LINES = 200


def status_line(status: str) -> str:
    """Raises TypeError or ValueError if it is not a status."""
    line = _status_lines.get(status)
    if line is None:
        status = _plain("the status", status)
        if len(status) < 4 or status[3] != " " or not _CODE.match(status):
            raise ValueError(f"the status {status!r} is not of the form '200 OK'")
        check_value("Status", status)
        line = f"Status: {status}\r\n"
        if len(_status_lines) < _MOST_STATUS_LINES:
            _status_lines[status] = line
    return line


def _plain(what: str, text: str) -> str:
    """The characters themselves; a subclass of str may show others when it is formatted. Raises TypeError."""
    if not isinstance(text, str):
        raise TypeError(f"{what} must be a str, not {type(text).__name__}")
    return str.__str__(text)


def _latin1(block: str) -> bytes:
    try:
        return block.encode("latin-1")
    except UnicodeEncodeError as error:
        line = next(line for line in block.split("\r\n") if not line.isascii() and max(line) > "\xff")
        raise ValueError(f"only characters of latin-1 can be in a header: {line!r}") from error


def _wrong_piece(piece: object) -> TypeError:
    return TypeError(f"the body must be made of bytes, not {type(piece).__name__}")


class FileWrapper:
    """``wsgi.file_wrapper``: a file-like object as an iterable; sent by sendfile where it is a regular file.

    Args:
      filelike: has ``read``; its ``close``, if there is one, is called when the answer is complete.
      block_size: bytes of one read, where it has to be read.
    """

    def __init__(self, filelike: BinaryIO, block_size: int = FILE_BLOCK) -> None:
        self.filelike = filelike
        self.block_size = block_size
        close = getattr(filelike, "close", None)
        if close is not None:
            self.close = close

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        data = self.filelike.read(self.block_size)
        if not data:
            raise StopIteration
        return data


class ErrorStream:
    """``wsgi.errors``: text for the web server's error log."""

    __slots__ = ("_output",)

    def __init__(self, output: Output) -> None:
        self._output = output

    def write(self, text: str) -> int:
        self._output.error(text.encode("utf-8", "backslashreplace"))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """The text goes out with the answer, at the latest when the request ends."""


class Response:
    """The answer while the application makes it."""

    __slots__ = ("_bodiless", "_head", "_is_head", "_length", "_output", "head_sent")

    def __init__(self, output: Output, is_head: bool) -> None:
        self._output = output
        self._is_head = is_head
        self._bodiless = is_head
        self._head: bytes | None = None
        # Content-Length, if the application gave one.
        self._length: str | None = None
        self.head_sent = False

    def start(
        self,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: ExcInfo | None = None,
    ) -> Callable[[bytes], None]:
        """``start_response``."""
        if exc_info:
            try:
                if self.head_sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # No cycle through this frame.
        elif self._head is not None:
            raise AssertionError("start_response was called twice without exc_info")
        self._head = self._block(status, headers)
        return self.write

    def _block(self, status: str, headers: list[tuple[str, str]]) -> bytes:
        block = status_line(status)
        self._length = None
        self._bodiless = self._is_head
        without_length = False
        # nginx would collect events into pages; unless the application says something else.
        unbuffered = False
        if block:
            code = status[:3]
            without_length = code == "204" or code[0] == "1"
            if without_length or code == "304":
                self._bodiless = True
        for name, value in headers:
            prefix = prefix_of(name)
            if type(value) is not str:
                value = _plain(f"the value of the header {name}", value)
            if not value.isprintable():
                check_value(name, value)
            # By its length first, which is all that most names cost.
            length = len(prefix)
            if length == 16 and name.lower() == "content-length":
                if without_length:
                    continue  # "A server MUST NOT" (RFC 9110, 8.6), and frameworks do.
                if not _LENGTH.fullmatch(value):
                    raise ValueError(f"the Content-Length {value!r} is not a number of bytes")
                self._length = value
            elif length == 10 and name.lower() == "location" and not block.startswith("Status: "):
                # In CGI a Location alone is a redirect (RFC 3875, 6.2.3); an application that says 200 means it.
                block = "Status: 200 OK\r\n" + block
            elif length == 8 and name.lower() == "status":
                continue  # It would override the real one (RFC 3875, 6.3.3).
            elif length == 14 and value.startswith("text/event-stream") and name.lower() == "content-type":
                unbuffered = True
            if length:
                block += f"{prefix}{value}\r\n"
        if unbuffered and "x-accel-buffering: " not in block.lower():
            block += "X-Accel-Buffering: no\r\n"
        # A CGI answer has one header at least (RFC 3875, 6.2).
        return _latin1(block or "Status: 200 OK\r\n")

    def write(self, data: bytes) -> None:
        """The callable that start_response returns: sends at once."""
        if not isinstance(data, bytes):
            raise _wrong_piece(data)
        if self._head is None:
            raise AssertionError("the body came before start_response was called")
        if not self.head_sent:
            self.head_sent = True
            self._output.write(self._head + b"\r\n")
        if data and not self._bodiless:
            self._output.write(data)
        self._output.flush()

    def write_whole(self, data: bytes) -> None:
        """The complete body; sent when the request ends."""
        if not isinstance(data, bytes):
            raise _wrong_piece(data)
        self.finish_head(len(data))
        if data and not self._bodiless:
            self._output.write(data)

    def finish_head(self, length: int = -1) -> None:
        """The header block, if it has not gone yet. length: of the body, where that is known, else -1."""
        if self._head is None:
            raise AssertionError("start_response was not called")
        if not self.head_sent:
            self.head_sent = True
            if length < 0 or self._bodiless or self._length is not None:
                self._output.write(self._head + b"\r\n")
            else:
                self._output.write(self._head + b"Content-Length: %d\r\n\r\n" % length)

    def takes_a_message(self) -> bool:
        """Whether a piece of HTML may be added to what has been sent."""
        head = (self._head or b"").lower()
        is_html = b"\r\ncontent-type: text/html" in b"\r\n" + head
        return is_html and not self._bodiless and self._length is None and b"\r\ncontent-encoding: " not in head

    def send_file(self, wrapper: FileWrapper) -> bool:
        """Send the rest of the wrapped file without reading it, if it is a regular one."""
        filelike = plain_file(wrapper.filelike)
        if filelike is None:
            return False
        try:
            fd = filelike.fileno()
            info = os.fstat(fd)
            offset = filelike.tell()
        except (OSError, ValueError):  # It is closed: reading it will say so.
            return False
        if not stat.S_ISREG(info.st_mode):
            return False
        count = max(info.st_size - offset, 0)
        announced = self._length
        if announced is not None:
            count = min(count, int(announced))  # a range of the file
        self.finish_head(count)
        if not self._bodiless:
            self._output.sendfile(fd, offset, count)
        return True


def plain_file(filelike: Any) -> Any:
    """The object of ``open`` that this is, else None.

    A descriptor is not enough: GzipFile and its like have one as well, and it leads to other bytes than ``read`` gives.
    """
    if type(filelike) is tempfile._TemporaryFileWrapper:
        filelike = filelike.file
    raw = filelike
    if type(filelike) is io.BufferedReader or type(filelike) is io.BufferedRandom:
        raw = filelike.raw
    return filelike if type(raw) is io.FileIO else None


class WSGIAdapter:
    """Runs requests with one WSGI application.

    Args:
      application: the callable.
      log: where uncaught exceptions are reported: ``log(level, text)``.
      multiprocess: other processes serve the same application.
      multithread: and other threads of this one.
      run_once: there will be no other request.
      program: the path of the program that the web server has started to serve the application, if it did. Where it
        says that this is the script, the application is mounted there.
    """

    def __init__(
        self,
        application: Application,
        log: Log,
        settings: SapiSettings = DEFAULTS,
        *,
        multiprocess: bool = True,
        multithread: bool = False,
        run_once: bool = False,
        program: str | None = None,
    ) -> None:
        self._application = application
        self._log = log
        self._program = program
        self._settings = settings
        self._constant: dict[str, Any] = {
            "wsgi.version": (1, 0),
            "wsgi.multithread": multithread,
            "wsgi.multiprocess": multiprocess,
            "wsgi.run_once": run_once,
            "wsgi.file_wrapper": FileWrapper,
            # The body ends where it ends, whatever CONTENT_LENGTH says.
            "wsgi.input_terminated": True,
            "FCGI_ROLE": ROLES[RESPONDER],
        }

    def __call__(self, request: Request, output: Output) -> int:
        environ = self._environ(request, output)
        response = Response(output, environ["REQUEST_METHOD"] == "HEAD")
        try:
            result = self._application(environ, response.start)
            try:
                self._send(result, response)
            finally:
                if type(result) is not list:
                    close = getattr(result, "close", None)
                    if close is not None:
                        close()
        except BaseException as error:
            if isinstance(error, ConnectionAbortedError) and is_gone(output):
                return 1  # The visitor left; nothing is wrong with the application.
            uri = environ.get("REQUEST_URI") or environ.get("PATH_INFO") or "?"
            report(output, self._log, error, uri, self._settings, takes_a_message=response.takes_a_message())
            return 1
        return 0

    def _send(self, result: Iterable[bytes], response: Response) -> None:
        if type(result) is list or type(result) is tuple:
            if response.head_sent:
                for piece in result:
                    response.write(piece)
            elif len(result) == 1:
                response.write_whole(result[0])
            else:
                for piece in result:
                    if not isinstance(piece, bytes):
                        raise _wrong_piece(piece)
                response.write_whole(b"".join(result))
            return
        if isinstance(result, FileWrapper) and response.send_file(result):
            return
        if result is None:
            raise TypeError("the application returned None, which is not iterable; WSGI wants an iterable of bytes")
        for piece in result:
            if piece or not isinstance(piece, bytes):
                response.write(piece)
        response.finish_head()

    def _environ(self, request: Request, output: Output) -> dict[str, Any]:
        environ: dict[str, Any] = request.params
        # httpoxy: HTTP_PROXY would come from the client's Proxy header (CVE-2016-5385).
        environ.pop("HTTP_PROXY", None)
        # nginx passes these twice; PEP 3333 has them under their CGI names only.
        environ.pop("HTTP_CONTENT_TYPE", None)
        environ.pop("HTTP_CONTENT_LENGTH", None)
        stdin = request.stdin
        if stdin is None:
            stdin = io.BytesIO()
            if environ.get("CONTENT_LENGTH"):
                environ["CONTENT_LENGTH"] = "0"
        else:
            # What came is the truth; HAProxy announces less, and a chunked body nothing.
            environ["CONTENT_LENGTH"] = str(stdin.seek(0, io.SEEK_END))
            stdin.seek(0)
        https = environ.get("HTTPS")
        scheme = "https" if environ.get("REQUEST_SCHEME") == "https" or (https and https.lower() != "off") else "http"
        if "REQUEST_METHOD" not in environ:
            environ["REQUEST_METHOD"] = "GET"
        # nginx sends these two empty where server_name or the listening port is.
        if not environ.get("SERVER_NAME"):
            environ["SERVER_NAME"] = "localhost"
        if not environ.get("SERVER_PORT"):
            environ["SERVER_PORT"] = "443" if scheme == "https" else "80"
        if "SERVER_PROTOCOL" not in environ:
            environ["SERVER_PROTOCOL"] = "HTTP/1.0"
        environ.update(self._constant)
        if request.role == RESPONDER:
            environ["SCRIPT_NAME"], environ["PATH_INFO"] = mount_of(environ, self._program)
        else:
            self._add_role(environ, request)
        environ["wsgi.url_scheme"] = scheme
        environ["wsgi.input"] = stdin
        environ["wsgi.errors"] = ErrorStream(output)
        return environ

    def _add_role(self, environ: dict[str, Any], request: Request) -> None:
        if request.role == AUTHORIZER:
            environ["FCGI_ROLE"] = ROLES[AUTHORIZER]
            environ["SCRIPT_NAME"], environ["PATH_INFO"] = mount_of_authorizer(environ)
        else:
            environ["FCGI_ROLE"] = ROLES[FILTER]
            environ["SCRIPT_NAME"], environ["PATH_INFO"] = mount_of(environ, self._program)
            environ["fastcgi.data"] = io.BytesIO() if request.data is None else request.data


def is_gone(output: Output) -> bool:
    """The web server is, as opposed to a connection of the application's own, which raises the same error."""
    try:
        output.error(b"")
    except ConnectionAbortedError:
        return True
    return False
