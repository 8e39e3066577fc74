"""The FastCGI client against servers that behave, and against some that do not."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from pyfpm import client as c
from pyfpm import protocol
from pyfpm.client import FastCGIClient, parse_address
from pyfpm.client._exchange import MAX_STDERR_KEPT, Connection
from support.fastcgi_server import Peer, fake_server

GET = {"REQUEST_METHOD": "GET", "SCRIPT_FILENAME": "/srv/x.py"}
POST = {**GET, "REQUEST_METHOD": "POST"}
PAGE = b"Status: 201 Made\r\nContent-Type: text/plain\r\nX-Two: a\r\nX-Two: b\r\n\r\nbody"
BIG = 3_000_000

pytestmark = pytest.mark.trio


@pytest.fixture(autouse=True)
async def no_test_waits_for_ever() -> AsyncIterator[None]:
    with trio.fail_after(60):
        yield


async def mirror(peer: Peer) -> None:
    """Answers with the body; keeps the connection as long as the client does."""
    while request := await peer.request():
        body = await peer.read_body()
        await peer.answer(request, b"X-Connection: %d\r\n\r\n" % peer.number + body)
        if not request.keep_conn:
            return


def answering(out: bytes, **more: object) -> object:
    async def conversation(peer: Peer) -> None:
        while request := await peer.request():
            await peer.read_body()
            await peer.answer(request, out, **more)  # type: ignore[arg-type]

    return conversation


async def pieces_of(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        await trio.lowlevel.checkpoint()
        yield piece


# -- answers


async def test_status_headers_body_stderr_and_app_status_come_as_they_were_sent(place: Path) -> None:
    async with (
        fake_server(answering(PAGE, err=b"oh", app_status=7), str(place / "s")) as fake,
        FastCGIClient(fake.address) as client,
    ):
        answer = await client.request(GET)
    assert (answer.status, answer.reason, answer.body, answer.stderr) == (201, "Made", b"body", b"oh")
    assert (answer.app_status, answer.protocol_status) == (7, protocol.REQUEST_COMPLETE)
    assert answer.headers == [("Content-Type", "text/plain"), ("X-Two", "a"), ("X-Two", "b")]
    assert answer.head + answer.body == PAGE
    assert answer.header("x-two") == "b"


@pytest.mark.parametrize(
    ("out", "status", "headers", "body"),
    [
        (b"\r\nbody", 200, [], b"body"),
        (b"\nbody", 200, [], b"body"),
        (b"A: b\n\nbody", 200, [("A", "b")], b"body"),
        (b"A: b\r\n\nbody", 200, [("A", "b")], b"body"),
        (b"A:\r\n\r\n", 200, [("A", "")], b""),
        (b"A: \xe9\r\n\r\n", 200, [("A", "\xe9")], b""),
        (b"status: 404\r\n\r\n", 404, [], b""),
        (b"Location: /x\r\n\r\n", 302, [("Location", "/x")], b""),
        (b"Status: 201\r\nLocation: /x\r\n\r\n", 201, [("Location", "/x")], b""),
    ],
)
async def test_header_block_is_the_same_however_it_arrives(
    out: bytes, status: int, headers: list[tuple[str, str]], body: bytes
) -> None:
    for size in (1, 2, len(out)):

        async def conversation(peer: Peer, size: int = size) -> None:
            request = await peer.request()
            assert request
            for at in range(0, len(out), size):
                await peer.stream.send_all(peer.protocol.send_stdout(request, out[at : at + size]))
            await peer.stream.send_all(peer.protocol.end_request(request))

        async with fake_server(conversation) as fake, FastCGIClient(fake.address) as client:
            answer = await client.request(GET)
        assert (answer.status, answer.headers, answer.body) == (status, headers, body)


@pytest.mark.parametrize(
    ("out", "word"),
    [
        (b"", "nothing at all came"),
        (b"A: b\r\n", "ended before its header block did"),
        (b"Traceback\r\n\r\n", "no header: 'Traceback'"),
        (b"A b: c\r\n\r\n", "no header"),
        (b" A: b\r\n\r\n", "no header"),
        (b"A: b\0c\r\n\r\n", "control character"),
        (b"A: b\rB: c\r\n\r\n", "control character"),
        (b"Status: what\r\n\r\n", "three digits"),
        (b"A: " + b"b" * 70_000 + b"\r\n\r\n", "larger than 65536 bytes"),
        (b"b" * 70_000, "larger than 65536 bytes"),
    ],
    ids=lambda value: repr(value)[:24],
)
async def test_bad_header_block_is_refused_and_says_what_is_wrong(out: bytes, word: str) -> None:
    async with fake_server(answering(out, err=b"why")) as fake, FastCGIClient(fake.address) as client:
        with pytest.raises(c.BadHeaders, match=word) as caught:
            await client.request(GET)
    assert caught.value.stderr == b"why"
    assert str(caught.value).startswith(fake.address)


async def test_header_block_may_be_as_large_as_the_caller_says() -> None:
    out = b"A: " + b"b" * 70_000 + b"\r\n\r\nbody"
    async with fake_server(answering(out)) as fake, FastCGIClient(fake.address, max_headers_size=100_000) as client:
        assert (await client.request(GET)).body == b"body"


async def test_stderr_is_told_as_it_comes() -> None:
    heard: list[bytes] = []
    async with fake_server(answering(PAGE, err=b"x" * 300_000)) as fake, FastCGIClient(fake.address) as client:
        answer = await client.request(GET, on_stderr=heard.append)
    assert len(b"".join(heard)) == 300_000
    assert len(answer.stderr) == MAX_STDERR_KEPT


# -- bodies


@pytest.mark.parametrize("size", [0, 1, 65_528, 65_529, BIG])
async def test_body_in_memory_arrives_whole(size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    async with fake_server(mirror) as fake, FastCGIClient(fake.address) as client:
        answer = await client.request(POST, body[:size])
    assert answer.body == body[:size]


async def test_body_in_pieces_arrives_whole_and_an_empty_piece_does_not_end_it() -> None:
    async with fake_server(mirror) as fake, FastCGIClient(fake.address) as client:
        answer = await client.request(POST, pieces_of(b"a", b"", b"b" * 100_000, b"c"))
    assert answer.body == b"a" + b"b" * 100_000 + b"c"


async def test_answer_comes_before_the_body_is_written() -> None:
    """A server that stops reading while nobody takes its answer; who writes first and reads then never ends."""

    async def echo(peer: Peer) -> None:
        request = await peer.request()
        assert request
        await peer.stream.send_all(peer.protocol.send_stdout(request, b"\r\n"))
        while isinstance(event := await peer.event(), protocol.Stdin):
            await peer.stream.send_all(peer.protocol.send_stdout(request, event.data))
        await peer.stream.send_all(peer.protocol.end_request(request))

    async with fake_server(echo) as fake, FastCGIClient(fake.address) as client:
        answer = await client.request(POST, b"x" * 20_000_000)
    assert len(answer.body) == 20_000_000


async def test_early_answer_ends_the_request_though_its_body_never_does() -> None:
    async def never_ending() -> AsyncIterator[bytes]:
        while True:
            await trio.lowlevel.checkpoint()
            yield b"x" * 1000

    async def refuse(peer: Peer) -> None:
        request = await peer.request()
        assert request
        await peer.answer(request, b"Status: 413\r\n\r\ntoo much")
        await peer.read_body()

    async with fake_server(refuse) as fake, FastCGIClient(fake.address) as client:
        answer = await client.request(POST, never_ending())
        assert (answer.status, answer.body) == (413, b"too much")
        await until(lambda: fake.closed == 1)


async def test_failing_body_ends_the_block_with_its_own_error_and_the_connection_with_it() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise KeyError("the browser has gone")

    async with fake_server(mirror) as fake, FastCGIClient(fake.address) as client:
        with pytest.raises(KeyError, match="the browser has gone"):
            await client.request(POST, broken())
        await until(lambda: fake.closed == 1)


async def test_answer_is_streamed() -> None:
    go_on = trio.Event()

    async def conversation(peer: Peer) -> None:
        request = await peer.request()
        assert request
        await peer.stream.send_all(peer.protocol.send_stdout(request, b"\r\none"))
        await go_on.wait()
        await peer.answer(request, b"two")

    async with (
        fake_server(conversation) as fake,
        FastCGIClient(fake.address) as client,
        client.open(GET) as answer,
    ):
        assert await anext(answer) == b"one"
        assert answer.app_status is None
        go_on.set()
        assert [piece async for piece in answer] == [b"two"]
        assert answer.app_status == 0


async def test_roles_and_the_data_of_a_filter() -> None:
    seen: list[tuple[int, bytes, bytes]] = []

    async def conversation(peer: Peer) -> None:
        while request := await peer.request():
            body, data = b"", b""
            while not request.complete:
                event = await peer.event()
                if isinstance(event, protocol.Stdin):
                    body += event.data
                elif isinstance(event, protocol.Data):
                    data += event.data
            seen.append((request.role, body, data))
            await peer.answer(request)

    async with fake_server(conversation) as fake, FastCGIClient(fake.address) as client:
        await client.request(GET, role=protocol.AUTHORIZER)
        await client.request(GET, b"body", role=protocol.FILTER, data=b"file")
    assert seen == [(protocol.AUTHORIZER, b"", b""), (protocol.FILTER, b"body", b"file")]


async def test_values() -> None:
    async with fake_server(mirror) as fake, FastCGIClient(fake.address) as client:
        values = await client.values()
    assert set(values) == {"FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS"}


# -- connections


async def test_connection_is_kept_for_the_next_request() -> None:
    async with fake_server(mirror) as fake, FastCGIClient(fake.address) as client:
        for _ in range(20):
            await client.request(POST, b"x" * 70_000)
        assert fake.connections == 1
    # Leaving the client has closed it.


async def test_without_keep_each_request_has_its_own() -> None:
    async with fake_server(mirror) as fake, FastCGIClient(fake.address, keep=False) as client:
        for _ in range(3):
            await client.request(GET)
        assert fake.connections == 3


async def test_requests_at_once_have_a_connection_each_up_to_the_limit() -> None:
    running, most = 0, 0

    async def conversation(peer: Peer) -> None:
        nonlocal running, most
        while request := await peer.request():
            running += 1
            most = max(most, running)
            await trio.testing.wait_all_tasks_blocked(0.01)
            running -= 1
            await peer.answer(request)

    async with fake_server(conversation) as fake, FastCGIClient(fake.address, max_connections=3) as client:
        async with trio.open_nursery() as nursery:
            for _ in range(9):
                nursery.start_soon(client.request, GET)
        assert (most, fake.connections) == (3, 3)


async def test_kept_connection_that_the_server_has_closed_is_not_used() -> None:
    async def once(peer: Peer) -> None:
        request = await peer.request()
        assert request
        await peer.read_body()
        await peer.answer(request)

    async with fake_server(once) as fake, FastCGIClient(fake.address) as client:
        for number in range(1, 4):
            await client.request(POST, pieces_of(b"not repeatable"))
            await until(lambda number=number: fake.closed == number)
        assert fake.connections == 3


def leaves_on(connection: int) -> object:
    async def conversation(peer: Peer) -> None:
        while request := await peer.request():
            await peer.read_body()
            if request.params.get("LEAVE") and peer.number <= connection:
                return
            await peer.answer(request)

    return conversation


async def test_stale_connection_is_replaced_once_for_a_request_that_may_be_repeated() -> None:
    async with fake_server(leaves_on(1)) as fake, FastCGIClient(fake.address) as client:
        await client.request(GET)
        assert (await client.request({**GET, "LEAVE": "1"}, b"in memory")).status == 200
        assert fake.connections == 2
    async with fake_server(leaves_on(2)) as fake, FastCGIClient(fake.address) as client:
        await client.request(GET)
        with pytest.raises(c.EndedEarly):
            await client.request({**GET, "LEAVE": "1"})
        assert fake.connections == 2


@pytest.mark.parametrize("how", ["a new connection", "a body in pieces", "a POST", "something was read"])
async def test_nothing_is_repeated_when(how: str) -> None:
    async def conversation(peer: Peer) -> None:
        while request := await peer.request():
            await peer.read_body()
            if request.params.get("LEAVE"):
                if how == "something was read":
                    await peer.stream.send_all(peer.protocol.send_stderr(request, b"x"))
                return
            await peer.answer(request)

    async with fake_server(conversation) as fake, FastCGIClient(fake.address) as client:
        if how != "a new connection":
            await client.request(GET)
        params = {**(POST if how == "a POST" else GET), "LEAVE": "1"}
        with pytest.raises(c.EndedEarly, match="closed the connection before the answer was complete"):
            await client.request(params, pieces_of(b"x") if how == "a body in pieces" else b"")
        assert fake.connections == 1


async def test_answer_that_is_not_read_to_its_end_closes_the_connection() -> None:
    async def endless(peer: Peer) -> None:
        request = await peer.request()
        assert request
        await peer.stream.send_all(peer.protocol.send_stdout(request, b"\r\n"))
        while True:
            await peer.stream.send_all(peer.protocol.send_stdout(request, b"x" * 1000))

    async with fake_server(endless) as fake, FastCGIClient(fake.address) as client:
        async with client.open(GET) as answer:
            await anext(answer)
        await until(lambda: fake.closed == 1)


async def test_cancellation_closes_the_connection() -> None:
    async with fake_server(lambda peer: silent(peer)) as fake, FastCGIClient(fake.address) as client:
        with trio.move_on_after(0.05) as scope:
            await client.request(POST, b"x" * BIG)
        assert scope.cancelled_caught
        await until(lambda: fake.closed == 1)


async def test_error_of_the_block_comes_out_as_itself() -> None:
    async with fake_server(mirror) as fake, FastCGIClient(fake.address) as client:
        with pytest.raises(ZeroDivisionError):
            async with client.open(POST, pieces_of(b"x")):
                raise ZeroDivisionError


async def test_client_is_used_as_a_context_manager() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await FastCGIClient("/nowhere").request(GET)


# -- errors


async def silent(peer: Peer) -> None:
    """Reads all and never says a word."""
    while not isinstance(await peer.event(), protocol.ConnectionClosed):
        pass


async def test_silence_is_a_timeout() -> None:
    async with fake_server(silent) as fake, FastCGIClient(fake.address, timeout_s=0.05) as client:
        with pytest.raises(c.TimedOut, match=r"nothing for 0\.05 s"):
            await client.request(GET)


async def test_answer_that_is_slow_but_goes_on_is_no_timeout(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()

    async def drip() -> None:
        server = protocol.ServerConnection()
        server.receive_data(request)
        event = server.next_event()
        assert isinstance(event, protocol.Request)
        for _ in range(10):
            await trio.sleep(0.8)
            await theirs.send_all(server.send_stdout(event, b"\r\n"))
        await theirs.send_all(server.end_request(event))

    connection = Connection(ours, parse_address("/memory"), 1.0)  # type: ignore[arg-type]
    request = connection.protocol.begin_request(1) + connection.protocol.send_params(1, GET)
    got = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip)
        while not isinstance(event := await connection.event(), protocol.EndRequest):
            got.append(event)
    assert len(got) == 11


@pytest.mark.parametrize(
    ("status", "error", "word"),
    [
        (protocol.OVERLOADED, c.Overloaded, "overloaded"),
        (protocol.UNKNOWN_ROLE, c.UnknownRole, "does not do this role"),
        (protocol.CANT_MPX_CONN, c.CannotMultiplex, "one request at a time"),
        (9, c.Refused, "protocol status 9"),
    ],
)
async def test_refused_request(status: int, error: type[c.ClientError], word: str) -> None:
    async with fake_server(answering(b"", status=status)) as fake, FastCGIClient(fake.address) as client:
        with pytest.raises(error, match=word):
            await client.request(GET)
    assert issubclass(error, c.Refused) and issubclass(c.Refused, c.ClientError)


async def test_answer_of_something_else_is_not_fastcgi() -> None:
    async def http(peer: Peer) -> None:
        await peer.stream.receive_some()
        await peer.stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with fake_server(http) as fake, FastCGIClient(fake.address) as client:
        with pytest.raises(c.BadAnswer, match="is not FastCGI"):
            await client.request(GET)
        with pytest.raises(c.BadAnswer, match="is not FastCGI"):
            await client.values()


async def test_connection_that_ends_in_the_middle_of_a_body() -> None:
    async def conversation(peer: Peer) -> None:
        request = await peer.request()
        assert request
        await peer.stream.send_all(peer.protocol.send_stdout(request, b"\r\nhalf"))

    async with fake_server(conversation) as fake, FastCGIClient(fake.address) as client, client.open(GET) as answer:
        assert await anext(answer) == b"half"
        with pytest.raises(c.EndedEarly):
            await anext(answer)


async def test_address_that_cannot_be_reached_says_why(place: Path) -> None:
    plain = place / "file"
    plain.write_text("")
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(place / "dead"))
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    for address, number, word in (
        (str(place / "none"), errno.ENOENT, "there is no such socket"),
        (str(plain), errno.ECONNREFUSED, "nobody listens there"),
        (str(place / "dead"), errno.ECONNREFUSED, "nobody listens there"),
        (f"127.0.0.1:{port}", errno.ECONNREFUSED, "nobody listens there"),
        ("/" + "x" * 200, errno.EIO, "too long"),
    ):
        async with FastCGIClient(address) as client:
            with pytest.raises(c.ConnectError, match=word) as caught:
                await client.request(GET)
        assert caught.value.errno == number
        assert str(caught.value).startswith(address)
    dead.close()


async def test_full_listen_queue_is_waited_for_and_then_told(place: Path) -> None:
    """Unix sockets say EAGAIN at once, which trio takes for a connection that will come."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(place / "s"))
    listener.listen(0)
    first = socket.socket(socket.AF_UNIX)
    first.connect(str(place / "s"))
    async with FastCGIClient(str(place / "s"), connect_timeout_s=0.1) as client:
        with pytest.raises(c.ConnectError, match="listen queue of the socket is full") as caught:
            await client.request(GET)
    assert caught.value.errno == errno.ETIMEDOUT

    async def make_room() -> None:
        await trio.sleep(0.05)
        listener.accept()[0].close()

    async with (
        FastCGIClient(str(place / "s"), connect_timeout_s=30, timeout_s=0.01) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(make_room)
        with pytest.raises(c.TimedOut):
            await client.request(GET)
    first.close()
    listener.close()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/run/x.sock", "/run/x.sock"),
        ("unix:/run/x.sock", "/run/x.sock"),
        ("127.0.0.1:9000", "127.0.0.1:9000"),
        ("localhost:9000", "localhost:9000"),
        ("[::1]:9000", "[::1]:9000"),
        ("9000", "127.0.0.1:9000"),
    ],
)
async def test_addresses(text: str, shown: str) -> None:
    assert str(parse_address(text)) == shown


@pytest.mark.parametrize("text", ["", "unix:", "x", "x:", ":9000", "x:y", "x:0", "x:65536", "::1:9000", "x:1:2"])
async def test_no_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="is no address"):
        parse_address(text)


async def until(condition: object) -> None:
    while not condition():  # type: ignore[operator]
        await trio.sleep(0.005)


# -- the real one


async def test_with_a_real_pyfpm(pyfpm, place: Path) -> None:  # type: ignore[no-untyped-def]
    (place / "page.py").write_text(
        "import sys\nheader('X-Method: ' + _SERVER['REQUEST_METHOD'])\n"
        "print(sys.stdin.read(), file=sys.stderr)\necho('x' * int(_GET['n']))\n"
    )
    server = pyfpm("--docroot", str(place))
    params = {"SCRIPT_FILENAME": str(place / "page.py"), "SCRIPT_NAME": "/page.py", "SERVER_PROTOCOL": "HTTP/1.1"}
    async with FastCGIClient(server.socket) as client:
        for number in (0, 10, 1_000_000):
            answer = await client.request(
                {**params, "REQUEST_METHOD": "POST", "QUERY_STRING": f"n={number}", "CONTENT_LENGTH": "4"}, b"said"
            )
            assert (answer.status, len(answer.body), answer.header("X-Method")) == (200, number, "POST")
            assert b"said" in answer.stderr
        answer = await client.request({**params, "SCRIPT_FILENAME": "/nowhere.py", "REQUEST_METHOD": "GET"})
        assert answer.status == 404
        with pytest.raises(c.UnknownRole):
            await client.request(params, role=77)
        assert (await client.values())["FCGI_MPXS_CONNS"] in ("0", "1")
