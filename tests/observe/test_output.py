"""What workers say: divided and decorated as php-fpm does it, whole, and the same however it arrives."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.observe.log import Log, LogSettings
from pyfpm.observe.output import PIPE_IS_CLOSED, WorkerOutput

POOL, PID = "unconfined", 23183
HEAD = re.compile(rb"\[\d\d-[A-Z][a-z]{2}-\d{4} \d\d:\d\d:\d\d\] WARNING: ")
PREFIX = b"[pool unconfined] child 23183 said into stderr: "
# Bytes of a line besides the text: time and level, prefix, quotes, newline.
AROUND = 32 + len(PREFIX) + 2 + 1
LIMITS = [512, 1024, 1050, 2048, 2500]


class Heard:
    """What a worker's output becomes in a file."""

    def __init__(self, decorate: bool = True, stream: str = "stderr", **settings) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)
        self.log = Log(fd=self._file.fileno(), settings=LogSettings(**settings))
        self.output = WorkerOutput(POOL, PID, stream, decorate, self.log)

    def __enter__(self) -> Heard:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def wire(self) -> bytes:
        return os.pread(self._file.fileno(), 1 << 24, 0)


def whole(data: bytes) -> Iterator[bytes]:
    yield data


def byte_by_byte(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


def as_pipes_are_read(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 1023] for at in range(0, len(data), 1023))


FEEDS: list[Callable[[bytes], Iterator[bytes]]] = [whole, byte_by_byte, as_pipes_are_read]


def heard(data: bytes, feed: Callable[[bytes], Iterator[bytes]] = whole, close: bool = True, **options) -> bytes:
    with Heard(**options) as worker:
        for piece in feed(data):
            worker.output.feed(piece)
        if close:
            worker.output.close()
        return HEAD.sub(b"", worker.wire)


def said(*texts: bytes, suffix: bytes = b"") -> bytes:
    return b"".join(PREFIX + b'"' + text + b'"\n' for text in texts)[:-1] + suffix + b"\n"


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", b""),
        (b"one\n", said(b"one")),
        (b"one\ntwo\n", said(b"one", b"two")),
        (b"\n", said(b"")),
        (b"a\n\nb\n", said(b"a", b"", b"b")),
        (b"one", said(b"one", suffix=b", pipe is closed")),
        (b"one\ntwo", said(b"one", b"two", suffix=b", pipe is closed")),
        (b'a "quoted" \\ text\n', said(b'a "quoted" \\ text')),
        ("caf\u00e9 \u20ac \U0001f600\n".encode(), said("caf\u00e9 \u20ac \U0001f600".encode())),
        (b"no \xff text \xe2\x82\n", said(b"no \\xff text \\xe2\\x82")),
        (b"\xe2\x82", said(b"\\xe2\\x82", suffix=b", pipe is closed")),
        (b"\x1b[2K\r\x00fscf\x00 \xc2\x9b \xe2\x80\xae\n", said(b"\\x1b[2K\\x0d\\x00fscf\\x00 \\x9b \\u202e")),
    ],
)
@pytest.mark.parametrize("buffering", [True, False])
def test_a_line_is_decorated_as_php_fpm_does_it(data, lines, buffering):
    for feed in FEEDS:
        assert heard(data, feed, buffering=buffering) == lines


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"one\ntwo\n", b"one\ntwo\n"),
        (b"one", b"one\n"),
        (b"a\n\nb\n", b"a\nb\n"),
        (b"\x1b[1m \xff \r\n", b"\x1b[1m \xff \r\n"),
    ],
)
@pytest.mark.parametrize("buffering", [True, False])
def test_what_is_not_decorated_is_the_text_alone(data, lines, buffering):
    for feed in FEEDS:
        assert heard(data, feed, decorate=False, buffering=buffering) == lines


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("buffering", [True, False])
@pytest.mark.parametrize("feed", FEEDS)
def test_a_long_line_goes_on_in_lines_of_exactly_the_limit(limit, buffering, feed):
    room = limit - AROUND
    sizes = {0, 1, 1000, 2048, 2900, 4000, 5000} | {k * room + more for k in (1, 2) for more in (-2, -1, 0, 1, 2)}
    for size in sorted(sizes):
        with Heard(limit=limit, buffering=buffering) as worker:
            for piece in feed(b"a" * size + b"\n"):
                worker.output.feed(piece)
            *full, last = worker.wire.splitlines(keepends=True)
            assert all(len(line) == limit for line in full), (size, full)
            assert len(last) <= limit
            assert [HEAD.sub(b"", line) for line in [*full, last]] == [
                *[said(b"a" * room)] * len(full),
                said(b"a" * (size - room * len(full))),
            ]
            assert size == 0 or len(full) == (size - 1) // room


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("buffering", [True, False])
def test_plain_text_is_wrapped_one_short_of_the_limit(limit, buffering):
    for size in (limit - 2, limit - 1, limit, limit + 1, 2 * limit - 2, 2 * limit - 1, 5000):
        for feed in FEEDS:
            wire = heard(b"a" * size + b"\n", feed, decorate=False, limit=limit, buffering=buffering)
            *full, last = wire.splitlines(keepends=True)
            assert all(len(line) == limit for line in full)
            assert len(last) <= limit
            assert wire.replace(b"\n", b"") == b"a" * size


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("buffering", [True, False])
@pytest.mark.parametrize("lines", [1, 3])
def test_the_closing_words_are_divided_where_the_limit_is(limit, buffering, lines):
    room = limit - AROUND
    for left in range(len(PIPE_IS_CLOSED) + 2):
        size = room * lines - left
        with Heard(limit=limit, buffering=buffering) as worker:
            worker.output.feed(b"a" * size)
            worker.output.close()
            wire = worker.wire.splitlines(keepends=True)
        suffix = PIPE_IS_CLOSED.encode()
        if left >= len(suffix):
            assert len(wire) == lines
            assert wire[-1].endswith(b'a", pipe is closed\n')
        else:
            assert len(wire) == lines + 1
            assert wire[-2].endswith(b'a"' + suffix[:left] + b"\n")
            assert len(wire[-2]) == limit
            assert HEAD.sub(b"", wire[-1]) == PREFIX + suffix[left:] + b"\n"


def test_characters_are_not_divided_by_the_limit():
    wire = heard("\u20ac".encode() * 1000 + b"\n", limit=512)
    assert b"\\x" not in wire
    assert {len(line) for line in wire.splitlines()[:-1]} <= {512 - 32 - 1 - missing for missing in range(3)}
    assert b"".join(re.findall(rb'"([^"]*)"', wire)).decode() == "\u20ac" * 1000


def test_lines_of_several_writes_are_joined():
    with Heard() as worker:
        for piece in (b"msg 1 - ", b"msg 2 - ", b"msg 3"):
            worker.output.feed(piece)
        assert worker.wire == b""
        assert worker.output.waits
        worker.output.flush()
        assert not worker.output.waits
        assert HEAD.sub(b"", worker.wire) == said(b"msg 1 - msg 2 - msg 3")
        worker.output.flush()
        worker.output.close()
        assert HEAD.sub(b"", worker.wire) == said(b"msg 1 - msg 2 - msg 3")


def test_the_newline_of_a_line_that_was_flushed_makes_no_line():
    with Heard() as worker:
        worker.output.feed(b"one")
        worker.output.flush()
        worker.output.feed(b"")
        worker.output.feed(b"\n")
        worker.output.feed(b"\n")
        worker.output.feed(b"two\n")
        assert HEAD.sub(b"", worker.wire) == said(b"one", b"", b"two")


def test_without_buffering_what_is_said_is_seen_at_once():
    with Heard(buffering=False) as worker:
        worker.output.feed(b"half ")
        assert worker.wire.endswith(PREFIX + b'"half ')
        worker.output.feed(b"a line\nand")
        assert HEAD.sub(b"", worker.wire) == said(b"half a line") + PREFIX + b'"and'


def test_without_buffering_no_line_gets_into_another():
    with Heard(buffering=False) as worker:
        other = WorkerOutput("other", 7, "stdout", True, worker.log.for_pool("other"))
        worker.output.feed(b"half ")
        worker.log("WARNING", "ours")
        worker.output.feed(b"a line\n")
        worker.output.feed(b"half ")
        other.feed(b"hello\n")
        worker.output.feed(b"\n")
        assert HEAD.sub(b"", worker.wire).splitlines() == [
            PREFIX + b'"half ',
            b"ours",
            PREFIX + b'"a line"',
            PREFIX + b'"half ',
            b'[pool other] child 7 said into stdout: "hello"',
        ]


@pytest.mark.parametrize("options", [{}, {"buffering": False}, {"decorate": False}, {"format": "json"}])
def test_a_mebibyte_in_one_write_arrives_whole(options):
    data = bytes(range(97, 123)) * 40330
    wire = heard(data, close=False, **options)
    with_rest = heard(data + b"\n", **options)
    assert len(with_rest) > len(data)
    assert len(with_rest) - len(wire) < 2048, "one line's worth is held at most"
    if options.get("format") == "json":
        text = "".join(json.loads(line)["message"] for line in with_rest.splitlines()).encode()
    elif options.get("decorate", True):
        text = b"".join(re.findall(rb'"([^"]*)"', with_rest))
    else:
        text = with_rest.replace(b"\n", b"")
    assert text == data


@pytest.mark.parametrize("level", ["error", "alert"])
def test_it_is_a_warning_and_not_written_where_those_are_not(level):
    assert heard(b"text\nmore", level=level) == b""
    assert heard(b"text\nmore", level=level, format="json") == b""


def test_what_is_not_decorated_has_no_level():
    assert heard(b"text\nmore", level="alert", decorate=False) == b"text\nmore\n"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_in_json_it_is_an_object_with_stream_and_pid(stream):
    [line] = heard(b'a "text"\n', stream=stream, format="json").splitlines()
    found = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d", found.pop("time"))
    assert found == {"level": "WARNING", "pool": POOL, "pid": PID, "message": 'a "text"', "stream": stream}


@pytest.mark.parametrize("character", ["a", '"', "\\", "\u20ac", "\U0001f600", "\x01", "\x85"])
def test_in_json_a_long_text_goes_on_in_the_next_object(character):
    text = character * 3000
    lines = heard(text.encode() + b"\n", limit=1024, format="json").splitlines(keepends=True)
    parts = [json.loads(line) for line in lines]
    shown = text if character.isprintable() else f"\\x{ord(character):02x}" * 3000
    assert "".join(part["message"] for part in parts) == shown
    assert [part.get("continued", False) for part in parts] == [True] * (len(parts) - 1) + [False]
    assert all(len(line) <= 1024 for line in lines)
    assert all(len(line) > 1000 for line in lines[:-1])


def test_at_level_debug_the_lines_still_have_the_limit():
    with Heard(level="debug") as worker:
        worker.output.feed(b"a" * 3000 + b"\n")
        *full, _ = worker.wire.splitlines(keepends=True)
    assert full
    assert all(len(line) == 1024 for line in full)


@given(
    st.lists(st.binary(max_size=300) | st.sampled_from([b"\n", b"a" * 500, "\u20ac".encode() * 150, b"\xe2", b"\x1b"])),
    st.sampled_from([{}, {"decorate": False}, {"format": "json"}]),
    st.booleans(),
)
def test_it_is_the_same_however_it_arrives(pieces, options, close):
    def as_given(_: bytes) -> Iterator[bytes]:
        return iter(pieces)

    data = b"".join(pieces)
    once = _without_time(heard(data, close=close, limit=512, **options))
    assert _without_time(heard(data, as_given, close=close, limit=512, **options)) == once
    assert _without_time(heard(data, byte_by_byte, close=close, limit=512, **options)) == once
    if close and options == {}:
        assert heard(data, as_given, limit=512, buffering=False, **options) == once


def _without_time(wire: bytes) -> bytes:
    return re.sub(rb'"time":"[^"]*"', b"", wire)
