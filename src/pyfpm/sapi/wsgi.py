"""WSGI 1.0.1 applications (PEP 3333).

A list or tuple is sent in one piece. Any other iterable is sent piece by piece, each before the next is asked for; the
header block goes with the first of them that is not empty.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from pyfpm.sapi.failure import ExcInfo, Log, report
from pyfpm.sapi.headers import check_value, prefix_of
from pyfpm.sapi.interface import Output, Request

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

FILE_BLOCK = 64 * 1024


# Applications use a handful of statuses. status: "Status: ...\r\n", or "" for the one that web servers take for granted.
_status_lines: dict[str, str] = {"200 OK": ""}
_MOST_STATUS_LINES = 200


def status_line(status: str) -> str:
    """Raises ValueError if it is not a status."""
    line = _status_lines.get(status)
    if line is None:
        if len(status) < 4 or status[3] != " " or not (status.isascii() and status[:3].isdecimal()):
            raise ValueError(f"the status {status!r} is not of the form '200 OK'")
        check_value("Status", status)
        line = f"Status: {status}\r\n"
        if len(_status_lines) < _MOST_STATUS_LINES:
            _status_lines[status] = line
    return line


class FileWrapper:
    """``wsgi.file_wrapper``: a file-like object as an iterable; sent by sendfile where it is a regular file."""

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

    __slots__ = ("_bodiless", "_head", "_has_length", "_output", "head_sent")

    def __init__(self, output: Output, bodiless: bool) -> None:
        self._output = output
        self._bodiless = bodiless
        self._head: str | None = None
        self._has_length = False
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

    def _block(self, status: str, headers: list[tuple[str, str]]) -> str:
        block = status_line(status)
        self._has_length = False
        for name, value in headers:
            prefix = prefix_of(name)
            if not value.isprintable():
                check_value(name, value)
            if prefix:
                block += f"{prefix}{value}\r\n"
                if len(name) == 14 and name.lower() == "content-length":
                    self._has_length = True
        return block

    def write(self, data: bytes) -> None:
        """The callable that start_response returns: sends at once."""
        if type(data) is not bytes:
            raise TypeError(f"the body must be made of bytes, not {type(data).__name__}")
        if self._head is None:
            raise AssertionError("the body came before start_response was called")
        if not self.head_sent:
            self.head_sent = True
            self._output.write((self._head + "\r\n").encode("latin-1"))
        if data and not self._bodiless:
            self._output.write(data)
        self._output.flush()

    def write_whole(self, data: bytes) -> None:
        """The complete body; sent when the request ends."""
        if type(data) is not bytes:
            raise TypeError(f"the body must be made of bytes, not {type(data).__name__}")
        self.finish_head("" if self._has_length else f"Content-Length: {len(data)}\r\n")
        if data and not self._bodiless:
            self._output.write(data)

    def finish_head(self, more: str = "") -> None:
        if self._head is None:
            raise AssertionError("start_response was not called")
        if not self.head_sent:
            self.head_sent = True
            self._output.write((self._head + more + "\r\n").encode("latin-1"))

    def send_file(self, wrapper: FileWrapper) -> bool:
        """Send the rest of the wrapped file without reading it, if it is a regular one."""
        filelike = wrapper.filelike
        try:
            fd = filelike.fileno()
            info = os.fstat(fd)
            offset = filelike.tell()
        except (AttributeError, OSError, ValueError):
            return False
        if not stat.S_ISREG(info.st_mode):
            return False
        count = max(info.st_size - offset, 0)
        self.finish_head("" if self._has_length else f"Content-Length: {count}\r\n")
        if not self._bodiless:
            self._output.sendfile(fd, offset, count)
        return True


class WSGIAdapter:
    """Runs requests with one WSGI application.

    Args:
      application: the callable.
      log: where uncaught exceptions are reported: ``log(level, text)``.
      multiprocess: other processes serve the same application.
      display_errors: show tracebacks to visitors.
    """

    def __init__(
        self, application: Application, log: Log, *, multiprocess: bool = True, display_errors: bool = False
    ) -> None:
        self._application = application
        self._log = log
        self._display_errors = display_errors
        self._constant: dict[str, Any] = {
            "wsgi.version": (1, 0),
            "wsgi.multithread": False,
            "wsgi.multiprocess": multiprocess,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
            # The body ends where it ends, whatever CONTENT_LENGTH says.
            "wsgi.input_terminated": True,
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
        except ConnectionAbortedError:
            return 1  # The visitor left; nothing is wrong with the application.
        except BaseException as error:
            uri = environ.get("REQUEST_URI") or environ.get("PATH_INFO") or "?"
            report(output, self._log, error, uri, display=self._display_errors)
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
                response.write_whole(b"".join(result))
            return
        if isinstance(result, FileWrapper) and response.send_file(result):
            return
        for piece in result:
            if piece:
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
        self._fix_path(environ)
        if "REQUEST_METHOD" not in environ:
            environ["REQUEST_METHOD"] = "GET"
        if "SERVER_NAME" not in environ:
            environ["SERVER_NAME"] = "localhost"
        if "SERVER_PORT" not in environ:
            environ["SERVER_PORT"] = "80"
        if "SERVER_PROTOCOL" not in environ:
            environ["SERVER_PROTOCOL"] = "HTTP/1.0"
        https = environ.get("HTTPS")
        environ.update(self._constant)
        environ["wsgi.url_scheme"] = (
            "https" if environ.get("REQUEST_SCHEME") == "https" or (https and https.lower() != "off") else "http"
        )
        environ["wsgi.input"] = stdin
        environ["wsgi.errors"] = ErrorStream(output)
        if request.data is not None:
            environ["fastcgi.data"] = request.data
        return environ

    def _fix_path(self, environ: dict[str, Any]) -> None:
        """Split the path as WSGI wants it.

        A web server that is not told where the application is mounted says it all in SCRIPT_NAME: nginx's own
        fastcgi_params has no PATH_INFO, Apache's mod_proxy_fcgi sends none, and a PATH_INFO that nginx or Caddy made
        up from nothing is empty while DOCUMENT_URI (which Apache and lighttpd do not send) repeats SCRIPT_NAME.
        """
        script_name = environ.get("SCRIPT_NAME")
        if script_name is None:
            environ["SCRIPT_NAME"] = script_name = ""
        path_info = environ.get("PATH_INFO")
        if path_info is None or (not path_info and environ.get("DOCUMENT_URI") == script_name):
            environ["PATH_INFO"] = script_name
            environ["SCRIPT_NAME"] = ""
