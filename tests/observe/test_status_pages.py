"""The status and ping pages: php-fpm's words to the letter, and each format's own parser to judge the escaping."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict_families
from prometheus_client.parser import text_string_to_metric_families as families

from pyfpm.observe.scoreboard import Histogram
from pyfpm.observe.status import PoolStatus, ProcessStatus, answer, as_json_object, ping_answer, render

PROCESS = ProcessStatus(
    pid=123,
    state="Idle",
    start_time=1795309201,
    start_since=6,
    requests=4,
    request_duration_us=1500,
    request_method="GET",
    request_uri="/x.py",
    query_string="y=1&z=2",
    content_length=0,
    user="",
    script="/srv/x.py",
    last_request_cpu=33.3,
    last_request_memory=8192,
    generation=2,
)
STATUS = PoolStatus(
    pool="www",
    process_manager="dynamic",
    start_time=1795309200,
    start_since=7,
    accepted_conn=5,
    listen_queue=1,
    max_listen_queue=2,
    listen_queue_len=128,
    idle_processes=2,
    active_processes=1,
    total_processes=3,
    max_active_processes=4,
    max_children_reached=6,
    slow_requests=8,
    processes=(PROCESS, replace(PROCESS, pid=124, user="ann", query_string="", last_request_cpu=0.0)),
    max_children=10,
    oldest_waiting_s=0.25,
    connections=9,
    requests=4,
    refused=3,
    aborted=2,
    bytes_out=1000,
    generations={1: 1, 2: 2},
    statuses=(1, 0, 3, 0, 2, 0),
    wait_histogram=Histogram(2_000_000, (1, 2, *[0] * 19, 3)),
    service_histogram=Histogram(500, (0, 4, *[0] * 20)),
)

NAMES = [
    "pool",
    "process manager",
    "start time",
    "start since",
    "accepted conn",
    "listen queue",
    "max listen queue",
    "listen queue len",
    "idle processes",
    "active processes",
    "total processes",
    "max active processes",
    "max children reached",
    "slow requests",
]
PROCESS_NAMES = [
    "pid",
    "state",
    "start time",
    "start since",
    "requests",
    "request duration",
    "request method",
    "request uri",
    "content length",
    "user",
    "script",
    "last request cpu",
    "last request memory",
]


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def page(query: str, status: PoolStatus = STATUS) -> str:
    return render(status, query)[1].decode()


# --- The exact texts


def test_the_plain_page():
    assert page("") == (
        "pool:                 www\n"
        "process manager:      dynamic\n"
        "start time:           22/Nov/2026:01:00:00 +0000\n"
        "start since:          7\n"
        "accepted conn:        5\n"
        "listen queue:         1\n"
        "max listen queue:     2\n"
        "listen queue len:     128\n"
        "idle processes:       2\n"
        "active processes:     1\n"
        "total processes:      3\n"
        "max active processes: 4\n"
        "max children reached: 6\n"
        "slow requests:        8\n"
    )


def test_the_full_plain_page():
    assert page("full").removeprefix(page("")) == (
        "\n"
        "************************\n"
        "pid:                  123\n"
        "state:                Idle\n"
        "start time:           22/Nov/2026:01:00:01 +0000\n"
        "start since:          6\n"
        "requests:             4\n"
        "request duration:     1500\n"
        "request method:       GET\n"
        "request URI:          /x.py?y=1&z=2\n"
        "content length:       0\n"
        "user:                 -\n"
        "script:               /srv/x.py\n"
        "last request cpu:     33.30\n"
        "last request memory:  8192\n"
        "\n"
        "************************\n"
        "pid:                  124\n"
        "state:                Idle\n"
        "start time:           22/Nov/2026:01:00:01 +0000\n"
        "start since:          6\n"
        "requests:             4\n"
        "request duration:     1500\n"
        "request method:       GET\n"
        "request URI:          /x.py\n"
        "content length:       0\n"
        "user:                 ann\n"
        "script:               /srv/x.py\n"
        "last request cpu:     0.00\n"
        "last request memory:  8192\n"
    )


def test_the_json_page_is_php_fpms_and_nothing_else():
    assert page("json") == (
        '{"pool":"www","process manager":"dynamic","start time":1795309200,"start since":7,"accepted conn":5,'
        '"listen queue":1,"max listen queue":2,"listen queue len":128,"idle processes":2,"active processes":1,'
        '"total processes":3,"max active processes":4,"max children reached":6,"slow requests":8}'
    )


def test_the_full_json_page_has_ours_between_php_fpms_and_the_processes():
    text = page("json&full")
    assert text.startswith(page("json")[:-1] + ',"max children":10,')
    assert text.endswith(
        ', "processes":[{"pid":123,"state":"Idle","start time":1795309201,"start since":6,"requests":4,'
        '"request duration":1500,"request method":"GET","request uri":"/x.py?y=1&z=2","content length":0,"user":"-",'
        '"script":"/srv/x.py","last request cpu":33.30,"last request memory":8192,"generation":2},'
        '{"pid":124,"state":"Idle","start time":1795309201,"start since":6,"requests":4,'
        '"request duration":1500,"request method":"GET","request uri":"/x.py","content length":0,"user":"ann",'
        '"script":"/srv/x.py","last request cpu":0.00,"last request memory":8192,"generation":2}]}'
    )
    found = json.loads(text)
    assert list(found)[: len(NAMES)] == NAMES
    assert found == as_json_object(STATUS, full=True)
    assert found["statuses"] == {"1xx": 0, "2xx": 3, "3xx": 0, "4xx": 2, "5xx": 0, "other": 1}
    assert found["generations"] == {"1": 1, "2": 2}
    assert found["queue wait"]["count"] == 6
    assert [bound for bound, count in found["queue wait"]["buckets us"].items() if count] == ["64", "128", "inf"]


def test_the_xml_page():
    text = page("xml&full")
    assert text.startswith(
        '<?xml version="1.0" ?>\n<status>\n<pool>www</pool>\n<process-manager>dynamic</process-manager>'
    )
    assert text.endswith("</process>\n</processes>\n</status>")
    assert page("xml").endswith("<slow-requests>8</slow-requests>\n</status>")
    root = ElementTree.fromstring(text)
    assert [child.tag.replace("-", " ") for child in root] == [*NAMES, "processes"]
    assert root.findtext("start-time") == "1795309200"
    for process in root.iter("process"):
        assert [child.tag.replace("-", " ") for child in process] == PROCESS_NAMES
    assert root.findtext("processes/process/request-uri") == "/x.py?y=1&z=2"


def test_the_html_page():
    text = page("html")
    assert text.startswith(
        '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd">\n'
        '<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">\n'
        "<head><title>pyfpm Status Page</title></head>\n"
    )
    assert "<tr><th>start time</th><td>22/Nov/2026:01:00:00 +0000</td></tr>\n" in text
    assert [name for name, _ in re.findall("<tr><th>(.*)</th><td>(.*)</td></tr>", text)] == NAMES
    rows = table_rows(page("html&full"))
    assert rows[len(NAMES)] == PROCESS_NAMES
    assert rows[len(NAMES) + 1][7] == "/x.py?y=1&z=2"
    assert len(rows) == len(NAMES) + 3


PHP_FPMS = """\
# HELP phpfpm_up Could pool www using a dynamic PM on PHP-FPM be reached?
# TYPE phpfpm_up gauge
phpfpm_up 1
# HELP phpfpm_start_since The number of seconds since FPM has started.
# TYPE phpfpm_start_since counter
phpfpm_start_since 7
# HELP phpfpm_accepted_connections The number of requests accepted by the pool.
# TYPE phpfpm_accepted_connections counter
phpfpm_accepted_connections 5
# HELP phpfpm_listen_queue The number of requests in the queue of pending connections.
# TYPE phpfpm_listen_queue gauge
phpfpm_listen_queue 1
# HELP phpfpm_max_listen_queue The maximum number of requests in the queue of pending connections since FPM has started.
# TYPE phpfpm_max_listen_queue counter
phpfpm_max_listen_queue 2
# TYPE phpfpm_listen_queue_length gauge
# HELP phpfpm_listen_queue_length The size of the socket queue of pending connections.
phpfpm_listen_queue_length 128
# HELP phpfpm_idle_processes The number of idle processes.
# TYPE phpfpm_idle_processes gauge
phpfpm_idle_processes 2
# HELP phpfpm_active_processes The number of active processes.
# TYPE phpfpm_active_processes gauge
phpfpm_active_processes 1
# HELP phpfpm_total_processes The number of idle + active processes.
# TYPE phpfpm_total_processes gauge
phpfpm_total_processes 3
# HELP phpfpm_max_active_processes The maximum number of active processes since FPM has started.
# TYPE phpfpm_max_active_processes counter
phpfpm_max_active_processes 4
# HELP phpfpm_max_children_reached The number of times, the process limit has been reached, when pm tries to start \
more children (works only for pm 'dynamic' and 'ondemand').
# TYPE phpfpm_max_children_reached counter
phpfpm_max_children_reached 6
# HELP phpfpm_slow_requests The number of requests that exceeded your 'request_slowlog_timeout' value.
# TYPE phpfpm_slow_requests counter
phpfpm_slow_requests 8
# EOF
"""


@pytest.mark.parametrize("query", ["openmetrics", "openmetrics&full"])
def test_php_fpms_metrics_are_one_piece_at_the_end(query):
    assert page(query).endswith("\n" + PHP_FPMS)


def ours(text: str) -> dict[str, object]:
    """Our families, as a parser reads them that insists on the rules."""
    return {family.name: family for family in strict_families(text.partition("# HELP phpfpm_up")[0] + "# EOF\n")}


def test_prometheus_reads_the_whole_page():
    samples = [sample for family in families(page("openmetrics&full")) for sample in family.samples]
    found = {sample.name: sample.value for sample in samples}
    assert found["phpfpm_accepted_connections_total"] == 5  # so this parser calls a counter by any name
    assert found["phpfpm_listen_queue_length"] == 128
    assert found["pyfpm_max_children"] == 10


def test_our_metrics_keep_the_rules_of_openmetrics():
    found = ours(page("openmetrics"))
    assert found["pyfpm_requests"].samples[0].value == 4
    assert found["pyfpm_sent_bytes"].unit == "bytes"
    assert {sample.labels["class"]: sample.value for sample in found["pyfpm_responses"].samples}["4xx"] == 2
    assert {sample.labels["generation"]: sample.value for sample in found["pyfpm_workers"].samples} == {"1": 1, "2": 2}
    assert not any(name.startswith("pyfpm_process") for name in found)
    assert "pyfpm_process_state" in ours(page("openmetrics&full"))


def test_a_histogram_is_cumulative_and_in_seconds():
    samples = ours(page("openmetrics"))["pyfpm_queue_wait_seconds"].samples
    buckets = [(sample.labels["le"], sample.value) for sample in samples if sample.name.endswith("_bucket")]
    assert buckets[:3] == [("6.4e-05", 1), ("0.000128", 3), ("0.000256", 3)]
    assert buckets[-2:] == [("67.108864", 3), ("+Inf", 6)]
    assert [sample.value for sample in samples if sample.name.endswith(("_count", "_sum"))] == [6, 2.0]


def test_no_metric_tells_what_was_asked_for():
    text = page("openmetrics&full")
    assert not any(secret in text for secret in ("x.py", "y=1", "ann"))


def test_a_pool_without_workers_has_pages_as_well():
    empty = replace(STATUS, processes=(), generations={})
    assert page("full", empty) == page("", empty)
    assert page("json&full", empty).endswith(', "processes":[]}')
    assert ElementTree.fromstring(page("xml&full", empty)).find("processes") is not None
    assert table_rows(page("html&full", empty))[-1] == PROCESS_NAMES
    assert ours(page("openmetrics&full", empty))


# --- Which page it is


@pytest.mark.parametrize(
    ("query", "content_type", "full"),
    [
        ("", "text/plain", False),
        ("full", "text/plain", True),
        ("html", "text/html", False),
        ("xml", "text/xml", False),
        ("json", "application/json", False),
        ("openmetrics", "application/openmetrics-text; version=1.0.0; charset=utf-8", False),
        ("full&json", "application/json", True),
        ("json&full", "application/json", True),
        ("json=1&full=", "application/json", True),
        ("openmetrics&json&xml&html", "text/html", False),
        ("openmetrics&json&xml", "text/xml", False),
        ("openmetrics&json", "application/json", False),
        ("js%6fn", "application/json", False),
        ("json[]=1", "application/json", False),
        ("&&json", "application/json", False),
        ("x=json", "text/plain", False),
        ("JSON", "text/plain", False),
        ("%ff%00&=&[", "text/plain", False),
    ],
)
def test_the_names_in_the_query_string_choose_the_page(query, content_type, full):
    found, body = render(STATUS, query)
    assert found == content_type
    assert (b"124" in body) is full


@given(st.text())
@settings(max_examples=50)
def test_any_query_string_gives_a_page(query):
    assert render(STATUS, query)[1]


@pytest.mark.parametrize("query", ["", "html", "xml", "json", "openmetrics"])
def test_an_answer_is_not_to_be_kept(query):
    content_type, body = render(STATUS, query)
    head, blank, found = answer(STATUS, query, "GET").partition(b"\r\n\r\n")
    assert blank
    assert found == body
    assert sorted(head.decode().split("\r\n")) == [
        "Cache-Control: no-cache, no-store, must-revalidate, max-age=0",
        f"Content-Type: {content_type}",
        "Expires: Thu, 01 Jan 1970 00:00:00 GMT",
    ]
    assert answer(STATUS, query, "HEAD") == head + blank


def test_the_ping_page_says_what_it_is_told_to():
    head, _, body = ping_answer("pong", "GET").partition(b"\r\n\r\n")
    assert body == b"pong"
    assert b"Content-Type: text/plain\r\n" in head
    assert b"Cache-Control: no-cache, no-store, must-revalidate, max-age=0" in head
    assert ping_answer("pong", "HEAD") == head + b"\r\n\r\n"
    assert ping_answer("\udcff", "GET").endswith(b"\xff")  # a byte of the configuration that is not UTF-8


@pytest.mark.parametrize(
    ("zone", "shown"),
    [("UTC", "01:00:00 +0000"), ("XYZ-5:30", "06:30:00 +0530"), ("XYZ+3:30", "21:30:00 -0330")],
)
def test_a_start_time_is_local_with_its_offset(monkeypatch, zone, shown):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    assert f"Nov/2026:{shown}\n" in page("")


# --- Whatever is in it


class Rows(HTMLParser):
    """The cells of a page, by rows; anything but what our own tags make is a failure."""

    def __init__(self):
        super().__init__()
        self.rows, self.inside = [], False

    def handle_starttag(self, tag, attrs):
        assert tag in ("html", "head", "title", "body", "table", "tr", "th", "td")
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data


def table_rows(text):
    parser = Rows()
    parser.feed(text)
    parser.close()
    return parser.rows


# As a slot gives them: any bytes, decoded; with a liking for what means something in one of the formats.
hostile = st.lists(
    st.sampled_from(
        ["<", ">", "&", '"', "'", "\\", "\n", "\r", "\0", "]]>", "</td>", "\u202e", "\u2028", "\x85", "\ufffe"]
    )
    | st.binary(max_size=4).map(lambda some: some.decode("utf-8", "backslashreplace")),
    max_size=8,
).map("".join)


def seen(text: str) -> str:
    return re.sub(
        r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufffe\uffff]",
        lambda found: f"\\x{ord(found[0]):02x}" if ord(found[0]) < 256 else f"\\u{ord(found[0]):04x}",
        text,
    )


@settings(max_examples=100)
@given(hostile, hostile, hostile, hostile, hostile, hostile)
def test_every_text_survives_in_every_format(pool, method, uri, query, user, script):
    process = replace(
        PROCESS, request_method=method, request_uri=uri, query_string=query, user=user, script=script, pid=77
    )
    status = replace(STATUS, pool=pool, processes=(process,))
    where = (uri or "-") + (f"?{query}" if query else "")
    texts = {"request method": method or "-", "request uri": where, "user": user or "-", "script": script or "-"}

    found = json.loads(page("json&full", status))
    assert found["pool"] == pool
    assert {name: found["processes"][0][name] for name in texts} == texts

    root = ElementTree.fromstring(page("xml&full", status))
    assert (root.findtext("pool") or "") == seen(pool)
    for name, text in texts.items():
        assert root.findtext(f"processes/process/{name.replace(' ', '-')}") == seen(text)

    rows = table_rows(page("html&full", status))
    assert rows[0] == ["pool", seen(pool)]
    shown = dict(zip(rows[-2], rows[-1], strict=True))
    assert {name: shown[name] for name in texts} == {name: seen(text) for name, text in texts.items()}

    lines = page("full", status).split("\n")
    assert lines[0] == f"pool:                 {seen(pool)}"
    assert f"request URI:          {seen(where)}" in lines
    assert len(lines) == len(NAMES) + 2 + len(PROCESS_NAMES) + 1

    metrics = ours(page("openmetrics&full", status))
    assert metrics["pyfpm_max_children"].samples[0].labels["pool"] == seen(pool)
    assert len(list(families(page("openmetrics&full", status)))) >= 12
