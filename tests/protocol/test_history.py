"""What earlier requests looked like makes a request cheaper to decode, and nothing else.

The decoder remembers what requests begin with, across connections. So each case here is decoded after that memory was
filled with something almost like it, and must come out as the plain rules say.
"""

import fcgi_spec as spec
import pytest
from fcgi_spec import pairs as encode
from hypothesis import given
from hypothesis import strategies as st
from talk import play

from pyfpm import protocol as p

# More than it takes to forget what was usual.
MANY = 20

NGINX = [(b"NAME_%02d" % number, b"value %d" % number) for number in range(26)]


def decode(items, limits=None, cut=None):
    """The refusal's status, or the params in order and whether they have bytes above 127."""
    connection = p.ServerConnection(p.Limits(**(limits or {})))
    wire = spec.begin(1) + spec.stream(spec.PARAMS, 1, encode(items), cut or 65535)
    seen = []
    play(connection, [wire], seen.append)
    (event,) = seen
    if isinstance(event, p.Refused):
        return event.status
    return list(event.params.items()), event.non_ascii


def plainly(items, limits=None):
    """The same from the rules alone."""
    limits = {"max_params": 1000, "max_params_size": 256 * 1024, **(limits or {})}
    params, size = {}, 0
    for count, (name, value) in enumerate(items, 1):
        size += len(name) + len(value)
        if size > limits["max_params_size"] or count > limits["max_params"]:
            return 431
        name, value = name.decode("latin-1"), value.decode("latin-1")
        if name not in params:
            params[name] = value
        elif name.startswith("HTTP_"):
            joint = "; " if name == "HTTP_COOKIE" else ", "
            params[name] += joint + value
            size += len(joint)
        elif name in ("CONTENT_LENGTH", "REQUEST_METHOD", "SCRIPT_FILENAME") and params[name] != value:
            return 400
        else:
            params[name] = value
    return list(params.items()), any(not value.isascii() for _, value in _decoded(items))


def _decoded(items):
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in items]


def make_usual(items):
    for _ in range(MANY):
        decode([(b"SOMETHING ELSE", b"")])
    for _ in range(MANY):
        decode(items)


CASES = {
    "the same": NGINX,
    "nothing": [],
    "only the beginning": NGINX[:9],
    "one pair": NGINX[:1],
    "one more": [*NGINX, (b"MORE", b"x")],
    "without the first": NGINX[1:],
    "without one between": NGINX[:10] + NGINX[11:],
    "another order": NGINX[::-1],
    "other value of the same length": [*NGINX[:5], (NGINX[5][0], b"VALUE 5"), *NGINX[6:]],
    "longer value": [*NGINX[:5], (NGINX[5][0], b"v" * 500), *NGINX[6:]],
    "empty value": [*NGINX[:5], (NGINX[5][0], b""), *NGINX[6:]],
    "value above 127": [*NGINX[:5], (NGINX[5][0], b"\xe4"), *NGINX[6:]],
    "name above 127": [*NGINX[:5], (b"N\xc4ME", b""), *NGINX[6:]],
    "name that begins alike": [*NGINX[:5], (NGINX[5][0] + b"_", NGINX[5][1]), *NGINX[6:]],
    "a name twice in a row": [*NGINX[:6], *NGINX[5:]],
    "a name twice, later": [*NGINX, (NGINX[5][0], b"last wins")],
    "all twice": NGINX * 2,
    "more than is remembered": [(b"N%d" % number, b"v") for number in range(100)],
}


@pytest.mark.parametrize("first", CASES.values(), ids=CASES)
@pytest.mark.parametrize("then", CASES.values(), ids=CASES)
def test_a_request_is_read_the_same_whatever_came_before_it(first, then):
    make_usual(first)
    assert decode(then) == plainly(then)
    assert decode(first) == plainly(first)
    assert decode(then, cut=7) == plainly(then)


@pytest.mark.parametrize("name", [b"CONTENT_LENGTH", b"REQUEST_METHOD", b"SCRIPT_FILENAME"])
def test_a_contradiction_is_seen_after_a_usual_beginning(name):
    items = [(name, b"1"), *NGINX]
    make_usual(items)
    assert decode([*items, (name, b"2")]) == 400
    assert decode([*items, (name, b"1")]) == plainly(items)


@pytest.mark.parametrize("limit", range(26, 29))
def test_limits_count_the_usual_pairs_as_well(limit):
    size = sum(len(name) + len(value) for name, value in NGINX)
    make_usual(NGINX)
    for limits in ({"max_params": limit - 2}, {"max_params_size": size - 27 + limit}):
        assert decode(NGINX, limits) == plainly(NGINX, limits)
        assert decode([*NGINX, (b"X", b"")], limits) == plainly([*NGINX, (b"X", b"")], limits)


def test_lengths_in_the_long_form_are_read_as_well():
    """Four bytes where one would do: allowed, and unlike what is remembered as bytes."""
    make_usual(NGINX)
    long = b"".join(
        (len(name) | 1 << 31).to_bytes(4) + (len(value) | 1 << 31).to_bytes(4) + name + value for name, value in NGINX
    )
    connection = p.ServerConnection()
    ((_, _, _, params),) = play(connection, [spec.begin(1) + spec.stream(spec.PARAMS, 1, long)])
    assert list(params.items()) == _decoded(NGINX)


def test_a_request_may_change_its_params():
    """They are its own: the next request doesn't see it."""
    make_usual(NGINX)
    for _ in range(3):
        connection = p.ServerConnection()
        connection.receive_data(spec.request(1, NGINX))
        params = connection.next_event().params
        assert list(params.items()) == _decoded(NGINX)
        params["NAME_05"] = "changed"
        del params["NAME_06"]
        params["added"] = "x"


def test_a_memory_costs_its_request_what_it_would_cost_without():
    """A budget counts what a request holds, also what it shares with others."""
    held = []
    for usual in (NGINX, [(b"X", b"y")]):
        make_usual(usual)
        budget = p.Budget(1 << 20)
        connection = p.ServerConnection(None, budget)
        connection.receive_data(spec.request(1, NGINX))
        connection.next_event()
        held.append(budget.used)
    assert held[0] == held[1]


changes = st.sampled_from(["value", "drop", "insert", "repeat", "swap", "cut"])
texts = st.sampled_from([b"", b"x", b"value 9", b"\xff", b"v" * 127, b"v" * 128, b"v" * 129]) | st.binary(max_size=12)


@st.composite
def variants(draw, base):
    items = list(base)
    for change in draw(st.lists(changes, max_size=3)):
        at = draw(st.integers(0, len(items)))
        if change == "insert":
            items.insert(at, (draw(texts), draw(texts)))
        elif change == "cut":
            del items[at:]
        elif at < len(items):
            if change == "value":
                items[at] = (items[at][0], draw(texts))
            elif change == "drop":
                del items[at]
            elif change == "repeat":
                items.append((items[at][0], draw(texts)))
            elif change == "swap":
                items[at], items[0] = items[0], items[at]
    return items


names = st.sampled_from(
    [
        b"CONTENT_LENGTH",
        b"REQUEST_METHOD",
        b"HTTP_COOKIE",
        b"HTTP_AUTHORIZATION",
        b"HTTP_ACCEPT",
        b"",
        b"N" * 65,
        b"\xc4",
    ]
) | st.binary(max_size=6)
bases = st.dictionaries(names, texts, max_size=45).map(lambda params: list(params.items()))
limits = st.sampled_from([{}, {"max_params": 10}, {"max_params_size": 100}])


@given(bases, st.data())
def test_history_never_shows(base, data):
    make_usual(base)
    for _ in range(data.draw(st.integers(1, 5))):
        items, limit = data.draw(variants(base)), data.draw(limits)
        cut = data.draw(st.sampled_from([None, None, 1, 50]))
        got, expected = decode(items, limit, cut), plainly(items, limit)
        assert got == expected
