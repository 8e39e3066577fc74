"""A WSGI application in this process: the adapter between a request and an answer that are only kept."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any, BinaryIO

from pyfpm import protocol
from pyfpm.sapi.settings import SapiSettings
from pyfpm.sapi.wsgi import WSGIAdapter


class FakeRequest:
    def __init__(
        self,
        params: dict[str, str],
        body: bytes = b"",
        *,
        stdin: BinaryIO | None = None,
        data: bytes | None = None,
        role: int = protocol.RESPONDER,
    ) -> None:
        self.params = params
        self.role = role
        self.non_ascii = any(not value.isascii() for value in params.values())
        self.stdin = io.BytesIO(body) if body else stdin
        self.data = None if data is None else io.BytesIO(data)


class FakeOutput:
    """An output that a web server reads at once.

    ``sent`` is what has left, each flush a piece of its own; ``gone`` makes the web server hang up.
    """

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.errors = b""
        self.files: list[tuple[int, int]] = []
        self.gone = False
        self.ended = False
        self._staged = b""

    @property
    def started(self) -> bool:
        return bool(self.sent)

    def write(self, data: bytes) -> None:
        self._must_be_open()
        self._staged += data

    def error(self, data: bytes) -> None:
        self._must_be_open()
        self.errors += data

    def flush(self) -> None:
        self._must_be_open()
        self.sent.append(self._staged)
        self._staged = b""

    def sendfile(self, fd: int, offset: int, count: int) -> None:
        self._must_be_open()
        self.files.append((offset, count))
        self._staged += os.pread(fd, count, offset)

    def discard(self) -> bool:
        if self.started:
            return False
        self._staged = b""
        return True

    def end(self) -> None:
        if self._staged:
            self.sent.append(self._staged)
        self.ended = True

    def _must_be_open(self) -> None:
        if self.ended:
            raise ValueError("the request is over")
        if self.gone:
            raise ConnectionAbortedError

    @property
    def _answer(self) -> tuple[bytes, bytes, bytes]:
        return b"".join(self.sent).partition(b"\r\n\r\n")

    @property
    def head(self) -> list[str]:
        """The header lines, in their order."""
        return self._answer[0].decode("latin-1").split("\r\n")

    @property
    def body(self) -> bytes:
        return self._answer[2]

    def header(self, name: str) -> str | None:
        values = [line.split(": ", 1)[1] for line in self.head if line.lower().startswith(name.lower() + ": ")]
        assert len(values) < 2, f"{name} came more than once: {values}"
        return values[0] if values else None

    @property
    def status(self) -> int:
        return int((self.header("Status") or "200")[:3])


class Ran(FakeOutput):
    """What became of one request."""

    app_status = -1

    def __init__(self) -> None:
        super().__init__()
        self.log: list[str] = []


GET = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "/", "REQUEST_URI": "/", "SERVER_NAME": "site", "SERVER_PORT": "80"}


def run(
    app: Callable[..., Any],
    params: dict[str, str] | None = None,
    body: bytes = b"",
    *,
    output: Ran | None = None,
    display_errors: bool = False,
    multiprocess: bool = True,
    **request: Any,
) -> Ran:
    """Run one request to its end."""
    output = output or Ran()

    def log(level: str, text: str) -> None:
        output.log.append(f"{level}: {text}")

    adapter = WSGIAdapter(app, log, SapiSettings(display_errors=display_errors), multiprocess=multiprocess)
    output.app_status = adapter(FakeRequest({**GET, **(params or {})}, body, **request), output)
    output.end()
    return output


def answering(result: Any, status: str = "200 OK", headers: list[tuple[str, str]] | None = None) -> Callable[..., Any]:
    """An application that answers always this."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response(status, [("Content-Type", "text/plain")] if headers is None else headers)
        return result

    return application
