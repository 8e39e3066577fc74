"""sys.stdin, sys.stdout and sys.stderr of scripts: they follow the request that runs where they are used.

Outside of a request (a module's import, a thread of its own) output goes to the worker's real streams.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import IO, Any, BinaryIO, TextIO, cast

from pyfpm.sapi.current import current_or_none


class _Ours(io.TextIOBase):
    """A stream of all requests: one that closes it closes nothing for the others."""

    encoding = "utf-8"

    def close(self) -> None:
        pass


class _Bytes(io.RawIOBase):
    """The bytes below sys.stdout or sys.stderr, of one request: a TextIOWrapper around them that is forgotten, and
    flushed who knows when, does not write into the answer to somebody else."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        copied = bytes(data)
        self._write(copied)
        return len(copied)


class ScriptStdout(_Ours):
    """``print`` writes the answer. Only flush() of the script's functions sends early, since print(flush=True) in
    libraries would cost a system call each; but in a stream of events it does as well."""

    errors = "surrogateescape"

    def __init__(self, fallback: TextIO) -> None:
        self._fallback = fallback

    @property
    def buffer(self) -> io.RawIOBase | BinaryIO:
        request = current_or_none()
        return self._fallback.buffer if request is None else _Bytes(request.response.write)

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        request = current_or_none()
        if request is None:
            return self._fallback.write(text)
        request.response.write(_encode(text, "surrogateescape"))
        return len(text)

    def flush(self) -> None:
        request = current_or_none()
        if request is None:
            self._fallback.flush()
        else:
            request.response.flush_events()


class ScriptStderr(_Ours):
    """``sys.stderr`` is the web server's error log."""

    errors = "backslashreplace"

    def __init__(self, fallback: TextIO) -> None:
        self._fallback = fallback

    @property
    def buffer(self) -> io.RawIOBase | BinaryIO:
        request = current_or_none()
        return self._fallback.buffer if request is None else _Bytes(request.response.error)

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        request = current_or_none()
        if request is None:
            return self._fallback.write(text)
        request.response.error(_encode(text, "backslashreplace"))
        return len(text)


def _encode(text: str, errors: str) -> bytes:
    if not isinstance(text, str):
        raise TypeError(f"write() argument must be str, not {type(text).__name__}")
    return text.encode("utf-8", errors)


class ScriptStdin(_Ours):
    """``sys.stdin`` is the request's body; ``sys.stdin.buffer`` has its bytes."""

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

    def finish(self) -> None:
        """What a script has put in their place gives out what it still holds, as at the end of the interpreter."""
        if sys.stdout is not self._stdout:
            _flush(sys.stdout)
            sys.stdout = self._stdout
        if sys.stderr is not self._stderr:
            _flush(sys.stderr)
            sys.stderr = self._stderr


def _flush(stream: Any) -> None:
    try:
        stream.flush()
    except BaseException:
        pass  # It can be anything, None and closed files among them; that the visitor left is told by the answer's end.
