"""The log, in php-fpm's format: ``[23-Nov-2026 10:00:00] NOTICE: [pool www] message``, to standard error or a file.

What a line promises:

- It is one ``write``, so that the lines of several processes do not mix, and no longer than ``log_limit`` bytes with
  its newline; what is too long ends in ``...``.
- Nobody else can write one: control characters are shown by their number, and the further lines of a message (of a
  traceback) are set off by a tab.
- With ``log.format = json`` it is one valid JSON object, whatever was in the message.

A ``Log`` is a file descriptor and some settings. Workers inherit the descriptor; to reopen a log the new file is put in
the old one's place (``dup2``), so nobody needs to be told a number. Only syslog is a connection, and each process makes
its own when it first has something to say.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from pyfpm.observe.secrets import mask

# strftime would follow the locale that an application may have set.
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# From the least to the most important; log_level names the first one that is written.
LEVELS = ("debug", "notice", "warning", "error", "alert")
_RANK = {name.upper(): rank for rank, name in enumerate(LEVELS)}

# In the order of <syslog.h>. php-fpm takes the name, with or without LOG_, or the number.
_FIRST = ("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp")
FACILITIES = {name: number for number, name in enumerate(_FIRST)} | {f"local{n}": 16 + n for n in range(8)}
_SEVERITY = {"ALERT": 1, "ERROR": 3, "WARNING": 4, "NOTICE": 5, "DEBUG": 7}
SYSLOG_SOCKET = "/dev/log"

# Terminals act on these (the last ones turn the direction of what follows), and a forged line would look like ours.
# Lines after the first are set off by a tab.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")

# More of a request's field than this is for the access log.
_LONGEST_FIELD = 256


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How a log is written. ``dataclasses.asdict`` of it is JSON, from which ``LogSettings(**json)`` makes it again.

    Attributes:
      level: the first of ``LEVELS`` that is written. At ``debug`` each line has microseconds, and tells who wrote it.
      limit: bytes of a line, newline included. php-fpm asks for more than 512.
      buffering: what a worker says is collected until its line is complete. Our own lines are complete anyway.
      format: ``text`` or ``json``; syslog gets text.
      mask_secrets: secrets in our own messages are shown by their beginning only. What workers say is theirs.
      syslog_ident: the name to use in syslog; None: not syslog, but the descriptor.
      syslog_facility: one of ``FACILITIES``, or its number in <syslog.h> (a multiple of 8).
      bare: no time: for a worker whose output the master takes and puts its own decoration around.

    Source: php-fpm.conf, log_level, log_limit, log_buffering, syslog.ident, syslog.facility.
    """

    level: str = "notice"
    limit: int = 1024
    buffering: bool = True
    format: str = "text"
    mask_secrets: bool = True
    syslog_ident: str | None = None
    syslog_facility: str | int = "daemon"
    bare: bool = False


def facility_number(facility: str | int) -> int:
    """The facility's number as <syslog.h> has it: ``daemon``, ``LOG_DAEMON``, ``24`` and 24 are the same.

    Raises:
      ValueError: there is no such facility.
    """
    name = str(facility).strip().lower().removeprefix("log_")
    if name in FACILITIES:
        return FACILITIES[name] << 3
    if name.isascii() and name.isdigit() and int(name) % 8 == 0 and int(name) >> 3 in FACILITIES.values():
        return int(name)
    raise ValueError(f"there is no syslog facility {facility!r}; expected one of {', '.join(FACILITIES)}")


def stamp(now: time.struct_time) -> str:
    """``23-Nov-2026 10:00:00``."""
    return f"{now.tm_mday:02}-{MONTHS[now.tm_mon - 1]}-{now.tm_year} {now.tm_hour:02}:{now.tm_min:02}:{now.tm_sec:02}"


def format_line(level: str, message: str, pool: str | None, now: time.struct_time) -> str:
    """A line in its usual form, however long."""
    return _text(f"[{stamp(now)}] {level}: ", message, pool)


def escape(text: str) -> str:
    """What terminals would act on is shown by its number. Tabs and newlines stay."""
    return _CONTROL.sub(_shown, text)


def iso_time(now: float) -> str:
    """``2026-11-23T10:00:00.123456+01:00``, of seconds since 1970; the local time with its zone."""
    local = time.localtime(now)
    zone = time.strftime("%z", local)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{_microseconds(now):06}{zone[:3]}:{zone[3:5]}"


def to_json(fields: Mapping[str, object]) -> bytes:
    """One line of JSON. Bytes that were no text (lone surrogates) and control characters are shown by their number."""
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"), default=str)
    return (_CONTROL.sub(_shown_in_json, text) + "\n").encode("utf-8", "surrogatepass")


def readable(text: str) -> str:
    """The same text, with what cannot be encoded shown by its number. Many readers of JSON refuse lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode()


class Log:
    """Writes lines for one pool, or for the master.

    ``log(level, message)`` raises nothing: a log that cannot be written stops nobody. The descriptor is the caller's,
    who also closes it.
    """

    __slots__ = ("_pool", "_rank", "_settings", "_sink")

    def __init__(self, pool: str | None = None, fd: int = 2, settings: LogSettings | None = None) -> None:
        self._pool = pool
        self._settings = settings = settings or LogSettings()
        self._rank = _RANK[settings.level.upper()]
        self._sink = Sink(fd, settings)

    def for_pool(self, name: str | None) -> Log:
        """A log of another pool in the same place."""
        other = object.__new__(Log)
        other._pool = name
        other._settings, other._rank, other._sink = self._settings, self._rank, self._sink
        return other

    @property
    def pool(self) -> str | None:
        return self._pool

    @property
    def fd(self) -> int:
        return self._sink.fd

    @property
    def settings(self) -> LogSettings:
        return self._settings

    @property
    def sink(self) -> Sink:
        """Where lines go; the logs that ``for_pool`` gave share it."""
        return self._sink

    def close(self) -> None:
        """End the connection to syslog, if there is one. The descriptor stays; both can be used again."""
        self._sink.close()

    def writes(self, level: str) -> bool:
        """Lines of this level are written. What is not one of ours is written."""
        return _RANK.get(level, len(LEVELS)) >= self._rank

    def __call__(self, level: str, message: str, request: Mapping[str, object] | None = None) -> None:
        """Write a line, if its level is.

        Args:
          level: ``ALERT``, ``ERROR``, ``WARNING``, ``NOTICE`` or ``DEBUG``.
          message: may have several lines.
          request: what is known of the request concerned (``id``, ``method``, ``uri`` ...): fields of the JSON object,
            or behind the message: ``, request: "GET /index.py", id: "..."``.
        """
        if not self.writes(level):
            return
        settings = self._settings
        if settings.mask_secrets:
            message = mask(message)
        if settings.format == "json" and settings.syslog_ident is None:
            self._sink.write(self.json_line(level, message, request))
            return
        origin = ""
        if settings.level == "debug":
            caller = sys._getframe(1)
            origin = f"{caller.f_code.co_name}(), line {caller.f_lineno}: "
        if request:
            message = message.rstrip("\n") + _request(request, settings.mask_secrets)
        text = _text(self.head(level, origin), message, self._pool)
        self._sink.write(cut(text.encode("utf-8", "backslashreplace"), settings.limit), level)

    def head(self, level: str, origin: str = "") -> str:
        """What a line begins with, up to the pool or the message; its length does not change with the time.

        Source: php-fpm's lines at log_level = debug and in syslog.
        """
        settings = self._settings
        if settings.syslog_ident is not None:
            return f"[{level}] {origin}"
        if settings.bare:
            return f"{level}: {origin}"
        now = time.time()
        when = stamp(time.localtime(now))
        if settings.level != "debug":
            return f"[{when}] {level}: "
        return f"[{when}.{_microseconds(now):06}] {level}: pid {os.getpid()}, {origin}"

    def json_line(
        self,
        level: str,
        message: str,
        more: Mapping[str, object] | None = None,
        pid: int | None = None,
    ) -> bytes:
        """A line as a JSON object: time, level, pool, pid, message, and more. No longer than the limit: the message is
        cut, and ends in ``...`` then."""
        limit = self._settings.limit
        fields: dict[str, object] = {"time": iso_time(time.time()), "level": level}
        if self._pool:
            fields["pool"] = readable(self._pool)
        fields["pid"] = os.getpid() if pid is None else pid
        fields["message"] = readable(message.rstrip("\n"))
        for name, value in (more or {}).items():
            if isinstance(value, str):
                value = readable(value)[:_LONGEST_FIELD]
                if self._settings.mask_secrets:
                    value = mask(value)
            fields.setdefault(name, value)
        line = to_json(fields)
        if len(line) <= limit:
            return line
        text = str(fields["message"])
        fields["message"] = "..."
        room = limit - len(to_json(fields))
        if room < 0:
            # It is the other fields that are long. They are of less use than the message.
            fields = {name: fields[name] for name in ("time", "level", "pool", "pid", "message") if name in fields}
            room = limit - len(to_json(fields))
        fields["message"] = text[: json_fits(text, room)] + "..."
        return to_json(fields)


class Sink:
    """Where lines go: a descriptor, or syslog.

    With ``log_buffering = no`` what a worker says is written as it comes, so that a line may be open for a while.
    Whoever writes next ends it first; the one whose line it was sees by ``open_by`` that it has to begin again.
    """

    __slots__ = ("_complained", "_facility", "_ident", "_socket", "fd", "open_by")

    def __init__(self, fd: int, settings: LogSettings) -> None:
        self.fd = fd
        self.open_by: object | None = None
        self._ident = settings.syslog_ident
        self._facility = 0 if self._ident is None else facility_number(settings.syslog_facility)
        self._socket: socket.socket | None = None
        self._complained = False

    def write(self, data: bytes, level: str = "NOTICE", owner: object | None = None, *, ends: bool = True) -> None:
        if self._ident is not None:
            for line in data.splitlines():
                self._to_syslog(line, level)
            return
        if self.open_by is not None and self.open_by is not owner:
            data = b"\n" + data
        self.open_by = None if ends else owner
        self._write(self.fd, data)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _to_syslog(self, line: bytes, level: str) -> None:
        """One datagram a line, as syslog(3) sends it with LOG_PID; to standard error while nobody listens."""
        now = time.localtime()
        when = f"{MONTHS[now.tm_mon - 1]} {now.tm_mday:2} {now.tm_hour:02}:{now.tm_min:02}:{now.tm_sec:02}"
        priority = self._facility | _SEVERITY.get(level, 3)
        packet = f"<{priority}>{when} {self._ident}[{os.getpid()}]: ".encode("utf-8", "backslashreplace") + line
        for again in (True, False):
            # A connection that was good may be to a syslog daemon that has been restarted since.
            fresh = self._socket is None
            try:
                if self._socket is None:
                    self._socket = _connected()
                self._socket.send(packet)
                return
            except OSError as error:
                reason = error.strerror
                self.close()
            if fresh or not again:
                break
        if not self._complained:
            self._complained = True
            self._write(2, f"WARNING: syslog cannot be reached ({reason}); its lines go here\n".encode())
        self._write(2, line + b"\n")

    @staticmethod
    def _write(fd: int, data: bytes) -> None:
        try:
            os.write(fd, data)
        except OSError:
            pass  # The log cannot be written, and there is nowhere else to say so.


def _connected() -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        # A syslog daemon that hangs must not make us hang.
        connection.setblocking(False)
        connection.connect(SYSLOG_SOCKET)
    except OSError:
        connection.close()
        raise
    return connection


def cut(lines: bytes, limit: int) -> bytes:
    """No line is longer than ``limit`` bytes with its newline. What is cut ends in ``...``; characters stay whole."""
    if len(lines) <= limit:
        return lines
    return b"".join(_cut_one(line, limit) for line in lines.splitlines(keepends=True))


def _cut_one(line: bytes, limit: int) -> bytes:
    if len(line) <= limit:
        return line
    return line[: max(limit - 4, 0)].decode("utf-8", "ignore").encode() + b"...\n"


def json_fits(text: str, room: int) -> int:
    """How many characters of the text take no more than ``room`` bytes in a JSON string."""
    low, high = 0, max(min(len(text), room), 0)
    empty = len(to_json({"": ""}))
    while low < high:
        middle = (low + high + 1) // 2
        if len(to_json({"": text[:middle]})) - empty <= room:
            low = middle
        else:
            high = middle - 1
    return low


def _text(head: str, message: str, pool: str | None) -> str:
    where = f"[pool {pool}] " if pool else ""
    text = f"{head}{where}{message}".rstrip("\n")
    return f"{escape(text)}\n".replace("\n", "\n\t").removesuffix("\t")


def _request(fields: Mapping[str, object], masked: bool) -> str:
    """``, request: "GET /a"``, as web servers write it, and what else is known."""
    known = dict(fields)
    shown = []
    line = " ".join(str(known.pop(name)) for name in ("method", "uri") if name in known)
    for name, value in [("request", line)] * bool(line) + list(known.items()):
        text = str(value)[:_LONGEST_FIELD].replace("\n", "\\x0a")
        shown.append(f', {name}: "{text}"')
    joined = "".join(shown)
    return mask(joined) if masked else joined


def _microseconds(now: float) -> int:
    return int(now * 1_000_000) % 1_000_000


def _shown(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


def _shown_in_json(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
