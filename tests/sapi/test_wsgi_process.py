"""WSGI through a real server: what a web server sends, and what it reads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyfpm import protocol
from support.server import Server
from support.waiting import eventually
from support.wire import Answer, Wire, ask

HERE = str(Path(__file__).parent)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server("--workers", "2", "--chdir", HERE, "wsgi_site:application")
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.discard()


@pytest.fixture(scope="module")
def alone() -> Iterator[Server]:
    """Of one worker, so that one request can tell what another has left."""
    server = Server("--chdir", HERE, "-d", "send_timeout=60s", "wsgi_site:application")
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.discard()


def nginx(path: str, body: bytes = b"", **more: str) -> dict[str, Any]:
    """What nginx passes with its own fastcgi_params, and the headers of a client."""
    params = {
        "QUERY_STRING": "",
        "REQUEST_METHOD": "POST" if body else "GET",
        "CONTENT_TYPE": "text/plain" if body else "",
        "CONTENT_LENGTH": str(len(body)) if body else "",
        "SCRIPT_NAME": path,
        "REQUEST_URI": path,
        "DOCUMENT_URI": path,
        "DOCUMENT_ROOT": "/var/www/html",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REQUEST_SCHEME": "http",
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_SOFTWARE": "nginx/1.22.1",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "51234",
        "REMOTE_USER": "",
        "SERVER_ADDR": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_NAME": "localhost",
        "REDIRECT_STATUS": "200",
        "HTTP_HOST": "localhost",
        "HTTP_USER_AGENT": "test",
        "HTTP_ACCEPT": "*/*",
    }
    if body:
        params |= {"HTTP_CONTENT_LENGTH": str(len(body)), "HTTP_CONTENT_TYPE": "text/plain"}
    return {"script": path, "body": body, **params, **more}


def get(server: Server, path: str, body: bytes = b"", **more: str) -> Answer:
    return ask(server.socket, **nginx(path, body, **more))


# -- wsgiref's validator finds nothing ------------------------------------------------------------------------------


def test_get_is_valid(server):
    answer = get(server, "/echo")
    assert (answer.status, answer.body) == (200, b"GET /echo True\n")
    assert (answer.app_status, answer.stderr) == (0, b"")


@pytest.mark.parametrize("size", [4, 40_000, 300_000], ids=["small", "in several records", "in a file"])
def test_post_is_valid(server, size):
    body = os.urandom(size)
    answer = get(server, "/echo", body)
    assert (answer.status, answer.body) == (200, b"POST /echo True\n" + body)
    assert answer.stderr == b""


def test_head_is_valid_and_has_no_body(server):
    answer = get(server, "/echo", REQUEST_METHOD="HEAD")
    assert answer.stdout == b"Content-Type: text/plain\r\n\r\n"
    assert answer.stderr == b""


def test_a_generator_is_valid(server):
    answer = get(server, "/lazily")
    assert (answer.status, answer.body) == (200, b"0\n1\n2\n")
    assert answer.stderr == b""


def test_one_worker_is_not_several_processes(alone):
    assert get(alone, "/echo").body == b"GET /echo False\n"


def test_304_comes_without_a_length(server):
    assert get(server, "/nothing").stdout == b"Status: 304 Not Modified\r\n\r\n"


# -- streaming --------------------------------------------------------------------------------------------------------


def test_each_piece_reaches_the_reader_before_the_next_is_asked_for(server, tmp_path):
    """The application waits for us, and we for it: were a piece held back, neither would go on."""
    go_on = str(tmp_path / "go_on")
    os.mkfifo(go_on)
    with Wire(server.socket) as wire:
        wire.send(wire.request(**nginx("/slow", HTTP_GO_ON=go_on, HTTP_NOTES=str(tmp_path / "notes"))))
        came = b""
        for number in range(3):
            while b"piece %d" % number not in came:
                came += wire.socket.recv(65536)
            assert b"piece %d" % (number + 1) not in came
            with open(go_on, "w"):
                pass
        while wire.socket.recv(65536):
            pass
    assert (tmp_path / "notes").read_text() == "closed\n"


def test_a_visitor_who_leaves_ends_the_generator_and_close_is_called_once(alone, tmp_path):
    with Wire(alone.socket) as wire:
        wire.send(wire.request(**nginx("/endless", HTTP_NOTES=str(tmp_path / "notes"))))
        assert wire.socket.recv(65536)
    eventually((tmp_path / "notes").exists, "close was called")
    assert get(alone, "/echo").status == 200, "the worker goes on"
    assert (tmp_path / "notes").read_text() == "closed\n"
    assert "Traceback" not in alone.log()


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "offset"), [(10, 0), (10, 4), (1_000_000, 0), (1_000_000, 123_456), (0, 0)])
def test_a_file_arrives_whole_from_where_it_stands(server, tmp_path, size, offset):
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    answer = get(server, "/file", HTTP_FILE=str(tmp_path / "file"), HTTP_OFFSET=str(offset))
    assert answer.body == content[offset:]
    assert answer.head["content-length"] == str(size - offset)


def test_memory_arrives_whole(server):
    assert get(server, "/memory").body == bytes(200_000)


def test_a_file_that_is_shortened_while_it_is_sent_ends_the_connection(alone, tmp_path):
    """Its length was promised. What came is not to be taken for the whole."""
    size = 50 * 1024 * 1024
    path = tmp_path / "file"
    path.touch()
    os.truncate(path, size)
    with Wire(alone.socket) as wire:
        wire.send(wire.request(**nginx("/file", HTTP_FILE=str(path))))
        came = len(wire.socket.recv(65536))
        os.truncate(path, 0)
        came += len(wire.rest())
    assert came < size
    assert get(alone, "/echo").status == 200, "the worker goes on"


# -- exceptions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "error"), [("", "ValueError"), ("exit", "SystemExit"), ("interrupt", "KeyboardInterrupt")]
)
def test_what_an_application_raises_is_told_to_the_operator_only(alone, query, error):
    worker = alone.worker
    answer = get(alone, "/fails", QUERY_STRING=query)
    assert (answer.status, answer.app_status) == (500, 1)
    assert b"s3cret" not in answer.stdout
    for text in (answer.stderr.decode(), alone.log()):
        assert f"{error}: s3cret" in text
        assert "wsgi_site.py" in text
        assert "pyfpm/sapi" not in text
    assert alone.worker == worker, "the worker goes on"


def test_what_was_kept_of_a_request_cannot_reach_the_answer_of_the_next(alone):
    with Wire(alone.socket) as wire:
        assert wire.ask(**nginx("/keeps"), keep=True).body == b"kept"
        answer = wire.ask(**nginx("/uses"))
    over = b"the request is over: nothing can be added to its answer"
    assert answer.body == over + b"\n" + over
    assert answer.stderr == b""


# -- roles ------------------------------------------------------------------------------------------------------------


def test_a_filter_gets_its_file(server):
    with Wire(server.socket) as wire:
        wire.send(wire.request(**nginx("/filters", b"body"), role=protocol.FILTER))
        wire.send(wire.client.send_data(1, b"file") + wire.client.send_data(1, b""))
        assert wire.answer().body == b"FILE body"


@pytest.mark.parametrize(("authorization", "status"), [("good", 200), ("bad", 401)])
def test_an_authorizer_answers_without_having_been_sent_a_body(server, authorization, status):
    with Wire(server.socket) as wire:
        params = nginx("/authorizes", HTTP_AUTHORIZATION=authorization)
        wire.send(wire.begin(role=protocol.AUTHORIZER) + wire.params(**params))
        answer = wire.answer()
    assert answer.status == status
    assert answer.head.get("variable-auth_type") == ("test" if status == 200 else None)
