"""The WSGI adapter: what an application says, and what is made of it (PEP 3333)."""

from __future__ import annotations

import enum
import gc
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from pyfpm import protocol
from support.wsgi import GET, Ran, answering, run

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

LEFT = 1  # app status of a request that did not end well


class Pieces:
    """An iterable that counts how often it is closed."""

    def __init__(self, *pieces: Any, fails: BaseException | None = None) -> None:
        self.pieces = pieces
        self.fails = fails
        self.closed = 0

    def __iter__(self) -> Iterator[Any]:
        yield from self.pieces
        if self.fails:
            raise self.fails

    def close(self) -> None:
        self.closed += 1


class OnePiece(Pieces):
    def __len__(self) -> int:
        return 1


# -- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "body", "length"),
    [
        ([b"ab", b"cd"], b"abcd", "4"),
        ([b"ab"], b"ab", "2"),
        ((b"ab", b"cd"), b"abcd", "4"),
        ([], b"", "0"),
        ((), b"", "0"),
        ([b""], b"", "0"),
        ((piece for piece in (b"ab", b"cd")), b"abcd", None),
        ((piece for piece in ()), b"", None),
        ((piece for piece in (b"", b"ab", b"")), b"ab", None),
        (Pieces(b"ab", b"cd"), b"abcd", None),
        (OnePiece(b"ab"), b"ab", None),
    ],
    ids=["list", "one", "tuple", "empty list", "empty tuple", "empty bytes", "generator", "empty generator",
         "generator with empty pieces", "iterable", "iterable with a length of 1"],
)  # fmt: skip
def test_the_body_is_what_the_application_returned(result, body, length):
    ran = run(answering(result))
    assert ran.body == body
    assert ran.header("Content-Length") == length
    assert ran.status == 200
    assert ran.app_status == 0


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (["text"], "str"),
        ([b"ab", "text"], "str"),
        ([bytearray(b"ab")], "bytearray"),
        ([b"ab", bytearray(b"ab")], "bytearray"),
        ((piece for piece in ["text"]), "str"),
        ((piece for piece in [""]), "str"),
        ((piece for piece in [None]), "NoneType"),
        ("text", "str"),
        (b"ab", "int"),
    ],
    ids=["str", "str later", "bytearray", "bytearray later", "generator of str", "generator of an empty str",
         "generator of None", "a str itself", "bytes themselves"],
)  # fmt: skip
def test_a_body_that_is_not_made_of_bytes_is_an_error(result, kind):
    ran = run(answering(result))
    assert ran.status == 500
    assert f"TypeError: the body must be made of bytes, not {kind}" in ran.log[0]


def test_bytes_may_be_of_a_subclass():
    class Bytes(bytes):
        pass

    assert run(answering([Bytes(b"ab")])).body == b"ab"
    assert run(answering(iter([Bytes(b"ab")]))).body == b"ab"


@pytest.mark.parametrize("result", [None, 42], ids=["None", "a number"])
def test_a_result_that_cannot_be_iterated_is_an_error(result):
    ran = run(answering(result))
    assert ran.status == 500
    assert "is not iterable" in ran.log[0]


def test_each_piece_is_sent_before_the_next_is_asked_for():
    sent_before = []
    ran = Ran()

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        for piece in (b"one", b"two", b"three"):
            yield piece
            sent_before.append(b"".join(ran.sent).endswith(piece))

    run(application, output=ran)
    assert sent_before == [True, True, True]
    assert len(ran.sent) == 3


def test_the_header_block_goes_with_the_first_piece_that_is_not_empty():
    ran = Ran()
    sent = []

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        yield b""
        sent.append(list(ran.sent))
        start_response("404 Not Found", [], changed_my_mind())
        yield b"gone"

    run(application, output=ran)
    assert sent == [[]]
    assert ran.status == 404
    assert ran.body == b"gone"


def changed_my_mind() -> Any:
    try:
        raise RuntimeError("changed my mind")
    except RuntimeError:
        return sys.exc_info()


# -- close ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "result",
    [
        Pieces(b"ab", b"cd"),
        Pieces(),
        Pieces(b"ab", "cd"),
        Pieces(b"ab", fails=RuntimeError("halfway")),
        Pieces(fails=RuntimeError("at once")),
        Pieces(b"ab", fails=SystemExit()),
        OnePiece(b"ab"),
    ],
    ids=["normal", "empty", "not bytes", "raises halfway", "raises at once", "exits", "one"],
)
def test_close_is_called_once_whatever_happens(result):
    run(answering(result))
    assert result.closed == 1


def test_close_is_called_once_when_the_visitor_leaves():
    ran = Ran()

    class Leaving(Pieces):
        def __iter__(self) -> Iterator[bytes]:
            yield b"one"
            ran.gone = True
            yield b"two"
            raise AssertionError("asked for more than anybody reads")

    result = Leaving()
    run(answering(result), output=ran)
    assert result.closed == 1
    assert ran.app_status == LEFT
    assert ran.log == [], "that a visitor leaves is nobody's error"


def test_close_is_called_once_when_start_response_was_not():
    result = Pieces(b"ab")
    ran = run(lambda environ, start_response: result)
    assert result.closed == 1
    assert ran.status == 500
    assert "AssertionError: the body came before start_response was called" in ran.log[0]


def test_a_generator_is_ended_when_the_visitor_leaves():
    ended = []
    ran = Ran()

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        try:
            ran.gone = True
            yield b"one"
        finally:
            ended.append(True)

    run(application, output=ran)
    assert ended == [True]


def test_an_exception_in_close_is_reported():
    class Stuck(Pieces):
        def close(self) -> None:
            raise OSError("cannot close")

    ran = run(answering(Stuck(b"ab")))
    assert "OSError: cannot close" in ran.log[0]
    assert ran.app_status == LEFT


def test_a_connection_of_the_application_that_is_aborted_is_an_error_of_the_application():
    """It was taken for the visitor's leaving: an empty answer, and nothing in the log."""

    def application(environ: Environ, start_response: StartResponse) -> None:
        raise ConnectionAbortedError("the database hung up")

    ran = run(application)
    assert ran.status == 500
    assert "ConnectionAbortedError: the database hung up" in ran.log[0]


# -- start_response and write -----------------------------------------------------------------------------------------


def test_write_sends_at_once_and_before_the_result():
    ran = Ran()
    sent = []

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        write = start_response("200 OK", [])
        write(b"one ")
        sent.append(b"".join(ran.sent))
        write(b"two ")
        return [b"three"]

    run(application, output=ran)
    assert sent[0].endswith(b"one ")
    assert ran.body == b"one two three"


def test_write_sends_the_headers_even_with_nothing_to_write():
    ran = Ran()

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [("X-Early", "yes")])(b"")
        assert b"X-Early" in b"".join(ran.sent)
        return []

    assert run(application, output=ran).app_status == 0


@pytest.mark.parametrize("data", ["text", None, 1, bytearray(b"ab")], ids=["str", "None", "int", "bytearray"])
def test_write_takes_bytes_only(data):
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [])(data)
        return []

    ran = run(application)
    assert ran.status == 500
    assert "the body must be made of bytes" in ran.log[0]


def test_start_response_must_be_called():
    for result in ([b"ab"], [], iter([b"ab"]), iter([])):
        ran = run(lambda environ, start_response, result=result: result)
        assert ran.status == 500
        assert "start_response was" in ran.log[0]


def test_start_response_may_be_called_by_the_generator():
    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("201 Created", [])
        yield b"ab"

    ran = run(application)
    assert (ran.status, ran.body) == (201, b"ab")


def test_start_response_a_second_time_is_an_error_without_exc_info():
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [])
        start_response("200 OK", [])
        return []

    ran = run(application)
    assert ran.status == 500
    assert "start_response was called twice without exc_info" in ran.log[0]


def test_exc_info_before_the_headers_are_sent_replaces_them():
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("204 No Content", [("X-First", "1"), ("Content-Length", "7")])
        start_response("503 Service Unavailable", [("X-Second", "2")], changed_my_mind())
        return [b"sorry"]

    ran = run(application)
    assert ran.head == ["Status: 503 Service Unavailable", "X-Second: 2", "Content-Length: 5"]
    assert ran.body == b"sorry"


def test_exc_info_after_the_headers_were_sent_is_raised():
    raised = []

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [])(b"begun")
        try:
            start_response("500 Oops", [], changed_my_mind())
        except RuntimeError as error:
            raised.append(error.__traceback__)
            raise
        return []

    ran = run(application)
    assert raised
    assert "in changed_my_mind" in ran.log[0], "it has the traceback it came with"
    assert (ran.status, ran.body) == (200, b"begun")
    assert ran.app_status == LEFT


def test_write_of_an_earlier_request_cannot_reach_another_answer():
    kept: list[Any] = []

    def keeps(environ: Environ, start_response: StartResponse) -> list[bytes]:
        kept.append(start_response("200 OK", []))
        kept.append(environ["wsgi.errors"].write)
        return [b"first"]

    def uses(environ: Environ, start_response: StartResponse) -> list[bytes]:
        write, write_error = kept
        start_response("200 OK", [])
        for late, data in ((write, b"late"), (write_error, "late")):
            with pytest.raises(ValueError, match="the request is over"):
                late(data)
        return [b"second"]

    run(keeps)
    ran = run(uses)
    assert ran.body == b"second"
    assert ran.errors == b""


# -- status and headers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "line"),
    [
        ("404 Not Found", "Status: 404 Not Found"),
        ("200 Fine", "Status: 200 Fine"),
        ("299 ", "Status: 299 "),
        ("200 \xdcber", "Status: 200 \xdcber"),
    ],
)
def test_the_status_is_passed_on(status, line):
    assert line in run(answering([], status)).head


def test_an_answer_without_headers_has_a_status_since_cgi_wants_one_header():
    ran = run(answering(iter([b"ab"]), headers=[]))
    assert (ran.head, ran.body) == (["Status: 200 OK"], b"ab")


def test_200_ok_is_what_web_servers_take_for_granted():
    assert run(answering([])).header("Status") is None


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("200", "not of the form"),
        ("OK", "not of the form"),
        ("", "not of the form"),
        ("20 OK", "not of the form"),
        ("2000 OK", "not of the form"),
        ("\u0662\u0660\u0660 OK", "not of the form"),
        ("200 OK\r\nX-Evil: 1", "control character"),
        ("200 OK\n", "control character"),
        ("200 \u20ac", "only characters of latin-1"),
        (b"200 OK", "the status must be a str, not bytes"),
        (200, "the status must be a str, not int"),
        (None, "the status must be a str, not NoneType"),
    ],
    ids=repr,
)
def test_a_wrong_status_is_an_error_where_it_is_given(status, error):
    ran = run(answering([b"ab"], status))
    assert ran.status == 500
    assert error in ran.log[0]
    assert "in application" in ran.log[0], "the traceback leads to the line that said it"


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("X-A", "b\r\nX-Evil: 1", "control character"),
        ("X-A", "b\nX-Evil: 1", "control character"),
        ("X-A", "b\rX-Evil: 1", "control character"),
        ("X-A", "b\0", "control character"),
        ("X-A", "b\x7f", "control character"),
        ("X-A\r\nX-Evil", "b", "is not a header name"),
        ("X-A: b\r\nX-Evil", "b", "is not a header name"),
        ("", "b", "is not a header name"),
        ("X A", "b", "is not a header name"),
        ("X-A:", "b", "is not a header name"),
        ("X-\xdc", "b", "is not a header name"),
        ("X-A", "\u20ac", "only characters of latin-1 can be in a header: 'X-A: \u20ac'"),
        ("X-A", b"b", "the value of the header X-A must be a str, not bytes"),
        ("Content-Length", 5, "the value of the header Content-Length must be a str, not int"),
        ("X-A", None, "the value of the header X-A must be a str, not NoneType"),
        (b"X-A", "b", "the name of a header must be a str, not bytes"),
        (None, "b", "the name of a header must be a str, not NoneType"),
    ],
    ids=repr,
)
def test_a_wrong_header_is_an_error_where_it_is_given(name, value, error):
    ran = run(answering([b"ab"], headers=[("X-Before", "1"), (name, value)]))
    assert ran.status == 500
    assert error in ran.log[0]
    assert "in application" in ran.log[0]
    assert b"Evil" not in b"".join(ran.sent)


def test_headers_that_are_not_pairs_are_an_error():
    for headers in (None, ["X-A: b"], [("X-A", "b", "c")], 1):
        ran = run(lambda environ, start_response, headers=headers: start_response("200 OK", headers))
        assert ran.status == 500


@pytest.mark.parametrize("value", ["tab\there", "", "  ", "\xe9t\xe9", "\x85", 'quoted "and" more; a=b'], ids=repr)
def test_a_header_value_is_passed_on_as_it_is(value):
    assert run(answering([], headers=[("X-A", value)])).header("x-a") == value


def test_headers_of_one_name_and_their_order_are_kept():
    headers = [("Set-Cookie", "a=1"), ("X-A", "b"), ("Set-Cookie", "c=2")]
    assert run(answering([], headers=headers)).head[:3] == ["Set-Cookie: a=1", "X-A: b", "Set-Cookie: c=2"]


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ([("Content-Type", "text/event-stream")], ["X-Accel-Buffering: no"]),
        ([("content-type", "text/event-stream; charset=utf-8"), ("X-A", "b")], ["X-Accel-Buffering: no"]),
        ([("X-Accel-Buffering", "yes"), ("Content-Type", "text/event-stream")], ["X-Accel-Buffering: yes"]),
        ([("Content-Type", "text/plain")], []),
        ([("X-1234567890", "text/event-stream")], []),
    ],
)
def test_events_pass_nginx_unbuffered_unless_the_application_says_otherwise(headers, said):
    head = run(answering([], headers=headers)).head
    assert [line for line in head if line.lower().startswith("x-accel")] == said


def test_a_subclass_of_str_is_sent_as_its_characters_whatever_it_shows_when_formatted():
    class Evil(str):
        def __format__(self, spec: str) -> str:
            return "b\r\nX-Evil: 1"

        __str__ = lambda self: "b\r\nX-Evil: 1"  # noqa: E731

    class Kind(str, enum.Enum):
        PLAIN = "text/plain"

    ran = run(answering([], headers=[("X-A", Evil("good")), ("Content-Type", Kind.PLAIN)]))
    assert ran.head == ["X-A: good", "Content-Type: text/plain", "Content-Length: 0"]
    ran = run(answering([], Evil("418 Teapot"), []))
    assert ran.head == ["Status: 418 Teapot", "Content-Length: 0"]


@pytest.mark.parametrize(
    "name",
    ["Connection", "Keep-Alive", "Transfer-Encoding", "TRANSFER-ENCODING", "Upgrade", "TE", "Trailer",
     "Proxy-Authenticate", "Proxy-Connection"],
)  # fmt: skip
def test_hop_by_hop_headers_are_dropped(name):
    assert run(answering([], headers=[(name, "x"), ("X-A", "b")])).head == ["X-A: b", "Content-Length: 0"]


def test_a_header_called_status_does_not_override_the_status():
    """It went out as it was, and to a web server that is the status."""
    ran = run(answering([], "404 Not Found", [("Status", "200 OK")]))
    assert ran.head == ["Status: 404 Not Found", "Content-Length: 0"]
    assert run(answering([], "200 OK", [("STATUS", "404 Not Found")])).status == 200


def test_a_location_does_not_turn_200_into_a_redirect():
    """nginx and others answer 302 for a Location without a Status."""
    ran = run(answering([], headers=[("X-A", "b"), ("location", "/there")]))
    assert ran.head == ["Status: 200 OK", "X-A: b", "location: /there", "Content-Length: 0"]
    ran = run(answering([], "302 Found", [("Location", "/there")]))
    assert ran.head == ["Status: 302 Found", "Location: /there", "Content-Length: 0"]


# -- Content-Length (RFC 9110, 8.6) -----------------------------------------------------------------------------------


def test_a_content_length_that_the_application_gave_is_kept():
    ran = run(answering([b"abc"], headers=[("content-length", "3")]))
    assert ran.head == ["content-length: 3"]


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified", "101 Switching Protocols", "103 Early Hints"])
@pytest.mark.parametrize("result", [[], [b""], [b"not to be sent"], (b"a", b"b")], ids=repr)
def test_a_status_without_a_body_has_neither_one_nor_a_made_up_length(status, result):
    """Content-Length: 0 in a 304 says that the page is empty now."""
    ran = run(answering(result, status, []))
    assert ran.head == [f"Status: {status}"]
    assert ran.body == b""


def test_the_generator_of_a_status_without_a_body_is_run_and_not_sent():
    result = Pieces(b"one", b"two")
    ran = run(answering(result, "204 No Content"))
    assert ran.body == b""
    assert result.closed == 1


def test_304_keeps_a_length_that_the_application_gave_and_204_does_not():
    length = [("Content-Length", "0")]
    assert run(answering([], "304 Not Modified", length)).header("Content-Length") == "0"
    assert run(answering([], "204 No Content", length)).header("Content-Length") is None
    assert run(answering([], "100 Continue", length)).header("Content-Length") is None


@pytest.mark.parametrize("result", [[b"page"], [], (b"pa", b"ge"), iter([b"page"])], ids=repr)
def test_head_has_neither_a_body_nor_a_made_up_length(result):
    ran = run(answering(result), {"REQUEST_METHOD": "HEAD"})
    assert ran.head == ["Content-Type: text/plain"]
    assert ran.body == b""


def test_head_keeps_a_length_that_the_application_gave():
    ran = run(answering([], headers=[("Content-Length", "4")]), {"REQUEST_METHOD": "HEAD"})
    assert ran.head == ["Content-Length: 4"]


def test_write_sends_no_body_for_head():
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [("X-A", "b")])(b"page")
        return [b"more"]

    ran = run(application, {"REQUEST_METHOD": "HEAD"})
    assert b"".join(ran.sent) == b"X-A: b\r\n\r\n"


# -- exceptions -------------------------------------------------------------------------------------------------------


def fails(error: BaseException) -> Callable[..., Any]:
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [("X-Secret", "1")])
        raise error

    return application


@pytest.mark.parametrize(
    "error",
    [RuntimeError("s3cret"), SystemExit("s3cret"), KeyboardInterrupt("s3cret"), GeneratorExit("s3cret")],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_is_500_for_the_visitor_and_a_traceback_for_the_operator(error):
    ran = run(fails(error), {"REQUEST_URI": "/some/page"})
    assert ran.status == 500
    assert ran.app_status == LEFT
    assert b"s3cret" not in b"".join(ran.sent)
    assert b"X-Secret" not in b"".join(ran.sent), "headers of the answer that failed are not part of the other"
    assert ran.log[0].startswith("ERROR: uncaught exception in request /some/page\nTraceback")
    for text in (ran.log[0], ran.errors.decode()):
        assert f"{type(error).__name__}: s3cret" in text
        assert "in application" in text
        assert "pyfpm/sapi" not in text, "our own frames say nothing to the reader"


def test_display_errors_shows_the_traceback_escaped():
    ran = run(fails(RuntimeError("<b>")), display_errors=True)
    assert ran.status == 500
    assert b"RuntimeError: &lt;b&gt;" in ran.body


def test_an_exception_after_output_cannot_be_taken_back():
    ran = run(answering(Pieces(b"begun", fails=RuntimeError("halfway"))))
    assert ran.status == 200
    assert ran.body == b"begun"
    assert ran.app_status == LEFT
    assert "RuntimeError: halfway" in ran.log[0]
    assert b"RuntimeError: halfway" in ran.errors


def test_an_exception_after_the_visitor_left_is_logged():
    ran = Ran()

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        ran.gone = True
        raise RuntimeError("unheard")

    run(application, output=ran)
    assert "RuntimeError: unheard" in ran.log[0]


def test_an_exception_that_cannot_be_shown_is_reported_all_the_same():
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    ran = run(fails(Odd()))
    assert ran.status == 500
    assert "Odd" in ran.log[0]


# -- the rest ---------------------------------------------------------------------------------------------------------


def test_wsgi_errors_is_the_error_log_of_the_web_server():
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        errors = environ["wsgi.errors"]
        errors.write("one \udc80\u20ac\n")
        errors.writelines(["two\n", "three\n"])
        errors.flush()
        print("four", file=errors)
        start_response("200 OK", [])
        return []

    assert run(application).errors == b"one \\udc80\xe2\x82\xac\ntwo\nthree\nfour\n"


def test_an_authorizer_answers_like_any_other():
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        assert environ["wsgi.input"].read() == b""
        start_response("200 OK", [("Variable-AUTH_METHOD", "database lookup")])
        return []

    ran = run(application, role=protocol.AUTHORIZER)
    assert "Variable-AUTH_METHOD: database lookup" in ran.head


def test_a_filter_has_the_file_in_fastcgi_data():
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [])
        return [environ["fastcgi.data"].read().upper(), environ["wsgi.input"].read()]

    assert run(application, body=b"body", data=b"file", role=protocol.FILTER).body == b"FILEbody"


def test_only_a_filter_has_it():
    seen: list[Environ] = []
    run(lambda environ, start_response: seen.append(environ) or (start_response("200 OK", []) and []))
    assert "fastcgi.data" not in seen[0]


class Marked:
    """Something that tells when it has gone."""


@pytest.mark.parametrize("kind", ["list", "generator", "exception"])
def test_nothing_of_a_request_waits_for_the_collector(kind):
    marks = []

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        environ["mark"] = mark = Marked()
        marks.append(weakref.ref(mark))
        write = start_response("200 OK", [])
        if kind == "exception":
            try:
                raise RuntimeError
            except RuntimeError:
                start_response("500 Oops", [], sys.exc_info())
        if kind == "generator":
            return (piece for piece in (b"ab", environ["REQUEST_METHOD"].encode()))
        write(b"ab")
        return [b"cd"]

    gc.collect()
    gc.disable()
    try:
        output = run(application, dict(GET))
        del output
        assert marks[0]() is None
    finally:
        gc.enable()
