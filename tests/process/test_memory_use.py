"""Memory: what passes through does not stay, and what waits costs little. These are measurements, but not of speed."""

from __future__ import annotations

import hashlib
import itertools
import os
import resource
from pathlib import Path

import pytest

from support import processes
from support.waiting import eventually
from support.wire import Wire, ask, connect_to, split

MB = 1024**2
GB = 1024**3

# A block of the gigabyte. 64 times the same random megabyte says as much as 64 different ones, and is made faster.
BLOCK = os.urandom(MB)
BLOCKS = 1024


@pytest.fixture(scope="module")
def digest() -> str:
    """Of the gigabyte."""
    whole = hashlib.sha256()
    for _ in range(BLOCKS):
        whole.update(BLOCK)
    return whole.hexdigest()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "digest.py").write_text(
        "import hashlib, sys\necho(hashlib.file_digest(sys.stdin.buffer, 'sha256').hexdigest())\n"
    )
    (tmp_path / "download.py").write_text(
        "block = open(_GET['block'], 'rb').read()\nfor _ in range(1024): echo(block)\n"
    )
    (tmp_path / "block").write_bytes(BLOCK)
    (tmp_path / "hello.py").write_text("echo('hello')\n")
    (tmp_path / "wsgi.py").write_text(
        "import hashlib\n"
        "block = open('block', 'rb').read()\n"
        "def application(environ, start):\n"
        "    start('200 OK', [('Content-Type', 'text/plain')])\n"
        "    what = environ['QUERY_STRING']\n"
        "    if what == 'iterator': return (block for _ in range(1024))\n"
        "    if what == 'file': return environ['wsgi.file_wrapper'](open('large', 'rb'))\n"
        "    return [hashlib.file_digest(environ['wsgi.input'], 'sha256').hexdigest().encode()]\n"
    )
    return tmp_path


def upload(address: str, script: str) -> bytes:
    """Send the gigabyte as a body, a block at a time; the body of the answer."""
    with Wire(address) as wire:
        wire.send(wire.begin() + wire.params(script, method="POST", CONTENT_LENGTH=str(GB)))
        records = wire.client.send_stdin(1, BLOCK)
        for _ in range(BLOCKS):
            wire.send(records)
        wire.send(wire.client.send_stdin(1, b""))
        return wire.answer().body


def download(address: str, script: str, **params: str) -> tuple[int, str]:
    """Ask, and read a body that does not fit into anything: its size and digest."""
    with Wire(address) as wire:
        wire.send(wire.request(script, **params))
        size, whole = 0, hashlib.sha256()
        pieces = wire.pieces()
        first = split(next(pieces))[1]  # the header block comes in one piece
        for piece in itertools.chain([first], pieces):
            size += len(piece)
            whole.update(piece)
    return size, whole.hexdigest()


@pytest.mark.big
def test_a_gigabyte_up_and_down_leaves_a_script_worker_as_it_was(pyfpm, site, digest):
    server = pyfpm("-d", f"spool_directory={site}")
    worker = server.worker
    assert ask(server.socket, f"{site}/hello.py").body == b"hello"
    assert ask(server.socket, f"{site}/digest.py", b"x").status == 200  # hashlib is imported now
    idle = processes.peak_memory(worker)
    assert upload(server.socket, f"{site}/digest.py").decode() == digest
    assert processes.peak_memory(worker) - idle < 16 * MB
    assert download(server.socket, f"{site}/download.py?block={site}/block") == (GB, digest)
    assert processes.peak_memory(worker) - idle < 16 * MB
    assert server.worker == worker
    assert not [name for name in os.listdir(site) if name.startswith("tmp")], "a body was left behind"


@pytest.mark.big
def test_a_gigabyte_up_and_down_leaves_a_wsgi_worker_as_it_was(pyfpm, site, digest):
    with open(site / "large", "wb") as large:
        for _ in range(BLOCKS):
            large.write(BLOCK)
    server = pyfpm("-d", f"spool_directory={site}", "wsgi:application", cwd=site)
    worker = server.worker
    assert ask(server.socket, "/", b"x").status == 200
    idle = processes.peak_memory(worker)
    assert upload(server.socket, "/").decode() == digest
    for way in ("iterator", "file"):
        assert download(server.socket, "/", QUERY_STRING=way) == (GB, digest)
        assert processes.peak_memory(worker) - idle < 16 * MB, way
    assert server.worker == worker


def test_ten_thousand_idle_connections_cost_a_kilobyte_each_at_most(pyfpm, site):
    wanted = 10_000
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors[1] < wanted + 500:
        pytest.skip(f"not allowed more than {descriptors[1]} descriptors (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors[1], descriptors[1]))
    server = pyfpm()
    worker = server.worker
    hello = f"{site}/hello.py"
    idle = []
    try:
        with Wire(server.socket) as wire:
            request = wire.request(hello, keep=True)
            expected = len(wire_answer(server.socket, request))
        before = processes.own_memory(worker)
        for _ in range(wanted):
            connection = connect_to(server.socket)
            connection.sendall(request)
            assert len(connection.recv(4096)) == expected
            idle.append(connection)
        after = processes.own_memory(worker)
        assert (after - before) / wanted < 1024
        assert len(processes.sockets(worker)) >= wanted
        # They are served like any other, and stand in nobody's way.
        assert ask(server.socket, hello).body == b"hello"
        for connection in idle[:: wanted // 100]:
            connection.sendall(request)
            assert len(connection.recv(4096)) == expected
    finally:
        for connection in idle:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, descriptors)
    eventually(lambda: len(processes.sockets(worker)) < 20, "the connections are closed")
    assert ask(server.socket, hello).body == b"hello"


def wire_answer(address: str, request: bytes) -> bytes:
    with connect_to(address) as connection:
        connection.sendall(request)
        return connection.recv(4096)


def test_an_idle_script_worker_has_less_than_six_megabytes_of_its_own(pyfpm, site):
    server = pyfpm("--workers", "4")
    for _ in range(50):
        assert ask(server.socket, f"{site}/hello.py").body == b"hello"
    for worker in server.workers:
        assert processes.own_memory(worker) < 6 * MB


def test_requests_leave_nothing_behind(pyfpm, site):
    server = pyfpm()
    worker = server.worker
    with Wire(server.socket) as wire:

        def serve(count: int) -> int:
            for _ in range(count):
                assert wire.ask(f"{site}/hello.py?a=1&b=2", b"x=1", keep=True, HTTP_COOKIE="c=3").body == b"hello"
            return processes.own_memory(worker)

        warm = serve(2000)
        assert serve(4000) - warm < MB


def test_broken_requests_leave_nothing_behind(pyfpm, site):
    server = pyfpm("-d", "post_max_size=1K")
    worker = server.worker

    def suffer(count: int) -> int:
        for _ in range(count):
            with connect_to(server.socket) as connection:
                connection.sendall(b"\x01\x01\x00\x01\x00\x08\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00nonsense")
            with Wire(server.socket) as wire:
                wire.send(wire.begin() + wire.params(f"{site}/hello.py", b"x" * 500))
            assert ask(server.socket, f"{site}/hello.py", b"x" * 5000).status == 413
        return processes.own_memory(worker)

    warm = suffer(300)
    assert suffer(600) - warm < MB
    assert len(processes.sockets(worker)) < 20
