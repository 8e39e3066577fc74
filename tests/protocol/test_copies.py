"""Decoding copies nothing but the values themselves.

Two halves. csrc/: spans and pairs point into the caller's buffer and follow each other without a gap, so each byte is
looked at once where it lies (tests/csrc, and the invariants of tests/fuzz). Here: how much memory the connection asks
Python for. Everything it allocates, bytes, str and dict alike, passes tracemalloc; one more copy of the input, be it
for a moment, would show as its whole size in the peak.
"""

import sys
import tracemalloc

import fcgi_spec as spec
import pytest

from pyfpm.protocol import EndOfStdin, Limits, Request, ServerConnection, Stdin

# The Request, its decoder, its dict before it grows, an event or two.
CONSTANT = 4096


def peak_of(action):
    """The result, and the most memory that was allocated at once on the way to it, in bytes."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        result = action()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return result, peak - before


@pytest.fixture(autouse=True)
def warm():
    """What is made only once, like the error messages and the names of methods, is not to be counted."""
    connection = ServerConnection()
    connection.receive_data(spec.request(1, [(b"A", b"b")], b"c"))
    for expected in (Request, Stdin, EndOfStdin):
        assert isinstance(connection.next_event(), expected)


@pytest.mark.parametrize("count", [1, 50])
def test_params_cost_their_values_and_nothing_of_that_order_beside_them(count):
    size = 60_000 // count
    wire = spec.request(1, [(b"NAME%d" % number, b"%d" % (number % 10) * size) for number in range(count)])
    connection = ServerConnection(Limits(max_params_size=1 << 20))

    def decode():
        connection.receive_data(wire)
        return connection.next_event()

    request, peak = peak_of(decode)
    assert isinstance(request, Request) and len(request.params) == count
    values = sum(sys.getsizeof(value) for value in request.params.values())
    names = sum(sys.getsizeof(name) for name in request.params)
    assert values <= peak < values + names + sys.getsizeof(request.params) + CONSTANT
    assert peak < 1.2 * len(wire)


def test_body_is_copied_once_into_its_event():
    wire = spec.request(1, [], bytes(range(256)) * 250)
    connection = ServerConnection()

    def decode():
        connection.receive_data(wire)
        assert isinstance(connection.next_event(), Request)
        return connection.next_event()

    event, peak = peak_of(decode)
    assert len(event.data) <= peak < len(event.data) + CONSTANT


def test_ignored_bytes_cost_nothing():
    """The rest of an upload that was refused may be a gigabyte."""
    wire = spec.record(spec.STDIN, 1, bytes(65_000)) * 10
    connection = ServerConnection()

    def decode():
        connection.receive_data(wire)
        return connection.next_event()

    _, peak = peak_of(decode)
    assert peak < CONSTANT


def test_cut_value_is_kept_once_and_copied_once():
    """While its rest is on the way it lies in a bytearray, which may be an eighth larger than what is in it."""
    value = b"v" * 200_000
    wire = spec.begin(1) + spec.stream(spec.PARAMS, 1, spec.pair(b"NAME", value), 8000)
    connection = ServerConnection()

    def decode():
        connection.receive_data(wire)
        return connection.next_event()

    request, peak = peak_of(decode)
    assert request.params["NAME"] == value.decode()
    assert peak < 2.2 * len(value) + CONSTANT


def test_the_same_names_and_short_values_are_not_made_again():
    items = [(b"SERVER_NAME", b"www.example.org"), (b"GATEWAY_INTERFACE", b"CGI/1.1")]
    connection = ServerConnection()
    seen = []
    for id in (1, 2):
        connection.receive_data(spec.request(id, items))
        seen.append(connection.next_event().params)
        connection.next_event()
    first, second = seen
    assert first is not second
    for (name, value), (again, same) in zip(first.items(), second.items(), strict=True):
        assert name is again and value is same
