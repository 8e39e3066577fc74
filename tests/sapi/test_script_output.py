"""What a script says: output, headers, status, cookies, and its end."""

from __future__ import annotations

import json
import re

import pytest
from fakes import FakeOutput, Site, process_as_it_was

DEFAULT = "Content-Type: text/html; charset=UTF-8"


@pytest.fixture
def site(tmp_path):
    with process_as_it_was():
        yield Site(tmp_path)


@pytest.mark.parametrize(
    ("source", "body"),
    [
        ("echo('ü')", "ü".encode()),
        ("echo('a', 'b')", b"ab"),
        ("echo()", b""),
        ("echo(None)", b""),
        ("echo('a', None, 1, 2.5, True)", b"a12.5True"),
        ("echo(b'\\xff', bytearray(b'\\0'), memoryview(b'm'))", b"\xff\0m"),
        ("echo('\\udcff')", b"\xff"),
        ("class S(str): pass\necho(S('s'), S('t'))", b"st"),
        ("class O:\n  def __str__(self): return 'o'\necho(O())", b"o"),
        ("print('a', 1, end='')", b"a 1"),
        ("import sys\nsys.stdout.write('w'); sys.stdout.buffer.write(b'\\xfe')", b"w\xfe"),
        ("import sys, array\nsys.stdout.buffer.write(array.array('H', [1, 1]))", b"\1\0\1\0"),
        ("echo('a'); print('b'); echo(b'c')", b"ab\nc"),
        ("class D:\n  def __del__(self): echo('bye')\nd = D()\necho('body ')", b"body bye"),
        ("echo(bytes(range(256)) * 4000)", bytes(range(256)) * 4000),
        ("for n in range(50000): echo('0123456789')", b"0123456789" * 50000),
    ],
)
def test_output_leaves_as_it_is(site, source, body):
    answer = site.run(source)
    assert answer.lines == [DEFAULT]
    assert answer.body == body
    assert answer.app_status == 0


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("header('X-A: 1'); header('x-a: 2')", [DEFAULT, "x-a: 2"]),
        ("header('X-A: 1'); header('X-A: 2', False)", [DEFAULT, "X-A: 1", "X-A: 2"]),
        ("header('Content-type: text/plain')", ["Content-type: text/plain;charset=UTF-8"]),
        ("header('Content-type: text/css; a=b')", ["Content-type: text/css; a=b;charset=UTF-8"]),
        ("header('Content-type: text/x; Charset=latin-1')", ["Content-type: text/x; Charset=latin-1"]),
        ("header('Content-type: application/json')", ["Content-type: application/json"]),
        (f"header('HTTP/1.1 404 {'long ' * 400}x')", [f"Status: 404 {'long ' * 400}x", DEFAULT]),
        ("header('X-A:1'); header_remove('x-a')", [DEFAULT]),
        ("header('X-A:1'); header('Content-Type: a/b'); header_remove()", [DEFAULT]),
        ("header_remove('Content-Type'); header('X: y')", ["X: y"]),
        ("header('X-A: 1', True, 404)", ["Status: 404 Not Found", DEFAULT, "X-A: 1"]),
        ("header('HTTP/1.1 404 Not Found')", ["Status: 404 Not Found", DEFAULT]),
        ("header('HTTP/2 410')", ["Status: 410 Gone", DEFAULT]),
        ("header('Status: 503 Slow Down')", ["Status: 503 Slow Down", DEFAULT]),
        ("header('HTTP/1.0 404 My words')", ["Status: 404 My words", DEFAULT]),
        ("header('Status: 404 My words'); http_response_code(410)", ["Status: 410 Gone", DEFAULT]),
        ("header('HTTP/1.1 200 Fine')", [DEFAULT]),
        ("http_response_code(204)", ["Status: 204 No Content"]),
        ("http_response_code(304); header('ETag: \"a\"')", ["Status: 304 Not Modified", 'ETag: "a"']),
        ("header_remove('Content-Type')", ["Status: 200 OK"]),
        ("header('Location: /a')", ["Status: 302 Found", DEFAULT, "Location: /a"]),
        ("http_response_code(201); header('Location: /a')", ["Status: 201 Created", DEFAULT, "Location: /a"]),
        ("header('Location: /a', True, 307)", ["Status: 307 Temporary Redirect", DEFAULT, "Location: /a"]),
        ("http_response_code(404); header('Location: /a')", ["Status: 302 Found", DEFAULT, "Location: /a"]),
        ("http_response_code(599)", ["Status: 599 Status", DEFAULT]),
        ("header('Connection: close'); header('Transfer-Encoding: chunked'); header('Keep-Alive: 1')", [DEFAULT]),
        ("header('X: ü\\udcff')", [DEFAULT, "X: ü\udcff"]),
        ("header('X: ')", [DEFAULT, "X: "]),
    ],
)
def test_headers_are_those_that_were_set_last(site, source, lines):
    for _ in range(2):  # the second time they are known
        answer = site.run(source)
        assert answer.lines == lines, answer.log


@pytest.mark.parametrize(
    "call",
    [
        r"header('X: a\r\nSet-Cookie: b')", r"header('X: a\nY: b')", r"header('X: a\rb')", r"header('X: a\0')",
        r"header('X\r\nY: a')", "header('no colon')", "header(': a')", "header('a b: c')", "header('')",
        r"header('X\n: a')", r"header('HTTP/1.1 200 a\r\nX: y')", r"header('Status: 404 a\nX: y')",
        r"header('HTTP/1.1 200 \ud800')", "header('HTTP/1.1')", "setcookie('a', 'b', {'lifetime': 3})",
        "header('HTTP/1.1 099 x')", "header('HTTP/1.1 x')", "header('Status: x')", "header('Status: 4040')",
        "header('X: a', True, 99)", "http_response_code(99)", "http_response_code(1000)", "http_response_code(-1)",
        "http_response_code(101)", r"header('X: \ud800')", r"setcookie('a', '', 0, '/\ud800')",
        "setcookie('')", "setcookie('a=b', 'c')", "setcookie('a;b', 'c')", r"setcookie('a\n', 'c')",
        r"setcookie('a\0', 'c')", "setcookie('a', 'b', path='/;x')", "setcookie('a', 'b', domain='a, b')",
        r"setcookie('a', 'b', samesite='x\n')",
    ],
)  # fmt: skip
def test_what_is_no_header_is_refused_and_nothing_of_it_is_sent(site, call):
    answer = site.run(f"try: {call}\nexcept ValueError: echo('refused')")
    assert answer.text == "refused", answer.log
    assert answer.lines == [DEFAULT]


@pytest.mark.parametrize("call", ["http_response_code('404')", "http_response_code(404.5)"])
def test_a_status_is_an_integer(site, call):
    assert site.run(f"try: {call}\nexcept TypeError: echo('refused')").text == "refused"


@pytest.mark.parametrize(
    ("arguments", "cookie"),
    [
        ("'a', 'b'", "a=b"),
        ("'a', 'b c;ü/'", "a=b%20c%3B%C3%BC%2F"),
        ("'a', '\\udcff'", "a=%FF"),
        ("'a'", "a=deleted; expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0"),
        ("'a', 'b', 1", "a=b; expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0"),
        ("'a', 'b', 0, '/p', 'd.org', True, True, 'Lax'", "a=b; path=/p; domain=d.org; secure; HttpOnly; SameSite=Lax"),
        ("'a', 5", "a=5"),
        ("'a', 'b', {'Path': '/p', 'SameSite': 'Lax'}", "a=b; path=/p; SameSite=Lax"),
        ("'a', 'b', {'path': '/p', 'httponly': True, 'samesite': 'None'}", "a=b; path=/p; HttpOnly; SameSite=None"),
    ],
)
def test_setcookie_encodes_the_value_and_adds_the_attributes(site, arguments, cookie):
    answer = site.run(f"setcookie({arguments})\nsetcookie('z', '1')")
    assert answer.all("Set-Cookie") == [cookie, "z=1"], answer.log


def test_max_age_is_what_is_left_of_the_time(site):
    (cookie,) = site.run("import time\nsetcookie('a', 'b', time.time() + 1000)").all("Set-Cookie")
    assert 900 < int(re.search(r"Max-Age=(\d+)", cookie)[1]) <= 1000


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_content_has_none(site, status):
    assert site.run(f"http_response_code({status}); echo('x' * 5000); echo('y')").body == b""


def test_headers_can_be_listed(site):
    answer = site.run("header('X-A: 1'); header('Connection: close'); echo(headers_list(), headers_sent())")
    assert answer.text == f"['{DEFAULT}', 'X-A: 1']False"


def test_http_response_code_tells_what_it_was(site):
    assert site.run("echo(http_response_code(), http_response_code(404), http_response_code())").text == "200200404"


def test_headers_sent_knows_the_place(site):
    assert site.run(
        "where = headers_sent(); echo(where == False, not where, where, [where.file, where.line])"
    ).text == ("TrueTrueFalse['', 0]")
    answer = site.run(
        "\nflush()\nwhere = headers_sent(); echo(where == True, bool(where), where, ' ', where.file, where.line)"
    )
    assert answer.text == f"TrueTrueTrue {site.root}/x.py2"
    assert site.run("import json; echo(json.dumps({'sent': bool(headers_sent())}))").text == '{"sent": false}'


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("header_register_callback(lambda: header('X-A: 1')); echo('b')", [DEFAULT, "X-A: 1"]),
        ("header_register_callback(lambda: header('X-A: 1')); flush(); echo('b')", [DEFAULT, "X-A: 1"]),
        ("for n in 1, 2: header_register_callback(lambda: header(f'X-A: {n}'))\necho('b')", [DEFAULT, "X-A: 2"]),
        ("header_register_callback(lambda: header_remove()); header('X: y'); echo('b')", [DEFAULT]),
        ("header_register_callback(lambda: echo('a' * 5000)); header('X: y'); echo('b')", [DEFAULT, "X: y"]),
    ],
)
def test_a_callback_may_change_the_headers_before_they_leave(site, source, lines):
    answer = site.run(source)
    assert answer.lines == lines, answer.log
    assert answer.text == "b" + "a" * (5000 if "5000" in source else 0)


@pytest.mark.parametrize("when", ["pass", "flush()", "exit()"])
def test_a_header_callback_that_raises_is_the_failure_of_the_script(site, when):
    answer = site.run(f"def bad(): raise KeyError('no')\nheader_register_callback(bad); echo('a'); {when}")
    assert (answer.status, answer.app_status) == (500, 255) and "KeyError: 'no'" in answer.log
    assert "TypeError: header_register_callback() needs" in site.run("header_register_callback('x')").log


def test_the_requests_headers_have_their_usual_spelling(site):
    params = {
        "HTTP_HOST": "h", "HTTP_X_REQUESTED_WITH": "ü", "HTTP_DNT": "1", "CONTENT_TYPE": "a/b", "CONTENT_LENGTH": "0",
        "HTTP_AUTHORIZATION": "Basic x", "HTTP_CONTENT_TYPE": "a/b", "SERVER_NAME": "s", "HTTP_PROXY": "p",
    }  # fmt: skip
    answer = site.run("import json; echo(json.dumps([getallheaders(), apache_request_headers()]))", **params)
    expected = {"Host": "h", "X-Requested-With": "ü", "Dnt": "1", "Authorization": "Basic x", "Content-Type": "a/b",
                "Content-Length": "0"}  # fmt: skip
    assert json.loads(answer.text) == [expected, expected]


def test_headers_that_the_web_server_sends_empty_in_any_case_are_no_headers(site):
    params = dict.fromkeys(("CONTENT_TYPE", "CONTENT_LENGTH", "HTTP_CONTENT_LENGTH", "HTTP_X"), "")
    assert site.run("echo(getallheaders())", **params).text == "{'X': ''}"


@pytest.mark.parametrize(
    ("call", "cookie"),
    [
        ("setrawcookie('a', 'b%20c')", "a=b%20c"),
        ("setrawcookie('a', 'b/+=', 0, '/')", "a=b/+=; path=/"),
        ("setrawcookie('a')", "a=deleted; expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0"),
        ("setrawcookie('a', 'b', {'samesite': 'Lax'})", "a=b; SameSite=Lax"),
    ],
)
def test_setrawcookie_sends_the_value_as_it_is(site, call, cookie):
    assert site.run(call).all("Set-Cookie") == [cookie]


# -- default_mimetype and default_charset -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mimetype", "charset", "source", "lines"),
    [
        ("text/plain", "UTF-8", "", ["Content-Type: text/plain; charset=UTF-8"]),
        ("text/plain", "latin-1", "", ["Content-Type: text/plain; charset=latin-1"]),
        ("text/plain", None, "", ["Content-Type: text/plain"]),
        ("application/json", "UTF-8", "", ["Content-Type: application/json"]),
        (None, "UTF-8", "", ["Status: 200 OK"]),
        (None, "UTF-8", "header('X: y')", ["X: y"]),
        ("text/html", "latin-1", "header('Content-Type: text/css')", ["Content-Type: text/css;charset=latin-1"]),
        ("text/html", None, "header('Content-Type: text/css')", ["Content-Type: text/css"]),
        ("text/plain", "UTF-8", "http_response_code(404)", [
            "Status: 404 Not Found", "Content-Type: text/plain; charset=UTF-8"]),
    ],
)  # fmt: skip
def test_the_default_content_type_is_configured(tmp_path, mimetype, charset, source, lines):
    with process_as_it_was():
        site = Site(tmp_path, default_mimetype=mimetype, default_charset=charset)
        assert [site.run(source).lines for _ in range(2)] == [lines, lines]


# -- streams of events ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("header('Content-Type: text/event-stream')", ["no"]),
        ("header('content-type: text/event-stream; charset=utf-8')", ["no"]),
        ("header('Content-Type: text/event-stream'); header('X-Accel-Buffering: yes')", ["yes"]),
        ("header('X-Accel-Buffering: no'); header('Content-Type: text/event-stream')", ["no"]),
        ("header('Content-Type: text/plain')", []),
        ("pass", []),
    ],
)
def test_events_pass_nginx_unbuffered(site, header, expected):
    assert site.run(f"{header}; echo('data: 1'); flush()").all("X-Accel-Buffering") == expected


def test_print_flush_sends_an_event(site):
    answer = site.run("header('Content-Type: text/event-stream')\nfor n in 1, 2: print('data:', n, flush=True)")
    assert answer.output.flushes == 2


@pytest.mark.parametrize("how", ["flush()", "echo('x' * 5000)", "print('x' * 5000)"])
def test_a_late_header_is_refused_and_the_line_is_named_that_sent_them(site, how):
    """It named a line of the server's own."""
    call = "header('X: y')"
    for call in ("header('X: y')", "header_remove()", "http_response_code(404)", "setcookie('a', 'b')"):
        answer = site.run(f"\n{how}\necho(headers_sent())\ntry: {call}\nexcept RuntimeError as e: echo('<', e)")
        assert answer.text.endswith(f"True<the headers are sent already (output started at {site.root}/x.py:2)")


def test_headers_can_be_set_while_no_more_than_4096_bytes_are_there(site):
    assert site.run("echo('x' * 4096)\nheader('X: y')").all("X") == ["y"]


def test_flush_sends_now_and_print_flush_does_not(site):
    answer = site.run("print('a', flush=True)\nassert not headers_sent()\nflush()\nflush()")
    assert answer.output.flushes == 2


@pytest.mark.parametrize("source", ["echo('body')", "echo('body'); flush(); echo('more')", "echo('x' * 9000)"])
def test_head_has_the_headers_alone(site, source):
    answer = site.run(source, REQUEST_METHOD="HEAD")
    assert (answer.lines, answer.body) == ([DEFAULT], b"")


@pytest.mark.parametrize(
    ("end", "app_status", "body", "stderr"),
    [
        ("exit()", 0, "a", ""),
        ("exit('b')", 0, "ab", ""),
        ("exit(3)", 3, "a", ""),
        ("import sys; sys.exit()", 0, "a", ""),
        ("import sys; sys.exit(259)", 3, "a", ""),
        ("import sys; sys.exit('bad ü')", 1, "a", "bad ü\n"),
        ("raise SystemExit(True)", 1, "a", ""),
    ],
)
def test_exit_ends_the_script_and_the_answer_is_as_it_stood(site, end, app_status, body, stderr):
    answer = site.run(f"echo('a')\n{end}\necho('never')")
    assert (answer.app_status, answer.text, answer.stderr, answer.status) == (app_status, body, stderr, 200)


def test_an_exit_that_cannot_be_shown_is_an_error(site):
    """It escaped, and ended the worker."""
    answer = site.run("class E:\n  def __str__(self): 1/0\nraise SystemExit(E())")
    assert (answer.status, answer.app_status) == (500, 255)


@pytest.mark.parametrize("how", ["echo('x' * 9999)", "import sys; sys.stderr.write('x')", "flush()", "pass"])
def test_when_the_visitor_is_gone_the_script_ends_quietly(site, how):
    """sys.stderr raised ConnectionAbortedError into the script, and that was logged as its failure."""
    answer = site.run(f"try: {how}\nfinally: import builtins; builtins.seen = 1", output=FakeOutput(leaves_after=0))
    assert (answer.app_status, answer.logged, answer.output.sent) == (1, [], b"")


def test_what_is_wrapped_around_stdout_is_flushed_into_its_own_answer(site):
    """It was flushed when the next request replaced sys.stdout: into the answer of somebody else."""
    answer = site.run(
        "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer, 'latin-1')\nprint('secret ü', end='')"
    )
    assert answer.body == b"secret \xfc"
    assert site.run("import sys\nsys.stdout.buffer.write(b'other')").body == b"other"


def test_what_is_wrapped_and_forgotten_does_not_reach_another_answer(site):
    kept = "import io, sys, warnings\nw = io.TextIOWrapper(sys.stdout.buffer)\nw.write('secret')\nwarnings.kept = [w]"
    assert site.run(kept).body == b""
    assert (
        site.run("import warnings\ntry: warnings.kept.pop().flush()\nexcept ValueError: echo('over')").body == b"over"
    )


def test_closing_the_streams_closes_them_for_nobody(site):
    """The stream objects are shared: every later request found them closed."""
    site.run("import sys\nsys.stdout.close(); sys.stderr.close(); sys.stdin.close()")
    answer = site.run("import sys\nprint(*sys.stdin, flush=True)\nprint('e', file=sys.stderr)", b"body")
    assert (answer.text, answer.stderr) == ("body\n", "e\n")


@pytest.mark.parametrize(
    "source",
    [
        "globals()['echo']('x')",
        "eval('echo(\"x\")')",
        "import __main__; __main__.echo('x')",
        "def f():\n  class C:\n    go = lambda self: echo('x')\n  C().go()\nf()",
        "exec('echo(\"x\")')",
    ],
)
def test_a_function_is_there_however_it_is_named(site, source):
    """Only what a script names is put into its namespace."""
    assert site.run(source).text == "x"
