"""pm.status_listen: who may ask the master itself, and how many at once."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from support import processes
from support.server import Server
from support.waiting import eventually
from support.wire import Wire

CONFIG = """
[global]
error_log = /dev/stderr
[www]
listen = $DIR/fpm.sock
pm = static
pm.max_children = 1
pm.status_path = /status
pm.status_listen = 127.0.0.1:%d
listen.allowed_clients = %s
"""


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def status(port: int) -> int:
    with Wire(f"127.0.0.1:{port}") as wire:
        return wire.ask("/status", SCRIPT_NAME="/status").status


def test_who_may_not_ask_a_worker_may_not_ask_the_master(pyfpm, port):
    """A port alone listens everywhere when listen.allowed_clients is there to say who may; nobody asked it."""
    server: Server = pyfpm(config=CONFIG % (port, "192.0.2.1"))
    with pytest.raises((AssertionError, ConnectionError)):
        status(port)
    eventually(lambda: server.logged("Connection disallowed: IP address '127.0.0.1'"), "it is said")


def test_who_may_ask_is_answered(pyfpm, port):
    pyfpm(config=CONFIG % (port, "127.0.0.1"))
    assert status(port) == 200


def test_more_connections_than_it_serves_at_once_wait_outside_of_the_master(pyfpm, port):
    """Each had a descriptor, and the master needs them for workers."""
    server: Server = pyfpm(config=CONFIG % (port, "127.0.0.1"))
    before = len(processes.descriptors(server.pid))
    with ExitStack() as open_connections:
        for _ in range(200):
            open_connections.enter_context(socket.create_connection(("127.0.0.1", port)))
        eventually(lambda: len(processes.descriptors(server.pid)) >= before + 128, "as many as may are in")
        assert len(processes.descriptors(server.pid)) <= before + 130
    assert status(port) == 200
