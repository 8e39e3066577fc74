"""What a server writes: answers to requests, read with the plain decoder, and answers to management records."""

import fcgi_spec as spec
import pytest
from talk import play, take

from pyfpm.protocol import (
    OVERLOADED,
    Limits,
    LocalProtocolError,
    Request,
    ServerConnection,
)


def begun(id=1, flags=1):
    """A connection and its one live request."""
    connection = ServerConnection()
    connection.receive_data(spec.request(id, flags=flags))
    request = connection.next_event()
    assert isinstance(request, Request)
    return connection, request


def records(wire):
    found, rest = spec.read_records(wire)
    assert rest == b""
    return found


# -- answers to requests


@pytest.mark.parametrize("id", [1, 255, 256, 65535])
def test_answer_goes_to_the_id_that_was_asked(id):
    connection, request = begun(id)
    wire = (
        connection.send_stdout(request, b"out")
        + connection.send_stderr(request, b"err")
        + connection.end_request(request)
    )
    assert {record.id for record in records(wire)} == {id}


@pytest.mark.parametrize("size", [1, 7, 8, 65527, 65528, 65529, 65535, 65536, 131_056, 131_057, 300_000])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_streams_are_cut_into_records_of_at_most_65528_bytes(stream, size):
    """lighttpd and h2o parse whole records only; a multiple of eight needs no padding."""
    connection, request = begun()
    data = bytes(at % 251 for at in range(size))
    wire = getattr(connection, f"send_{stream}")(request, data)
    found = records(wire)
    assert b"".join(record.content for record in found) == data
    assert {record.type for record in found} == {spec.STDOUT if stream == "stdout" else spec.STDERR}
    assert all(0 < len(record.content) <= 65528 for record in found)
    assert len(wire) % 8 == 0


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_nothing_is_no_record_since_an_empty_one_ends_the_stream(stream):
    """nginx answers 502 when an empty STDOUT comes before the headers."""
    connection, request = begun()
    assert getattr(connection, f"send_{stream}")(request, b"") == b""
    assert [record.type for record in records(connection.end_request(request))] == [spec.STDOUT, spec.END]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_data_may_be_any_bytes(kind):
    connection, request = begun()
    assert records(connection.send_stdout(request, kind(b"data"))) == [spec.Record(spec.STDOUT, 1, b"data")]


@pytest.mark.parametrize("data", ["text", 5, None, [1]])
def test_text_is_not_data(data):
    connection, request = begun()
    with pytest.raises(TypeError):
        connection.send_stdout(request, data)


@pytest.mark.parametrize(
    ("app_status", "protocol_status", "body"),
    [
        (0, 0, b"\0\0\0\0\0\0\0\0"),
        (1, 0, b"\0\0\0\1\0\0\0\0"),
        (0xDEADBEEF, 0, b"\xde\xad\xbe\xef\0\0\0\0"),
        (0, OVERLOADED, b"\0\0\0\0\2\0\0\0"),
    ],
)
def test_request_ends_with_empty_stdout_and_end_request(app_status, protocol_status, body):
    connection, request = begun()
    wire = connection.end_request(request, app_status, protocol_status)
    assert records(wire) == [spec.Record(spec.STDOUT, 1), spec.Record(spec.END, 1, body)]


def test_stderr_is_ended_only_if_it_was_used():
    connection, request = begun()
    connection.send_stderr(request, b"warning")
    types = [record.type for record in records(connection.end_request(request))]
    assert types == [spec.STDERR, spec.STDOUT, spec.END]


def test_request_is_ended_exactly_once():
    connection, request = begun()
    connection.end_request(request)
    for send in (connection.end_request, connection.refuse_request):
        with pytest.raises(LocalProtocolError):
            send(request)
    for send in (connection.send_stdout, connection.send_stderr):
        with pytest.raises(LocalProtocolError):
            send(request, b"late")


def test_late_answer_never_reaches_the_next_request_of_its_id():
    connection, old = begun()
    connection.end_request(old)
    connection.receive_data(spec.request(1))
    new = [event for event in take(connection) if isinstance(event, Request)]
    with pytest.raises(LocalProtocolError):
        connection.send_stdout(old, b"late")
    assert connection.live_requests == tuple(new)


def test_request_of_another_connection_is_not_ours():
    ours, _ = begun()
    _, theirs = begun()
    with pytest.raises(LocalProtocolError):
        ours.send_stdout(theirs, b"astray")


# -- answers to management records


def asking(*names):
    return spec.record(spec.GET_VALUES, 0, spec.pairs((name, b"") for name in names), padding=3)


KNOWN = {b"FCGI_MAX_CONNS": b"50", b"FCGI_MAX_REQS": b"400", b"FCGI_MPXS_CONNS": b"1"}


@pytest.mark.parametrize(
    "names",
    [
        [b"FCGI_MPXS_CONNS"],
        [b"FCGI_MAX_REQS", b"FCGI_MPXS_CONNS"],
        [b"FCGI_MAX_CONNS", b"FCGI_MAX_REQS", b"FCGI_MPXS_CONNS"],
        [b"FCGI_MAX_REQS", b"FCGI_UNHEARD_OF", b"fcgi_max_conns", b""],
        [b"FCGI_UNHEARD_OF"],
        [],
    ],
)
def test_get_values_is_answered_with_the_values_asked_for(names, feed):
    """HAProxy asks for two of them with its first bytes, and takes nothing else as the first record of an answer."""
    connection = ServerConnection(Limits(max_requests=8, max_connections=50))
    events = play(connection, feed(asking(*names)))
    ((_, wire, close),) = events
    (record,) = records(wire)
    assert close is False
    assert (record.type, record.id) == (spec.GET_VALUES_RESULT, 0)
    values, rest = spec.read_pairs(record.content)
    assert rest == b""
    assert dict(values) == {name: KNOWN[name] for name in names if name in KNOWN}
    assert len(values) == len(dict(values))


def test_mpxs_conns_is_0_for_one_request_at_a_time():
    events = play(ServerConnection(Limits(max_requests=1)), [asking(b"FCGI_MPXS_CONNS")])
    (record,) = records(events[0][1])
    assert spec.read_pairs(record.content)[0] == [(b"FCGI_MPXS_CONNS", b"0")]


@pytest.mark.parametrize("keep_conn", [0, 1])
def test_connection_stays_open_after_get_values_whatever_was_read_before(keep_conn, feed):
    """Read in one piece after a record of a request without KEEP_CONN, the reply used to ask for closing."""
    head = spec.begin(1, flags=keep_conn) + spec.record(spec.PARAMS, 1, spec.pair(b"A", b"b"))
    rest = spec.request(1)[16:]
    events = play(ServerConnection(), feed(head + asking(b"FCGI_MAX_REQS") + spec.record(99, 0) + rest))
    assert [(event[0], event[-1]) for event in events[:2]] == [("reply", False)] * 2
    assert [event[0] for event in events[2:]] == ["request", "end of stdin"]


@pytest.mark.parametrize("content", [b"\5", b"\5\0AB", b"\x80\0\0", b"\xff" * 8, b"\0\0" * 2047 + bytes(3)])
def test_get_values_with_a_broken_pair_breaks_the_connection(content, feed):
    assert play(ServerConnection(), feed(spec.record(spec.GET_VALUES, 0, content))) == [("broken", 0)]


@pytest.mark.parametrize("type", [0, 10, 11, 12, 99, 255])
@pytest.mark.parametrize("content", [b"", b"anything", bytes(65535)], ids=["empty", "short", "long"])
def test_unknown_management_record_is_answered_with_its_type(type, content):
    for feed in (lambda wire: [wire], lambda wire: [wire[at : at + 5000] for at in range(0, len(wire), 5000)]):
        events = play(ServerConnection(), feed(spec.record(type, 0, content, 9)))
        assert events == [("reply", spec.record(spec.UNKNOWN, 0, bytes([type]) + bytes(7)), False)]
