"""What holds for every request, every way of cutting the bytes, and every garbage: Hypothesis looks for the exception.

The plain decoder of fcgi_spec.py and flup6's pairs are the outside opinion.
"""

import fcgi_spec as spec
import pytest
from flup.server.fcgi_base import decode_pair as flup_decode_pair
from flup.server.fcgi_base import encode_pair as flup_encode_pair
from hypothesis import given
from hypothesis import strategies as st
from talk import ending, play

from pyfpm import protocol as p

UNREPEATABLE = {"CONTENT_LENGTH", "REQUEST_METHOD", "SCRIPT_FILENAME"}

# Names that web servers send and repeat, and any others; lengths on both sides of where their form changes.
usual_names = st.sampled_from(
    [b"REQUEST_METHOD", b"CONTENT_LENGTH", b"HTTP_COOKIE", b"HTTP_ACCEPT", b"QUERY_STRING", b""]
)
names = usual_names | st.binary(max_size=20) | st.integers(120, 140).map(lambda n: b"N" * n)
values = st.binary(max_size=40) | st.sampled_from([b"", b"GET", b"5"]) | st.integers(120, 300).map(lambda n: b"v" * n)
params = st.lists(st.tuples(names, values), max_size=12)
ids = st.sampled_from([1, 2, 3, 255, 256, 65535])
roles = st.sampled_from([p.RESPONDER, p.AUTHORIZER, p.FILTER])


@st.composite
def cut(draw, data):
    """The data in pieces of any size."""
    borders = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[a:b] for a, b in zip([0, *borders], [*borders, len(data)], strict=True) if a < b]


@st.composite
def record_stream(draw, type, id, content):
    """One stream as a list of records, cut anywhere and padded anyhow."""
    padding = st.integers(0, 255)
    pieces = draw(cut(content))
    return [spec.record(type, id, piece, draw(padding)) for piece in [*pieces, b""]]


@st.composite
def requests(draw, id):
    role = draw(roles)
    records = [spec.begin(id, role, draw(st.integers(0, 1)))]
    records += draw(record_stream(spec.PARAMS, id, spec.pairs(draw(params))))
    records += draw(record_stream(spec.STDIN, id, draw(st.binary(max_size=100))))
    if role == p.FILTER:
        records += draw(record_stream(spec.DATA, id, draw(st.binary(max_size=100))))
    # Now and then a request that is given up, or never ends.
    if draw(st.integers(0, 5)) == 0:
        records = [*records[: draw(st.integers(1, len(records)))], spec.record(spec.ABORT, id)]
    return records


strays = st.sampled_from(
    [
        spec.record(spec.STDIN, 9),
        spec.record(spec.STDIN, 9, b"late", 3),
        spec.record(spec.GET_VALUES, 0),
        spec.record(spec.GET_VALUES, 0, spec.pair(b"FCGI_MAX_REQS", b"")),
        spec.record(99, 0, b"?", 5),
        spec.begin(9, 77, 0),
    ]
)


@st.composite
def conversations(draw):
    """Requests with different ids, interleaved record by record, and strays between them."""
    chosen = draw(st.lists(ids, min_size=1, max_size=4, unique=True))
    queues = [draw(requests(id)) for id in chosen]
    out = []
    while queues:
        queue = draw(st.sampled_from(queues))
        out.append(queue.pop(0))
        if not queue:
            queues.remove(queue)
        if draw(st.integers(0, 7)) == 0:
            out.append(draw(strays))
    return b"".join(out)


@st.composite
def mutated(draw, wires):
    """Something valid with a few bytes changed, taken out or put in."""
    wire = bytearray(draw(wires))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(wire)))
        wire[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(wire)


# -- the two sides


def merged(items):
    """What repeated parameters become; None where they contradict each other."""
    out = {}
    for name, value in ((name.decode("latin-1"), value.decode("latin-1")) for name, value in items):
        if name not in out:
            out[name] = value
        elif name.startswith("HTTP_"):
            out[name] += ("; " if name == "HTTP_COOKIE" else ", ") + value
        elif name in UNREPEATABLE and out[name] != value:
            return None
        else:
            out[name] = value
    return out


@given(params, st.binary(max_size=200), ids, st.booleans(), st.data())
def test_server_reads_what_the_client_wrote(items, body, id, keep_conn, data):
    client, server = p.ClientConnection(), p.ServerConnection()
    wire = client.begin_request(id, keep_conn=keep_conn) + client.send_params(id, items)
    wire += (client.send_stdin(id, body) if body else b"") + client.send_stdin(id, b"")
    events = play(server, data.draw(cut(wire)), ending(server))
    expected = merged(items)
    if expected is None:
        assert events == [("refused", id, 400), ("drained", id)]
    else:
        pieces = [("stdin", id, body)] if body else []
        assert events == [("request", id, p.RESPONDER, expected), *pieces, ("end of stdin", id)]


@given(
    st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=200))),
    ids,
    st.integers(0, 2**32 - 1),
    st.data(),
)
def test_client_reads_what_the_server_wrote(pieces, id, app_status, data):
    client, server = p.ClientConnection(), p.ServerConnection()
    server.receive_data(client.begin_request(id) + client.send_params(id, {}))
    request = server.next_event()
    wire = b"".join(getattr(server, f"send_{name}")(request, piece) for name, piece in pieces)
    wire += server.end_request(request, app_status)
    events = play(client, data.draw(cut(wire)))
    for name in ("stdout", "stderr"):
        assert b"".join(event[2] for event in events if event[0] == name) == b"".join(
            piece for stream, piece in pieces if stream == name
        )
    assert events[-2:] == [("end of stdout", id), ("end", id, app_status, 0)]
    assert client.live_requests == () and server.live_requests == ()


# -- cutting


NO_LIMITS = {}
NARROW = {"max_requests": 2, "max_params_size": 60, "max_params": 4}
# These count pieces as they come: whether memory is short or a conflict is seen first is a matter of cuts, and so is
# how much of a record came before its request was refused.
SHORT = {"max_held": 1500, "max_ignored": 150}


def outcome(wire, chunks, limits):
    budget = p.Budget(1 << 20)
    server = p.ServerConnection(p.Limits(**limits), budget)
    answers = []
    events = play(server, chunks, ending(server, answers))
    live = sorted(request.id for request in server.live_requests)
    return events, answers, live, budget.used


@given(conversations() | mutated(conversations()), st.sampled_from([NO_LIMITS, NARROW]), st.data())
def test_how_the_bytes_are_cut_makes_no_difference(wire, limits, data):
    whole = outcome(wire, [wire], limits)
    assert outcome(wire, data.draw(cut(wire)), limits) == whole
    assert outcome(wire, [wire[at : at + 1] for at in range(len(wire))], limits) == whole


@given(mutated(conversations()))
def test_a_client_is_not_confused_by_how_its_bytes_are_cut(wire):
    results = []
    for chunks in ([wire], [wire[at : at + 1] for at in range(len(wire))]):
        client = p.ClientConnection()
        for id in (1, 2, 3):
            client.begin_request(id)
        results.append(play(client, chunks))
    assert results[0] == results[1]


# -- garbage


@given(st.binary(max_size=300) | mutated(conversations()), st.sampled_from([NO_LIMITS, NARROW, SHORT]), st.data())
def test_whatever_comes_ends_and_costs_nothing_afterwards(wire, limits, data):
    everyone = p.Budget(1 << 20)
    server = p.ServerConnection(p.Limits(**limits), p.Budget(1 << 19, everyone))
    events = play(server, data.draw(cut(wire)), ending(server))
    # No event without bytes: a stream record, an end or a refusal takes eight.
    assert len(events) <= len(wire) // 8 + 1 + wire.count(b"\1")
    assert everyone.used <= limits.get("max_held", 1 << 20)
    for request in server.live_requests:
        server.end_request(request)
    assert everyone.used == 0


@given(
    st.binary(max_size=300)
    | mutated(
        st.just(
            spec.stream(spec.STDOUT, 1, b"Status: 200\r\n\r\nok")
            + spec.record(spec.END, 1, bytes(8))
            + spec.record(spec.GET_VALUES_RESULT, 0, spec.pair(b"FCGI_MAX_REQS", b"1"))
        )
    )
)
def test_a_client_reads_garbage_to_its_end(wire):
    client = p.ClientConnection()
    client.begin_request(1)
    assert len(play(client, [wire])) <= len(wire) // 8 + 1


# -- other opinions


def plain_server(wire):
    """What a server sees of wire, decoded by fcgi_spec alone. For streams without repeated names and strays."""
    records, rest = spec.read_records(wire)
    assert rest == b""
    streams = {}
    for record in records:
        streams.setdefault((record.id, record.type), []).append(record.content)
    return {
        id: (
            spec.read_pairs(b"".join(streams[id, spec.PARAMS])),
            b"".join(streams[id, spec.STDIN]),
        )
        for id, type in streams
        if type == spec.BEGIN
    }


unique_params = st.dictionaries(names, values, max_size=12).map(lambda pairs: list(pairs.items()))


@given(st.dictionaries(ids, st.tuples(unique_params, st.binary(max_size=100)), min_size=1), st.data())
def test_the_plain_decoder_sees_the_same_requests(wanted, data):
    client, server = p.ClientConnection(), p.ServerConnection()
    wire = b""
    for id, (items, body) in wanted.items():
        wire += client.begin_request(id) + client.send_params(id, items)
        wire += (client.send_stdin(id, body) if body else b"") + client.send_stdin(id, b"")
    events = play(server, data.draw(cut(wire)))
    for id, ((pairs, rest), body) in plain_server(wire).items():
        assert rest == b""
        decoded = {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}
        assert ("request", id, p.RESPONDER, decoded) in events
        assert b"".join(event[2] for event in events if event[:2] == ("stdin", id)) == body


@given(unique_params)
def test_flup_reads_our_pairs_and_we_read_flups(items):
    client = p.ClientConnection()
    client.begin_request(1)
    ours = b"".join(record.content for record in spec.read_records(client.send_params(1, items))[0])
    theirs = b"".join(flup_encode_pair(name, value) for name, value in items)
    assert ours == theirs == spec.pairs(items)
    at, seen = 0, []
    while at < len(ours):
        at, pair = flup_decode_pair(ours, at)
        seen.append(pair)
    assert seen == items
    events = play(p.ServerConnection(), [spec.begin(1) + spec.stream(spec.PARAMS, 1, theirs)])
    assert events[0][3] == {name.decode("latin-1"): value.decode("latin-1") for name, value in items}


@pytest.mark.parametrize("stream", [b"\5\1NAME", b"\x80\0\0\1"])
def test_where_flup_takes_a_cut_pair_for_a_whole_one_we_do_not(stream):
    """flup6 decodes record by record and never looks whether the bytes are there."""
    at, _ = flup_decode_pair(stream + b"\1") if stream[0] & 0x80 else flup_decode_pair(stream)
    assert at >= len(stream)
    wire = spec.begin(1) + spec.stream(spec.PARAMS, 1, stream)
    assert play(p.ServerConnection(), [wire]) == [("broken", 1)]
