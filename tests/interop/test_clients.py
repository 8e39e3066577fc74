"""FastCGI clients that are no web servers: cgi-fcgi of libfcgi, and flup's."""

from __future__ import annotations

import hashlib
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.server import Server
from support.waiting import PATIENCE_S
from support.webservers import program
from support.wire import params_of, split

ALL_BYTES = bytes(range(256))


@dataclass(frozen=True)
class Got:
    status: int
    headers: dict[str, str]
    body: bytes
    errors: str


def by_cgi_fcgi(address: str, params: dict[str, str], body: bytes) -> Got:
    client = program("cgi-fcgi", "libfcgi-bin")
    done = subprocess.run(
        [client, "-bind", "-connect", address], env=params, input=body, capture_output=True, timeout=PATIENCE_S
    )
    head, content = split(done.stdout)
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
    return Got(int(headers.get("Status", "200")[:3]), headers, content, done.stderr.decode())


def by_flup(address: str, params: dict[str, str], body: bytes) -> Got:
    pytest.importorskip("flup", reason="flup6 is not installed (pip install flup6)")
    from support import flup_client

    host, _, port = address.rpartition(":")
    connect = address if address.startswith("/") else (host, int(port))
    for attempt in range(5):
        try:
            status, headers, content, errors = flup_client.ask(connect, params, body)
            break
        except BrokenPipeError:
            # It writes an empty DATA record after a request that is complete, and does not read the answer when we
            # were faster and have closed. We wait for it where we can tell that a request comes bit by bit.
            if attempt == 4:
                raise
    names = {name.title(): value for name, value in headers.items()}
    return Got(int(status[:3]), names, content, errors)


CLIENTS = {"cgi-fcgi": by_cgi_fcgi, "flup": by_flup}


@pytest.fixture(scope="module", params=["unix", "tcp"])
def server(request, site: Path):
    listen = ("--listen", "127.0.0.1:0") if request.param == "tcp" else ()
    server = Server(*listen, "--workers", "2", "--docroot", str(site))
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.discard()


@pytest.fixture(params=CLIENTS)
def ask(request, server, site: Path):
    def ask(script: str, body: bytes = b"", method: str | None = None, **params: str) -> Got:
        return CLIENTS[request.param](
            server.addresses[0], params_of(f"{site}/{script}", len(body), method, params), body
        )

    return ask


def test_get_with_a_query(ask):
    got = ask("get.py?b=2&a=%C3%A9")
    assert (got.status, got.body.decode()) == (200, "a=é\nb=2\n")
    assert got.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_post_of_a_form(ask):
    assert ask("form.py", b"a=1&b=2", CONTENT_TYPE="application/x-www-form-urlencoded").body == b"a=1\nb=2\n"


def test_head_has_headers_and_no_body(ask):
    got = ask("get.py?a=1", method="HEAD")
    assert (got.status, got.headers["X-Method"], got.body) == (200, "HEAD", b"")


def test_what_is_not_there_is_404(ask):
    got = ask("nothing.py")
    assert (got.status, got.body) == (404, b"File not found.\n")


def test_an_exception_is_500_and_on_the_error_stream(ask):
    got = ask("fail.py")
    assert got.status == 500
    assert "the reason is for the log" in got.errors
    assert b"the reason" not in got.body


def test_bytes_go_through_as_they_are(ask):
    body = ALL_BYTES + os.urandom(1_000_000) + ALL_BYTES[::-1]
    assert ask("mirror.py", body).body == body


def test_a_hundred_megabytes_up_arrive_as_they_are(ask):
    body = os.urandom(1024**2) * 100
    size, digest, _ = ask("digest.py", body).body.decode().split()
    assert (int(size), digest) == (len(body), hashlib.sha256(body).hexdigest())


def test_a_large_answer_is_whole(ask, site):
    assert ask("download.py?blocks=50").body == (site / "block").read_bytes() * 50


def test_long_parameters(ask):
    # Not longer: cgi-fcgi sends what is over 8 KiB in a way that nobody can read.
    value = "x" * 7000
    assert ask("params.py", HTTP_X_LONG=value).body.decode().count(value) == 1


def test_many_at_once(ask):
    with ThreadPoolExecutor(16) as clients:
        got = clients.map(lambda number: ask(f"get.py?n={number}").body, range(100))
        assert list(got) == [b"n=%d\n" % number for number in range(100)]
