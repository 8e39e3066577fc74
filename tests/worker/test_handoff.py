"""Connections that outlive their worker: none is closed, no request is lost, while workers come and go."""

from __future__ import annotations

import fcntl
import resource
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from pyfpm import protocol
from support.waiting import eventually
from support.wire import Wire, ask
from support.worker import Workers, retire, runs


@pytest.fixture
def pool() -> Iterator[Workers]:
    with Workers() as workers:
        yield workers


def test_a_kept_connection_goes_on_in_another_worker(pool):
    first = pool.start()
    with Wire(pool.address) as wire:
        assert wire.ask(keep=True).body == str(first.pid).encode()
        second = pool.start()
        retire(first)
        for _ in range(3):
            assert wire.ask(keep=True).body == str(second.pid).encode()
        assert second.slot().connections == 1


def test_a_new_connection_that_has_said_nothing_goes_on_as_well(pool):
    first = pool.start()
    with Wire(pool.address) as wire:
        eventually(lambda: first.slot().connections == 1)
        second = pool.start()
        retire(first)
        assert wire.ask().body == str(second.pid).encode()


def test_a_request_that_is_under_way_is_finished_first(pool):
    first = pool.start()
    with Wire(pool.address) as wire:
        wire.send(wire.request("/x?nap", keep=True))
        runs(first)
        second = pool.start()
        retire(first)
        assert wire.answer().body == str(first.pid).encode()
        assert wire.ask(keep=True).body == str(second.pid).encode()


@pytest.mark.parametrize("cut", [1, 7, 8, 12, 40, -1])
def test_a_request_that_has_begun_to_come_stays(pool, cut):
    """Also one of which there is only a part of a record's header."""
    first = pool.start()
    with Wire(pool.address) as wire:
        assert wire.ask(keep=True).body
        request = wire.request(keep=True)
        wire.send(request[:cut])
        eventually(lambda: unread(wire) == 0, "the worker has read it")
        second = pool.start()
        first.kill(signal.SIGQUIT)
        eventually(lambda: first.slot().stage.name == "RETIRING")
        assert first.process.poll() is None
        wire.send(request[cut:])
        assert wire.answer().body == str(first.pid).encode()
        assert first.wait() == 0
        assert wire.ask(keep=True).body == str(second.pid).encode()


def unread(wire: Wire) -> int:
    """Bytes that we have sent and nobody has read [unix(7), SIOCOUTQ]."""
    return int(struct.unpack("i", fcntl.ioctl(wire.socket, 0x5411, b"\0\0\0\0"))[0])


def test_a_retiring_worker_accepts_nothing_more(pool):
    first = pool.start()
    with Wire(pool.address) as wire:
        request = wire.request(keep=True)
        wire.send(request[:20])
        eventually(lambda: unread(wire) == 0 and first.slot().connections == 1)
        first.kill(signal.SIGQUIT)
        eventually(lambda: first.slot().stage.name == "RETIRING")
        with Wire(pool.address) as late:
            late.send(late.request())
            wire.send(request[20:])
            assert wire.answer().body == str(first.pid).encode()
            # With nobody there it waits in the handoff socket.
            assert first.wait() == 0
            second = pool.start()
            assert late.answer().body == str(second.pid).encode()
        assert wire.ask(keep=True).body == str(second.pid).encode()


def test_while_the_handoff_socket_is_full_the_retiring_worker_serves_on(pool):
    give, take = pool.handoff
    give.setblocking(False)
    nowhere = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pool.handoff = (give, nowhere[0])  # or it would take what we fill it with
    first = pool.start()
    pool.handoff = (give, take)
    ours, theirs = socket.socketpair()
    try:
        with Wire(pool.address) as wire:
            assert wire.ask(keep=True).body
            fill(give, theirs)
            first.kill(signal.SIGQUIT)
            eventually(lambda: first.slot().stage.name == "RETIRING")
            for _ in range(3):
                assert wire.ask(keep=True).body == str(first.pid).encode()
            second = pool.start()
            assert first.wait() == 0
            assert wire.ask(keep=True).body == str(second.pid).encode()
    finally:
        for each in (ours, theirs, *nowhere):
            each.close()


def fill(give: socket.socket, what: socket.socket) -> None:
    try:
        while True:
            socket.send_fds(give, [b"h"], [what.fileno()])
    except OSError:
        pass


def test_a_worker_that_is_out_of_descriptors_leaves_the_connection_where_it_is(pool):
    """It was taken and dropped: the web server found it closed."""
    first = pool.start()
    with Wire(pool.address) as wire:
        assert wire.ask(keep=True).body == str(first.pid).encode()
        second = pool.start()
        limits = resource.prlimit(second.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(second.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
        first.kill(signal.SIGQUIT)
        eventually(lambda: "cannot take a connection over" in second.stderr, "it has tried")
        resource.prlimit(second.pid, resource.RLIMIT_NOFILE, limits)
        assert wire.ask(keep=True).body == str(second.pid).encode()


def test_without_a_handoff_socket_idle_connections_are_closed():
    with Workers(share=False) as pool:
        first = pool.start()
        with Wire(pool.address) as wire:
            assert wire.ask(keep=True).body
            retire(first)
            assert wire.is_closed()


def has_served(pool: Workers, requests: int) -> bool:
    return sum(worker.slot().counters.requests for worker in pool.all) >= requests


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_no_request_and_no_connection_is_lost_while_workers_retire(tcp):
    with Workers(tcp=tcp) as pool:
        pool.start()
        pool.start()
        done = threading.Event()
        counts: list[int] = []
        failures: list[BaseException] = []

        def hammer() -> None:
            count = 0
            try:
                with Wire(pool.address) as wire:
                    while not done.is_set():
                        assert wire.ask(keep=True).status == 200
                        count += 1
            except BaseException as failure:
                failures.append(failure)
            counts.append(count)

        threads = [threading.Thread(target=hammer) for _ in range(6)]
        for thread in threads:
            thread.start()
        for _ in range(8):
            oldest = next(worker for worker in pool.all if worker.process.poll() is None)
            served = sum(worker.slot().counters.requests for worker in pool.all)
            eventually(partial(has_served, pool, served + 100))
            pool.start()
            retire(oldest)
        done.set()
        for thread in threads:
            thread.join()
        assert failures == []
        # An answer leaves before it is counted.
        eventually(
            lambda: sum(counts) == sum(worker.slot().counters.requests for worker in pool.all), "all are counted"
        )
        assert min(counts) > 0


# -- limits of a worker ------------------------------------------------------------------------------------------------


def test_a_worker_begins_no_more_requests_than_it_may(pool):
    first = pool.start(settings={"pm_max_requests": 10})
    with Wire(pool.address) as wire:
        for _ in range(9):
            assert wire.ask(keep=True).body == str(first.pid).encode()
        assert ask(pool.address).body == str(first.pid).encode()
        assert first.message() == b"m10 requests were served (pm.max_requests)"
        assert first.wait() == 0
        assert first.slot().counters.accepted == 10
        second = pool.start()
        assert wire.ask(keep=True).body == str(second.pid).encode()


def test_what_one_connection_has_sent_at_once_is_answered_by_one_worker(pool):
    first = pool.start(settings={"pm_max_requests": 1})
    with Wire(pool.address) as wire:
        wire.send(b"".join(wire.request(id=id, keep=True) for id in (1, 2, 3)))
        assert {wire.answer(id).body for id in (1, 2, 3)} == {str(first.pid).encode()}
        assert first.wait() == 0
        second = pool.start()
        assert wire.ask(keep=True).body == str(second.pid).encode()


def test_a_worker_that_needs_too_much_memory_retires(pool):
    first = pool.start(settings={"pm_max_memory": 200 << 20})
    with Wire(pool.address) as wire:
        assert wire.ask(keep=True).body == str(first.pid).encode()
        assert not first.has_message()
        assert ask(pool.address, "/x?allocate").body == str(first.pid).encode()
        assert first.message().endswith(b" bytes of memory are in use (pm.max_memory)")
        assert first.wait() == 0
        second = pool.start()
        assert wire.ask(keep=True).body == str(second.pid).encode()


# -- whose connections -------------------------------------------------------------------------------------------------


def test_connections_from_elsewhere_are_closed():
    with Workers(tcp=True) as pool:
        worker = pool.start(allowed=["192.0.2.1"])
        for _ in range(15):
            with Wire(pool.address) as wire:
                assert wire.is_closed()
        said = "ERROR: Connection disallowed: IP address '127.0.0.1' has been dropped."
        lines = [line for line in worker.stderr.splitlines() if line.endswith(said)]
        assert 10 <= len(lines) <= 15


def test_connections_from_allowed_addresses_are_served():
    with Workers(tcp=True) as pool:
        pool.start(allowed=["xxx", "127.0.0.1"])
        assert ask(pool.address).status == 200
        assert "ERROR: Wrong IP address 'xxx' in listen.allowed_clients" in pool.all[0].stderr


def test_a_multiplexed_connection_moves_once_all_its_requests_are_over(pool):
    first = pool.start()
    with Wire(pool.address) as wire:
        wire.send(wire.begin(2, keep=True))
        assert wire.ask(id=1, keep=True).body
        first.kill(signal.SIGQUIT)
        eventually(lambda: first.slot().stage.name == "RETIRING")
        second = pool.start()
        wire.send(wire.params("/x", id=2) + wire.client.send_stdin(2, b""))
        assert wire.answer(2).body == str(first.pid).encode()
        assert first.wait() == 0
        assert wire.ask(id=1, keep=True, role=protocol.RESPONDER).body == str(second.pid).encode()
