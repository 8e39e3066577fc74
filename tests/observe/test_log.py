"""The log: php-fpm's format, which parsers rely on, and which nobody else can write in."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.observe.log import Log, format_line

NOW = time.struct_time((2026, 11, 3, 9, 5, 7, 0, 0, 0))
# What a line of php-fpm looks like.
LINE = re.compile(
    r"\[\d\d-[A-Z][a-z][a-z]-\d{4} \d\d:\d\d:\d\d\] (DEBUG|NOTICE|WARNING|ERROR|ALERT): (\[pool [^\]]*\] )?.*"
)


@pytest.mark.parametrize(
    ("level", "pool", "message", "line"),
    [
        ("NOTICE", None, "ready", "[03-Nov-2026 09:05:07] NOTICE: ready\n"),
        ("WARNING", "www", "child 7 exited", "[03-Nov-2026 09:05:07] WARNING: [pool www] child 7 exited\n"),
        ("ERROR", None, "", "[03-Nov-2026 09:05:07] ERROR: \n"),
        ("ERROR", None, "one\ntwo\nthree\n", "[03-Nov-2026 09:05:07] ERROR: one\n\ttwo\n\tthree\n"),
        ("ERROR", None, "caf\u00e9 \u20ac", "[03-Nov-2026 09:05:07] ERROR: caf\u00e9 \u20ac\n"),
    ],
)
def test_a_line_has_php_fpms_format(level, pool, message, line):
    assert format_line(level, message, pool, NOW) == line


@pytest.mark.parametrize("month", range(1, 13))
def test_the_month_is_english_whatever_the_locale(month):
    line = format_line("NOTICE", "", None, time.struct_time((2026, month, 1, 0, 0, 0, 0, 0, 0)))
    assert line[4:7] == ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][month - 1]


FORGED = "[03-Nov-2026 09:05:07] NOTICE: all is well"


@pytest.mark.parametrize(
    "separator", ["\n", "\r", "\r\n", "\n\n", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029", "\x1b[2K\r", "\b" * 80]
)
@pytest.mark.parametrize("field", ["message", "pool", "level"])
def test_no_field_can_begin_a_line_of_its_own(field, separator):
    fields = {"level": "ERROR", "message": "text", "pool": "www"}
    fields[field] += separator + FORGED
    line = format_line(fields["level"], fields["message"], fields["pool"], NOW)
    first, *more = line.splitlines()
    assert LINE.fullmatch(first) or field == "level"
    assert all(each == "" or each.startswith("\t") for each in more), line


@given(st.text(), st.text())
def test_whatever_is_said_no_terminal_acts_on_it(message, pool):
    line = format_line("ERROR", message, pool, NOW)
    assert line.endswith("\n")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", line)
    assert "\n" not in re.sub(r"\n\t", "", line[:-1])


@pytest.mark.parametrize(
    ("character", "shown"),
    [("\0", "\\x00"), ("\x1b", "\\x1b"), ("\r", "\\x0d"), ("\x7f", "\\x7f"), ("\x9b", "\\x9b"), ("\u202e", "\\u202e")],
)
def test_a_control_character_is_shown_by_its_number(character, shown):
    assert format_line("ERROR", f"a{character}b", None, NOW).endswith(f" a{shown}b\n")


def test_a_tab_is_left_as_it_is():
    assert format_line("ERROR", "a\tb", None, NOW).endswith(" a\tb\n")


def test_a_line_is_one_write(monkeypatch):
    writes = []
    monkeypatch.setattr(os, "write", lambda fd, data: writes.append((fd, data)))
    Log("www", fd=7)("ERROR", "one\ntwo\n" * 1000)
    [(fd, data)] = writes
    assert fd == 7
    assert data.count(b"\n") == 2000


def test_a_character_that_cannot_be_encoded_is_no_reason_to_say_nothing(tmp_path: Path):
    with open(tmp_path / "log", "wb") as file:
        Log(fd=file.fileno())("NOTICE", "\udc80 is from a file name")
    assert b"\\udc80 is from a file name" in (tmp_path / "log").read_bytes()


def test_a_log_that_cannot_be_written_stops_nobody():
    reader, writer = os.pipe()
    os.close(reader)
    try:
        Log(fd=writer)("NOTICE", "nobody reads this")
    finally:
        os.close(writer)


def test_the_time_is_the_local_one(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TZ", "XXX-05:30")
    time.tzset()
    monkeypatch.setattr(time, "time", lambda: 0)
    monkeypatch.setattr(time, "localtime", lambda seconds=0, real=time.localtime: real(0))
    try:
        with open(tmp_path / "log", "wb") as file:
            Log(fd=file.fileno())("NOTICE", "epoch")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert (tmp_path / "log").read_bytes() == b"[01-Jan-1970 05:30:00] NOTICE: epoch\n"
