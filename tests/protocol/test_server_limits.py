"""Refusals, draining, limits and budgets: what a request may cost, and that all of it is given back."""

import gc

import fcgi_spec as spec
import pytest
from talk import ending, play, take

from pyfpm.protocol import (
    AUTHORIZER,
    FILTER,
    RESPONDER,
    Budget,
    Drained,
    EndOfStdin,
    Limits,
    LocalProtocolError,
    Refused,
    Request,
    ServerConnection,
)

GET = [(b"REQUEST_METHOD", b"GET")]
GOT = {"REQUEST_METHOD": "GET"}


def limited(budget=None, **limits):
    return ServerConnection(Limits(**limits), budget)


# -- refused requests


def refusing(connection):
    """A server that refuses every request it sees and ends it when it may."""

    def react(event):
        if isinstance(event, Request) and connection.refuse_request(event):
            connection.end_request(event)
        elif isinstance(event, Drained):
            connection.end_request(event.request)

    return react


def test_refused_request_is_drained_and_its_body_is_not_told(feed):
    """Caddy writes the whole body before it reads: without draining, a 413 becomes its 502."""
    connection = ServerConnection()
    wire = spec.request(1, GET, b"x" * 1000, chunk=100) + spec.request(3, GET)
    events = play(connection, feed(wire), refusing(connection))
    assert events == [("request", 1, RESPONDER, GOT), ("drained", 1), ("request", 3, RESPONDER, GOT), ("drained", 3)]
    assert connection.live_requests == ()


def test_refusing_a_complete_request_needs_no_draining(feed):
    connection = ServerConnection()
    may_end = []

    def react(event):
        if isinstance(event, EndOfStdin) or (isinstance(event, Request) and event.role == AUTHORIZER):
            request = event if isinstance(event, Request) else event.request
            may_end.append(connection.refuse_request(request))

    # The stray STDIN of the authorizer used to be the end of a drain that had ended before.
    wire = spec.request(1, GET, b"body") + spec.request(2, GET, b"", AUTHORIZER)
    events = play(connection, feed(wire), react)
    assert may_end == [True, True]
    assert "drained" not in [event[0] for event in events]


def test_refused_filter_is_drained_when_both_streams_ended(feed):
    connection = ServerConnection()
    wire = (
        spec.begin(1, FILTER)
        + spec.stream(spec.PARAMS, 1, b"")
        + spec.stream(spec.DATA, 1, b"file")
        + spec.stream(spec.STDIN, 1, b"body")
    )
    assert play(connection, feed(wire), refusing(connection)) == [("request", 1, FILTER, {}), ("drained", 1)]


def test_refused_request_may_be_answered_while_it_drains():
    connection = ServerConnection()
    connection.receive_data(spec.begin(1) + spec.stream(spec.PARAMS, 1, spec.pairs([*GET, (b"X", b"y")])))
    request = connection.next_event()
    assert connection.refuse_request(request) is False
    assert spec.read_records(connection.send_stdout(request, b"Status: 413\r\n\r\n"))[0][0].id == 1
    assert request.refused and not request.complete


def test_refusing_twice_is_refusing_once():
    connection = ServerConnection()
    connection.receive_data(spec.request(1, GET))
    request = connection.next_event()
    assert connection.refuse_request(request) is False
    assert connection.refuse_request(request) is False
    assert [type(event) for event in take(connection)] == [Drained]
    assert connection.refuse_request(request) is True


# -- what comes that nobody wants


def body_of(id, size):
    return spec.begin(id) + spec.stream(spec.PARAMS, id, b"") + spec.record(spec.STDIN, id, bytes(size))


def test_draining_has_a_budget(feed):
    connection = limited(max_ignored=100)
    assert play(connection, feed(body_of(1, 100)), refusing(connection)) == [("request", 1, RESPONDER, {})]
    connection = limited(max_ignored=100)
    assert play(connection, feed(body_of(1, 101)), refusing(connection))[-1] == ("broken", 0)


def test_late_stdin_has_the_same_budget(feed):
    assert play(limited(max_ignored=10), feed(spec.record(spec.STDIN, 1, bytes(10)))) == []
    assert play(limited(max_ignored=10), feed(spec.record(spec.STDIN, 1, bytes(11)))) == [("broken", 0)]


def test_each_request_has_the_whole_budget(feed):
    connection = limited(max_ignored=100)
    wire = b"".join(body_of(id, 90) + spec.record(spec.STDIN, id) for id in (1, 2, 1, 4))
    events = play(connection, feed(wire), refusing(connection))
    assert [event[0] for event in events] == ["request", "drained"] * 4


def test_empty_records_cost_nothing(feed):
    assert play(limited(max_ignored=0), feed(spec.record(spec.STDIN, 1, padding=7) * 100)) == []


# -- how many at once


def test_request_over_max_requests_is_refused_and_can_be_answered(feed):
    """It is not among the live requests, so the answer goes out at once. (send_stdout used to raise for it.)"""
    connection = limited(max_requests=2)
    answers = []

    def react(event):
        if isinstance(event, Refused):
            assert event.request not in connection.live_requests
            assert event.request.refused and connection.refuse_request(event.request)
            answers.append(connection.send_stdout(event.request, b"Status: 503\r\n\r\n"))
            answers.append(connection.end_request(event.request))
            with pytest.raises(LocalProtocolError):
                connection.end_request(event.request)

    wire = spec.request(1, GET) + spec.begin(2) + spec.request(3, GET, b"dropped") + spec.request(2, GET)[16:]
    events = play(connection, feed(wire), react)
    assert events == [
        ("request", 1, RESPONDER, GOT),
        ("end of stdin", 1),
        ("refused", 3, 503),
        ("request", 2, RESPONDER, GOT),
        ("end of stdin", 2),
    ]
    assert [(record.type, record.id) for record in spec.read_records(b"".join(answers))[0]] == [
        (spec.STDOUT, 3),
        (spec.STDOUT, 3),
        (spec.END, 3),
    ]
    assert [request.id for request in connection.live_requests] == [1, 2]


def test_request_that_was_too_many_cannot_answer_for_the_next_of_its_id():
    connection = limited(max_requests=1)
    connection.receive_data(spec.request(1) + spec.begin(3))
    first, _, refused = take(connection)
    connection.end_request(first)
    connection.receive_data(spec.begin(3) + spec.stream(spec.PARAMS, 3, b""))
    (third,) = take(connection)
    with pytest.raises(LocalProtocolError):
        connection.send_stdout(refused.request, b"late")
    assert connection.live_requests == (third,)


def test_one_request_at_a_time_serves_any_number_one_after_another(feed):
    connection = limited(max_requests=1)
    events = play(connection, feed(spec.request(1) * 5), ending(connection))
    assert [event[0] for event in events] == ["request", "end of stdin"] * 5


def test_no_request_at_all_is_not_a_limit():
    with pytest.raises(ValueError, match="max_requests"):
        Limits(max_requests=0)


# -- how large


@pytest.mark.parametrize(
    ("items", "refused"),
    [
        ([(b"N", b"x" * 99)], False),
        ([(b"N", b"x" * 100)], True),
        ([(b"N" * 99, b"x")], False),
        ([(b"N" * 101, b"")], True),
        ([(b"A", b"x" * 49), (b"B", b"y" * 49)], False),
        ([(b"A", b"x" * 49), (b"B", b"y" * 50)], True),
        ([(b"N", b"x" * 200_000)], True),
    ],
    ids=["all of it", "one over", "name, all of it", "name alone over", "two, all of it", "two, one over", "far over"],
)
def test_params_over_max_params_size_are_refused_with_431(items, refused, feed):
    connection = limited(max_params_size=100)
    events = play(connection, feed(spec.request(1, items, b"body")), ending(connection))
    if refused:
        assert events == [("refused", 1, 431), ("drained", 1)]
    else:
        assert events[0][:2] == ("request", 1)


def test_a_length_that_is_too_large_is_refused_before_its_value_comes(feed):
    """CVE-2025-23016: two lengths of 2**31 - 1 bytes, whose sum overflows 32 bits."""
    wire = spec.begin(1) + spec.record(spec.PARAMS, 1, b"\xff" * 8)
    assert play(ServerConnection(), feed(wire)) == [("refused", 1, 431)]


@pytest.mark.parametrize(("count", "refused"), [(10, False), (11, True)])
def test_more_pairs_than_max_params_are_refused_with_431(count, refused, feed):
    items = [(b"N%d" % number, b"") for number in range(count)]
    connection = limited(max_params=10)
    events = play(connection, feed(spec.request(1, items)), ending(connection))
    assert events[0][0] == ("refused" if refused else "request")


def test_refused_params_are_drained_to_the_end_of_the_body(feed):
    connection = limited(max_params_size=10)
    wire = spec.request(1, [(b"NAME", b"x" * 5000)], b"body" * 100, chunk=100) + spec.request(1, [(b"A", b"b")])
    events = play(connection, feed(wire), ending(connection))
    assert events == [("refused", 1, 431), ("drained", 1), ("request", 1, RESPONDER, {"A": "b"}), ("end of stdin", 1)]


# -- how much memory


def test_unfinished_requests_over_max_held_are_refused_with_503(feed):
    connection = limited(max_held=4096)
    wire = b"".join(spec.begin(id) for id in range(1, 100))
    events = play(connection, feed(wire))
    assert {event[0] for event in events} == {"refused"} and {event[2] for event in events} == {503}
    assert 80 < len(events) < 99


def test_a_cut_pair_counts_as_memory(feed):
    """Otherwise many requests could each hold the beginning of a large value."""
    connection = limited(max_held=4096)
    wire = spec.begin(1) + spec.record(spec.PARAMS, 1, b"\1" + spec.length(60_000) + b"N" + bytes(8192))
    assert play(connection, feed(wire)) == [("refused", 1, 503)]


def test_budgets_nest_and_get_everything_back(feed):
    everyone = Budget(100_000)
    peer = Budget(50_000, everyone)
    connections = [limited(peer), limited(peer), limited(everyone)]
    requests = []
    for connection in connections:
        play(
            connection,
            feed(spec.request(1, GET) + spec.request(2, [(b"X", b"y" * 3000)])),
            lambda event, connection=connection: isinstance(event, Request) and requests.append((connection, event)),
        )
    assert 6000 < peer.used < everyone.used < 100_000
    for connection, request in requests:
        connection.end_request(request)
    assert (peer.used, everyone.used) == (0, 0)


def test_a_budget_is_a_limit_for_all_who_share_it(feed):
    everyone = Budget(4096)
    peers = [Budget(4096, everyone), Budget(4096, everyone)]
    first, second = ServerConnection(None, peers[0]), ServerConnection(None, peers[1])
    play(first, feed(spec.begin(1) + spec.record(spec.PARAMS, 1, spec.pair(b"X", b"y" * 3000))))
    events = play(second, feed(spec.begin(1) + spec.record(spec.PARAMS, 1, spec.pair(b"X", b"y" * 3000))))
    assert events == [("refused", 1, 503)]
    assert peers[1].used == 0
    assert everyone.used == peers[0].used > 3000


@pytest.mark.parametrize(
    "wire",
    [
        spec.request(1, GET, b"body"),
        spec.begin(1) + spec.record(spec.PARAMS, 1, b"\1\x7fX"),
        spec.begin(1) + spec.begin(1),
        spec.begin(1) + b"garbage",
        spec.request(1, [(b"X", b"y" * 10_000)]),
        spec.begin(1) + spec.begin(2) + spec.begin(3) + spec.begin(4),
        spec.begin(1, 77),
    ],
    ids=["complete", "cut pair", "second begin", "garbage", "refused", "too many", "unknown role"],
)
def test_a_connection_that_goes_gives_everything_back(wire, feed):
    everyone = Budget(100_000)
    connection = limited(Budget(50_000, everyone), max_params_size=5000, max_requests=3)
    play(connection, feed(wire))
    del connection
    gc.collect()
    assert everyone.used == 0


def test_a_connection_that_the_collector_takes_gives_everything_back():
    """A budget that had been cleared before its connection got nothing back."""
    everyone = Budget(100_000)
    connection = ServerConnection(None, Budget(50_000, everyone))
    connection.receive_data(spec.request(1, GET))
    request = connection.next_event()
    request.stdin = [connection, request]
    assert everyone.used > 0
    del connection, request
    gc.collect()
    assert everyone.used == 0


@pytest.mark.parametrize("how", ["end", "refuse", "abort", "conflict", "new begin"])
def test_each_way_out_of_a_request_gives_everything_back(how, feed):
    budget = Budget(100_000)
    connection = ServerConnection(None, budget)
    wire = spec.begin(1) + spec.stream(spec.PARAMS, 1, spec.pairs(GET))
    if how == "abort":
        wire += spec.record(spec.ABORT, 1)
    if how == "conflict":
        wire = spec.begin(1) + spec.record(spec.PARAMS, 1, spec.pairs([*GET, (b"REQUEST_METHOD", b"PUT")]))
    if how == "new begin":
        wire += spec.request(1, [], b"", 99)

    def react(event):
        if isinstance(event, Request):
            if how == "end":
                connection.end_request(event)
            elif how in ("refuse", "new begin"):
                connection.refuse_request(event)
        elif how == "abort":
            connection.end_request(event.request)

    play(connection, feed(wire), react)
    assert budget.used == 0
