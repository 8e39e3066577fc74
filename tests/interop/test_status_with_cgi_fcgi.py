"""Status and ping as php-fpm's users ask for them: with cgi-fcgi, read by each format's own parser."""

from __future__ import annotations

import html.parser
import json
import os
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.server import Server
from support.webservers import program

# php-fpm 8.2's fields, in its order.
FIELDS = [
    "pool", "process manager", "start time", "start since", "accepted conn", "listen queue", "max listen queue",
    "listen queue len", "idle processes", "active processes", "total processes", "max active processes",
    "max children reached", "slow requests",
]  # fmt: skip
PROCESS_FIELDS = [
    "pid", "state", "start time", "start since", "requests", "request duration", "request method", "request uri",
    "content length", "user", "script", "last request cpu", "last request memory",
]  # fmt: skip


@pytest.fixture(params=["the pool", "pm.status_listen"])
def get(request: pytest.FixtureRequest, pyfpm: Callable[..., Server], place) -> Callable[[str, str], tuple[str, str]]:
    """Asks with cgi-fcgi; gives the header block and the page."""
    status = f"{place}/status.sock"
    server = pyfpm(
        *("--workers", "2", "-d", "pm.status_path=/status", "-d", "ping.path=/ping"),
        *("-d", f"pm.status_listen={status}"),
    )
    address = server.socket if request.param == "the pool" else status
    cgi_fcgi = program("cgi-fcgi", "libfcgi-bin")

    def ask(path: str, query: str) -> tuple[str, str]:
        environment = {
            "SCRIPT_NAME": path,
            "SCRIPT_FILENAME": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": "GET",
            "REQUEST_URI": f"{path}?{query}",
        }
        done = subprocess.run(
            [cgi_fcgi, "-bind", "-connect", address], env={**os.environ, **environment}, capture_output=True, check=True
        )
        head, _, page = done.stdout.decode().partition("\r\n\r\n")
        return head, page

    return ask


def rows_of(page: str) -> list[tuple[str, str]]:
    class Rows(html.parser.HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.cells: list[str] = []

        def handle_data(self, data: str) -> None:
            if self.lasttag in ("th", "td") and data.strip():
                self.cells.append(data)

    rows = Rows()
    rows.feed(page)
    return list(zip(rows.cells[::2], rows.cells[1::2], strict=False))


def test_ping_says_pong(get):
    head, page = get("/ping", "")
    assert page == "pong"
    assert "Content-Type: text/plain" in head


def test_plain_text(get):
    head, page = get("/status", "")
    assert "Content-Type: text/plain" in head
    assert [line.partition(":")[0] for line in page.splitlines()] == FIELDS


def test_plain_text_in_full_has_a_block_for_each_process(get):
    _, page = get("/status", "full")
    _, *blocks = page.split("************************\n")
    assert len(blocks) == 2
    for block in blocks:
        names = [line.partition(":")[0].lower() for line in block.splitlines() if line]
        assert names == PROCESS_FIELDS


@pytest.mark.parametrize("query", ["json", "json&full"])
def test_json(get, query):
    head, page = get("/status", query)
    assert "Content-Type: application/json" in head
    found: dict[str, Any] = json.loads(page)
    assert list(found)[: len(FIELDS)] == FIELDS
    if "full" in query:
        assert [list(process)[: len(PROCESS_FIELDS)] for process in found["processes"]] == [PROCESS_FIELDS] * 2


@pytest.mark.parametrize("query", ["xml", "xml&full"])
def test_xml(get, query):
    head, page = get("/status", query)
    assert "Content-Type: text/xml" in head
    root = ElementTree.fromstring(page)
    assert root.tag == "status"
    assert [each.tag for each in root][: len(FIELDS)] == [name.replace(" ", "-") for name in FIELDS]
    assert len(root.findall("processes/process")) == (2 if "full" in query else 0)


@pytest.mark.parametrize("query", ["html", "html&full"])
def test_html(get, query):
    head, page = get("/status", query)
    assert "Content-Type: text/html" in head
    assert [name for name, _ in rows_of(page)][: len(FIELDS)] == FIELDS


def test_openmetrics(get):
    head, page = get("/status", "openmetrics")
    assert "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8" in head
    assert page.endswith("# EOF\n")
    found = {sample.name: sample.value for family in text_string_to_metric_families(page) for sample in family.samples}
    assert found["phpfpm_up"] == 1
    assert found["phpfpm_total_processes"] == 2
