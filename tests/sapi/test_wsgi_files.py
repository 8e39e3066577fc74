"""``wsgi.file_wrapper``: what is sent as a file, and what is read."""

from __future__ import annotations

import gzip
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.wsgi import Ran, run

CONTENT = b"0123456789"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


def wrapping(
    filelike: Any, *block_size: int, headers: list[tuple[str, str]] | None = None, status: str = "200 OK"
) -> Callable[..., Any]:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response(status, headers or [])
        return environ["wsgi.file_wrapper"](filelike, *block_size)

    return application


def was_read(ran: Ran) -> bool:
    return not ran.files


@pytest.mark.parametrize("buffering", [-1, 0], ids=["buffered", "raw"])
def test_a_regular_file_is_sent_without_being_read(path, buffering):
    file = path.open("rb", buffering)
    ran = run(wrapping(file))
    assert ran.files == [(0, 10)]
    assert ran.body == CONTENT
    assert ran.header("Content-Length") == "10"
    assert file.closed


def test_a_file_is_sent_from_where_it_stands(path):
    file = path.open("rb")
    assert file.read(4) == b"0123"
    ran = run(wrapping(file))
    assert ran.files == [(4, 6)]
    assert ran.header("Content-Length") == "6"


def test_a_file_that_stands_behind_its_end_is_empty(path):
    file = path.open("rb")
    file.seek(100)
    ran = run(wrapping(file))
    assert ran.body == b""
    assert ran.header("Content-Length") == "0"


def test_no_more_is_sent_than_the_application_announced(path):
    """A range: the file stands at its beginning, and Content-Length says how much of it."""
    file = path.open("rb")
    file.seek(2)
    ran = run(wrapping(file, headers=[("Content-Length", "3")], status="206 Partial Content"))
    assert ran.body == b"234"
    assert ran.header("Content-Length") == "3"


@pytest.mark.parametrize("make", [tempfile.TemporaryFile, tempfile.NamedTemporaryFile], ids=lambda make: make.__name__)
def test_a_temporary_file_that_was_just_written_is_sent(make):
    file = make()
    file.write(CONTENT)
    file.seek(0)
    ran = run(wrapping(file))
    assert ran.files == [(0, 10)]
    assert ran.body == CONTENT


def test_what_only_has_the_descriptor_of_a_file_is_read(path):
    """GzipFile has the descriptor of the compressed file: its bytes went out, as many as were uncompressed."""
    path.write_bytes(gzip.compress(CONTENT))
    ran = run(wrapping(gzip.open(path)))
    assert was_read(ran)
    assert ran.body == CONTENT
    ran = run(wrapping(io.BufferedReader(gzip.open(path))))
    assert was_read(ran)
    assert ran.body == CONTENT


def test_a_pipe_is_read():
    reader, writer = os.pipe()
    os.write(writer, CONTENT)
    os.close(writer)
    ran = run(wrapping(open(reader, "rb")))
    assert was_read(ran)
    assert ran.body == CONTENT


def test_memory_is_read_in_blocks_of_64_kib():
    ran = run(wrapping(io.BytesIO(bytes(100_000))))
    assert ran.body == bytes(100_000)
    assert len(ran.sent[1]) == 100_000 - 65536


def test_the_block_size_can_be_chosen():
    ran = run(wrapping(io.BytesIO(CONTENT), 4))
    assert [piece[-4:] for piece in ran.sent] == [b"0123", b"4567", b"89"]


def test_whatever_has_read_will_do_and_needs_no_close():
    class Reads:
        read = io.BytesIO(CONTENT).read

    assert run(wrapping(Reads())).body == CONTENT


def test_a_closed_file_is_an_error(path):
    file = path.open("rb")
    file.close()
    ran = run(wrapping(file))
    assert ran.status == 500
    assert "ValueError: read of closed file" in ran.log[0]


def test_a_text_file_is_an_error(path):
    ran = run(wrapping(path.open()))
    assert ran.status == 500
    assert "the body must be made of bytes, not str" in ran.log[0]


def test_the_file_follows_what_was_written_before(path):
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response("200 OK", [])(b"before ")
        return environ["wsgi.file_wrapper"](path.open("rb"))

    assert run(application).body == b"before " + CONTENT


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", "200 OK"), ("GET", "304 Not Modified"), ("GET", "204 No Content")]
)
def test_no_file_goes_where_there_is_no_body(path, method, status):
    file = path.open("rb")
    ran = run(wrapping(file, status=status), {"REQUEST_METHOD": method})
    assert ran.files == []
    assert ran.body == b""
    assert ran.header("Content-Length") is None
    assert file.closed


def test_a_wrapper_that_is_iterated_by_the_application_is_read():
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response("200 OK", [])
        return [block.upper() for block in environ["wsgi.file_wrapper"](io.BytesIO(b"abcdef"), 3)]

    assert run(application).body == b"ABCDEF"


def test_close_of_the_file_is_called_once_also_when_start_response_was_not():
    closed = []

    class File(io.BytesIO):
        def close(self) -> None:
            closed.append(self)
            super().close()

    file = File(CONTENT)
    assert run(lambda environ, start_response: environ["wsgi.file_wrapper"](file)).status == 500
    assert closed == [file]
