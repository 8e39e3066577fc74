"""Uploads through a real nginx into real workers: many at once, too large ones, bombs, a full disk; and what is left.

PYFPM_TEST_FULL=1 uploads 200 files at a time, and otherwise 40.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support import processes
from support.server import Server, public_directory
from support.waiting import PATIENCE_S, eventually
from support.web import Page, fetch
from support.webservers import Nginx
from support.wire import Wire

MB = 1024**2

AT_ONCE = 200 if os.environ.get("PYFPM_TEST_FULL") == "1" else 40
SIZE = 20 * MB

# What a worker may have more at its peak than before the uploads.
MEMORY = 40 * MB

CONFIG = """
[global]
error_log = /dev/stderr
[www]
listen = $DIR/fpm.sock
listen.mode = 0666
pm = static
pm.max_children = 2
upload_tmp_dir = {uploads}
spool_directory = {spool}
upload_max_filesize = 32M
post_max_size = 48M
catch_workers_output = yes
{more}
"""

MULTIPART = {"Content-Type": "multipart/form-data; boundary=B"}

SCRIPTS = {
    "show": """
import json
for entry in _FILES.values():
    del entry["tmp_name"]
echo(json.dumps([_POST, _FILES]))
""",
    "digest": """
import hashlib
with open(_FILES["f"]["tmp_name"], "rb") as file:
    echo(_FILES["f"]["size"], " ", hashlib.file_digest(file, "sha256").hexdigest())
""",
    "count": "echo(len(_POST), ' ', len(_FILES))",
    "raw": "echo(sum(map(len, iter(lambda: input_stream().read(0), b''))), ' ', len(input_stream().read()))",
    "killed": "import os, signal\nassert _FILES['f']['error'] == 0\nos.kill(os.getpid(), signal.SIGKILL)",
    "forever": "import time\nassert _FILES['f']['error'] == 0\nwhile True: time.sleep(0.01)",
    "fails": "assert _FILES['f']['error'] == 0\nraise ValueError('no')",
    "kept": "echo(move_uploaded_file(_FILES['f']['tmp_name'], _SERVER['DOCUMENT_ROOT'] + '/kept'))",
}


def head(name: str = "f", filename: str = "a.bin") -> bytes:
    return (
        f'--B\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()


END = b"\r\n--B--\r\n"


def form(size: int, block: bytes = bytes(MB)) -> tuple[Callable[[], Iterator[bytes]], int]:
    """A form with one file: what gives its pieces, and its length."""

    def pieces() -> Iterator[bytes]:
        yield head()
        left = size
        while left:
            piece = block[: min(left, len(block))]
            left -= len(piece)
            yield piece
        yield END

    return pieces, len(head()) + size + len(END)


class Place:
    """nginx, a pyfpm of two workers, and the directories that are to be empty afterwards."""

    def __init__(self, uploads: Path | None = None, spool: Path | None = None, more: str = "", **nginx: str) -> None:
        self.directory = public_directory()
        self.uploads = uploads or self._temporary("uploads")
        self.spool = spool or self._temporary("spool")
        self.root = self.directory / "site"
        self.root.mkdir(mode=0o777)
        for name, source in SCRIPTS.items():
            (self.root / f"{name}.py").write_text(source)
        self.pyfpm = Server.of_config(CONFIG.format(uploads=self.uploads, spool=self.spool, more=more))
        self.pyfpm.wait_until_ready()
        self.web = Nginx(self.pyfpm.socket, self.root, **nginx)

    def _temporary(self, name: str) -> Path:
        path = self.directory / name
        path.mkdir(mode=0o777)
        path.chmod(0o777)
        return path

    def post(self, path: str, body: bytes | Iterator[bytes], length: int | None = None, **headers: str) -> Page:
        more = {} if length is None else {"Content-Length": str(length)}
        return fetch(self.web.port, path, body, headers={**MULTIPART, **more, **headers})

    def send(self, size: int, path: str = "/show.py") -> Page:
        pieces, length = form(size)
        return self.post(path, pieces(), length)

    @property
    def left(self) -> list[str]:
        return os.listdir(self.uploads) + os.listdir(self.spool)

    def discard(self) -> None:
        self.web.discard()
        self.pyfpm.discard()
        shutil.rmtree(self.directory, ignore_errors=True)


@contextmanager
def a_place(**options: Any) -> Iterator[Place]:
    place = Place(**options)
    try:
        yield place
    finally:
        place.discard()


@pytest.fixture(scope="module")
def unbuffered() -> Iterator[Place]:
    """nginx passes on what comes as it comes, so that pyfpm has all of them at once."""
    with a_place(location="fastcgi_request_buffering off;") as place:
        yield place


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with a_place() as place:
        yield place


def shown(page: Page) -> tuple[Any, Any]:
    assert page.status == 200, page
    found = json.loads(page.body)
    return found[0], found[1]


# -- many at once ------------------------------------------------------------------------------------------------------


@pytest.mark.big
@pytest.mark.parametrize("front", ["unbuffered", "place"])
def test_many_large_uploads_at_once_need_no_memory_to_speak_of(front, request):
    place = request.getfixturevalue(front)
    block = os.urandom(MB)
    pieces, length = form(SIZE, block)
    digest = hashlib.sha256(block * (SIZE // MB)).hexdigest()
    place.send(MB)
    workers = place.pyfpm.workers
    before = {pid: processes.peak_memory(pid) for pid in workers}
    pages: list[Page] = []

    def upload() -> None:
        pages.append(place.post("/digest.py", pieces(), length))

    started = time.monotonic()
    threads = [threading.Thread(target=upload) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - started
    assert [page.body.decode() for page in pages] == [f"{SIZE} {digest}"] * AT_ONCE
    assert place.pyfpm.workers == workers, "none was replaced"
    peaks = {pid: processes.peak_memory(pid) for pid in workers}
    print(f"{AT_ONCE} uploads of {SIZE // MB} MB: {took:.1f} s, peak of a worker {max(peaks.values()) / MB:.1f} MB, "
          f"before {max(before.values()) / MB:.1f} MB")  # fmt: skip
    assert all(peaks[pid] - before[pid] < MEMORY for pid in workers), (before, peaks)
    eventually(lambda: place.left == [], "nothing is left")


# -- bodies that are cut off -------------------------------------------------------------------------------------------


def test_a_body_without_its_end_has_a_partial_file(place):
    pieces, _ = form(5 * MB)
    body = b"".join(pieces())[: -len(END) - 7]
    fields, files = shown(place.post("/show.py", body))
    assert fields == {}
    assert files == {"f": {"name": "a.bin", "full_path": "a.bin", "type": "", "error": 3, "size": 0}}
    assert place.left == []


@pytest.mark.parametrize("front", ["unbuffered", "place"])
def test_a_visitor_who_leaves_in_the_middle_leaves_nothing(front, request):
    place = request.getfixturevalue(front)
    before = place.pyfpm.workers
    _, length = form(20 * MB)
    with socket.create_connection(("127.0.0.1", place.web.port), PATIENCE_S) as visitor:
        visitor.sendall(
            b"POST /show.py HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=B\r\n"
            b"Content-Length: %d\r\n\r\n" % length + head() + bytes(5 * MB)
        )
    # The worker has seen it end, and the others that came meanwhile.
    assert place.send(MB).status == 200
    eventually(lambda: place.left == [], "nothing is left")
    assert place.pyfpm.workers == before


# -- too large, too many -----------------------------------------------------------------------------------------------


def test_a_file_over_the_limit_has_error_1_and_the_others_are_there(place):
    body = head("g") + b"x" * 33 * MB + b"\r\n" + head("f") + b"small" + END
    _, files = shown(place.post("/show.py", body))
    assert (files["g"]["error"], files["g"]["size"], files["f"]["error"], files["f"]["size"]) == (1, 0, 0, 5)
    assert place.left == []


@pytest.mark.parametrize("front", ["unbuffered", "place"])
def test_a_body_over_the_limit_is_413(front, request):
    place = request.getfixturevalue(front)
    pieces, length = form(60 * MB)
    # Of one that is still being sent the answer may be lost on its way.
    assert place.post("/show.py", pieces(), length).status in ((413, 0) if front == "unbuffered" else (413,))
    eventually(lambda: place.left == [], "nothing is left")
    assert place.send(MB).status == 200


BOMBS = {
    "fields": (b'--B\r\nContent-Disposition: form-data; name="a%d"\r\n\r\n1\r\n', "1000 0"),
    "files": (b'--B\r\nContent-Disposition: form-data; name="a%d"; filename="x"\r\n\r\n1\r\n', "0 20"),
    "no files": (b'--B\r\nContent-Disposition: form-data; name="a%d"; filename=""\r\n\r\n1\r\n', "0 1020"),
    "of no name": (b"--B\r\nX-%d: y\r\n\r\n1\r\n", "0 0"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_of_parts_is_read_as_far_as_is_allowed(place, bomb):
    part, expected = BOMBS[bomb]
    body = b"".join(part % number for number in range(300_000)) + b"--B--\r\n"
    worker_time = sum(map(processes.cpu_seconds, place.pyfpm.workers))
    page = place.post("/count.py", body)
    assert (page.status, page.body.decode()) == (200, expected)
    # Of 20 MB. It is one pass; a second each would be one for each part.
    assert sum(map(processes.cpu_seconds, place.pyfpm.workers)) - worker_time < 15
    if bomb != "of no name":
        eventually(lambda: "max_" in place.web.log(), "nginx has been told of the limit")
    assert place.left == []


# -- a disk that is full -----------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 8 MB."""
    if os.geteuid():
        pytest.skip("to mount a file system one has to be root")
    directory = public_directory()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8M,mode=1777", "tmpfs", str(directory)], capture_output=True, text=True
    )
    if mounted.returncode:
        directory.rmdir()
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)
    directory.rmdir()


def test_an_upload_for_which_the_disk_has_no_room_has_error_7(small_disk):
    with a_place(uploads=small_disk) as place:
        body = head("f") + bytes(20 * MB) + b"\r\n" + head("g") + b"small" + END
        _, files = shown(place.post("/show.py", body))
        assert (files["f"]["error"], files["f"]["size"]) == (7, 0)
        # The room of the first is free again.
        assert (files["g"]["error"], files["g"]["size"]) == (0, 5)
        assert place.left == []
        assert "No space left on device" in place.web.log() and place.pyfpm.logged("No space left on device")
        assert shown(place.send(5 * MB))[1]["f"]["error"] == 0
        assert place.left == []


def test_a_disk_that_has_no_room_for_one_more_name_is_error_7_as_well(small_disk):
    subprocess.run(["mount", "-o", "remount,nr_inodes=1", str(small_disk)], check=True)
    with a_place(uploads=small_disk) as place:
        _, files = shown(place.send(MB))
        assert files["f"]["error"] == 7
        assert place.left == []


def test_a_body_for_which_the_disk_has_no_room_is_507(small_disk):
    with a_place(spool=small_disk) as place:
        before = place.pyfpm.workers
        assert place.send(20 * MB).status == 507
        assert place.left == []
        assert place.send(5 * MB).status == 200
        assert place.left == [] and place.pyfpm.workers == before


# -- requests that end in other ways -----------------------------------------------------------------------------------


def test_a_script_that_fails_leaves_nothing(place):
    assert place.send(MB, "/fails.py").status == 500
    assert place.left == []


def test_a_worker_that_is_killed_leaves_nothing_once_there_is_another(place):
    before = place.pyfpm.workers
    assert place.send(MB, "/killed.py").status == 502
    eventually(lambda: len(now := place.pyfpm.workers) == 2 and now != before, "there is a new worker")
    eventually(lambda: place.left == [], "nothing is left")
    eventually(lambda: place.pyfpm.logged("removed the uploaded files of a request"), "it is told")


@pytest.mark.parametrize("directive", ["max_execution_time = 1s", "request_terminate_timeout = 1s"])
def test_a_request_whose_time_is_up_leaves_nothing(directive):
    with a_place(more=directive) as place:
        assert place.send(MB, "/forever.py").status == 504
        eventually(lambda: place.left == [], "nothing is left")
        assert place.send(MB).status == 200


def test_a_master_that_is_killed_leaves_nothing_to_the_next_one():
    with a_place() as place:
        with Wire(place.pyfpm.socket) as wire:
            body = head() + b"x" + END
            wire.send(wire.request(f"{place.root}/forever.py", body, CONTENT_TYPE=MULTIPART["Content-Type"]))
            eventually(lambda: os.listdir(place.uploads), "it is there")
            for pid in [place.pyfpm.pid, *place.pyfpm.workers]:
                os.kill(pid, signal.SIGKILL)
            place.pyfpm.wait()
            place.pyfpm.is_gone()
        assert os.listdir(place.uploads)
        again = Server.of_config(CONFIG.format(uploads=place.uploads, spool=place.spool, more=""))
        try:
            again.wait_until_ready()
            eventually(lambda: place.left == [], "nothing is left")
        finally:
            again.discard()


def test_a_file_that_is_moved_is_the_pools_users_and_stays():
    more = "user = www-data\ngroup = www-data\n" if os.geteuid() == 0 else ""
    with a_place(more=more) as place:
        place.root.chmod(0o777)
        assert place.send(MB, "/kept.py").body == b"True"
        kept = (place.root / "kept").stat()
        assert (kept.st_size, kept.st_mode & 0o777) == (MB, 0o644)
        if more:
            assert kept.st_uid == 33, "www-data has uid 33 on Debian"
        assert place.left == []


def test_the_raw_body_of_an_upload_is_there_as_well(place):
    _, length = form(5 * MB)
    assert place.send(5 * MB, "/raw.py").body.decode() == f"0 {length}"


# -- a browser ---------------------------------------------------------------------------------------------------------

# A form as browsers send it: quotes and line ends in names are percent-encoded, and nothing else (HTML, "Multipart form
# data"). A real Chromium 156 led to the same.
BOUNDARY = "----WebKitFormBoundary7MA4YWxkTrZu0gW"
PARTS = (
    ('name="a.b[x]"', "", "ä'\""),
    ('name="f[]"; filename="a%22b\\c;d.txt"', "Content-Type: text/plain\r\n", "one"),
    ('name="f[]"; filename="ü€ %22.bin"', "Content-Type: application/octet-stream\r\n", "zwei"),
    ('name="none"; filename=""', "Content-Type: application/octet-stream\r\n", ""),
)


def test_what_a_browser_sends_is_there(place):
    body = "".join(
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n{more}\r\n{content}\r\n"
        for head, more, content in PARTS
    )
    answer = place.post(
        "/show.py",
        f"{body}--{BOUNDARY}--\r\n".encode(),
        **{"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"},
    )
    fields, files = json.loads(answer.body)
    assert fields == {"a_b": {"x": "ä'\""}}
    assert files["f"]["name"] == ["c;d.txt", "ü€ %22.bin"]
    assert files["f"]["full_path"][0] == "a%22b\\c;d.txt"
    assert files["f"]["size"] == [3, 4] and files["f"]["error"] == [0, 0]
    assert files["f"]["type"] == ["text/plain", "application/octet-stream"]
    assert files["none"]["error"] == 4
