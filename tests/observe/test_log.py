"""The log: php-fpm's format, which parsers rely on, and which nobody else can write in."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.observe import log as log_module
from pyfpm.observe.log import LEVELS, Log, LogSettings, facility_number, format_line

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


def logged(*said: object, pool: str | None = "www", **settings: object) -> bytes:
    """The bytes that ``log(*said)`` writes."""
    with tempfile.TemporaryFile(buffering=0) as file:
        Log(pool, file.fileno(), LogSettings(**settings))(*said)
        return os.pread(file.fileno(), 1 << 24, 0)


@pytest.mark.parametrize("threshold", LEVELS)
@pytest.mark.parametrize("level", LEVELS)
def test_lines_below_the_level_are_not_written(threshold, level):
    written = logged(level.upper(), "text", level=threshold) != b""
    assert written == (LEVELS.index(level) >= LEVELS.index(threshold))


def test_a_level_that_is_none_of_ours_is_written():
    assert b"NEWS: [pool www] text" in logged("NEWS", "text", level="alert")


def test_at_level_debug_a_line_has_microseconds_and_says_who_wrote_it():
    line = logged("NOTICE", "text", level="debug").decode()
    # The helper calls the log, so it is the one that is named.
    assert re.fullmatch(
        rf"\[\d\d-[A-Z][a-z]{{2}}-\d{{4}} \d\d:\d\d:\d\d\.\d{{6}}\] NOTICE: "
        rf"pid {os.getpid()}, logged\(\), line \d+: \[pool www\] text\n",
        line,
    )


def test_the_log_of_another_pool_goes_to_the_same_place(tmp_path: Path):
    with open(tmp_path / "log", "wb") as file:
        master = Log(fd=file.fileno(), settings=LogSettings(level="warning"))
        pool = master.for_pool("www")
        assert (pool.pool, pool.fd, pool.settings) == ("www", master.fd, master.settings)
        pool("NOTICE", "not this")
        pool("ERROR", "this")
    assert b"ERROR: [pool www] this\n" in (tmp_path / "log").read_bytes()


def test_settings_survive_json():
    settings = LogSettings("debug", 2048, False, "json", False, "pyfpm", 24)
    assert LogSettings(**json.loads(json.dumps(dataclasses.asdict(settings)))) == settings


def test_a_file_put_in_the_place_of_the_old_one_gets_the_next_line(tmp_path: Path):
    with open(tmp_path / "old", "wb") as old, open(tmp_path / "new", "wb") as new:
        log = Log(fd=old.fileno())
        log("NOTICE", "one")
        os.dup2(new.fileno(), old.fileno())
        log("NOTICE", "two")
    assert (tmp_path / "old").read_bytes().endswith(b"NOTICE: one\n")
    assert (tmp_path / "new").read_bytes().endswith(b"NOTICE: two\n")


def test_a_worker_whose_output_is_decorated_writes_no_time():
    assert logged("NOTICE", "Python message: text", pool=None, bare=True) == b"NOTICE: Python message: text\n"
    long = logged("NOTICE", "a" * 5000, pool=None, bare=True)
    assert long == b"NOTICE: " + b"a" * (1024 - 9 - 3) + b"...\n"


@pytest.mark.parametrize("limit", [512, 1024, 2048])
def test_a_line_is_no_longer_than_the_limit_with_its_newline(limit):
    around = len(b"[03-Nov-2026 09:05:07] NOTICE: [pool www] \n")
    for more in (-1, 0):
        line = logged("NOTICE", "a" * (limit - around + more), limit=limit)
        assert len(line) == limit + more
        assert line.endswith(b"aaaa\n")
    for more in (1, 2, 3, 4, 5000):
        line = logged("NOTICE", "a" * (limit - around + more), limit=limit)
        assert len(line) == limit
        assert line.endswith(b"a...\n")


def test_each_line_of_a_message_has_the_limit_of_its_own():
    wire = logged("ERROR", "\n".join(["b" * 3000, "short", "c" * 3000]))
    first, second, third = wire.splitlines(keepends=True)
    assert (len(first), second, len(third)) == (1024, b"\tshort\n", 1024)
    assert first.endswith(b"b...\n")
    assert third.startswith(b"\tccc")


@given(st.text(max_size=400), st.integers(100, 600))
def test_no_character_is_divided_by_the_limit(text, limit):
    wire = logged("ERROR", text * 4, limit=limit)
    wire.decode()
    assert all(len(line) <= limit for line in wire.splitlines(keepends=True))


JSON_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d")


def test_in_json_a_line_is_an_object():
    line = logged("ERROR", "one\ntwo\n", {"id": "abc", "method": "GET", "uri": "/a"}, format="json")
    assert line.count(b"\n") == 1
    found = json.loads(line)
    assert JSON_TIME.fullmatch(found.pop("time"))
    assert found == {
        "level": "ERROR",
        "pool": "www",
        "pid": os.getpid(),
        "message": "one\ntwo",
        "id": "abc",
        "method": "GET",
        "uri": "/a",
    }


def test_in_json_a_field_of_a_request_takes_no_other_fields_place():
    found = json.loads(logged("ERROR", "text", {"level": "NOTICE", "pid": 1, "message": "forged"}, format="json"))
    assert (found["level"], found["pid"], found["message"]) == ("ERROR", os.getpid(), "text")


def test_json_is_valid_whatever_is_said():
    everything = [chr(number) for number in range(0x110000)]
    for at in range(0, len(everything), 4096):
        text = "".join(everything[at : at + 4096])
        line = logged("ERROR", text, {"uri": text}, pool=text, limit=1 << 20, format="json", mask_secrets=False)
        shown = text.encode("utf-8", "backslashreplace").decode()
        assert json.loads(line)["message"] == shown.rstrip("\n")
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", line.decode())
        assert line.count(b"\n") == 1


@given(st.text(), st.dictionaries(st.text(max_size=20), st.text() | st.integers() | st.none()), st.integers(300, 1200))
def test_json_has_the_limit_too(text, request_fields, limit):
    line = logged("ERROR", text * 20, request_fields, format="json", limit=limit)
    found = json.loads(line)
    assert len(line) <= limit
    assert found["level"] == "ERROR"
    assert found["message"].endswith("...") or found["message"] == (text * 20).rstrip("\n")


def test_what_is_known_of_a_request_stands_behind_the_message():
    line = logged("ERROR", "failed", {"id": "r1", "method": "GET", "uri": "/a\nb?token=abcdefghijkl"})
    assert line.endswith(b'ERROR: [pool www] failed, request: "GET /a\\x0ab?token=abc***", id: "r1"\n')


@pytest.mark.parametrize("form", ["text", "json"])
def test_secrets_are_masked_unless_told_otherwise(form):
    assert b"hunter2" not in logged("ERROR", "password=hunter2", format=form)
    assert b"password=hunter2" in logged("ERROR", "password=hunter2", format=form, mask_secrets=False)


@pytest.mark.parametrize(
    ("facility", "number"),
    [
        ("daemon", 24),
        ("LOG_DAEMON", 24),
        ("Local7", 184),
        ("kern", 0),
        ("authpriv", 80),
        ("ftp", 88),
        (24, 24),
        ("8", 8),
    ],
)
def test_a_facility_has_its_number_of_syslog_h(facility, number):
    assert facility_number(facility) == number


@pytest.mark.parametrize("facility", ["", "news2", "local8", "-8", 7, 256, "\u0662\u0664"])
def test_what_is_no_facility_is_refused(facility):
    with pytest.raises(ValueError, match="no syslog facility"):
        facility_number(facility)


@pytest.fixture
def syslog(tmp_path: Path, monkeypatch) -> Iterator[socket.socket]:
    path = str(tmp_path / "devlog")
    monkeypatch.setattr(log_module, "SYSLOG_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        receiver.settimeout(10)
        yield receiver


@pytest.fixture
def syslog_log() -> Iterator[Log]:
    with closing(Log(settings=LogSettings(syslog_ident="fpm"))) as log:
        yield log


@pytest.mark.parametrize(
    ("level", "severity"), [("ALERT", 1), ("ERROR", 3), ("WARNING", 4), ("NOTICE", 5), ("DEBUG", 7)]
)
def test_syslog_gets_level_ident_and_pid(syslog, level, severity):
    log = Log("www", settings=LogSettings("debug", syslog_ident="fpm", syslog_facility="local0"))
    with closing(log):
        log(level, "one\ntwo")
    head = rf"<{128 + severity}>[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d fpm\[{os.getpid()}\]: "
    assert re.fullmatch(rf"{head}\[{level}\] test_\w+\(\), line \d+: \[pool www\] one", syslog.recv(4096).decode())
    assert re.fullmatch(rf"{head}\ttwo", syslog.recv(4096).decode())


def test_without_syslog_the_lines_go_to_standard_error(syslog, syslog_log, tmp_path: Path, capfd):
    log = syslog_log
    log("NOTICE", "one")
    assert b"[NOTICE] one" in syslog.recv(4096)
    syslog.close()
    os.unlink(tmp_path / "devlog")
    log("NOTICE", "two")
    log("NOTICE", "three")
    complaint, two, three = capfd.readouterr().err.splitlines()
    assert re.match(r"WARNING: syslog cannot be reached \(.*\); its lines go here", complaint)
    assert (two, three) == ("[NOTICE] two", "[NOTICE] three")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as restarted:
        restarted.bind(str(tmp_path / "devlog"))
        restarted.settimeout(10)
        log("NOTICE", "four")
        assert b"[NOTICE] four" in restarted.recv(4096)
    assert capfd.readouterr().err == ""


def test_a_restarted_syslog_daemon_gets_the_very_next_line(syslog, syslog_log, tmp_path: Path, capfd):
    log = syslog_log
    log("NOTICE", "one")
    syslog.close()
    os.unlink(tmp_path / "devlog")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as restarted:
        restarted.bind(str(tmp_path / "devlog"))
        restarted.settimeout(10)
        log("NOTICE", "two")
        assert b"[NOTICE] two" in restarted.recv(4096)
    assert capfd.readouterr().err == ""
