"""Bytes of web servers that are not installed, or cannot be brought to send them: made by hand after their source."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from support.server import Server
from support.wire import Wire

BEGIN, ABORT, PARAMS, STDIN, DATA, GET_VALUES = 1, 2, 4, 5, 8, 9
RESPONDER, AUTHORIZER = 1, 2
KEEP = 1


def record(type: int, id: int, content: bytes = b"", padding: int = 0) -> bytes:
    return struct.pack(">BBHHBx", 1, type, id, len(content), padding) + content + b"\xaa" * padding


def begin(id: int = 1, role: int = RESPONDER, flags: int = 0) -> bytes:
    return record(BEGIN, id, struct.pack(">HB5x", role, flags))


def pairs(*params: tuple[str, str]) -> bytes:
    def length(text: str) -> bytes:
        return bytes([len(text)]) if len(text) < 128 else struct.pack(">I", len(text) | 1 << 31)

    return b"".join(length(name) + length(value) + (name + value).encode("latin-1") for name, value in params)


@pytest.fixture(scope="module")
def server(site: Path):
    server = Server("--docroot", str(site), "-d", f"authorizer_file={site}/params.py")
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.discard()


@pytest.fixture
def basic(site: Path) -> tuple[tuple[str, str], ...]:
    return (("REQUEST_METHOD", "GET"), ("SCRIPT_FILENAME", f"{site}/params.py"), ("SCRIPT_NAME", "/params.py"))


def answer_to(server: Server, wire_bytes: bytes, id: int = 1) -> dict[str, str]:
    """The parameters that the script saw."""
    with Wire(server.socket) as wire:
        wire.begin(id)  # so that our side expects an answer to it
        wire.send(wire_bytes)
        return json.loads(wire.answer(id).body)


@pytest.mark.parametrize("at", range(1, 40))
def test_h2o_splits_pairs_across_records(server, basic, at):
    content = pairs(("HTTP_X", "value"), *basic)
    split = record(PARAMS, 1, content[:at]) + record(PARAMS, 1, content[at:]) + record(PARAMS, 1)
    assert answer_to(server, begin() + split + record(STDIN, 1))["HTTP_X"] == "value"


@pytest.mark.parametrize(
    ("name", "values", "joined"),
    [
        ("HTTP_X_FORWARDED_FOR", ("10.0.0.1", "10.0.0.2"), "10.0.0.1, 10.0.0.2"),
        ("HTTP_COOKIE", ("a=1", "b=2", "c=3"), "a=1; b=2; c=3"),
    ],
)
def test_h2o_and_haproxy_repeat_the_parameter_of_a_repeated_header(server, basic, name, values, joined):
    content = pairs(*basic, *((name, value) for value in values))
    wire_bytes = begin() + record(PARAMS, 1, content) + record(PARAMS, 1) + record(STDIN, 1)
    assert answer_to(server, wire_bytes)[name] == joined


@pytest.mark.parametrize("id", [1, 3, 255, 256, 32_767, 65_535])
def test_any_id_is_answered_on_its_own(server, basic, id):
    wire_bytes = begin(id) + record(PARAMS, id, pairs(*basic)) + record(PARAMS, id) + record(STDIN, id)
    assert answer_to(server, wire_bytes, id)["REQUEST_METHOD"] == "GET"


@pytest.mark.parametrize("padding", [0, 1, 7, 8, 255])
def test_padding_may_be_of_any_length_and_content(server, basic, padding):
    wire_bytes = (
        begin() + record(PARAMS, 1, pairs(*basic), padding) + record(PARAMS, 1, b"", padding)
        + record(STDIN, 1, b"", padding)
    )  # fmt: skip
    assert answer_to(server, wire_bytes)["REQUEST_METHOD"] == "GET"


def test_apaches_authorizer_gets_an_answer_without_any_stdin_record(server, basic):
    wire_bytes = begin(1, AUTHORIZER) + record(PARAMS, 1, pairs(*basic, ("FCGI_APACHE_ROLE", "AUTHORIZER")))
    assert answer_to(server, wire_bytes + record(PARAMS, 1))["FCGI_APACHE_ROLE"] == "AUTHORIZER"


def test_apache_goes_on_with_the_same_id_while_an_old_body_is_unfinished(server, basic, site):
    """Once a request is answered, what its body still lacks does not matter to the next of the same id."""
    params = record(PARAMS, 1, pairs(*basic)) + record(PARAMS, 1)
    with Wire(server.socket) as wire:
        wire.begin(1)
        wire.send(begin(1, flags=KEEP) + params + record(STDIN, 1, b"late") + record(ABORT, 1))
        assert wire.answer().stdout == b""
        wire.begin(1)
        wire.send(record(STDIN, 1, b"later") + begin(1, flags=KEEP) + params + record(STDIN, 1))
        assert json.loads(wire.answer().body)["REQUEST_METHOD"] == "GET"


def test_haproxys_question_is_answered_in_one_piece_and_the_connection_goes_on(server, basic):
    with Wire(server.socket) as wire:
        wire.send(record(GET_VALUES, 0, pairs(("FCGI_MAX_REQS", ""), ("FCGI_MPXS_CONNS", ""))))
        reply = wire.socket.recv(4096)
        version, type, id, length, padding = struct.unpack(">BBHHBx", reply[:8])
        assert (version, type, id, len(reply)) == (1, 10, 0, 8 + length + padding)
        assert b"FCGI_MPXS_CONNS1" in reply
        wire.begin(1)
        wire.send(begin(1, flags=KEEP) + record(PARAMS, 1, pairs(*basic)) + record(PARAMS, 1) + record(STDIN, 1))
        assert wire.answer().status == 200


def test_requests_of_one_connection_may_interleave(server, basic):
    params = pairs(*basic, ("REQUEST_URI", "/"))
    ids = (1, 3, 5, 7)
    with Wire(server.socket) as wire:
        for id in ids:
            wire.begin(id)
            wire.send(begin(id, flags=KEEP))
        for at in range(0, len(params), 10):
            for id in ids:
                wire.send(record(PARAMS, id, params[at : at + 10]))
        for id in reversed(ids):
            wire.send(record(PARAMS, id) + record(STDIN, id))
        assert all(wire.answer(id).status == 200 for id in ids)
