"""sys.stdin, sys.stdout and sys.stderr of scripts: they follow the request that runs where they are used.

Outside of a request (a module's import, a thread of its own) output goes to the worker's real streams.
"""

from __future__ import annotations

import io
import sys
from typing import IO, Any, BinaryIO, TextIO, cast

from pyfpm.sapi.current import current_or_none


class _RawStdout(io.RawIOBase):
    def __init__(self, fallback: TextIO) -> None:
        self._fallback = fallback

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        request = current_or_none()
        if request is None:
            return self._fallback.buffer.write(data)
        request.response.write(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Only flush() of the script's functions sends early: print(flush=True) in libraries would cost a system
        call each."""


class ScriptStdout(io.TextIOBase):
    """``print`` writes the answer."""

    encoding = "utf-8"
    errors = "surrogateescape"

    def __init__(self, fallback: TextIO) -> None:
        self._fallback = fallback
        self.buffer = _RawStdout(fallback)

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        request = current_or_none()
        if request is None:
            return self._fallback.write(text)
        request.response.write(text.encode("utf-8", "surrogateescape"))
        return len(text)


class _RawStderr(io.RawIOBase):
    def __init__(self, fallback: TextIO) -> None:
        self._fallback = fallback

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        request = current_or_none()
        if request is None:
            return self._fallback.buffer.write(data)
        request.output.error(bytes(data))
        return len(data)


class ScriptStderr(io.TextIOBase):
    """``sys.stderr`` is the web server's error log."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, fallback: TextIO) -> None:
        self._fallback = fallback
        self.buffer = _RawStderr(fallback)

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        request = current_or_none()
        if request is None:
            return self._fallback.write(text)
        request.output.error(text.encode("utf-8", "backslashreplace"))
        return len(text)


class ScriptStdin(io.TextIOBase):
    """``sys.stdin`` is the request's body; ``sys.stdin.buffer`` has its bytes."""

    encoding = "utf-8"
    errors = "surrogateescape"

    def readable(self) -> bool:
        return True

    @property
    def buffer(self) -> BinaryIO:
        request = current_or_none()
        return io.BytesIO() if request is None else request.body

    def _text(self) -> IO[str]:
        request = current_or_none()
        return io.StringIO() if request is None else request.body_text

    def read(self, size: int | None = -1) -> str:
        return self._text().read(-1 if size is None else size)

    def readline(self, size: int = -1) -> str:  # type: ignore[override]
        return self._text().readline(size)


class ScriptStreams:
    """The three streams of a worker that runs scripts, put in place before every request."""

    def __init__(self) -> None:
        self._stdin = cast(TextIO, ScriptStdin())
        self._stdout = cast(TextIO, ScriptStdout(sys.stderr))
        self._stderr = cast(TextIO, ScriptStderr(sys.stderr))

    def install(self) -> None:
        sys.stdin = self._stdin
        sys.stdout = self._stdout
        sys.stderr = self._stderr
