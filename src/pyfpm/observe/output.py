"""What a worker writes to its stdout and stderr, put into the log as php-fpm does it.

    [23-Nov-2026 10:00:00] WARNING: [pool www] child 7 said into stderr: "text"

Parsers rely on how it is divided (log_limit, php-fpm 7.3 and later): a line that is too long goes on in another one
with the same decoration, and all but the last are exactly ``log_limit`` bytes (a few less where a character would be
divided). If the stream ends within a line, it ends in ``, pipe is closed``, which may itself be divided. Nothing is
ever left out, whatever its size.

php-fpm's children mark the end of a request by bytes in the stream, which whoever writes to it can imitate; here the
reader of the pipe calls ``flush`` instead. Nothing a worker can say has a meaning, except for the newline.

How the bytes arrive makes no difference: all decisions are about bytes of a line that are known whatever follows. One
line's worth is held at most, besides what one ``feed`` brought.
"""

from __future__ import annotations

import codecs

from pyfpm.observe.log import Log, escape, json_fits

LEVEL = "WARNING"
PIPE_IS_CLOSED = ", pipe is closed"

# At log_level = debug, php-fpm's place for the function that wrote the line.
_ORIGIN = "child_said(), line 1: "


class WorkerOutput:
    """One stream of one worker.

    Args:
      pool: the pool's name.
      pid: the worker's.
      stream: ``stdout`` or ``stderr``.
      decorate: as above; otherwise the text alone, wrapped at ``log_limit - 1``, and empty lines left out as in
        php-fpm. What is not decorated has no level either, and is written whatever log_level says.
      log: where it goes. Its settings say the limit, the buffering and the format; if it is JSON, each line is an
        object with the fields stream, pid, and ``"continued": true`` in all but the last part of a long line.

    Source: php-fpm.conf, catch_workers_output, decorate_workers_output, log_limit, log_buffering.
    """

    def __init__(self, pool: str, pid: int, stream: str, decorate: bool, log: Log) -> None:
        self._form = _form(pool, pid, stream, decorate, log)
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace") if decorate else None
        self._flushed = False
        self._heard = not decorate or log.writes(LEVEL)

    def feed(self, data: bytes) -> None:
        """Take what one read returned. Lines that are complete are written before this returns."""
        if not self._heard or not data:
            return
        if self._flushed:
            self._flushed = False
            data = data.removeprefix(b"\n")
        *lines, rest = self._clean(data).split(b"\n")
        for line in lines:
            self._form.add(line)
            self._form.finish()
        if rest:
            self._form.add(rest)
            self._form.show()

    @property
    def waits(self) -> bool:
        """A line has begun and is not complete. Whoever reads the pipe may ``flush`` it if nothing more comes for a
        while: php-fpm's children see to that at the end of each request."""
        return self._form.begun

    def flush(self) -> None:
        """Write what has been said of a line that is not complete. What comes then is a line of its own, unless it is
        only the newline."""
        if self._decoder is not None:
            self._form.add(self._clean(b"", final=True))
        if self._form.begun:
            self._form.finish()
            self._flushed = True

    def close(self) -> None:
        """The stream has ended."""
        if self._decoder is not None:
            self._form.add(self._clean(b"", final=True))
        if self._form.begun:
            self._form.finish(PIPE_IS_CLOSED)

    def _clean(self, data: bytes, *, final: bool = False) -> bytes:
        if self._decoder is None:
            return data
        # Characters are held until they are complete, so that one that is divided is still one, and still escaped.
        return escape(self._decoder.decode(data, final)).encode()


def _form(pool: str, pid: int, stream: str, decorate: bool, log: Log) -> _Form:
    if not decorate:
        return _Plain(log)
    if log.settings.format == "json" and log.settings.syslog_ident is None:
        return _Json(log.for_pool(pool), pid, stream)
    return _Decorated(log, f"[pool {escape(pool)}] child {pid} said into {stream}: ".replace("\n", "\\x0a"))


class _Form:
    """A line that is being said: ``add`` its bytes, ``finish`` it; ``show`` what there is if nothing is to be held."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._sink = log.sink
        # An open line can only be in a file.
        self._held = log.settings.buffering or log.settings.syslog_ident is not None
        self._text = bytearray()
        self.begun = False

    def add(self, text: bytes) -> None:
        raise NotImplementedError

    def show(self) -> None:
        """Nothing more has come for now."""

    def finish(self, suffix: str = "") -> None:
        raise NotImplementedError


class _Decorated(_Form):
    """``prefix "text"``. The text that fits is the same in each line, since the prefix has a fixed length."""

    quote = b'"'

    def __init__(self, log: Log, prefix: str) -> None:
        super().__init__(log)
        self._prefix = prefix
        self._room = max(log.settings.limit - len(self._head()) - 2 * len(self.quote) - 1, 1)
        # Bytes of the current line that are written already.
        self._out = 0

    def _head(self) -> bytes:
        return (self._log.head(LEVEL, _ORIGIN) + self._prefix).encode("utf-8", "backslashreplace")

    def add(self, text: bytes) -> None:
        self._text += text
        self.begun = self.begun or bool(text)
        self._notice_interruption()
        start = 0
        while self._out + len(self._text) - start > self._room:
            end = _whole(self._text, start, start + self._room - self._out)
            self._write(bytes(self._text[start:end]) + self.quote, ends=True)
            start = end
        del self._text[:start]

    def show(self) -> None:
        if self._held or not self._text:
            return
        self._write(bytes(self._text), ends=False)
        self._text.clear()

    def finish(self, suffix: str = "") -> None:
        self._notice_interruption()
        said = bytes(self._text)
        self._text.clear()
        if self.begun and not said and not self._out and not suffix and not self._held:
            # All that was said had been written when another line came between.
            self.begun = False
            return
        self.begun = False
        left = self._room - self._out - len(said)
        if len(suffix) <= left or not suffix:
            self._write(said + self.quote + suffix.encode(), ends=True)
            return
        self._write(said + self.quote + suffix[:left].encode(), ends=True)
        self._sink.write(self._head() + suffix[left:].encode() + b"\n", LEVEL)

    def _notice_interruption(self) -> None:
        if self._out and self._sink.open_by is not self:
            self._out = 0

    def _write(self, text: bytes, *, ends: bool) -> None:
        line = text if self._out else self._head() + self.quote + text
        self._sink.write(line + b"\n" * ends, LEVEL, self, ends=ends)
        self._out = 0 if ends else self._out + len(text)


class _Plain(_Decorated):
    """The text alone. A line without text is none, as in php-fpm."""

    quote = b""

    def __init__(self, log: Log) -> None:
        super().__init__(log, "")

    def _head(self) -> bytes:
        return b""

    def finish(self, suffix: str = "") -> None:
        if self.begun:
            super().finish()


class _Json(_Form):
    """An object a line. What fits depends on the characters, so it is known once there are more than could fit."""

    def __init__(self, log: Log, pid: int, stream: str) -> None:
        super().__init__(log)
        self._pid = pid
        self._stream = stream
        self._said = ""
        self._room = max(log.settings.limit - len(self._line("", continued=True)), 8)

    def add(self, text: bytes) -> None:
        self.begun = self.begun or bool(text)
        said = self._said + text.decode()
        start = 0
        while len(said) - start > self._room:
            start = self._write_part(said, start)
        self._said = said[start:]

    def show(self) -> None:
        pass  # An object is written whole.

    def finish(self, suffix: str = "") -> None:
        start = 0
        while json_fits(self._said[start : start + self._room], self._room) < len(self._said) - start:
            start = self._write_part(self._said, start)
        self._sink.write(self._line(self._said[start:]), LEVEL)
        self._said = ""
        self.begun = False

    def _write_part(self, said: str, start: int) -> int:
        part = said[start : start + self._room]
        end = start + json_fits(part, self._room)
        self._sink.write(self._line(said[start:end], continued=True), LEVEL)
        return end

    def _line(self, text: str, *, continued: bool = False) -> bytes:
        more: dict[str, object] = {"stream": self._stream}
        if continued:
            more["continued"] = True
        return self._log.json_line(LEVEL, text, more, self._pid)


def _whole(text: bytearray, start: int, end: int) -> int:
    """The end, or up to three bytes before it if a character would be divided there."""
    for at in range(end, max(end - 4, start), -1):
        if text[at] & 0xC0 != 0x80:
            return at
    return end
