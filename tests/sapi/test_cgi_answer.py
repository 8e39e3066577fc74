"""What CGI programs print, and what becomes of it."""

from __future__ import annotations

import pytest
from fakes import FakeOutput

from pyfpm.sapi.cgi.answer import LARGEST_HEAD, BadAnswer, CGIAnswer


def answer_to(*pieces: bytes, bodiless: bool = False, output: FakeOutput | None = None) -> bytes:
    output = output or FakeOutput()
    answer = CGIAnswer(output, bodiless)
    for piece in pieces:
        answer.write(piece)
    answer.end()
    return output.sent


GOOD = {
    "line feeds": (b"Content-Type: text/plain\n\nbody\n", b"Content-Type: text/plain\r\n\r\nbody\n"),
    "both": (b"Content-Type: text/plain\r\n\r\nbody\r\n", b"Content-Type: text/plain\r\n\r\nbody\r\n"),
    "mixed": (b"A: 1\r\nB: 2\n\nbody", b"A: 1\r\nB: 2\r\n\r\nbody"),
    "mixed at the end": (b"A: 1\nB: 2\n\r\nbody", b"A: 1\r\nB: 2\r\n\r\nbody"),
    "empty lines in the body": (b"A: 1\n\na\n\nb\r\n\r\nc", b"A: 1\r\n\r\na\n\nb\r\n\r\nc"),
    "no body": (b"A: 1\n\n", b"A: 1\r\n\r\n"),
    "no space": (b"A:1\n\n", b"A: 1\r\n\r\n"),
    "an empty value": (b"A:\n\n", b"A: \r\n\r\n"),
    "twice": (b"Set-Cookie: a=1\nSet-Cookie: b=2\n\n", b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n"),
    "bytes": (b"A: \xff\xc3\xa9\n\n\xff", b"A: \xff\xc3\xa9\r\n\r\n\xff"),
    "status": (b"A: 1\nStatus: 404 Gone fishing\n\nx", b"Status: 404 Gone fishing\r\nA: 1\r\n\r\nx"),
    "status without words": (b"status: 404\n\nx", b"Status: 404 Not Found\r\n\r\nx"),
    "status that nobody knows": (b"Status: 799\n\nx", b"Status: 799 Status\r\n\r\nx"),
    "status 200": (b"Status: 200 OK\n\nx", b"Status: 200 OK\r\n\r\nx"),
    "nph": (b"HTTP/1.0 403 No\r\nServer: me\r\n\r\nx", b"Status: 403 No\r\nServer: me\r\n\r\nx"),
    "location": (b"Location: http://a/b\n\n", b"Status: 302 Found\r\nLocation: http://a/b\r\n\r\n"),
    "location of a path": (b"Location: /b?c\n\n", b"Status: 302 Found\r\nLocation: /b?c\r\n\r\n"),
    "location and status": (b"Status: 201\nLocation: /b\n\nx", b"Status: 201 Created\r\nLocation: /b\r\n\r\nx"),
    "hop by hop": (b"Connection: close\nTransfer-Encoding: chunked\nA: 1\n\nx", b"A: 1\r\n\r\nx"),
    "hop by hop alone": (b"Connection: close\n\nx", b"Status: 200 OK\r\n\r\nx"),
    "304": (b"Status: 304\nETag: a\n\nx", b"Status: 304 Not Modified\r\nETag: a\r\n\r\n"),
    "204": (b"Status: 204\n\nx", b"Status: 204 No Content\r\n\r\n"),
}

BAD = {
    "nothing": (b"", "written nothing"),
    "text": (b"hello\n", "before the empty line that ends its headers. It begins with 'hello'"),
    "no empty line": (b"Content-Type: text/plain\n", "before the empty line"),
    "text and an empty line": (b"hello world\n\nx", "'hello world' is not of the form Name: value"),
    "a page": (b"<html>\n<a href='a:b'>\n\n</html>", "'<html>' is not of the form"),
    "an empty line first": (b"\nContent-Type: text/html\n\n", "begins with an empty line"),
    "both first": (b"\r\nContent-Type: text/html\r\n\r\n", "begins with an empty line"),
    "no name": (b": x\n\n", "is not of the form"),
    "a space in the name": (b"A b: x\n\n", "is not of the form"),
    "a folded line": (b"A: x\n y\n\n", "is not of the form"),
    "a control character": (b"A: x\ry\n\n", "control character"),
    "a zero": (b"A: x\0y\n\n", "control character"),
    "no number": (b"Status: OK\n\n", "no status from 200 to 999"),
    "1xx": (b"Status: 100 Continue\n\n", "no status from 200 to 999"),
    "long": (b"A: " + b"x" * LARGEST_HEAD, "larger than 65536 bytes"),
}


@pytest.mark.parametrize(("printed", "sent"), GOOD.values(), ids=GOOD)
def test_an_answer_is_the_same_however_it_is_written(printed, sent):
    assert answer_to(printed) == sent
    assert answer_to(*[bytes([byte]) for byte in printed]) == sent


@pytest.mark.parametrize(("printed", "why"), BAD.values(), ids=BAD)
def test_what_is_no_answer_says_why(printed, why):
    output = FakeOutput()
    with pytest.raises(BadAnswer) as error:
        answer_to(printed, output=output)
    assert why in str(error.value)
    assert output.sent == b""


def test_a_long_line_is_shown_by_its_beginning():
    with pytest.raises(BadAnswer) as error:
        answer_to(b"x" * 500 + b"\n\n")
    assert len(str(error.value)) < 200


def test_head_ends_with_the_headers():
    assert answer_to(b"A: 1\nContent-Length: 5\n\nhello", b"more", bodiless=True) == (
        b"A: 1\r\nContent-Length: 5\r\n\r\n"
    )


def test_headers_wait_for_the_body_and_then_nothing_waits():
    """A program that dies behind its headers can still be answered with an error."""
    output = FakeOutput()
    answer = CGIAnswer(output, False)
    answer.flush()
    answer.write(b"A: 1\n\n")
    answer.flush()
    assert output.flushes == 0
    for count in (1, 2):
        answer.write(b"x")
        answer.flush()
        answer.flush()
        assert output.flushes == count
