"""What a web server may send, and which events it becomes. The facts about web servers were read in their sources."""

import fcgi_spec as spec
import pytest
from talk import ending, play, written

from pyfpm.protocol import (
    AUTHORIZER,
    FILTER,
    NEED_DATA,
    RESPONDER,
    EndOfStdin,
    LocalProtocolError,
    Request,
    ServerConnection,
)

GET = [(b"REQUEST_METHOD", b"GET"), (b"SCRIPT_NAME", b"/a.py")]
GOT = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "/a.py"}


def answered(wire, feed):
    """The events of a server that ends each request when it is complete."""
    connection = ServerConnection()
    return play(connection, feed(wire), ending(connection))


def params_of(items, feed):
    events = answered(spec.request(1, items), feed)
    assert events[0][0] == "request"
    return events[0][3]


# -- one request


def test_request_is_its_params_its_body_and_an_end(feed):
    events = answered(spec.request(1, GET, b"hello"), feed)
    assert events == [("request", 1, RESPONDER, GOT), ("stdin", 1, b"hello"), ("end of stdin", 1)]


@pytest.mark.parametrize("keep_conn", [True, False])
def test_keep_conn_is_what_the_web_server_said(keep_conn, feed):
    seen = []
    connection = ServerConnection()
    play(connection, feed(spec.request(1, GET, flags=int(keep_conn))), seen.append)
    assert seen[0].keep_conn is keep_conn


def test_other_flags_are_not_keep_conn(feed):
    seen = []
    play(ServerConnection(), feed(spec.request(1, GET, flags=0xFE)), seen.append)
    assert seen[0].keep_conn is False


def test_request_without_params_is_a_request(feed):
    assert answered(spec.request(1), feed) == [("request", 1, RESPONDER, {}), ("end of stdin", 1)]


@pytest.mark.parametrize("padding", [0, 1, 7, 8, 255])
@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 8, 21, 65535])
def test_pairs_may_be_split_across_records_anywhere_with_any_padding(chunk, padding):
    """h2o cuts PARAMS where a record is full; nginx and Caddy pad to eight bytes."""
    wire = spec.request(1, GET, b"body", chunk=chunk, padding=padding)
    for feed in (lambda wire: [wire], lambda wire: [wire[at : at + 1] for at in range(len(wire))]):
        assert answered(wire, feed) == [("request", 1, RESPONDER, GOT), ("stdin", 1, b"body"), ("end of stdin", 1)]


def test_padding_may_be_anything_from_0_to_255(feed):
    wire = b"".join(spec.request(1, GET, b"body", padding=padding) for padding in range(256))
    once = [("request", 1, RESPONDER, GOT), ("stdin", 1, b"body"), ("end of stdin", 1)]
    assert answered(wire, feed) == once * 256


@pytest.mark.parametrize("size", [0, 1, 127, 128, 129, 255, 256, 65535, 65536, 130_000])
def test_values_of_any_size_arrive_whole(size):
    value = bytes(33 + at % 90 for at in range(size))
    for chunk in (65535, 1000):
        events = answered(spec.request(1, [(b"X", value), (value, b"X")], chunk=chunk), lambda wire: [wire])
        assert events[0][3] == {"X": value.decode(), value.decode(): "X"}


def test_values_are_latin_1_so_that_no_byte_is_lost(feed):
    """WSGI wants native strings that way (PEP 3333)."""
    every = bytes(range(256))
    assert params_of([(b"X", every)], feed) == {"X": every.decode("latin-1")}


def test_non_ascii_is_told():
    for value, expected in ((b"plain", False), (b"\xc3\xa4", True)):
        seen = []
        play(ServerConnection(), [spec.request(1, [(b"X", value)])], seen.append)
        assert seen[0].non_ascii is expected


def test_large_body_comes_in_pieces_and_ends_once(feed):
    body = bytes(range(256)) * 300
    events = answered(spec.request(1, GET, body, chunk=8000), feed)
    assert events[1:] == [("stdin", 1, body), ("end of stdin", 1)]


# -- where the body ends


@pytest.mark.parametrize("length", [None, b"", b"-1", b"0", b"2", b"5", b"99", b"x"])
def test_body_ends_at_the_empty_stdin_whatever_content_length_says(length, feed):
    """Absent: Apache with a chunked body. "": nginx unbuffered. Too small: HAProxy, which counts what it has so far."""
    items = GET if length is None else [*GET, (b"CONTENT_LENGTH", length)]
    events = answered(spec.request(1, items, b"hello"), feed)
    assert events[1:] == [("stdin", 1, b"hello"), ("end of stdin", 1)]


def test_body_may_begin_before_params_end(feed):
    """The specification lets the streams interleave; we say so in events as they come."""
    wire = (
        spec.begin(1)
        + spec.record(spec.PARAMS, 1, spec.pairs(GET))
        + spec.stream(spec.STDIN, 1, b"early")
        + spec.record(spec.PARAMS, 1)
    )
    assert answered(wire, feed) == [("stdin", 1, b"early"), ("end of stdin", 1), ("request", 1, RESPONDER, GOT)]


def test_stdin_that_goes_on_after_its_end_is_ignored(feed):
    wire = spec.request(1, GET, b"all") + spec.record(spec.STDIN, 1, b"more") + spec.record(spec.STDIN, 1)
    events = play(ServerConnection(), feed(wire))
    assert events == [("request", 1, RESPONDER, GOT), ("stdin", 1, b"all"), ("end of stdin", 1)]


# -- repeated parameters


@pytest.mark.parametrize(
    ("name", "values", "joined"),
    [
        (b"HTTP_ACCEPT", [b"a", b"b", b"c"], "a, b, c"),
        (b"HTTP_ACCEPT", [b"same", b"same"], "same, same"),
        (b"HTTP_X", [b"", b"b"], ", b"),
        (b"HTTP_COOKIE", [b"a=1", b"b=2"], "a=1; b=2"),
        (b"QUERY_STRING", [b"a", b"b"], "b"),
        (b"REMOTE_ADDR", [b"1.2.3.4", b"1.2.3.4", b"5.6.7.8"], "5.6.7.8"),
        (b"CONTENT_LENGTH", [b"5", b"5"], "5"),
        (b"SCRIPT_FILENAME", [b"/a", b"/a", b"/a"], "/a"),
    ],
)
def test_repeated_parameters_become_one(name, values, joined, feed):
    """HAProxy and h2o send a header that came twice as two parameters; RFC 9110, 5.3 and RFC 6265, 5.4 join them."""
    items = [(name, value) for value in values]
    items.insert(1, (b"BETWEEN", b"x"))
    assert params_of(items, feed)[name.decode()] == joined


@pytest.mark.parametrize("name", [b"CONTENT_LENGTH", b"REQUEST_METHOD", b"SCRIPT_FILENAME"])
def test_two_values_that_decide_what_the_request_is_are_refused(name, feed):
    """Two parties that read different values from one request: that is how requests are smuggled."""
    wire = spec.request(1, [(name, b"1"), (b"X", b"y"), (name, b"2"), (b"Z", b"")], b"body")
    assert answered(wire, feed) == [("refused", 1, 400), ("drained", 1)]


# -- roles


def test_authorizer_is_complete_when_its_params_end(feed):
    """Apache's mod_authnz_fcgi sends no STDIN record at all."""
    wire = spec.begin(1, AUTHORIZER, 0) + spec.stream(spec.PARAMS, 1, spec.pairs(GET))
    connection = ServerConnection()
    complete = []
    events = play(connection, feed(wire), lambda event: complete.append(event.complete))
    assert events == [("request", 1, AUTHORIZER, GOT)]
    assert complete == [True]


def test_stdin_of_an_authorizer_is_ignored(feed):
    """lighttpd sends it an empty one. That used to become an event after the request was complete, and a second end of
    draining for one that was refused."""
    connection = ServerConnection()
    wire = spec.request(1, GET, b"unasked", AUTHORIZER)
    assert play(connection, feed(wire)) == [("request", 1, AUTHORIZER, GOT)]


def test_filter_gets_stdin_and_data_and_is_complete_after_both(feed):
    wire = (
        spec.begin(1, FILTER)
        + spec.stream(spec.PARAMS, 1, spec.pairs(GET))
        + spec.stream(spec.STDIN, 1, b"body")
        + spec.stream(spec.DATA, 1, b"the file")
    )
    connection = ServerConnection()
    complete = []

    def react(event):
        request = event if isinstance(event, Request) else event.request
        complete.append(request.complete)

    events = play(connection, feed(wire), react)
    assert events == [
        ("request", 1, FILTER, GOT),
        ("stdin", 1, b"body"),
        ("end of stdin", 1),
        ("data", 1, b"the file"),
        ("end of data", 1),
    ]
    assert complete == [False] * (len(complete) - 1) + [True]


def test_data_before_stdin_is_all_right_for_a_filter(feed):
    wire = (
        spec.begin(1, FILTER)
        + spec.stream(spec.PARAMS, 1, b"")
        + spec.stream(spec.DATA, 1, b"file")
        + spec.stream(spec.STDIN, 1, b"")
    )
    assert answered(wire, feed) == [
        ("request", 1, FILTER, {}),
        ("data", 1, b"file"),
        ("end of data", 1),
        ("end of stdin", 1),
    ]


def test_data_for_a_responder_is_ignored(feed):
    wire = (
        spec.begin(1)
        + spec.stream(spec.PARAMS, 1, b"")
        + spec.stream(spec.DATA, 1, b"file")
        + spec.stream(spec.STDIN, 1, b"")
    )
    assert answered(wire, feed) == [("request", 1, RESPONDER, {}), ("end of stdin", 1)]


@pytest.mark.parametrize("role", [0, 4, 255, 256, 65535])
@pytest.mark.parametrize("keep_conn", [True, False])
def test_unknown_role_is_answered_with_its_protocol_status(role, keep_conn, feed):
    wire = spec.request(5, GET, b"body", role, int(keep_conn)) + spec.request(5, GET)
    events = answered(wire, feed)
    (name, reply, close), rest = events[0], events[1:]
    assert (name, close) == ("reply", not keep_conn)
    assert spec.read_records(reply) == ([spec.Record(spec.END, 5, b"\0\0\0\0\x03\0\0\0")], b"")
    assert rest == [("request", 5, RESPONDER, GOT), ("end of stdin", 5)]


# -- abort


@pytest.mark.parametrize("content", [b"", b"unexpected"])
def test_abort_is_told_once_and_ends_like_any_request(content, feed):
    """Only HAProxy sends it; the others close the connection."""
    answers = []
    connection = ServerConnection()
    wire = (
        spec.begin(1)
        + spec.stream(spec.PARAMS, 1, spec.pairs(GET))
        + spec.record(spec.STDIN, 1, b"some")
        + spec.record(spec.ABORT, 1, content)
    )
    events = play(connection, feed(wire), ending(connection, answers))
    assert events == [("request", 1, RESPONDER, GOT), ("stdin", 1, b"some"), ("abort", 1)]
    assert [record.type for record in spec.read_records(b"".join(answers))[0]] == [spec.STDOUT, spec.END]
    assert connection.live_requests == ()


def test_abort_of_a_request_that_is_over_is_ignored(feed):
    wire = spec.request(1, GET) + spec.record(spec.ABORT, 1) + spec.record(spec.ABORT, 77)
    assert answered(wire, feed) == [("request", 1, RESPONDER, GOT), ("end of stdin", 1)]


# -- ids and their reuse


def test_ids_1_3_5_to_32767_on_one_connection():
    """HAProxy counts up by two for the life of a connection."""
    connection = ServerConnection()
    ids = range(1, 32768, 2)
    events = play(connection, [spec.request(id) for id in ids], ending(connection))
    assert events == [event for id in ids for event in (("request", id, RESPONDER, {}), ("end of stdin", id))]
    assert connection.live_requests == ()


@pytest.mark.parametrize("ids", [(65535, 1, 32768, 2), (1, 1, 1), (3, 2, 1, 3)], ids=str)
def test_any_id_in_any_order(ids, feed):
    events = answered(b"".join(spec.request(id) for id in ids), feed)
    assert [event[1] for event in events if event[0] == "request"] == list(ids)


@pytest.mark.parametrize("type", range(1, 9))
def test_application_record_with_the_null_id_breaks_the_connection(type, feed):
    events = play(ServerConnection(), feed(spec.request(1, GET) + spec.record(type, 0, bytes(8))))
    assert events[-1] == ("broken", 0)


@pytest.mark.parametrize(
    "stray",
    [
        spec.record(spec.STDIN, 1),
        spec.record(spec.STDIN, 1, b"late"),
        spec.record(spec.DATA, 1, b"late"),
        spec.record(spec.DATA, 1),
        spec.record(spec.PARAMS, 1, b"\1\1ab"),
        spec.record(spec.PARAMS, 1),
        spec.record(spec.STDIN, 4711, b"never begun"),
        spec.record(spec.END, 1, bytes(8)),
        spec.record(99, 1, b"unknown"),
    ],
    ids=lambda wire: f"type {wire[1]}, id {wire[2] << 8 | wire[3]}, {len(wire) - 8} bytes",
)
def test_records_of_requests_that_are_over_are_ignored(stray, feed):
    """php-fpm tolerates a stray empty STDIN between two requests; the specification asks for that in 3.3."""
    once = [("request", 1, RESPONDER, GOT), ("end of stdin", 1)]
    assert answered(stray + spec.request(1, GET) + stray + spec.request(1, GET) + stray, feed) == once * 2


@pytest.mark.parametrize("type", [spec.END, spec.STDOUT, spec.STDERR, 12, 99, 255])
def test_unknown_records_of_a_live_request_are_ignored(type, feed):
    wire = spec.begin(1) + spec.record(type, 1, b"?") + spec.request(1, GET)[16:]
    assert answered(wire, feed) == [("request", 1, RESPONDER, GOT), ("end of stdin", 1)]


def test_new_begin_after_an_early_answer_starts_a_new_request(feed):
    """Apache may reuse a connection although the old body never ended."""
    connection = ServerConnection()
    head = spec.begin(1) + spec.stream(spec.PARAMS, 1, spec.pairs(GET))

    def answer_early(event):
        if isinstance(event, Request):
            connection.end_request(event)

    events = play(connection, feed((head + spec.record(spec.STDIN, 1, b"unfinished")) * 2), answer_early)
    assert events == [("request", 1, RESPONDER, GOT)] * 2


def test_new_begin_for_a_refused_request_starts_a_new_request(feed):
    connection = ServerConnection()
    refused = []

    def refuse_first(event):
        if isinstance(event, Request) and not refused:
            refused.append(event)
            assert connection.refuse_request(event) is False

    head = spec.begin(1) + spec.stream(spec.PARAMS, 1, spec.pairs(GET))
    wire = head + spec.record(spec.STDIN, 1, b"unfinished") + spec.request(1, GET, b"new")
    events = play(connection, feed(wire), refuse_first)
    assert events == [("request", 1, RESPONDER, GOT)] * 2 + [("stdin", 1, b"new"), ("end of stdin", 1)]
    with pytest.raises(LocalProtocolError):
        connection.end_request(refused[0])
    (new,) = connection.live_requests
    assert new.complete and not new.refused


@pytest.mark.parametrize("ended", [False, True], ids=["before params end", "complete"])
def test_second_begin_for_a_live_request_breaks_the_connection(ended, feed):
    wire = (spec.request(7, GET) if ended else spec.begin(7)) + spec.begin(7)
    connection = ServerConnection()
    events = play(connection, feed(spec.begin(3) + wire))
    assert events[-1] == ("broken", 7)
    with pytest.raises(LocalProtocolError):
        connection.next_event()
    # The requests can still be answered.
    assert {request.id for request in connection.live_requests} == {3, 7}


# -- several at once


def interleaved(streams):
    """One record of each in turn."""
    queues = [list(stream) for stream in streams]
    while any(queues):
        for queue in queues:
            if queue:
                yield queue.pop(0)


def records_of(id, body):
    return [
        spec.begin(id),
        *(spec.record(spec.PARAMS, id, bytes([byte])) for byte in spec.pairs([(b"ID", b"%d" % id), *GET])),
        spec.record(spec.PARAMS, id),
        *(spec.record(spec.STDIN, id, bytes([byte])) for byte in body),
        spec.record(spec.STDIN, id),
    ]


def test_several_requests_interleaved_do_not_touch_each_other(feed):
    bodies = {1: b"first", 2: b"", 300: b"the third one", 65535: b"last"}
    wire = b"".join(interleaved([records_of(id, body) for id, body in bodies.items()]))
    connection = ServerConnection()
    events = play(connection, feed(wire), ending(connection))
    for id, body in bodies.items():
        mine = [event for event in events if event[1] == id]
        assert mine[0] == ("request", id, RESPONDER, {"ID": str(id), **GOT})
        assert b"".join(event[2] for event in mine if event[0] == "stdin") == body
        assert mine[-1] == ("end of stdin", id)
    assert connection.live_requests == ()


def test_requests_may_be_ended_in_any_order():
    connection = ServerConnection()
    requests = {}

    def keep(event):
        if isinstance(event, Request):
            requests[event.id] = event

    play(connection, [spec.request(id) for id in (1, 2, 3)], keep)
    assert [request.id for request in connection.live_requests] == [1, 2, 3]
    for id in (2, 1, 3):
        connection.end_request(requests[id])
    assert connection.live_requests == ()
    assert play(connection, [spec.request(2), spec.request(1)]) == [
        ("request", 2, RESPONDER, {}),
        ("end of stdin", 2),
        ("request", 1, RESPONDER, {}),
        ("end of stdin", 1),
    ]


# -- broken input


@pytest.mark.parametrize(
    ("wire", "id"),
    [
        (b"GET / HTTP/1.1\r\n", 0),
        (b"\x16\x03\x01", 0),
        (b"\0", 0),
        (spec.begin(1) + b"\2", 0),
        (spec.record(spec.BEGIN, 1, bytes(7)), 0),
        (spec.record(spec.BEGIN, 1, bytes(9)), 0),
        (spec.record(spec.BEGIN, 1), 0),
        (spec.begin(9) + spec.record(spec.PARAMS, 9, b"\5\5AB") + spec.record(spec.PARAMS, 9), 9),
        (spec.begin(9) + spec.record(spec.PARAMS, 9, b"\x80\0") + spec.record(spec.PARAMS, 9), 9),
        (spec.begin(9) + spec.record(spec.PARAMS, 9, b"\1") + spec.record(spec.PARAMS, 9), 9),
        (spec.begin(9) + spec.record(spec.PARAMS, 9) + spec.record(spec.PARAMS, 9, b"\1\1ab"), 9),
        (spec.begin(9) + spec.record(spec.PARAMS, 9) + spec.record(spec.PARAMS, 9), 9),
    ],
    ids=[
        "http",
        "tls",
        "version 0",
        "version 2",
        "begin too short",
        "begin too long",
        "begin empty",
        "params end in a value",
        "params end in a length",
        "params end before a length",
        "params go on",
        "params end twice",
    ],
)
def test_what_is_not_fastcgi_breaks_the_connection(wire, id, feed):
    events = play(ServerConnection(), feed(wire))
    assert events[-1] == ("broken", id)


def test_end_of_the_connection_is_told_again_and_again():
    connection = ServerConnection()
    events = play(connection, [spec.begin(1) + b"\1\4", b""])
    assert events == [("closed",)]
    assert written(connection.next_event()) == ("closed",)
    with pytest.raises(LocalProtocolError):
        connection.receive_data(b"more")
    assert [request.id for request in connection.live_requests] == [1]


def test_bytes_before_the_end_still_become_events():
    connection = ServerConnection()
    connection.receive_data(spec.request(1, GET))
    connection.receive_data(b"")
    assert isinstance(connection.next_event(), Request)
    assert isinstance(connection.next_event(), EndOfStdin)
    assert written(connection.next_event()) == ("closed",)


# -- bytes in


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_data_may_be_any_bytes_and_may_change_after_the_call(kind):
    buffer = bytearray(spec.request(1, GET, b"hello"))
    connection = ServerConnection()
    connection.receive_data(kind(buffer))
    buffer[:] = bytes(len(buffer))
    assert isinstance(connection.next_event(), Request)
    assert connection.next_event().data == b"hello"


def test_data_may_be_stored_many_times_before_it_is_parsed():
    connection = ServerConnection()
    wire = spec.request(1, GET, b"hello") * 3
    for at in range(len(wire)):
        connection.receive_data(wire[at : at + 1])
        if at == len(wire) // 2:
            assert isinstance(connection.next_event(), Request)
    assert written(connection.next_event()) == ("stdin", 1, b"hello")
    assert isinstance(connection.next_event(), EndOfStdin)


def test_there_is_nothing_to_tell_before_data_comes():
    assert ServerConnection().next_event() is NEED_DATA
