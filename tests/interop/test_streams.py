"""Through nginx: what a script flushes is there before it goes on, and files go out in parts.

The scripts wait for the visitor, and the visitor for the scripts, so nothing here depends on how long anything takes.
"""

from __future__ import annotations

import http.client
import os
from pathlib import Path

import pytest

from support.waiting import PATIENCE_S, eventually
from support.web import fetch
from support.webservers import Nginx

# Sends the next event only when the visitor has said, by a file, that the one before it came.
WAIT = """
import os, time
def heard(n):
    while not os.path.exists(f"heard{n}"):
        time.sleep(0.005)
"""
EVENTS = {
    "flush": "echo(f'data: {n}\\n\\n'); flush()",
    "print": "print(f'data: {n}\\n', flush=True)",
    "implicit": "ob_implicit_flush(); echo(f'data: {n}\\n\\n')",
}
APPLICATION = """
import os
%s
def application(environ, start_response):
    os.chdir(os.path.dirname(__file__))
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    for n in range(3):
        yield b"data: %%d\\n\\n" %% n
        heard(n)
"""
DATA = os.urandom(3_000_000)


@pytest.fixture(scope="module")
def place(site: Path) -> Path:
    """The site, with what is asked for here in it."""
    for name, say in EVENTS.items():
        script = f"{WAIT}header('Content-Type: text/event-stream')\nfor n in range(3):\n    {say}\n    heard(n)\n"
        add(site / name / "events.py", script)
    add(site / "wsgi" / "events_app.py", APPLICATION % WAIT)
    add(site / "send.py", "send_file(_GET['f'], as_attachment='name' in _GET)")
    add(site / "fails.py", "echo('begun '); flush()\n1/0")
    add(site / "broken.py", "x = = 1")
    (site / "data.bin").write_bytes(DATA)
    return site


def add(path: Path, source: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(source)


@pytest.fixture(scope="module")
def scripts(behind, place):
    return behind(Nginx, "--docroot", str(place), "-d", "display_errors=yes")


@pytest.fixture(scope="module")
def wsgi(behind, place):
    return behind(Nginx, "events_app:application", cwd=place / "wsgi")


@pytest.mark.parametrize("kind", [*EVENTS, "wsgi"])
def test_each_event_is_with_the_visitor_before_the_next_one_is_made(kind, place, request):
    front = request.getfixturevalue("wsgi" if kind == "wsgi" else "scripts")
    visitor = http.client.HTTPConnection("127.0.0.1", front.port, timeout=PATIENCE_S)
    visitor.request("GET", f"/{kind}/events.py")
    answer = visitor.getresponse()
    assert answer.getheader("Content-Type").startswith("text/event-stream")
    for number in range(3):
        assert (answer.readline(), answer.readline()) == (b"data: %d\n" % number, b"\n")
        (place / kind / f"heard{number}").touch()
    assert answer.read() == b""
    visitor.close()


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ({}, 200, slice(None)),
        ({"Range": "bytes=1000000-1999999"}, 206, slice(1_000_000, 2_000_000)),
        ({"Range": "bytes=-5"}, 206, slice(-5, None)),
        ({"Range": "bytes=3000000-"}, 416, slice(0, 0)),
        ({"Range": "bytes=0-0,5-6"}, 200, slice(None)),
        ({"If-None-Match": "*"}, 304, slice(0, 0)),
        ({"If-Match": '"other"'}, 412, slice(0, 0)),
    ],
)
def test_a_file_is_sent_as_far_as_it_is_wanted(scripts, asked, status, part):
    page = fetch(scripts.port, "/send.py?f=data.bin&name", headers=asked)
    assert page.status == status
    assert page.body == DATA[part]
    assert "etag" in page.headers
    head = fetch(scripts.port, "/send.py?f=data.bin&name", method="HEAD", headers=asked)
    assert (head.status, head.body) == (status, b"")
    if status < 300:
        assert page.headers["content-disposition"] == 'attachment; filename="data.bin"'
        assert page.headers["content-length"] == head.headers["content-length"] == str(len(DATA[part]))
        assert fetch(scripts.port, "/send.py?f=data.bin", headers={"If-None-Match": page.headers["etag"]}).status == 304
    assert not scripts.web.log()


def test_a_file_that_gets_shorter_meanwhile_ends_the_answer_and_nothing_else(scripts, place):
    """The length was promised, and there is no other way to say that the rest will not come."""
    path = place / "shrinks.bin"
    size = 64 * 1024**2
    with open(path, "wb") as file:
        file.truncate(size)
    visitor = http.client.HTTPConnection("127.0.0.1", scripts.port, timeout=PATIENCE_S)
    # Not kept: to nginx 1.22 a FastCGI answer is complete when its connection ends, and it keeps the visitor's open.
    visitor.request("GET", "/send.py?f=shrinks.bin", headers={"Connection": "close"})
    answer = visitor.getresponse()
    assert answer.getheader("Content-Length") == str(size)
    answer.read(1)
    os.truncate(path, 0)
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        answer.read()
    visitor.close()
    eventually(lambda: fetch(scripts.port, "/send.py?f=data.bin").status == 200, "others are served")


def test_errors_are_shown_where_they_are_to_be_shown(scripts):
    page = fetch(scripts.port, "/broken.py")
    assert page.status == 500 and b"<title>SyntaxError: invalid syntax</title>" in page.body
    assert page.headers["cache-control"] == "no-store"
    page = fetch(scripts.port, "/fails.py")
    assert page.status == 200 and page.body.startswith(b"begun \n<pre ") and b"ZeroDivisionError" in page.body
