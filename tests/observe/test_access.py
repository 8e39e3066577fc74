"""The access log: php-fpm's letters, and values that cannot be more than values."""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.observe.access import (
    DEFAULT_FORMAT,
    AccessFormat,
    AccessLog,
    AccessRecord,
    check_format,
    suppressed,
)

PARAMS = {
    "REQUEST_METHOD": "GET",
    "REQUEST_URI": "/a/index.py/more?x=1&y=2",
    "QUERY_STRING": "x=1&y=2",
    "SCRIPT_NAME": "/a/index.py",
    "PATH_INFO": "/more",
    "SCRIPT_FILENAME": "/srv/a/index.py",
    "REMOTE_USER": "me",
    "REMOTE_ADDR": "192.0.2.7",
    "HTTP_HOST": "example.org",
}
HEAD = b"Status: 201 Created\r\nContent-Type: text/html; charset=utf-8\r\nX-Empty:\r\nSet-Cookie: a=1\r\n\r\n"
STARTED = 1795514646.25


def record(params: dict[str, str] = PARAMS, status: int = 201, **more) -> AccessRecord:
    return AccessRecord(
        params,
        status,
        STARTED,
        **{
            "duration_us": 1_234_567,
            "cpu_user_us": 600_000,
            "cpu_system_us": 17_284,
            "wait_us": 2_500,
            "memory": 5 * 1024 * 1024 + 1,
            "head": HEAD,
            "content_length": 12,
            "remote": "127.0.0.1",
            "request_id": "r-1",
            **more,
        },
    )


def shown(text: str, **more) -> str:
    return AccessFormat(text, "www", pid=7, parent_pid=1)(record(**more))


@pytest.fixture(autouse=True)
def _zone(monkeypatch):
    monkeypatch.setenv("TZ", "XXX-01:30")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("plain text 100%", "plain text 100"),
        ("%%", "%"),
        ("%%s %%%s", "%s %201"),
        ("%C", "50.00"),
        ("%{total}C", "50.00"),
        ("%{user}C%%", "48.60%"),
        ("%{system}C", "1.40"),
        ("%d", "1.235"),
        ("%{seconds}d", "1.235"),
        ("%{mili}d %{milli}d %{miliseconds}d %{milliseconds}d", "1234.567 1234.567 1234.567 1234.567"),
        ("%{micro}d %{microseconds}d %{MICRO}d", "1234567 1234567 1234567"),
        ("%{HTTP_HOST}e %{PYFPM_TEST_NOT_SET}e", "example.org -"),
        ("%f", "/srv/a/index.py"),
        ("%I", "r-1"),
        ("%l", "12"),
        ("%m", "GET"),
        ("%M %{bytes}M %{kilo}M %{kilobytes}M %{mega}M %{megabytes}M", "5242881 5242881 5120 5120 5 5"),
        ("%n", "www"),
        (
            "%{Content-Type}o|%{content-type}o|%{X-Empty}o|%{Type}o",
            r"text/html; charset=utf-8|" * 2 + "-|-",
        ),
        ("%p %P", "7 1"),
        ("%r%Q%q", "/a/index.py/more?x=1&y=2"),
        ("%R %{REMOTE_ADDR}e", "127.0.0.1 192.0.2.7"),
        ("%s", "201"),
        ("%t", "24/Nov/2026:11:34:06 +0130"),
        ("%{%Y-%m-%dT%H:%M:%S%z}t", "2026-11-24T11:34:06+0130"),
        ("%{}t", "24/Nov/2026:11:34:06 +0130"),
        ("%u", "me"),
        ("%w %{milli}w %{micro}w", "0.003 2.500 2500"),
        ("%{user}{system}C", "1.40"),
        ("caf\u00e9 %s", "caf\u00e9 201"),
        (DEFAULT_FORMAT, '127.0.0.1 - me 24/Nov/2026:11:34:06 +0130 "GET /a/index.py/more" 201'),
    ],
)
def test_each_letter_has_php_fpms_meaning(text, line):
    check_format(text)
    assert shown(text) == line


def test_what_there_is_none_of_is_a_dash():
    bare = AccessRecord({}, 200, STARTED)
    text = "%R %u %m %f %r %w %I %{X}o %{PYFPM_TEST_NOT_SET}e|%q%Q| %l %d %M %C %n"
    assert AccessFormat(text)(bare) == "-  - - - - - - -|| 0 0.000 0 0.00 -"


def test_the_time_of_writing_is_now(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: STARTED + 60)
    assert shown("%t %T") == "24/Nov/2026:11:34:06 +0130 24/Nov/2026:11:35:06 +0130"


def test_the_time_moves_on():
    form = AccessFormat("%{%S}t")
    for second in (0, 0.5, 1, 2, 1):
        assert form(AccessRecord({}, 200, STARTED // 60 * 60 + second)) == f"0{int(second)}"


def test_a_parameter_is_before_the_environment(monkeypatch):
    monkeypatch.setenv("HTTP_HOST", "environment")
    monkeypatch.setenv("PYFPM_TEST", "environment")
    assert shown("%{HTTP_HOST}e %{PYFPM_TEST}e") == "example.org environment"


def test_without_a_request_uri_it_is_the_script_and_the_rest():
    params = {name: value for name, value in PARAMS.items() if name != "REQUEST_URI"}
    assert shown("%r", params=params) == "/a/index.py/more"


def test_a_script_that_was_found_elsewhere_is_shown():
    assert shown("%f", script="/srv/other.py") == "/srv/other.py"


@pytest.mark.parametrize(
    ("params", "user"),
    [
        ({"HTTP_AUTHORIZATION": "Basic bWU6c2VjcmV0"}, "me"),
        ({"HTTP_AUTHORIZATION": "basic bWU6c2VjcmV0", "REMOTE_USER": "server"}, "server"),
        ({"HTTP_AUTHORIZATION": "Basic !!"}, ""),
        ({"HTTP_AUTHORIZATION": "Basic \u0141"}, ""),
        ({"HTTP_AUTHORIZATION": "Bearer abc"}, ""),
        ({"HTTP_AUTHORIZATION": "Basic YSIKYjpj"}, r"a\x22\x0Ab"),
    ],
)
def test_the_user_is_the_web_servers_or_the_one_of_http_basic(params, user):
    assert shown("%u", params=params) == user


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("%{mega}d", r"only 'seconds', .* or 'microseconds' are allowed as a modifier for %d \('mega'\)"),
        ("%{x}C", r"only 'total', 'user' or 'system' are allowed as a modifier for %C \('x'\)"),
        ("%{giga}M", r"only 'bytes', .* are allowed as a modifier for %M \('giga'\)"),
        ("%e", "the name of the environment variable must be set between embraces for %e"),
        ("%o", "the name of the header must be set between embraces for %o"),
        ("%{name", "missing closing embrace in the access.format"),
        ("%{name}", "missing closing embrace in the access.format"),
        ("%{x}s", "embrace is not allowed for modifier %s"),
        ("%{x}%", "embrace is not allowed for modifier %%"),
        ("%h", r"Invalid token in the access.format \(%h\)"),
        ("% s", r"Invalid token in the access.format \(% \)"),
        ("%{a\0b}t", "NUL"),
    ],
)
def test_what_is_no_format_is_refused_in_php_fpms_words(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        check_format(text)


FORGED = '" 200\n127.0.0.1 - - [..] "GET /forged'


@pytest.mark.parametrize("evil", [FORGED, "a\\b", "it's", "\x00\x1b[2K\x7f\x85\xff", "caf\u00e9", "\u20ac", "\udc80"])
def test_no_value_ends_its_quotes_or_its_line(evil):
    names = ["REQUEST_METHOD", "REQUEST_URI", "QUERY_STRING", "SCRIPT_FILENAME", "REMOTE_USER", "HTTP_HOST"]
    text = '"%R" "%u" "%m" "%r" "%Q%q" "%f" "%{HTTP_HOST}e" "%{X}o" "%n" "%I"'
    made = AccessRecord(
        dict.fromkeys(names, evil),
        200,
        STARTED,
        remote=evil,
        request_id=evil,
        head=b"X: " + evil.encode("utf-8", "surrogatepass").replace(b"\n", b" "),
    )
    line = AccessFormat(text, evil)(made)
    assert line.count('"') == 20
    assert re.fullmatch("[ -~]*", line)
    assert "'" not in line
    assert re.sub(r"\\x[0-9A-F]{2}", "", line).count("\\") == 0


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ('a"b', r"a\x22b"),
        ("a\\b", r"a\x5Cb"),
        ("\n", r"\x0A"),
        ("caf\xc3\xa9", r"caf\xC3\xA9"),
        ("\u20ac", r"\xE2\x82\xAC"),
    ],
)
def test_what_is_escaped_is_shown_by_its_bytes(value, seen):
    assert shown("%m", params={"REQUEST_METHOD": value}) == seen


@given(st.text(), st.text(), st.binary())
def test_whatever_comes_it_is_one_line_of_ascii(name, value, head):
    made = AccessRecord(dict.fromkeys(PARAMS, value), 200, STARTED, head=head, request_id=value)
    line = AccessFormat("%u %m %r %q %f %{HTTP_HOST}e %{X-Y}o %I")(made)
    assert re.fullmatch("[ -~]*", line)


@given(st.text("%{}CdefIlmMnopPqQrRstTuw xsecond-\u00e9", max_size=30))
def test_a_format_is_refused_or_works(text):
    try:
        check_format(text)
    except ValueError:
        return
    assert isinstance(shown(text), str)


PATHS = frozenset(["/ping", "/a.py"])


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, True),
        ({"REQUEST_METHOD": "HEAD"}, True),
        ({"REQUEST_METHOD": "POST"}, False),
        ({"REQUEST_METHOD": "get"}, False),
        ({"REQUEST_URI": "/ping?", "QUERY_STRING": ""}, True),
        ({"REQUEST_URI": "/ping?x", "QUERY_STRING": "x"}, False),
        ({"REQUEST_URI": "/ping/"}, False),
        ({"REQUEST_URI": "/pin"}, False),
        ({"REQUEST_URI": "/a.py"}, True),
        ({"status": 204}, True),
        ({"status": 299}, True),
        ({"status": 199}, False),
        ({"status": 302}, False),
        ({"status": 500}, False),
        ({"content_length": 1}, False),
    ],
)
def test_what_is_suppressed_is_a_plain_success_on_one_of_the_paths(changed, expected):
    params = {"REQUEST_METHOD": "GET", "REQUEST_URI": "/ping"}
    params |= {name: value for name, value in changed.items() if name.isupper()}
    made = AccessRecord(params, changed.get("status", 200), STARTED, content_length=changed.get("content_length", 0))
    assert suppressed(made, PATHS) == expected


def test_lines_are_written_together(tmp_path: Path, monkeypatch):
    writes: list[bytes] = []
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: writes.append(data) or real(fd, data))
    with open(tmp_path / "log", "wb") as file:
        log = AccessLog(file.fileno(), AccessFormat("%s"), ["/ping"])
        for status in (200, 404, 500):
            log.add(record(status=status))
            log.add(AccessRecord({"REQUEST_METHOD": "GET", "REQUEST_URI": "/ping"}, 200, STARTED))
        assert writes == []
        log.flush()
        log.flush()
    assert writes == [b"200\n404\n500\n"]


def test_many_lines_do_not_wait(tmp_path: Path):
    with open(tmp_path / "log", "wb", buffering=0) as file:
        log = AccessLog(file.fileno(), AccessFormat("a" * 1000))
        for _ in range(100):
            log.add(record())
        assert (tmp_path / "log").stat().st_size >= 90 * 1001
        log.flush()
    assert (tmp_path / "log").read_bytes() == (b"a" * 1000 + b"\n") * 100


def test_into_a_pipe_no_line_is_divided(monkeypatch):
    reader, writer = os.pipe()
    try:
        writes: list[bytes] = []
        real = os.write
        monkeypatch.setattr(os, "write", lambda fd, data: writes.append(data) or real(fd, data))
        log = AccessLog(writer, AccessFormat("a" * 999))
        for _ in range(9):
            log.add(record())
        log.flush()
        assert [len(data) for data in writes] == [4000, 4000, 1000]
        assert os.read(reader, 65536) == (b"a" * 999 + b"\n") * 9
    finally:
        os.close(reader)
        os.close(writer)


def test_a_full_pipe_gets_its_lines_later_and_not_more_than_some(monkeypatch):
    reader, writer = os.pipe2(os.O_NONBLOCK)
    try:
        size = fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        os.write(writer, b"x" * size)
        log = AccessLog(writer, AccessFormat("%s"))
        log.add(record())
        log.flush()
        assert os.read(reader, size) == b"x" * size
        log.flush()
        assert os.read(reader, size) == b"201\n"
        assert log.lost == 0

        os.write(writer, b"x" * size)
        log = AccessLog(writer, AccessFormat("a" * 10_000))
        for _ in range(300):
            log.add(record())
        log.flush()
        assert log.lost > 100
    finally:
        os.close(reader)
        os.close(writer)


def test_a_log_that_cannot_be_written_stops_nobody():
    reader, writer = os.pipe()
    os.close(reader)
    try:
        log = AccessLog(writer, AccessFormat("%s"))
        log.add(record())
        log.flush()
        assert log.lost == 1
    finally:
        os.close(writer)


def json_line(tmp_path: Path, made: AccessRecord, text: str = DEFAULT_FORMAT) -> dict[str, object]:
    with open(tmp_path / "log", "wb") as file:
        log = AccessLog(file.fileno(), AccessFormat(text, "www", pid=7), json=True)
        log.add(made)
        log.flush()
    wire = (tmp_path / "log").read_bytes()
    assert wire.count(b"\n") == 1
    return json.loads(wire)


def test_in_json_a_line_is_an_object(tmp_path: Path):
    assert json_line(tmp_path, record(), "%{HTTP_HOST}e %{Content-Type}o %{Gone}o") == {
        "time": "2026-11-24T11:34:06.250000+01:30",
        "pool": "www",
        "pid": 7,
        "remote": "127.0.0.1",
        "user": "me",
        "method": "GET",
        "uri": "/a/index.py/more",
        "query": "x=1&y=2",
        "status": 201,
        "script": "/srv/a/index.py",
        "duration_us": 1_234_567,
        "wait_us": 2_500,
        "cpu_user_us": 600_000,
        "cpu_system_us": 17_284,
        "memory": 5_242_881,
        "content_length": 12,
        "request_id": "r-1",
        "HTTP_HOST": "example.org",
        "Content-Type": "text/html; charset=utf-8",
        "Gone": None,
    }


@pytest.mark.parametrize(
    ("value", "seen"),
    [("caf\xc3\xa9", "caf\u00e9"), ("\xff", "\\xff"), ('\n"\\', '\n"\\'), ("\u20ac", "\u20ac"), ("\udc80", "\\udc80")],
)
def test_in_json_a_value_is_the_text_that_was_sent(tmp_path: Path, value, seen):
    assert json_line(tmp_path, record(params={"REQUEST_METHOD": value}))["method"] == seen


def test_json_is_valid_whatever_bytes_come(tmp_path: Path):
    every = "".join(map(chr, range(256)))
    found = json_line(tmp_path, record(params=dict.fromkeys(PARAMS, every), request_id=every), "%{HTTP_HOST}e")
    assert found["HTTP_HOST"] == every.encode("latin-1").decode("utf-8", "backslashreplace")
