r"""The access log: one line a request, in php-fpm's access.format.

    access.format = "%R - %u %t \"%m %r%Q%q\" %s %{milli}d %{kilo}M %C%%"

The format is taken apart once, when the worker starts; for each request there is a list of small functions left, one
per value (some 5 us a line in all). Values come from anybody, so each is escaped: what is not printable ASCII, both
quotes and the backslash are shown as ``\xNN`` (nginx's manner), so that no value ends its quotes or its line.

===== ==================================================== =====================================
%%    the percent sign
%C    processor time in percent of the request's duration  ``total`` (default), ``user``, ``system``
%d    time taken                                           ``seconds`` (default), ``milliseconds``, ``microseconds``
%e    a FastCGI parameter or environment variable          its name
%f    script
%I    id of the request (ours)
%l    content length of the request
%m    method
%M    memory                                               ``bytes`` (default), ``kilobytes``, ``megabytes``
%n    pool
%o    a header of the answer                               its name
%p %P process id of the worker, of the master
%q %Q query string, and the ``?`` if there is one
%r    URI without the query string
%R    address of the web server, as in php-fpm; by unix socket, the visitor's
%s    status
%t %T time of the request's beginning, of the writing      strftime's letters
%u    user
%w    time spent waiting for a worker (ours)               as ``%d``
===== ==================================================== =====================================

What stands in the right column is given in braces before the letter, ``%{milliseconds}d``. What there is none of is
``-``, except for the query string and, as in php-fpm, the user.

With ``log.format = json`` a line is an object with these values under their names, and those of ``%{...}e`` and
``%{...}o`` in the format under the names in the braces.

Source: php-fpm.conf, access.log, access.format, access.suppress_path.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Mapping

from pyfpm.observe.log import MONTHS, iso_time, to_json

DEFAULT_FORMAT = '%R - %u %t "%m %r" %s'
DEFAULT_TIME = "%d/%b/%Y:%H:%M:%S %z"

# A pipe takes as much as one piece; of more, the lines of two workers could mix.
_PIPE_BUF = 4096
# Lines that wait for flush(), in bytes, before they are written anyway; and before they are given up, should a pipe be
# full.
_MANY = 32 * 1024
_TOO_MANY = 1024 * 1024

_UNSAFE = re.compile(r"""[^ !#-&(-\[\]-~]""")


class AccessRecord:
    """What is known of a request that is over.

    Args:
      params: the name-value pairs, each byte as one character (latin-1), as they came.
      status: of the answer.
      started: when the request began, in seconds since 1970.
      duration_us: microseconds until it was over. The same unit in cpu_user_us, cpu_system_us (processor time) and
        wait_us (from the web server's sending to our beginning; None: not known).
      memory: bytes; what it stands for (the peak, say) is the caller's choice.
      head: the headers of the answer, as CGI has them.
      content_length: bytes of the request's body.
      remote: the address of the web server, without its port, or what stands in its place for a unix socket.
      script: the file that ran; None: SCRIPT_FILENAME.
      request_id: empty if it has none.
    """

    __slots__ = (
        "content_length",
        "cpu_system_us",
        "cpu_user_us",
        "duration_us",
        "head",
        "memory",
        "params",
        "remote",
        "request_id",
        "script",
        "started",
        "status",
        "wait_us",
    )

    def __init__(
        self,
        params: Mapping[str, str],
        status: int,
        started: float,
        *,
        duration_us: int = 0,
        cpu_user_us: int = 0,
        cpu_system_us: int = 0,
        wait_us: int | None = None,
        memory: int = 0,
        head: bytes = b"",
        content_length: int = 0,
        remote: str = "",
        script: str | None = None,
        request_id: str = "",
    ) -> None:
        self.params = params
        self.status = status
        self.started = started
        self.duration_us = duration_us
        self.cpu_user_us = cpu_user_us
        self.cpu_system_us = cpu_system_us
        self.wait_us = wait_us
        self.memory = memory
        self.head = head
        self.content_length = content_length
        self.remote = remote
        self.script = script
        self.request_id = request_id

    @property
    def method(self) -> str:
        return self.params.get("REQUEST_METHOD", "")

    @property
    def uri(self) -> str:
        """Without the query string."""
        uri = self.params.get("REQUEST_URI")
        if uri:
            return uri.partition("?")[0]
        return self.params.get("SCRIPT_NAME", "") + self.params.get("PATH_INFO", "")

    @property
    def query(self) -> str:
        return self.params.get("QUERY_STRING", "")

    @property
    def file(self) -> str:
        return self.params.get("SCRIPT_FILENAME", "") if self.script is None else self.script

    @property
    def user(self) -> str:
        """Who the web server says it is, or else who says so by HTTP Basic."""
        return self.params.get("REMOTE_USER") or _basic_user(self.params.get("HTTP_AUTHORIZATION", ""))


Value = Callable[[AccessRecord], str]


def check_format(text: str) -> None:
    """See whether it is an access.format.

    Raises:
      ValueError: with php-fpm's words for what is wrong with it.
    """
    AccessFormat(text)


class AccessFormat:
    """An access.format, ready for use: called with a record, it gives the line without its newline.

    Args:
      text: the format.
      pool: its name.
      pid, parent_pid: of the worker and of its master; None: of this process and its parent.

    Raises:
      ValueError: it is not a format, see ``check_format``.

    Attributes:
      params, headers: the names given in braces to ``%e`` and ``%o``.
    """

    def __init__(self, text: str, pool: str = "", *, pid: int | None = None, parent_pid: int | None = None) -> None:
        self.pool = pool
        self.pid = os.getpid() if pid is None else pid
        self.parent_pid = os.getppid() if parent_pid is None else parent_pid
        self.params: list[str] = []
        self.headers: list[str] = []
        self._values: list[Value] = []
        # What stays the same is part of it already.
        self._template = "".join(self._part(*part) for part in _parts(text))

    def __call__(self, record: AccessRecord) -> str:
        return self._template % tuple([value(record) for value in self._values])

    def _part(self, letter: str, argument: str) -> str:
        constant = self._constant(letter, argument)
        if constant is not None:
            return constant.replace("%", "%%")
        self._values.append(self._value(letter, argument))
        return "%s"

    def _constant(self, letter: str, argument: str) -> str | None:
        match letter:
            case "":
                return argument
            case "%":
                return "%"
            case "n":
                return _shown(self.pool)
            case "p":
                return str(self.pid)
            case "P":
                return str(self.parent_pid)
        return None

    def _value(self, letter: str, argument: str) -> Value:
        if letter in _SIMPLE:
            return _SIMPLE[letter]
        match letter:
            case "C" | "d" | "M" | "w":
                return _UNITS[letter][argument.lower()]
            case "e":
                self.params.append(argument)
                return lambda record: _shown(_param(record, argument))
            case "o":
                self.headers.append(argument)
                header = _header(argument)
                return lambda record: _shown(header(record))
            case "t":
                at = _clock(argument)
                return lambda record: at(record.started)
            case _:
                at = _clock(argument)
                return lambda _: at(time.time())


class AccessLog:
    """Lines of one worker, collected and written together.

    Args:
      fd: where to. The caller's; another file may be put in its place at any time (``dup2``).
      format: what a line looks like.
      suppress: paths (access.suppress_path) whose successful requests are not logged, see ``suppressed``.
      json: objects instead of lines.

    Attributes:
      lost: lines that could not be written since the worker began.
    """

    def __init__(self, fd: int, format: AccessFormat, suppress: Iterable[str] = (), *, json: bool = False) -> None:
        self._fd = fd
        self._line: Callable[[AccessRecord], bytes] = _JsonLine(format) if json else _TextLine(format)
        self._suppress = frozenset(suppress)
        self._pending: list[bytes] = []
        self._bytes = 0
        self.lost = 0

    def add(self, record: AccessRecord) -> None:
        """Take note of a request. Its line is written by ``flush``, or when there are many."""
        if self._suppress and suppressed(record, self._suppress):
            return
        line = self._line(record)
        self._pending.append(line)
        self._bytes += len(line)
        if self._bytes >= _MANY:
            self.flush()

    def flush(self) -> None:
        """Write the lines that wait, by one write where that keeps them whole. Raises nothing."""
        if not self._pending:
            return
        lines, self._pending, self._bytes = self._pending, [], 0
        pieces = [lines]
        if sum(map(len, lines)) > _PIPE_BUF and self._is_pipe():
            pieces = _pieces(lines)
        for number, piece in enumerate(pieces):
            try:
                os.write(self._fd, b"".join(piece))
            except BlockingIOError:
                # A pipe that is full: somebody reads it, and may be late.
                self._keep([line for left in pieces[number:] for line in left])
                return
            except OSError:
                self.lost += len(piece)  # The log cannot be written, and here is nowhere else to say so.

    def _keep(self, lines: list[bytes]) -> None:
        self._bytes = sum(map(len, lines))
        if self._bytes > _TOO_MANY:
            self.lost += len(lines)
            self._bytes = 0
            return
        self._pending = lines

    def _is_pipe(self) -> bool:
        try:
            return stat.S_ISFIFO(os.fstat(self._fd).st_mode)
        except OSError:
            return False


def suppressed(record: AccessRecord, paths: frozenset[str]) -> bool:
    """The request is a GET or HEAD without query string and body for one of the paths, and was answered by 2xx.

    Source: php-fpm 8.2, access.suppress_path.
    """
    return (
        record.uri in paths
        and 200 <= record.status <= 299
        and record.method in ("GET", "HEAD")
        and not record.query
        and record.content_length == 0
    )


class _TextLine:
    def __init__(self, format: AccessFormat) -> None:
        self._format = format

    def __call__(self, record: AccessRecord) -> bytes:
        # All values are ASCII; the format itself need not be.
        return (self._format(record) + "\n").encode("utf-8", "backslashreplace")


class _JsonLine:
    def __init__(self, format: AccessFormat) -> None:
        self._format = format
        self._headers = {name: _header(name) for name in format.headers}

    def __call__(self, record: AccessRecord) -> bytes:
        fields: dict[str, object] = {
            "time": iso_time(record.started),
            "pool": _as_text(self._format.pool),
            "pid": self._format.pid,
            "remote": record.remote or None,
            "user": _as_text(record.user) or None,
            "method": _as_text(record.method),
            "uri": _as_text(record.uri),
            "query": _as_text(record.query),
            "status": record.status,
            "script": _as_text(record.file) or None,
            "duration_us": record.duration_us,
            "wait_us": record.wait_us,
            "cpu_user_us": record.cpu_user_us,
            "cpu_system_us": record.cpu_system_us,
            "memory": record.memory,
            "content_length": record.content_length,
            "request_id": _as_text(record.request_id) or None,
        }
        for name in self._format.params:
            fields.setdefault(name, _as_text(_param(record, name)) or None)
        for name, header in self._headers.items():
            fields.setdefault(name, _as_text(header(record)) or None)
        return to_json(fields)


def _parts(text: str) -> Iterable[tuple[str, str]]:
    """The format in pieces: a letter and what stood in its braces, or no letter and the text between.

    Source: php-fpm, access.format: its messages, and what it lets pass (a percent sign at the end is dropped).
    """
    at = 0
    while at < len(text):
        percent = text.find("%", at)
        if percent != at:
            end = len(text) if percent < 0 else percent
            yield "", text[at:end]
            at = end
            continue
        at += 1
        argument = ""
        while text[at : at + 1] == "{":
            end = text.find("}", at)
            if end < 0 or end + 1 == len(text):
                raise ValueError("missing closing embrace in the access.format")
            argument, at = text[at + 1 : end], end + 1
        if at < len(text):
            letter = text[at]
            _check(letter, argument)
            yield letter, argument
            at += 1


def _check(letter: str, argument: str) -> None:
    if letter in _UNITS:
        if argument.lower() not in _UNITS[letter]:
            names = [f"'{name}'" for name in _UNITS[letter] if name]
            allowed = f"{', '.join(names[:-1])} or {names[-1]}"
            raise ValueError(f"only {allowed} are allowed as a modifier for %{letter} ('{argument}')")
    elif letter == "e" and not argument:
        raise ValueError("the name of the environment variable must be set between embraces for %e")
    elif letter == "o" and not argument:
        raise ValueError("the name of the header must be set between embraces for %o")
    elif letter in "tT":
        if "\0" in argument:
            raise ValueError(f"a NUL character in the time format of %{letter}")
    elif letter not in _SIMPLE and letter not in "%eonpP":
        raise ValueError(f"Invalid token in the access.format (%{letter})")
    elif argument and letter not in "eo":
        raise ValueError(f"embrace is not allowed for modifier %{letter}")


def _shown(value: str) -> str:
    return _UNSAFE.sub(_number, value) if value else "-"


def _number(found: re.Match[str]) -> str:
    character = ord(found[0])
    if 0xDC80 <= character <= 0xDCFF:
        character -= 0xDC00  # a byte of the environment that was no text
    if character < 256:
        return f"\\x{character:02X}"
    return "".join(f"\\x{byte:02X}" for byte in found[0].encode("utf-8", "surrogatepass"))


def _as_text(value: str) -> str:
    """For JSON: bytes that came as latin-1 are the text they are in UTF-8, where they are."""
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return value.encode("utf-8", "backslashreplace").decode()


def _param(record: AccessRecord, name: str) -> str:
    value = record.params.get(name)
    return os.environ.get(name, "") if value is None else value


def _header(name: str) -> Callable[[AccessRecord], str]:
    line = re.compile(rb"(?im)^" + re.escape(name.encode("utf-8", "surrogateescape")) + rb":[ \t]*+([^\r\n]*+)")

    def value(record: AccessRecord) -> str:
        found = line.search(record.head)
        return found[1].decode("latin-1").rstrip() if found else ""

    return value


def _basic_user(authorization: str) -> str:
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(credentials.encode("latin-1"), validate=True).decode("latin-1").partition(":")[0]
    except (binascii.Error, UnicodeEncodeError):
        return ""


def _clock(form: str) -> Callable[[float], str]:
    """Tells the time in strftime's form. Requests of the same second get the same text."""
    second = -1
    text = ""

    def at(now: float) -> str:
        nonlocal second, text
        if int(now) != second:
            local = time.localtime(now)
            if form in ("", DEFAULT_TIME):
                # Not by strftime: names of months would follow the locale that an application may have set.
                text = f"{local.tm_mday:02}/{MONTHS[local.tm_mon - 1]}" + time.strftime("/%Y:%H:%M:%S %z", local)
            else:
                text = _UNSAFE.sub(_number, time.strftime(form, local))
            second = int(now)
        return text

    return at


def _pieces(lines: list[bytes]) -> list[list[bytes]]:
    """The lines in groups that a pipe takes as one piece each. A line that is longer is a group of its own."""
    groups: list[list[bytes]] = []
    room = 0
    for line in lines:
        if len(line) > room:
            groups.append([])
            room = _PIPE_BUF
        groups[-1].append(line)
        room -= len(line)
    return groups


def _percent(cpu_us: int, duration_us: int) -> str:
    return f"{cpu_us / duration_us * 100:.2f}" if duration_us > 0 else "0.00"


def _wait(us: int | None, form: Callable[[int], str]) -> str:
    return "-" if us is None else form(us)


def _seconds(us: int) -> str:
    return f"{us / 1e6:.3f}"


def _milliseconds(us: int) -> str:
    return f"{us / 1e3:.3f}"


_SIMPLE: dict[str, Value] = {
    "f": lambda record: _shown(record.file),
    "I": lambda record: _shown(record.request_id),
    "l": lambda record: str(record.content_length),
    "m": lambda record: _shown(record.method),
    # Not "-": it stands right behind %r and %Q.
    "q": lambda record: _UNSAFE.sub(_number, record.query),
    "Q": lambda record: "?" if record.query else "",
    "r": lambda record: _shown(record.uri),
    "R": lambda record: _shown(record.remote),
    "s": lambda record: str(record.status),
    "u": lambda record: _UNSAFE.sub(_number, record.user),
}

# What php-fpm takes in braces, in the order of its messages, and "mili" since it has always been spelled so there.
_DURATIONS: dict[str, Callable[[int], str]] = {
    "": _seconds,
    "seconds": _seconds,
    "milli": _milliseconds,
    "milliseconds": _milliseconds,
    "mili": _milliseconds,
    "miliseconds": _milliseconds,
    "micro": str,
    "microseconds": str,
}


def _duration(form: Callable[[int], str]) -> Value:
    return lambda record: form(record.duration_us)


def _waiting(form: Callable[[int], str]) -> Value:
    return lambda record: _wait(record.wait_us, form)


def _memory(unit: int) -> Value:
    return lambda record: str(record.memory // unit)


def _cpu_total(record: AccessRecord) -> str:
    return _percent(record.cpu_user_us + record.cpu_system_us, record.duration_us)


_UNITS: dict[str, dict[str, Value]] = {
    "C": {
        "": _cpu_total,
        "total": _cpu_total,
        "user": lambda record: _percent(record.cpu_user_us, record.duration_us),
        "system": lambda record: _percent(record.cpu_system_us, record.duration_us),
    },
    "d": {name: _duration(form) for name, form in _DURATIONS.items()},
    "M": {
        "": _memory(1),
        "bytes": _memory(1),
        "kilo": _memory(1024),
        "kilobytes": _memory(1024),
        "mega": _memory(1024**2),
        "megabytes": _memory(1024**2),
    },
    "w": {name: _waiting(form) for name, form in _DURATIONS.items()},
}
