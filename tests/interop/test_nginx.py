"""What is promised behind nginx: large things, many at once, connections that are kept."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import subprocess
import time
from collections.abc import Iterator

import pytest

from support import processes
from support.server import limiter
from support.waiting import eventually
from support.web import fetch
from support.webservers import Nginx, program

MB = 1024**2
GB = 1024**3

KEEP = {"upstream": "keepalive 4;", "location": "fastcgi_keep_conn on;"}


def digest_of(blocks: Iterator[bytes]) -> str:
    whole = hashlib.sha256()
    for block in blocks:
        whole.update(block)
    return whole.hexdigest()


@pytest.fixture(scope="module")
def block(site) -> bytes:
    return (site / "block").read_bytes()


@pytest.fixture(scope="module")
def scripts(behind, site):
    return behind(Nginx, "--workers", "2", "--docroot", str(site), "-d", f"spool_directory={site.parent}")


@pytest.fixture(scope="module")
def unbuffered(behind, site):
    return behind(
        Nginx, "--workers", "2", "--docroot", str(site), "-d", f"spool_directory={site.parent}",
        location="fastcgi_request_buffering off;",
    )  # fmt: skip


@pytest.fixture(scope="module")
def wsgi(behind, site, block):
    with open(site / "large", "wb") as large:
        for _ in range(1024):
            large.write(block)
    return behind(Nginx, "--workers", "2", "app:application", cwd=site)


def test_nginx_as_www_data_may_use_a_socket_that_root_made_with_default_options(scripts):
    if os.geteuid() != 0:
        pytest.skip("not root: nginx runs as the same user as pyfpm")
    master = scripts.web.process.pid
    # Its socket is there before its workers are.
    nginx = eventually(lambda: [pid for pid in processes.children(master) if "worker process" in processes.title(pid)])
    assert all(processes.owner(pid)[0] == 33 for pid in nginx), "www-data has uid 33 on Debian"
    assert os.stat(scripts.pyfpm.socket).st_mode & 0o777 == 0o660
    assert fetch(scripts.port, "/get.py").status == 200


@pytest.mark.parametrize("front", ["scripts", "unbuffered"])
def test_a_hundred_megabytes_up_arrive_as_they_are(front, request, block):
    front = request.getfixturevalue(front)
    blocks = [block] * 100
    page = fetch(front.port, "/digest.py", iter(blocks), headers={"Content-Length": str(100 * MB)})
    assert page.body.decode() == f"{100 * MB} {digest_of(iter(blocks))} '{100 * MB}'"


def test_a_hundred_megabytes_of_unknown_length_arrive_as_they_are(unbuffered, block):
    blocks = [block] * 100
    page = fetch(unbuffered.port, "/digest.py", iter(blocks))
    assert page.body.decode() == f"{100 * MB} {digest_of(iter(blocks))} ''", "nginx tells an empty length"


@pytest.mark.big
@pytest.mark.parametrize(
    ("front", "path"),
    [("scripts", "/download.py?blocks=1024"), ("wsgi", "/iterator?1024"), ("wsgi", "/file")],
    ids=["echo", "iterator", "file_wrapper"],
)
def test_a_gigabyte_down_arrives_as_it_is(front, path, request, block):
    front = request.getfixturevalue(front)
    page = fetch(front.port, path, keep_body=False)
    assert (page.status, page.size) == (200, GB)
    assert page.digest == digest_of(block for _ in range(1024))
    for worker in front.pyfpm.workers:
        assert processes.peak_memory(worker) < 80 * MB


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_kept_connections_are_used_again(behind, site, tcp):
    front = behind(Nginx, "--docroot", str(site), tcp=tcp, **KEEP)
    worker = front.pyfpm.worker
    idle = processes.sockets(worker)
    assert fetch(front.port, "/get.py").status == 200
    (connection,) = processes.sockets(worker) - idle
    for number in range(100):
        path = ("/get.py", "/fail.py", "/nothing.py", "/digest.py")[number % 4]
        assert fetch(front.port, path, b"body").status in (200, 404, 500)
        assert processes.sockets(worker) - idle == {connection}


def test_an_end_of_the_server_is_no_error_for_kept_connections(behind, site):
    """The connection is closed by us while nginx keeps it; nginx must see that, and not lose a request to it."""
    front = behind(Nginx, "--docroot", str(site), "-d", "keepalive_timeout=1s", **KEEP)
    for _ in range(3):
        assert fetch(front.port, "/get.py").status == 200
        time.sleep(2.5)
    assert "prematurely closed" not in front.web.log()


def test_a_thousand_clients_at_once_without_an_error(behind, site):
    ab = program("ab", "apache2-utils")
    front = behind(Nginx, "--workers", "2", "--docroot", str(site))
    done = subprocess.run(
        [ab, "-c", "1000", "-n", "5000", "-s", "120", f"http://127.0.0.1:{front.port}/get.py?a=1"],
        capture_output=True, text=True, preexec_fn=limiter({}), timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"Complete requests:\s+5000\n", done.stdout), done.stdout
    assert re.search(r"Failed requests:\s+0\n", done.stdout), done.stdout
    assert "Non-2xx" not in done.stdout, done.stdout
    assert not front.web.log()


def test_a_thousand_kept_clients_over_a_few_kept_connections(behind, site):
    ab = program("ab", "apache2-utils")
    front = behind(Nginx, "--workers", "2", "--docroot", str(site), **KEEP)
    done = subprocess.run(
        [ab, "-k", "-c", "1000", "-n", "10000", "-s", "120", f"http://127.0.0.1:{front.port}/get.py?a=1"],
        capture_output=True, text=True, preexec_fn=limiter({}), timeout=300,
    )  # fmt: skip
    assert re.search(r"Failed requests:\s+0\n", done.stdout), done.stdout
    assert "Non-2xx" not in done.stdout, done.stdout
    assert not front.web.log()


def test_a_visitor_who_leaves_is_no_harm(scripts):
    for _ in range(10):
        visitor = http.client.HTTPConnection("127.0.0.1", scripts.port, timeout=60)
        visitor.request("GET", "/download.py?blocks=200")
        visitor.getresponse().read(1000)
        visitor.close()
    assert fetch(scripts.port, "/get.py?a=1").body == b"a=1\n"
    assert "uncaught exception" not in scripts.pyfpm.log()


def test_a_stop_in_the_middle_finishes_what_nginx_has_asked_for(behind, site):
    front = behind(Nginx, "--workers", "2", "--docroot", str(site))
    visitor = http.client.HTTPConnection("127.0.0.1", front.port, timeout=60)
    visitor.request("GET", "/slow.py?for=2")
    time.sleep(0.5)
    front.pyfpm.signal()
    response = visitor.getresponse()
    assert (response.status, response.read()) == (200, b"slept")
    assert front.pyfpm.wait() == 0


def test_a_worker_that_dies_in_the_middle_of_a_body_cuts_the_answer(scripts):
    """Only who compares it with Content-Length can tell: nginx ends a chunked answer as if it were complete, and on a
    kept connection leaves the visitor waiting for the rest."""
    page = fetch(scripts.port, "/leave.py?late=1", headers={"Connection": "close"})
    assert (page.status, page.headers["content-length"]) == (200, "20000")
    assert page.size < 20_000
    eventually(lambda: len(scripts.pyfpm.workers) == 2, "there is a new worker")


def test_a_body_over_post_max_size_is_413_with_every_way_of_sending_it(behind, site):
    front = behind(Nginx, "--docroot", str(site), "-d", "post_max_size=1M", location="fastcgi_request_buffering off;")
    assert fetch(front.port, "/digest.py", b"x" * 3 * MB).status == 413
    assert fetch(front.port, "/digest.py", iter([b"x" * MB] * 3)).status == 413
    assert fetch(front.port, "/digest.py", b"x" * MB).status == 200
