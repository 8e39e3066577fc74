"""A request and an output in memory, as ``sapi/interface.py`` wants them, and a site of scripts over them."""

from __future__ import annotations

import contextvars
import io
import os
import select
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from pyfpm.sapi.cgi.programs import CGIPrograms
from pyfpm.sapi.script import ScriptAdapter
from pyfpm.sapi.script_file import ScriptFiles
from pyfpm.sapi.settings import SapiSettings


class FakeRequest:
    role = 1
    data = None

    def __init__(self, params: dict[str, str], body: bytes | None = None) -> None:
        # As the protocol has them: a character a byte.
        self.params = {name: os.fsencode(value).decode("latin-1") for name, value in params.items()}
        self.non_ascii = not all(value.isascii() for value in self.params.values())
        self.stdin: BinaryIO | None = None if body is None else io.BytesIO(body)


class FakeOutput:
    """Collects the answer.

    Args:
      staging: bytes that can still be taken back.
      leaves_after: the visitor is gone once so many bytes are written.

    ``left`` can be set for the same.
    """

    def __init__(self, staging: int = 32768, leaves_after: int | None = None) -> None:
        self.sent = b""
        self.stderr = b""
        self.started = False
        self.ended = False
        self.flushes = 0
        self.left = False
        self.finished = False
        self._staging = staging
        self._leaves_after = leaves_after

    def _must_be_open(self) -> None:
        if self.ended:
            raise ValueError("the request is over: nothing can be added to its answer")
        if self.is_given_up():
            raise ConnectionAbortedError("the web server no longer waits for this answer")

    def is_given_up(self) -> bool:
        return self.left or (self._leaves_after is not None and len(self.sent) >= self._leaves_after)

    def finish(self) -> bool:
        before, self.finished, self.started = self.finished, True, True
        return not before

    def write(self, data: bytes) -> None:
        assert type(data) is bytes
        if self.finished:
            return
        self._must_be_open()
        self.sent += data
        self.started = self.started or len(self.sent) > self._staging

    def error(self, data: bytes) -> None:
        assert type(data) is bytes
        if self.finished:
            return
        self._must_be_open()
        self.stderr += data

    def flush(self) -> None:
        if self.finished:
            return
        self._must_be_open()
        self.flushes += 1
        self.started = True

    def sendfile(self, fd: int, offset: int, count: int) -> None:
        self.write(os.pread(fd, count, offset))

    def wait(self, descriptors: Sequence[int], timeout_s: float | None) -> list[int]:
        self._must_be_open()
        looks = select.poll()
        for fd in descriptors:
            looks.register(fd, select.POLLIN)
        return [fd for fd, _ in looks.poll(None if timeout_s is None else timeout_s * 1000)]

    def discard(self) -> bool:
        if self.started:
            return False
        self.sent = b""
        return True


class Answer:
    def __init__(self, app_status: int, output: FakeOutput, logged: list[tuple[str, str]]) -> None:
        self.app_status = app_status
        self.output = output
        self.stderr = output.stderr.decode("utf-8", "surrogateescape")
        self.logged = logged
        head, _, self.body = output.sent.partition(b"\r\n\r\n")
        self.lines = head.decode("utf-8", "surrogateescape").split("\r\n")

    @property
    def log(self) -> str:
        return "\n".join(text for _, text in self.logged)

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "surrogateescape")

    def all(self, name: str) -> list[str]:
        return [line.partition(": ")[2] for line in self.lines if line.lower().startswith(name.lower() + ":")]

    @property
    def status(self) -> int:
        return int((self.all("Status") or ["200"])[0][:3])


class Site:
    """A directory of scripts, and the adapter that runs them."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.root = root
        self._logged: list[tuple[str, str]] = []
        self.adapter = self.make_adapter(SapiSettings(**settings))

    def make_adapter(self, settings: SapiSettings) -> ScriptAdapter:
        files = ScriptFiles(
            (str(self.root),), fix_pathinfo=settings.cgi_fix_pathinfo, discard_path=settings.cgi_discard_path
        )
        return ScriptAdapter(files, self._log, settings)

    def _log(self, level: str, text: str) -> None:
        self._logged.append((level, text))

    def write(self, source: str | bytes, name: str = "x.py") -> Path:
        path = self.root / name
        path.write_bytes(source if isinstance(source, bytes) else source.encode())
        return path

    def run(
        self, source: str | bytes, body: bytes | None = None, output: FakeOutput | None = None, **params: str
    ) -> Answer:
        """The answer to a request for a script of this source."""
        return self.ask(str(self.write(source)), body, output, **params)

    def ask(self, filename: str, body: bytes | None = None, output: FakeOutput | None = None, **params: str) -> Answer:
        output = output or FakeOutput()
        self._logged = []
        request = FakeRequest({"REQUEST_METHOD": "GET", "SCRIPT_FILENAME": filename} | params, body)
        app_status = contextvars.copy_context().run(self.adapter, request, output)
        output.ended = True
        return Answer(app_status, output, self._logged)


class CGISite(Site):
    """A directory of CGI programs."""

    def make_adapter(self, settings: SapiSettings) -> ScriptAdapter:
        files = ScriptFiles((str(self.root),), (), ("",))
        return ScriptAdapter(files, self._log, settings, None, CGIPrograms(self._log, settings, ("GIVEN",)))

    def write(self, source: str | bytes, name: str = "x.py") -> Path:
        path = super().write(source, name)
        path.chmod(0o755)
        return path


@contextmanager
def process_as_it_was() -> Iterator[None]:
    """Scripts run in the process of the tests here, and change what scripts may change."""
    main, argv, path, cwd = sys.modules["__main__"], sys.argv, sys.path, os.getcwd()
    streams = sys.stdin, sys.stdout, sys.stderr
    try:
        yield
    finally:
        sys.modules["__main__"], sys.argv, sys.path = main, argv, path
        sys.stdin, sys.stdout, sys.stderr = streams
        os.chdir(cwd)
