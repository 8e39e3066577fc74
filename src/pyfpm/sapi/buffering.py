"""ob_start() and its kin: output that a script keeps, changes or drops before it is sent.

Buffers are a pile on top of the response, which knows of it only while there is one. What leaves a buffer goes into
the one below it, and from the lowest into the answer. A buffer has bytes, since ``echo`` takes them; scripts and
callbacks see text (UTF-8, surrogateescape), which becomes the same bytes again whatever they are.

What output_buffering holds back is not one of these: it is there for the headers' sake, and ``flush()`` sends it.

Source (PHP): main/output.c, and https://www.php.net/manual/en/ref.outcontrol.php.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import IntFlag
from typing import Any, Literal

from pyfpm.sapi.current import AtEnd, current
from pyfpm.sapi.response import ScriptResponse


class Phase(IntFlag):
    """Why a callback is called: PHP's PHP_OUTPUT_HANDLER_* by their last word."""

    WRITE = 0
    START = 1
    CLEAN = 2
    FLUSH = 4
    FINAL = 8


class Buffer:
    """One buffer of the pile."""

    __slots__ = ("callback", "chunk_size", "is_disabled", "is_started", "pieces", "size", "wants_phase")

    def __init__(self, callback: Callable[..., Any] | None, chunk_size: int) -> None:
        self.callback = callback
        self.chunk_size = chunk_size
        self.wants_phase = callback is not None and _requires_two(callback)
        self.pieces: list[bytes] = []
        self.size = 0
        self.is_started = False
        # Its callback failed, or said False: what comes goes on as it is.
        self.is_disabled = False

    @property
    def name(self) -> str:
        if self.callback is None:
            return "default output handler"
        return str(getattr(self.callback, "__qualname__", type(self.callback).__qualname__))

    def take(self) -> bytes:
        data = b"".join(self.pieces)
        self.pieces = []
        self.size = 0
        return data


class Buffers:
    """The pile of one request."""

    def __init__(self, response: ScriptResponse) -> None:
        self._response = response
        self._pile: list[Buffer] = []
        self._in_callback = False

    @property
    def pile(self) -> list[Buffer]:
        """To look at: the topmost is last."""
        return self._pile

    def push(self, buffer: Buffer) -> None:
        self._must_not_be_in_callback()
        self._pile.append(buffer)

    def write(self, data: bytes) -> None:
        """Output of the script. What a callback prints is lost, as in PHP: it could only go into its own buffer."""
        if not self._in_callback:
            self._add(len(self._pile) - 1, data)

    def _add(self, place: int, data: bytes) -> None:
        while place >= 0 and self._pile[place].is_disabled:
            place -= 1
        if place < 0:
            self._response.emit(data)
            return
        buffer = self._pile[place]
        buffer.pieces.append(data)
        buffer.size += len(data)
        if buffer.chunk_size and buffer.size >= buffer.chunk_size:
            self._pass_on(place, Phase.WRITE)

    def _pass_on(self, place: int, phase: Phase) -> None:
        """Send what a buffer has through its callback into the one below."""
        buffer = self._pile[place]
        data = buffer.take()
        try:
            data = self._changed(buffer, data, phase)
        finally:
            # Also where the callback failed: as it was, so that nothing is lost.
            if data:
                self._add(place - 1, data)

    def _changed(self, buffer: Buffer, data: bytes, phase: Phase) -> bytes:
        callback = buffer.callback
        if callback is None or buffer.is_disabled:
            return data
        if not buffer.is_started:
            buffer.is_started = True
            phase |= Phase.START
        text = _decode(data)
        self._in_callback = True
        try:
            result = callback(text, phase) if buffer.wants_phase else callback(text)
            if result is False:
                buffer.is_disabled = True
                return data
            return _encode(result)
        except BaseException:
            buffer.is_disabled = True
            raise
        finally:
            self._in_callback = False

    def contents(self) -> bytes:
        return b"".join(self._pile[-1].pieces)

    def flush(self) -> None:
        self._must_not_be_in_callback()
        self._pass_on(len(self._pile) - 1, Phase.FLUSH)

    def clean(self) -> None:
        """Drop what the topmost has; its callback is told, but what it says of it is dropped as well."""
        self._must_not_be_in_callback()
        buffer = self._pile[-1]
        self._changed(buffer, buffer.take(), Phase.CLEAN)

    def end(self, *, keep: bool) -> None:
        """Take the topmost away; what it has goes on, or is dropped."""
        self._must_not_be_in_callback()
        buffer = self._pile[-1]
        try:
            if keep:
                self._pass_on(len(self._pile) - 1, Phase.FINAL)
            else:
                self._changed(buffer, buffer.take(), Phase.CLEAN | Phase.FINAL)
        finally:
            self._pile.pop()
            if not self._pile and self._response.buffers is self:
                self._response.buffers = None

    def _must_not_be_in_callback(self) -> None:
        if self._in_callback:
            raise RuntimeError("output buffering cannot be changed in a callback of ob_start()")

    def end_all(self) -> None:
        """At the end of the script. What a callback raises goes up; the others are not called then."""
        # If they are still those of the answer: a failure has dropped them, and so has a file that was sent.
        while self._pile and self._response.buffers is self:
            self.end(keep=True)


def _requires_two(callback: Callable[..., Any]) -> bool:
    """PHP passes two arguments to all, and those who want one get no more. Here we look: ``str.upper`` and
    ``html.escape`` are callbacks, too."""
    try:
        parameters = inspect.signature(callback).parameters.values()
    except (TypeError, ValueError):  # It is written in C, and does not tell.
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(each.kind in positional and each.default is each.empty for each in parameters) >= 2


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _encode(result: object) -> bytes:
    if isinstance(result, str):
        return result.encode("utf-8", "surrogateescape")
    if isinstance(result, (bytes, bytearray, memoryview)):
        return bytes(result)
    if result is None:
        return b""
    raise TypeError(f"a callback of ob_start() must return str, bytes, None or False, not {type(result).__name__}")


# -- what scripts have ------------------------------------------------------------------------------------------------


def ob_start(callback: Callable[..., Any] | None = None, chunk_size: int = 0) -> bool:
    """Keep output in a new buffer from now on.

    Args:
      callback: ``callback(text)``, called when the buffer is flushed, cleaned or ended; what it returns is sent in
        place of the text (str or bytes; nothing for None, the text as it is for False). One that requires two arguments
        gets the phase as well, the sum of 1 for the first call, 2 for a cleaning, 4 for a flush and 8 for the last
        call. What it prints is lost. If it raises, the text goes on as it is, and it is not called again.
      chunk_size: pass the buffer on whenever it has so many bytes; 0 for never.
    """
    if callback is not None and not callable(callback):
        raise TypeError(f"ob_start() needs something to call, not {type(callback).__name__}")
    request = current()
    buffers = request.response.buffers
    if buffers is None:
        buffers = Buffers(request.response)
        request.at_end(AtEnd.OUTPUT, buffers.end_all)
        request.response.buffers = buffers
    buffers.push(Buffer(callback, max(0, chunk_size)))
    return True


def ob_get_contents() -> str | Literal[False]:
    """What the topmost buffer has; False where there is none.

    Bytes that are not UTF-8 are surrogates in it; echo() makes the same bytes of them again.
    """
    buffers = current().response.buffers
    return False if buffers is None else _decode(buffers.contents())


def ob_get_length() -> int | Literal[False]:
    """How many bytes the topmost buffer has; False where there is none."""
    buffers = current().response.buffers
    return False if buffers is None else int(buffers.pile[-1].size)


def ob_get_level() -> int:
    """How many buffers there are, one on the other."""
    buffers = current().response.buffers
    return 0 if buffers is None else len(buffers.pile)


def ob_list_handlers() -> list[str]:
    """The names of the buffers' callbacks, the lowest first; ``default output handler`` for one without."""
    buffers = current().response.buffers
    return [] if buffers is None else [buffer.name for buffer in buffers.pile]


def ob_flush() -> bool:
    """Pass on what the topmost buffer has; it stays. False where there is none."""
    buffers = current().response.buffers
    if buffers is None:
        return False
    buffers.flush()
    return True


def ob_clean() -> bool:
    """Drop what the topmost buffer has; it stays. False where there is none."""
    buffers = current().response.buffers
    if buffers is None:
        return False
    buffers.clean()
    return True


def ob_end_flush() -> bool:
    """Pass on what the topmost buffer has, and end it. False where there is none."""
    buffers = current().response.buffers
    if buffers is None:
        return False
    buffers.end(keep=True)
    return True


def ob_end_clean() -> bool:
    """Drop what the topmost buffer has, and end it. False where there is none."""
    buffers = current().response.buffers
    if buffers is None:
        return False
    buffers.end(keep=False)
    return True


def ob_get_flush() -> str | Literal[False]:
    """ob_get_contents() and ob_end_flush(): the text is as it was before the callback."""
    contents = ob_get_contents()
    ob_end_flush()
    return contents


def ob_get_clean() -> str | Literal[False]:
    """ob_get_contents() and ob_end_clean()."""
    contents = ob_get_contents()
    ob_end_clean()
    return contents


def ob_implicit_flush(enable: bool = True) -> None:
    """Send each piece of output at once, as if flush() followed it; the headers leave with the first."""
    current().response.flush_each_piece(bool(enable))


FUNCTIONS = {
    function.__name__: function
    for function in (
        ob_clean,
        ob_end_clean,
        ob_end_flush,
        ob_flush,
        ob_get_clean,
        ob_get_contents,
        ob_get_flush,
        ob_get_length,
        ob_get_level,
        ob_implicit_flush,
        ob_list_handlers,
        ob_start,
    )
}
