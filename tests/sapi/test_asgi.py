"""The ASGI specification, point by point: scope, receive, send, and what a failure becomes."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from fakes import FakeOutput

from pyfpm.sapi.asgi import ASGIAdapter, Departed, has_departed, scope_of
from pyfpm.sapi.settings import SapiSettings

GET = {
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "/a/b",
    "REQUEST_URI": "/a/b?c=d",
    "DOCUMENT_URI": "/a/b",
    "QUERY_STRING": "c=d",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REQUEST_SCHEME": "http",
    "SERVER_NAME": "example.org",
    "SERVER_PORT": "80",
    "REMOTE_ADDR": "192.0.2.1",
    "REMOTE_PORT": "50000",
    "CONTENT_TYPE": "",
    "CONTENT_LENGTH": "",
    "HTTP_HOST": "example.org",
}


class FakeLive:
    """One request in memory. ``body`` has come already; ``leave`` is what the web server may do."""

    timed_out = False

    def __init__(self, params: dict[str, str], body: bytes = b"") -> None:
        self.params = params
        self.output = FakeOutput()
        self.has_room = True
        self.gone = False
        self.over = False
        self.app_status = -1
        self.sent: list[bytes] = []
        self._pieces = [body] if body else []
        self._events: list[Any] = []

    @property
    def has_input(self) -> bool:
        return bool(self._pieces)

    @property
    def at_end(self) -> bool:
        return not self._pieces

    def take(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    def when_input(self, make_event: Any) -> Any:
        self._events.append(make_event())
        return self._events[-1]

    when_output = when_input

    def flush(self) -> None:
        self.output.flush()
        self.sent.append(self.output.sent)

    def end(self, app_status: int = 0) -> None:
        if not self.over:
            self.over = True
            self.app_status = app_status
            self.output.ended = True
            self.wake()

    def wake(self) -> None:
        for each in self._events:
            each.set()

    def leave(self) -> None:
        self.gone = True
        self.wake()


class Ran:
    """What came of a request to this application."""

    def __init__(self, app: Any, params: dict[str, str] = GET, body: bytes = b"", **settings: Any) -> None:
        self.logged: list[str] = []
        self.live = FakeLive(dict(params), body)
        adapter = ASGIAdapter(app, lambda level, text: self.logged.append(f"{level}: {text}"), SapiSettings(**settings))
        asyncio.run(adapter.run(self.live, asyncio.Event, asyncio.CancelledError))
        head, _, self.body = self.live.output.sent.partition(b"\r\n\r\n")
        self.head = head.decode("latin-1").split("\r\n")


def answers(*messages: dict[str, Any]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return app


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes = b"", more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


# -- scope -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("type", "http"),
        ("asgi", {"version": "3.0", "spec_version": "2.4"}),
        ("http_version", "1.1"),
        ("method", "GET"),
        ("scheme", "http"),
        ("path", "/a/b"),
        ("raw_path", b"/a/b"),
        ("query_string", b"c=d"),
        ("root_path", ""),
        ("headers", [(b"host", b"example.org")]),
        ("client", ("192.0.2.1", 50000)),
        ("server", ("example.org", 80)),
    ],
)
def test_scope_has_what_the_specification_names(key, value):
    assert scope_of(dict(GET))[key] == value


@pytest.mark.parametrize(
    ("params", "key", "value"),
    [
        ({"SERVER_PROTOCOL": "HTTP/2.0"}, "http_version", "2"),
        ({"SERVER_PROTOCOL": "HTTP/3.0"}, "http_version", "3"),
        ({"SERVER_PROTOCOL": "HTTP/1.0"}, "http_version", "1.0"),
        ({"REQUEST_SCHEME": "https"}, "scheme", "https"),
        ({"REQUEST_SCHEME": "", "HTTPS": "on"}, "scheme", "https"),
        ({"REQUEST_SCHEME": "", "HTTPS": "off"}, "scheme", "http"),
        ({"REQUEST_METHOD": "patch"}, "method", "PATCH"),
        ({"SCRIPT_NAME": "/app", "PATH_INFO": "/x", "DOCUMENT_URI": "/app/x"}, "path", "/app/x"),
        ({"SCRIPT_NAME": "/app", "PATH_INFO": "/x", "DOCUMENT_URI": "/app/x"}, "root_path", "/app"),
        ({"SCRIPT_NAME": "/app/", "PATH_INFO": "x"}, "root_path", "/app"),
        ({"SCRIPT_NAME": ""}, "path", "/"),
        ({"SCRIPT_NAME": "/\xc3\xbc"}, "path", "/ü"),
        ({"SCRIPT_NAME": "/\xff"}, "path", "/\N{REPLACEMENT CHARACTER}"),
        ({"REQUEST_URI": "/%FF%2F?a"}, "raw_path", b"/%FF%2F"),
        ({"REQUEST_URI": "http://example.org/"}, "raw_path", None),
        ({"QUERY_STRING": "\xff=%FF"}, "query_string", b"\xff=%FF"),
        ({"REMOTE_ADDR": "unix:", "REMOTE_PORT": ""}, "client", None),
        ({"REMOTE_PORT": ""}, "client", ("192.0.2.1", 0)),
        ({"REMOTE_PORT": "9" * 30}, "client", ("192.0.2.1", 0)),
        ({"SERVER_NAME": ""}, "server", None),
        (
            {"HTTP_X_FORWARDED_FOR": "a", "HTTP_ACCEPT": ""},
            "headers",
            [(b"host", b"example.org"), (b"x-forwarded-for", b"a"), (b"accept", b"")],
        ),
        ({"HTTP_X": "\xe4"}, "headers", [(b"host", b"example.org"), (b"x", b"\xe4")]),
        (
            {"CONTENT_TYPE": "text/plain", "CONTENT_LENGTH": "3", "HTTP_CONTENT_LENGTH": "3", "HTTP_PROXY": "evil"},
            "headers",
            [(b"content-type", b"text/plain"), (b"content-length", b"3"), (b"host", b"example.org")],
        ),
    ],
)
def test_scope_of_other_requests(params, key, value):
    assert scope_of({**GET, **params})[key] == value


def test_a_request_that_says_nothing_has_a_scope():
    scope = scope_of({})
    assert (scope["method"], scope["path"], scope["client"], scope["headers"]) == ("GET", "/", None, [])


def test_the_web_server_s_own_params_are_an_extension():
    assert scope_of({**GET, "REMOTE_USER": "me"})["extensions"]["fastcgi"]["params"]["REMOTE_USER"] == "me"


# -- receive -----------------------------------------------------------------------------------------------------------


def test_a_body_that_is_there_is_given_in_one_message():
    got = []

    async def app(scope, receive, send):
        got.append(await receive())
        await answers(start(), body())(scope, receive, send)
        got.append(await receive())

    Ran(app, body=b"123")
    assert got == [{"type": "http.request", "body": b"123", "more_body": False}, {"type": "http.disconnect"}]


def test_without_a_body_there_is_one_empty_message():
    got = []

    async def app(scope, receive, send):
        got.append(await receive())

    Ran(app)
    assert got == [{"type": "http.request", "body": b"", "more_body": False}]


def test_receive_waits_for_the_disconnect_and_send_then_raises_an_oserror():
    got: list[Any] = []

    async def app(scope, receive, send):
        await receive()
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        ran_live[0].leave()
        got.append(await waiting)
        try:
            await send(start())
        except OSError as error:
            got.append(type(error))
            raise

    ran_live: list[FakeLive] = []
    live = FakeLive(dict(GET))
    ran_live.append(live)
    logged: list[Any] = []
    adapter = ASGIAdapter(app, lambda *line: logged.append(line))
    asyncio.run(adapter.run(live, asyncio.Event, asyncio.CancelledError))
    assert got == [{"type": "http.disconnect"}, Departed]
    assert [level for level, _ in logged] == ["DEBUG"], "nothing is wrong with the application"
    assert live.output.sent == b""


# -- send --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "sent"),
    [
        ([start(), body(b"x")], b"Content-Length: 1\r\n\r\nx"),
        ([start(200, (b"A", b"b")), body(b"x")], b"A: b\r\nContent-Length: 1\r\n\r\nx"),
        ([start(200, (b"content-length", b"1")), body(b"x")], b"content-length: 1\r\n\r\nx"),
        ([start(404), body()], b"Status: 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        ([start(299), body()], b"Status: 299 Unknown\r\nContent-Length: 0\r\n\r\n"),
        ([start(204, (b"content-length", b"1")), body(b"x")], b"Status: 204 No Content\r\n\r\n"),
        ([start(304), body(b"x")], b"Status: 304 Not Modified\r\n\r\n"),
        ([start(200, (b"location", b"/x")), body()], b"Status: 200 OK\r\nlocation: /x\r\nContent-Length: 0\r\n\r\n"),
        ([start(200, (b"status", b"500")), body()], b"Status: 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ([start(200, (b"connection", b"close"), (b"a", b"b")), body()], b"a: b\r\nContent-Length: 0\r\n\r\n"),
        ([start(200, (b"set-cookie", b"a"), (b"set-cookie", b"b")), body()],
         b"set-cookie: a\r\nset-cookie: b\r\nContent-Length: 0\r\n\r\n"),
        ([start(200, (b"x", b"\xe4")), body()], b"x: \xe4\r\nContent-Length: 0\r\n\r\n"),
        ([start(200, (b"content-type", b"text/event-stream; charset=utf-8")), body(b"", True), body()],
         b"X-Accel-Buffering: no\r\ncontent-type: text/event-stream; charset=utf-8\r\n\r\n"),
        ([start(), body(b"a", True), body(b"b", True), body()], b"Status: 200 OK\r\n\r\nab"),
        ([{"type": "http.response.start", "status": 200}, {"type": "http.response.body"}],
         b"Content-Length: 0\r\n\r\n"),
    ],
)  # fmt: skip
def test_what_is_sent(messages, sent):
    ran = Ran(answers(*messages))
    assert ran.live.output.sent in (sent, b"Status: 200 OK\r\n" + sent)
    assert ran.live.app_status == 0
    assert ran.logged == []


def test_head_has_no_body():
    ran = Ran(answers(start(), body(b"abc")), {**GET, "REQUEST_METHOD": "HEAD"})
    assert ran.live.output.sent == b"Status: 200 OK\r\n\r\n"


def test_each_piece_goes_out_before_send_returns():
    ran = Ran(answers(start(200, (b"a", b"b")), body(b"1", True), body(b"2", True), body(b"3")))
    assert ran.live.sent == [b"a: b\r\n\r\n1", b"a: b\r\n\r\n12"]
    assert ran.body == b"123"


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([body(b"x")], "'http.response.body' came before http.response.start"),
        ([start(), start()], "http.response.start was sent twice"),
        ([start(), {"type": "http.response.push"}], "'http.response.push' is no message of an answer over FastCGI"),
        ([start(), {"type": "websocket.send"}], "'websocket.send' is no message"),
        ([{"type": "http.response.start", "status": 200, "trailers": True}], "FastCGI cannot carry trailers"),
        ([start(103)], "103 is not the status of an answer"),
        ([start(1000)], "1000 is not the status of an answer"),
        ([{"type": "http.response.start", "status": "200"}], "the status must be an int, not str"),
        ([start(200, (b"a b", b""))], "'a b' is not a header name"),
        ([start(200, (b"a", b"1\r\nb: 2"))], "the value of the header a has a control character"),
        ([start(200, ("a", b""))], "the name of a header must be bytes, not str"),
        ([start(200, (b"a", "b"))], "the value of the header a must be bytes, not str"),
        ([start(200, (b"content-length", b"-1"))], "is not a number of bytes"),
        ([start(), {"type": "http.response.body", "body": "text"}], "the body must be bytes, not str"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_explained_and_answered_with_500(messages, reason):
    ran = Ran(answers(*messages))
    assert ran.head[0] == "Status: 500 Internal Server Error"
    assert ran.live.app_status == 1
    assert reason in "\n".join(ran.logged)


def test_nothing_can_be_sent_after_the_end():
    ran = Ran(answers(start(), body(b"x"), body(b"y")))
    assert ran.body == b"x"
    assert "the answer is complete, and 'http.response.body' comes after it" in ran.logged[0]


def test_send_waits_for_room():
    order = []

    async def app(scope, receive, send):
        await send(start())
        live.has_room = False
        sending = asyncio.ensure_future(send(body(b"x", True)))
        await asyncio.sleep(0)
        order.append(sending.done())
        live.has_room = True
        live.wake()
        await sending
        order.append(sending.done())
        await send(body())

    live = FakeLive(dict(GET))
    asyncio.run(ASGIAdapter(app, print).run(live, asyncio.Event, asyncio.CancelledError))
    assert order == [False, True]


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        ({}, b"23456789"),
        ({"offset": 1}, b"123456789"),
        ({"offset": 1, "count": 3}, b"123"),
        ({"offset": 100}, b""),
        ({"count": 100}, b"23456789"),
    ],
)
def test_zero_copy_send(tmp_path, message, sent):
    (tmp_path / "file").write_bytes(b"0123456789")
    with open(tmp_path / "file", "rb", buffering=0) as file:
        file.seek(2)
        ran = Ran(answers(start(), {"type": "http.response.zerocopysend", "file": file.fileno(), **message}))
    assert ran.body == sent
    assert f"Content-Length: {len(sent)}" in ran.head


def test_zero_copy_send_wants_a_regular_file():
    read, write = os.pipe()
    ran = Ran(answers(start(), {"type": "http.response.zerocopysend", "file": read}))
    os.close(read)
    os.close(write)
    assert "only a regular file can be sent" in ran.logged[0]


def test_path_send(tmp_path):
    (tmp_path / "file").write_bytes(b"0123456789")
    ran = Ran(answers(start(), {"type": "http.response.pathsend", "path": str(tmp_path / "file")}))
    assert ran.body == b"0123456789"


# -- the end -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([], "returned without an answer to /a/b?c=d"),
        ([start()], "returned without an answer to /a/b?c=d"),
        ([start(), body(b"x", True)], "returned in the middle of its answer to /a/b?c=d"),
    ],
)
def test_an_answer_that_is_not_finished(messages, text):
    ran = Ran(answers(*messages))
    assert text in ran.logged[0]
    assert ran.live.app_status == 1
    assert ran.live.over


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), KeyboardInterrupt(), BaseException("odd")])
def test_what_the_application_raises_ends_in_the_log(error):
    async def app(scope, receive, send):
        raise error

    ran = Ran(app)
    assert ran.head[0].startswith("Status: 500")
    assert "uncaught exception in request /a/b?c=d" in ran.logged[0]


def test_a_traceback_is_shown_where_that_is_wanted():
    async def app(scope, receive, send):
        raise ValueError("<to be seen>")

    assert b"&lt;to be seen&gt;" in Ran(app, display_errors=True).body
    assert b"to be seen" not in Ran(app).body


def test_what_is_raised_after_the_answer_is_logged():
    async def app(scope, receive, send):
        await answers(start(), body(b"x"))(scope, receive, send)
        raise ValueError("late")

    ran = Ran(app)
    assert ran.body == b"x"
    assert "late" in ran.logged[0]


def test_a_task_that_cancels_itself_is_a_500():
    async def app(scope, receive, send):
        raise asyncio.CancelledError

    ran = Ran(app)
    assert ran.head[0].startswith("Status: 500")
    assert ran.logged == ["WARNING: request /a/b?c=d was cancelled"]


def raised(error: BaseException, cause: BaseException | None = None, context: BaseException | None = None) -> Any:
    error.__cause__ = cause
    error.__context__ = context
    return error


def circle() -> BaseException:
    error = ValueError()
    return raised(error, context=ExceptionGroup("", [error]))


@pytest.mark.parametrize(
    ("error", "departed"),
    [
        (Departed(), True),
        (OSError(), False),
        (ConnectionAbortedError(), False),
        (raised(RuntimeError(), context=Departed()), True),
        (raised(RuntimeError(), cause=Departed()), True),
        (ExceptionGroup("", [Departed(), raised(RuntimeError(), Departed())]), True),
        (ExceptionGroup("", [Departed(), ValueError()]), False),
        (circle(), False),
    ],
)  # fmt: skip
def test_a_visitor_who_has_left_is_no_failure(error, departed):
    """A chain of exceptions that led back to itself once took the worker's patience with it."""
    assert has_departed(error) is departed
