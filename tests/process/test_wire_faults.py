"""Faults at the wire: what a broken, slow or hostile web server can do, and what it cannot."""

from __future__ import annotations

import os
import resource
import select
import socket
import threading
import time
from pathlib import Path

import pytest

from pyfpm import protocol
from support import processes
from support.waiting import eventually
from support.wire import Wire, ask, connect_to

SCRIPTS = {
    "hello": 'echo("hello")\n',
    "mark": 'open(_GET["mark"], "a").write("ran\\n")\necho("ran")\n',
    "length": "import sys\necho(len(sys.stdin.buffer.read()))\n",
    "large": 'echo("x" * int(_GET["bytes"]))\n',
}

SENDFILE = """
def application(environ, start):
    if environ["QUERY_STRING"] == "file":
        start("200 OK", [])
        return environ["wsgi.file_wrapper"](open("large.bin", "rb"))
    start("200 OK", [])
    return [b"hello"]
"""

SHORT_TIMES = [
    argument
    for name in ("keepalive_timeout", "request_read_timeout", "send_timeout")
    for argument in ("-d", f"{name}=1s")
]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    for name, source in SCRIPTS.items():
        (tmp_path / f"{name}.py").write_text(source)
    return tmp_path


@pytest.fixture
def hello(site: Path) -> str:
    return str(site / "hello.py")


def serves(server, hello: str) -> bool:
    return ask(server.socket, hello).body == b"hello"


# -- time -------------------------------------------------------------------------------------------------------------


def test_a_connection_that_never_says_anything_is_closed(pyfpm, hello):
    server = pyfpm(*SHORT_TIMES)
    with Wire(server.socket) as wire:
        assert wire.is_closed()
    assert serves(server, hello)


def test_a_kept_connection_is_closed_when_it_was_idle_for_long(pyfpm, hello):
    server = pyfpm(*SHORT_TIMES)
    with Wire(server.socket) as wire:
        assert wire.ask(hello, keep=True).body == b"hello"
        assert wire.is_closed()


def test_a_kept_connection_is_not_closed_before_its_time(pyfpm, hello):
    server = pyfpm("-d", "request_read_timeout=1s", "-d", "send_timeout=1s")
    with Wire(server.socket) as wire:
        for _ in range(3):
            assert wire.ask(hello, keep=True).body == b"hello"
            time.sleep(1.5)


def test_a_request_that_stops_in_its_middle_is_given_up(pyfpm, site, hello):
    server = pyfpm(*SHORT_TIMES)
    with Wire(server.socket) as wire:
        request = wire.request(f"{site}/mark.py?mark={site}/marked", b"body")
        wire.send(request[:-9])
        assert wire.is_closed()
    assert not (site / "marked").exists()
    assert serves(server, hello)


def test_a_slow_request_is_served_however_long_it_takes(pyfpm, site, hello):
    """Time is given for silence, not for the whole: a mobile phone may upload for an hour."""
    server = pyfpm("-d", "request_read_timeout=2s")
    with Wire(server.socket) as wire:
        request = wire.request(f"{site}/length.py", b"x" * 40)
        for piece in range(0, len(request), 40):
            wire.send(request[piece : piece + 40])
            time.sleep(0.3)
        assert serves(server, hello)
        assert wire.answer().body == b"40"


def test_a_reader_who_takes_nothing_is_given_up(pyfpm, site, hello):
    server = pyfpm(*SHORT_TIMES, "-d", "max_queued_output=1M")
    with Wire(server.socket) as wire:
        wire.send(wire.request(f"{site}/large.py?bytes=20000000"))
        # The only worker waits for this reader, but not for ever.
        assert serves(server, hello)
        assert 0 < len(wire.rest()) < 20_000_000


def test_a_reader_who_takes_nothing_of_what_is_queued_is_given_up(pyfpm, site, hello):
    server = pyfpm(*SHORT_TIMES, "-d", "max_queued_output=64M")
    worker = server.worker
    before = processes.sockets(worker)
    with Wire(server.socket) as wire:
        wire.send(wire.request(f"{site}/large.py?bytes=20000000"))
        assert serves(server, hello)
        eventually(lambda: processes.sockets(worker) == before, "its connection is closed")


def test_a_request_that_runs_for_long_lets_nobody_else_time_out(pyfpm, site, hello):
    """After it everybody looked as if they had been silent, and was hung up on before what they had sent was read."""
    (site / "sleep.py").write_text("import time\nopen('sleeping', 'w').close()\ntime.sleep(4)\necho('slept')\n")
    server = pyfpm(*SHORT_TIMES, "-d", "max_queued_output=32M")
    with Wire(server.socket) as kept, Wire(server.socket) as half, Wire(server.socket) as reader:
        assert kept.ask(hello, keep=True).body == b"hello"
        request = half.request(hello, b"body")
        half.send(request[:50])
        reader.send(reader.request(f"{site}/large.py?bytes=5000000"))
        assert serves(server, hello)
        with Wire(server.socket) as busy:
            busy.send(busy.request(f"{site}/sleep.py"))
            eventually((site / "sleeping").exists, "the worker is busy")
            kept.send(kept.request(hello, keep=True))
            half.send(request[50:])
            eventually(lambda: reader.socket.recv(1, socket.MSG_PEEK), "there is room for more of the answer")
            pieces = [reader.socket.recv(200_000)]
            assert busy.answer().body == b"slept"
        assert kept.answer().body == b"hello"
        assert half.answer().body == b"hello"
        assert len(b"".join(pieces) + reader.rest()) > 5_000_000


def test_half_open_connections_do_not_add_up(pyfpm, hello):
    server = pyfpm(*SHORT_TIMES)
    before = processes.sockets(server.worker)
    for _ in range(100):
        wire = Wire(server.socket)
        wire.send(b"\x01\x01\x00")
        wire.socket.close()
    assert serves(server, hello)
    eventually(lambda: processes.sockets(server.worker) == before, "they are all closed")


# -- cut and broken ---------------------------------------------------------------------------------------------------


def test_a_request_cut_at_any_byte_does_not_run_and_hurts_nothing(pyfpm, site, hello):
    server = pyfpm()
    worker = server.worker
    with Wire(server.socket) as wire:
        whole = wire.request(f"{site}/mark.py?mark={site}/marked", b"some body")
    for length in range(len(whole)):
        cut = connect_to(server.socket)
        cut.sendall(whole[:length])
        cut.close()
    assert serves(server, hello)
    assert not (site / "marked").exists()
    with connect_to(server.socket) as complete:
        complete.sendall(whole)
        eventually((site / "marked").exists, "the whole of it runs")
    assert (site / "marked").read_text() == "ran\n"
    assert server.worker == worker


def test_a_request_that_comes_byte_by_byte_is_the_same(pyfpm, site):
    server = pyfpm()
    with Wire(server.socket) as wire:
        for byte in wire.request(f"{site}/length.py", b"some body"):
            wire.send(bytes([byte]))
        assert wire.answer().body == b"9"


def test_a_wrong_version_closes_that_connection_alone_with_one_line(pyfpm, hello):
    server = pyfpm()
    with Wire(server.socket) as other, Wire(server.socket) as wire:
        assert other.ask(hello, keep=True).body == b"hello"
        wire.send(b"GET / HTTP/1.1\r\nHost: somebody's mistake\r\n\r\n")
        assert wire.is_closed()
        assert other.ask(hello, keep=True).body == b"hello"
    assert server.logged("connection closed: ") == 1


def test_a_request_that_breaks_the_protocol_is_answered_with_400(pyfpm, site):
    server = pyfpm()
    with Wire(server.socket) as wire:
        wire.send(wire.begin(1, keep=True) + wire.params(f"{site}/hello.py") + b"\x07garbage")
        assert wire.answer().status == 400
        assert wire.is_closed()


def test_an_abort_is_answered_by_exactly_one_end(pyfpm, site, hello):
    server = pyfpm()
    with Wire(server.socket) as wire:
        wire.send(wire.begin(3, keep=True) + wire.params(f"{site}/mark.py?mark={site}/marked", id=3))
        wire.send(wire.client.abort_request(3) * 2)
        aborted = wire.answer(3)
        assert (aborted.ends, aborted.stdout) == (1, b"")
        # What is still under way for it when the next request comes belongs to nobody.
        wire.send(b"\x01\x05\x00\x03\x00\x04\x00\x00rest" + b"\x01\x05\x00\x03\x00\x00\x00\x00")
        assert wire.ask(hello, id=5, keep=True).body == b"hello"
        assert 3 not in wire._answers
    assert not (site / "marked").exists()


def test_the_end_of_the_connection_is_as_good_as_an_abort(pyfpm, site, hello):
    server = pyfpm()
    with Wire(server.socket) as wire:
        wire.send(wire.begin() + wire.params(f"{site}/mark.py?mark={site}/marked"))
    assert serves(server, hello)
    assert not (site / "marked").exists()


def test_who_half_closes_after_the_request_still_gets_the_answer(pyfpm, site):
    server = pyfpm()
    for count in (5, 900_000, 20_000_000):
        with Wire(server.socket) as wire:
            wire.send(wire.request(f"{site}/large.py?bytes={count}"))
            wire.socket.shutdown(socket.SHUT_WR)
            assert len(wire.answer().body) == count
            assert wire.is_closed()


# -- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "a surprise"])
def test_a_body_over_post_max_size_is_413_and_the_connection_goes_on(pyfpm, site, hello, announced):
    server = pyfpm("-d", "post_max_size=100K")
    with Wire(server.socket) as wire:
        length = {} if announced else {"CONTENT_LENGTH": ""}
        answer = wire.ask(f"{site}/mark.py?mark={site}/marked", b"x" * 1_000_000, keep=True, **length)
        assert answer.status == 413
        assert (answer.protocol_status, answer.ends) == (protocol.REQUEST_COMPLETE, 1)
        assert len(answer.body) == int(answer.head["content-length"])
        assert wire.ask(hello, keep=True).body == b"hello"
        assert wire.ask(f"{site}/length.py", b"x" * 102_400, keep=True).body == b"102400"
    assert not (site / "marked").exists()


def test_who_writes_the_whole_body_before_reading_gets_the_early_answer(pyfpm, site, hello):
    """As Caddy does it; a server that answers 413 and stops reading makes a 502 of it."""
    server = pyfpm("-d", "post_max_size=100K")
    with Wire(server.socket) as wire:
        wire.send(wire.request(f"{site}/length.py", b"x" * 50_000_000))
        assert wire.answer().status == 413
        assert wire.is_closed()
    assert serves(server, hello)


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "not kept"])
def test_the_end_of_an_early_answer_does_not_wait_for_the_rest_of_the_body(pyfpm, site, hello, keep):
    """nginx stops sending when an answer begins, and waits for its end: both waited until the timeout."""
    server = pyfpm("-d", "post_max_size=100K")
    with Wire(server.socket) as wire:
        wire.send(wire.begin(keep=keep) + wire.params(f"{site}/length.py", b"x" * 200_000))
        assert wire.answer().status == 413
        if keep:
            assert wire.ask(hello, keep=True).body == b"hello"
        else:
            assert wire.is_closed()


@pytest.mark.parametrize(
    "params",
    [{"HTTP_LONG": "x" * 300_000}, {f"HTTP_X_{number}": "1" for number in range(2000)}],
    ids=["too large", "too many"],
)
def test_params_over_the_limit_are_431_and_the_connection_goes_on(pyfpm, site, hello, params):
    server = pyfpm()
    with Wire(server.socket) as wire:
        assert wire.ask(f"{site}/mark.py?mark={site}/marked", b"body", keep=True, **params).status == 431
        assert wire.ask(hello, keep=True).body == b"hello"
    assert not (site / "marked").exists()


def test_more_in_unfinished_requests_than_allowed_is_503_with_retry_after(pyfpm, site, hello):
    server = pyfpm("-d", "max_held_connection=1M", "-d", "spool_threshold=512K")
    with Wire(server.socket) as wire:
        body = b"x" * 400_000
        for id in (1, 2, 3):
            wire.send(wire.begin(id, keep=True) + wire.params(f"{site}/length.py", body, id=id))
            wire.send(wire.client.send_stdin(id, body))
        for id in (1, 2, 3):
            wire.send(wire.client.send_stdin(id, b""))
        answers = [wire.answer(id) for id in (1, 2, 3)]
        assert [answer.status for answer in answers] == [200, 200, 503]
        assert int(answers[2].head["retry-after"]) > 0
        assert answers[2].protocol_status == protocol.REQUEST_COMPLETE
        assert wire.ask(hello, keep=True).body == b"hello"


def test_a_peer_that_begins_requests_and_nothing_else_is_bounded(pyfpm, hello):
    """Each refusal was a line in the log: a gigabyte of it for 100 MB of these."""
    server = pyfpm("-d", "max_concurrent_requests=16")
    worker = server.worker
    assert serves(server, hello)
    before = processes.own_memory(worker)
    with Wire(server.socket) as wire:
        begins = b"".join(wire.begin(id, keep=True) for id in range(1, 65_536))
        sending = threading.Thread(target=wire.send, args=(begins,))
        sending.start()
        refused = 0
        while refused < 65_535 - 16:
            wire._read()
            refused = sum(answer.ends for answer in wire._answers.values())
        sending.join()
        assert serves(server, hello)
        assert processes.own_memory(worker) - before < 4 * 1024**2
    assert server.logged("request refused with 503: more than 16 requests at once on one connection") < 1000
    assert serves(server, hello)


def test_a_peer_that_begins_requests_and_does_not_read_is_bounded_too(pyfpm, hello):
    """When it was given up, what was left of its requests met a closed connection, and the worker died of it."""
    server = pyfpm("-d", "max_concurrent_requests=16", "-d", "send_timeout=1s")
    worker = server.worker
    assert serves(server, hello)
    before = processes.own_memory(worker)
    with Wire(server.socket) as wire:
        begins = b"".join(wire.begin(id, keep=True) for id in range(1, 65_536))
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            wire.send(begins)
    with Wire(server.socket) as wire:
        wire.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            wire.send(begins)
    assert serves(server, hello)
    assert processes.own_memory(worker) - before < 4 * 1024**2
    assert server.worker == worker


def test_many_connections_of_one_address_share_a_budget(pyfpm, site, hello):
    server = pyfpm(
        "--listen", "127.0.0.1:0", "-d", "max_held_peer=2M", "-d", "spool_threshold=1M", "-d", "max_held=64M"
    )
    (address,) = server.addresses
    body = b"x" * 900_000
    wires = [Wire(address) for _ in range(4)]
    for wire in wires:
        wire.send(wire.begin() + wire.params(f"{site}/length.py", body) + wire.client.send_stdin(1, body))
    # A request that ended before all bodies were read would make room for the next.
    sockets = [wire.socket for wire in wires]
    eventually(lambda: len(select.select(sockets, [], [], 0)[0]) == 2, "two of them are answered before their end")
    for wire in wires:
        wire.send(wire.client.send_stdin(1, b""))
    statuses = sorted(wire.answer().status for wire in wires)
    assert statuses == [200, 200, 503, 503]
    for wire in wires:
        wire.socket.close()
    assert ask(address, hello).body == b"hello"


# -- out of what it needs ----------------------------------------------------------------------------------------------


def test_a_body_that_cannot_be_stored_is_507_and_the_worker_lives_on(pyfpm, site, hello):
    # A file of ours cannot grow over 1 MB: for a program the same as a full disk (EFBIG instead of ENOSPC).
    server = pyfpm(limits={resource.RLIMIT_FSIZE: 1_000_000})
    worker = server.worker
    with Wire(server.socket) as wire:
        answer = wire.ask(f"{site}/length.py", b"x" * 3_000_000, keep=True)
        assert answer.status == 507
        assert wire.ask(hello, keep=True).body == b"hello"
    assert ask(server.socket, f"{site}/length.py", b"x" * 900_000).body == b"900000"
    assert server.worker == worker
    assert server.logged("request refused with 507: cannot store the body: ") == 1


def test_a_place_for_bodies_that_is_not_there_is_507(pyfpm, site, hello):
    os.mkdir(f"{site}/missing")
    server = pyfpm("-d", f"spool_directory={site}/missing")
    os.rmdir(f"{site}/missing")
    assert ask(server.socket, f"{site}/length.py", b"x" * 3_000_000).status == 507
    assert ask(server.socket, f"{site}/length.py", b"x" * 1000).body == b"1000"
    assert serves(server, hello)


DESCRIPTORS = 60


def test_no_descriptor_for_a_body_is_503_and_the_worker_lives_on(pyfpm, site, hello):
    server = pyfpm(limits={resource.RLIMIT_NOFILE: DESCRIPTORS})
    worker = server.worker
    with Wire(server.socket) as wire:
        assert wire.ask(hello, keep=True).body == b"hello"
        idle = fill(server)
        assert wire.ask(f"{site}/length.py", b"x" * 1_000_000, keep=True).status == 503
        for each in idle:
            each.close()
        eventually(lambda: wire.ask(f"{site}/length.py", b"x" * 1_000_000, keep=True).status == 200, "it has recovered")
    assert server.worker == worker


def test_no_descriptor_for_a_connection_is_no_reason_to_spin(pyfpm, hello):
    server = pyfpm(limits={resource.RLIMIT_NOFILE: DESCRIPTORS})
    worker = server.worker
    idle = fill(server)
    before = processes.cpu_seconds(worker)
    time.sleep(3)
    assert processes.cpu_seconds(worker) - before < 1.0
    assert server.logged("cannot accept a connection: Too many open files") < 20
    with Wire(server.socket) as waiting:
        waiting.send(waiting.request(hello))
        for each in idle:
            each.close()
        assert waiting.answer().body == b"hello"
    assert server.worker == worker


def fill(server) -> list[socket.socket]:
    """Connect until the worker has no descriptor left."""
    idle = [connect_to(server.socket) for _ in range(DESCRIPTORS + 10)]
    eventually(lambda: server.logged("Too many open files"), "no descriptor is left")
    return idle


def test_connections_over_max_connections_wait_for_their_turn(pyfpm, hello):
    server = pyfpm("-d", "max_connections=5")
    idle = [Wire(server.socket) for _ in range(5)]
    for wire in idle:
        assert wire.ask(hello, keep=True).body == b"hello"
    with Wire(server.socket) as late:
        late.send(late.request(hello))
        late.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            late.answer()
        late.socket.settimeout(60)
        idle.pop().socket.close()
        assert late.answer().body == b"hello"
    for wire in idle:
        wire.socket.close()


# -- slow readers ------------------------------------------------------------------------------------------------------


def test_a_slow_reader_within_the_bound_stalls_nobody(pyfpm, site, hello):
    server = pyfpm("-d", "max_queued_output=32M")
    with Wire(server.socket) as slow:
        slow.send(slow.request(f"{site}/large.py?bytes=20000000"))
        for _ in range(10):
            assert serves(server, hello)
        assert len(slow.answer().body) == 20_000_000


def test_a_slow_reader_of_a_file_stalls_nobody(pyfpm, tmp_path):
    """sendfile needs no memory, so there is nothing to bound."""
    (tmp_path / "app.py").write_text(SENDFILE)
    content = os.urandom(1_000_000) * 20
    (tmp_path / "large.bin").write_bytes(content)
    server = pyfpm("app:application", cwd=tmp_path)
    with Wire(server.socket) as slow:
        slow.send(slow.request("/", QUERY_STRING="file"))
        for _ in range(10):
            assert ask(server.socket).body == b"hello"
        assert processes.peak_memory(server.worker) < 60 * 1024**2
        assert slow.answer().body == content


def test_a_slow_reader_over_the_bound_stalls_its_own_request_alone_if_there_are_workers(pyfpm, site, hello):
    server = pyfpm("--workers", "2", "-d", "max_queued_output=64K")
    with Wire(server.socket) as slow:
        slow.send(slow.request(f"{site}/large.py?bytes=20000000"))
        eventually(lambda: slow.socket.recv(1, socket.MSG_PEEK), "the answer has begun")
        for _ in range(10):
            assert serves(server, hello)
        assert len(slow.answer().body) == 20_000_000


def test_a_file_that_shrinks_while_it_is_sent_cuts_that_answer_alone(pyfpm, tmp_path):
    """The length was promised; a wrong answer must not look like a whole one."""
    (tmp_path / "app.py").write_text(SENDFILE)
    (tmp_path / "large.bin").write_bytes(b"x" * 20_000_000)
    server = pyfpm("app:application", cwd=tmp_path)
    with Wire(server.socket) as wire:
        wire.send(wire.request("/", QUERY_STRING="file"))
        eventually(lambda: wire.socket.recv(1, socket.MSG_PEEK), "the answer has begun")
        os.truncate(tmp_path / "large.bin", 1_000_000)
        assert len(wire.rest()) < 20_000_000
    assert ask(server.socket).body == b"hello"


def test_many_clients_at_once_get_each_their_own_answer(pyfpm, site):
    server = pyfpm("--workers", "2")
    wrong: list[object] = []

    def client(number: int) -> None:
        try:
            with Wire(server.socket) as wire:
                for count in range(20):
                    length = number * 100 + count
                    answer = wire.ask(f"{site}/large.py?bytes={length}", keep=True)
                    if answer.body != b"x" * length:
                        wrong.append((number, count, answer))
        except Exception as error:
            wrong.append(error)

    clients = [threading.Thread(target=client, args=(number,)) for number in range(50)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    assert not wrong
