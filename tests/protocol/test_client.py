"""The web server's side: what it writes, read with the plain decoder; what it makes of answers."""

import fcgi_spec as spec
import pytest
from talk import play

from pyfpm.protocol import AUTHORIZER, FILTER, RESPONDER, ClientConnection, LocalProtocolError


def records(wire):
    found, rest = spec.read_records(wire)
    assert rest == b""
    return found


def waiting(*ids):
    connection = ClientConnection()
    for id in ids:
        connection.begin_request(id)
    return connection


def end(id, app_status=b"\0\0\0\0", protocol_status=0):
    return spec.record(spec.END, id, app_status + bytes([protocol_status]) + b"\0\0\0")


# -- requests out


@pytest.mark.parametrize("role", [RESPONDER, AUTHORIZER, FILTER, 65535])
@pytest.mark.parametrize("keep_conn", [True, False])
@pytest.mark.parametrize("id", [1, 256, 65535])
def test_begin_request_says_role_and_keep_conn(id, role, keep_conn):
    wire = ClientConnection().begin_request(id, role, keep_conn=keep_conn)
    assert records(wire) == records(spec.begin(id, role, int(keep_conn)))


@pytest.mark.parametrize("id", [0, -1, 65536])
def test_request_id_fits_into_two_bytes_and_is_not_null(id):
    with pytest.raises(LocalProtocolError):
        ClientConnection().begin_request(id)


def test_live_id_is_not_begun_again():
    connection = waiting(1)
    with pytest.raises(LocalProtocolError):
        connection.begin_request(1)
    play(connection, [end(1)])
    connection.begin_request(1)


def test_role_fits_into_two_bytes():
    with pytest.raises(LocalProtocolError):
        ClientConnection().begin_request(1, 65536)


@pytest.mark.parametrize("as_mapping", [True, False])
def test_params_are_a_stream_with_its_end(as_mapping):
    params = [("A", "b"), (b"X" * 200, b"y" * 70_000), ("Ä", "\udcff")]
    wire = waiting(1).send_params(1, dict(params) if as_mapping else params)
    found = records(wire)
    assert all(record.content for record in found[:-1]) and found[-1] == spec.Record(spec.PARAMS, 1)
    pairs, rest = spec.read_pairs(b"".join(record.content for record in found))
    assert rest == b""
    assert pairs == [(b"A", b"b"), (b"X" * 200, b"y" * 70_000), ("Ä".encode(), b"\xff")]


def test_no_params_are_the_end_alone():
    assert records(waiting(1).send_params(1, {})) == [spec.Record(spec.PARAMS, 1)]


@pytest.mark.parametrize("pair", [("A", 5), (None, "b")])
def test_a_param_is_bytes_or_str(pair):
    connection = waiting(1)
    with pytest.raises(TypeError):
        connection.send_params(1, [pair])
    # Nothing was written, so they can still be sent.
    connection.send_params(1, {})


@pytest.mark.parametrize("name", ["send_stdin", "send_data"])
def test_empty_data_ends_a_stream_once(name):
    connection = waiting(1)
    send = getattr(connection, name)
    type = spec.STDIN if name == "send_stdin" else spec.DATA
    assert records(send(1, b"x" * 70_000)) == [
        spec.Record(type, 1, b"x" * 65528),
        spec.Record(type, 1, b"x" * (70_000 - 65528)),
    ]
    assert records(send(1, b"")) == [spec.Record(type, 1)]
    with pytest.raises(LocalProtocolError):
        send(1, b"more")


def test_nothing_is_sent_for_requests_that_are_not_live():
    connection = waiting(1)
    play(connection, [end(1)])
    for send in (
        lambda: connection.send_params(1, {}),
        lambda: connection.send_stdin(1, b""),
        lambda: connection.send_data(1, b""),
        lambda: connection.abort_request(1),
    ):
        with pytest.raises(LocalProtocolError):
            send()


def test_abort_is_an_empty_record():
    assert records(waiting(7).abort_request(7)) == [spec.Record(spec.ABORT, 7)]


def test_get_values_asks_with_empty_values():
    (record,) = records(ClientConnection().get_values(["FCGI_MAX_REQS", "X"]))
    assert (record.type, record.id) == (spec.GET_VALUES, 0)
    assert spec.read_pairs(record.content) == ([(b"FCGI_MAX_REQS", b""), (b"X", b"")], b"")


def test_get_values_that_fit_no_record_are_not_sent():
    """The length of the record used to wrap around at 65,536 bytes."""
    with pytest.raises(LocalProtocolError):
        ClientConnection().get_values(["X" * 70_000])


# -- answers in


@pytest.mark.parametrize("padding", [0, 3, 255])
def test_answer_is_stdout_stderr_and_an_end(padding, feed):
    wire = (
        spec.record(spec.STDOUT, 1, b"Status: 200\r\n", padding)
        + spec.record(spec.STDOUT, 1, b"\r\nhello", padding)
        + spec.record(spec.STDERR, 1, b"warning", padding)
        + spec.record(spec.STDERR, 1, b"", padding)
        + spec.record(spec.STDOUT, 1, b"", padding)
        + spec.record(spec.END, 1, b"\xde\xad\xbe\xef\2\0\0\0", padding)
    )
    connection = waiting(1)
    assert play(connection, feed(wire)) == [
        ("stdout", 1, b"Status: 200\r\n\r\nhello"),
        ("stderr", 1, b"warning"),
        ("end of stdout", 1),
        ("end", 1, 0xDEADBEEF, 2),
    ]
    assert connection.live_requests == ()


def test_end_without_empty_stdout_is_an_end(feed):
    """php-fpm sends none."""
    wire = spec.record(spec.STDOUT, 1, b"all") + end(1)
    assert play(waiting(1), feed(wire)) == [("stdout", 1, b"all"), ("end", 1, 0, 0)]


def test_answers_of_several_requests_interleave(feed):
    wire = spec.record(spec.STDOUT, 3, b"c") + spec.record(spec.STDOUT, 1, b"a") + end(3) + end(1)
    connection = waiting(1, 3)
    assert play(connection, feed(wire)) == [
        ("stdout", 3, b"c"),
        ("stdout", 1, b"a"),
        ("end", 3, 0, 0),
        ("end", 1, 0, 0),
    ]


@pytest.mark.parametrize(
    "stray",
    [spec.record(spec.STDOUT, 9, b"x"), spec.record(spec.STDERR, 9, b"x"), spec.record(spec.STDOUT, 0, b"x"), end(9)],
)
def test_answers_of_requests_that_are_not_live_are_ignored(stray, feed):
    assert play(waiting(1), feed(stray + end(1) + stray)) == [("end", 1, 0, 0)]


def test_management_answers_are_events(feed):
    wire = spec.record(spec.GET_VALUES_RESULT, 0, spec.pair(b"FCGI_MPXS_CONNS", b"1"), 5) + spec.record(
        spec.UNKNOWN, 0, b"\x63" + bytes(7)
    )
    assert play(ClientConnection(), feed(wire)) == [("values", {"FCGI_MPXS_CONNS": "1"}), ("unknown type", 99)]


@pytest.mark.parametrize(
    ("wire", "id"),
    [
        (b"HTTP/1.1 200 OK", 0),
        (spec.record(spec.END, 1, bytes(7)), 1),
        (spec.record(spec.END, 1, bytes(9)), 1),
        (spec.record(spec.END, 1), 1),
        (spec.begin(1), 1),
        (spec.record(spec.STDIN, 1, b"x"), 1),
        (spec.record(200, 1), 1),
        (spec.record(spec.UNKNOWN, 0), 0),
        (spec.record(spec.GET_VALUES_RESULT, 0, b"\5"), 0),
    ],
    ids=["http", "end short", "end long", "end empty", "begin", "stdin", "type 200", "unknown empty", "values broken"],
)
def test_what_no_server_sends_breaks_the_connection(wire, id, feed):
    connection = waiting(1)
    assert play(connection, feed(wire)) == [("broken", id)]
    with pytest.raises(LocalProtocolError):
        connection.next_event()


def test_end_of_the_connection_is_told_after_the_answer():
    connection = waiting(1)
    connection.receive_data(spec.record(spec.STDOUT, 1, b"x") + b"\1\3")
    assert play(connection, [b""]) == [("stdout", 1, b"x"), ("closed",)]
    assert connection.live_requests == (1,)
    with pytest.raises(LocalProtocolError):
        connection.receive_data(b"more")
