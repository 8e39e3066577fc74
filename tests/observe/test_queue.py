"""The listen queue: what the kernel says of real sockets, and what is said where it does not."""

from __future__ import annotations

import contextlib
import os
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.observe import queue
from pyfpm.observe.queue import listen_queue
from support.waiting import eventually


@pytest.fixture(params=["127.0.0.1", "::1", "path", "abstract"])
def listener(request, tmp_path):
    """A listening socket with room for 7, and how to connect to it."""
    family = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}.get(request.param, socket.AF_UNIX)
    if family != socket.AF_UNIX:
        address = (request.param, 0)
    elif request.param == "path":
        address = str(tmp_path / "s")
    else:
        address = f"\0pyfpm-test-{os.getpid()}"
    with socket.socket(family) as listener:
        try:
            listener.bind(address)
        except OSError:
            pytest.skip(f"no {request.param} here")
        listener.listen(7)
        yield listener


@contextlib.contextmanager
def clients(listener, count):
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(socket.socket(listener.family))
            client.settimeout(30)
            client.connect(listener.getsockname())
        yield


def test_those_who_wait_are_counted_until_they_are_accepted(listener):
    assert listen_queue(listener) == (0, 7)
    with clients(listener, 3):
        eventually(lambda: listen_queue(listener) == (3, 7))
        accepted = listener.accept()[0]
        assert listen_queue(listener) == (2, 7)
        accepted.close()
        for _ in range(2):
            listener.accept()[0].close()
        assert listen_queue(listener) == (0, 7)


def test_it_takes_no_descriptors_and_no_time(listener):
    listen_queue(listener)
    before = os.listdir("/proc/self/fd")
    for _ in range(100):
        listen_queue(listener)
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_a_socket_that_does_not_listen_has_an_empty_queue(family):
    with socket.socket(family) as sock:
        assert listen_queue(sock, 511) == (0, 511)
    assert listen_queue(sock, 511) == (0, 511)  # closed


def test_a_connected_socket_is_not_taken_for_a_listening_one():
    one, other = socket.socketpair()
    with one, other:
        one.send(b"x")
        assert listen_queue(other, 511) == (0, 511)


def test_a_kernel_that_refuses_netlink_is_no_error(monkeypatch, tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(7)
        monkeypatch.setattr(queue, "NETLINK_SOCK_DIAG", 31)  # a protocol that no kernel has
        assert listen_queue(listener, 511) == (0, 511)


def reply(inode=5, state=10, kind=20, attributes=b"", length=None):
    body = struct.pack("=BBBBIII", socket.AF_UNIX, 1, state, 0, inode, 0, 0) + attributes
    return struct.pack("=IHHII", 16 + len(body) if length is None else length, kind, 0, 0, 0) + body


RQLEN = struct.pack("=HHII", 12, 4, 3, 128)


@pytest.mark.parametrize(
    ("message", "found"),
    [
        (reply(attributes=RQLEN), (3, 128)),
        (reply(attributes=struct.pack("=HHI", 5, 6, 0) + RQLEN), (3, 128)),
        (reply(), None),
        (reply(inode=6, attributes=RQLEN), None),
        (reply(state=1, attributes=RQLEN), None),
        (reply(kind=2, attributes=RQLEN), None),
        (reply(length=4000, attributes=RQLEN), None),
        (reply(length=20, attributes=RQLEN), None),
        (reply(attributes=struct.pack("=HHI", 0, 9, 0)), None),
        (reply(attributes=struct.pack("=HHI", 8, 4, 3)), None),
    ],
    ids=[
        "plain",
        "after another",
        "without",
        "inode",
        "state",
        "error",
        "too long",
        "too short",
        "size 0",
        "short rqlen",
    ],
)
def test_a_reply_of_the_kernel(message, found):
    assert queue._rqlen(message, 5) == found


@given(st.binary(max_size=80), st.booleans())
def test_no_reply_can_hang_us(noise, headed):
    message = reply(attributes=noise) if headed else noise
    with contextlib.suppress(struct.error):
        queue._rqlen(message, 5)
