"""display_errors: what a developer sees, and what nobody does."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from fakes import FakeOutput, FakeRequest, Site, process_as_it_was

from pyfpm.sapi.settings import SapiSettings
from pyfpm.sapi.traceback_page import LONGEST_TEXT
from pyfpm.sapi.wsgi import WSGIAdapter

VOID = {"meta", "br", "hr"}


@pytest.fixture
def site(tmp_path):
    with process_as_it_was():
        yield Site(tmp_path, display_errors=True)


class Strict(HTMLParser):
    """Fails on tags that are not closed in their order; collects what they are."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page_of(answer) -> str:
    assert answer.status == 500 and answer.all("Content-Length") == [str(len(answer.body))]
    assert answer.all("Content-Security-Policy") == ["default-src 'none'; style-src 'unsafe-inline'"]
    page = Strict(answer.text)
    assert not page.tags & {"script", "link", "img", "iframe", "form", "a"}
    assert not page.attributes & {"src", "href", "onclick", "onload"}
    assert "url(" not in answer.text and "@import" not in answer.text
    return answer.text


def plain(html: str) -> str:
    return re.sub(r"<[^>]*>", "", html)


def test_the_page_shows_the_source_around_the_line_of_the_script(site):
    source = "first = 1\ndef f(n):\n    return 1 // n  # here\nimport json\nf(0)\nlast = 1\n"
    page = page_of(site.run(source, REQUEST_URI="/x.py?a=1"))
    assert "<title>ZeroDivisionError: integer division or modulo by zero</title>" in page
    place, _, rest = page.partition("<h2>")
    assert f"<code>{site.root}/x.py</code>, line 3 in <code>f</code>" in place
    assert '<span class="at" data-line="3">    return <mark>1 // n</mark>  # here</span>' in place
    assert '<span data-line="1">first = 1</span>' in place and '<span data-line="6">last = 1</span>' in place
    assert "<code>/x.py?a=1</code>" in place
    assert rest.count("<details") == 2 and "pyfpm/" not in page


def test_the_place_is_in_the_users_own_code_though_a_library_raised(site):
    page = page_of(site.run("import json\n\njson.loads('{')\n"))
    place = page.partition("<h2>")[0]
    assert "json.decoder.JSONDecodeError" in place and "x.py</code>, line 3" in place and "decoder.py" not in place
    assert re.search(r"<details><summary><code>[^<]*json/decoder.py", page), "library code is folded"
    assert re.search(r"<details open><summary><code>[^<]*x.py", page)


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("a = 1\nif a = 1:\n  pass", '<span class="at" data-line="2">if <mark>a = 1</mark>:</span>'),
        ("a = (1,\nb = 2\n", "data-line"),
        ("\n\nx = = 1", '<span class="at" data-line="3">x = <mark>=</mark> 1</span>'),
        ("if", '<span class="at" data-line="1">if<mark> </mark></span>'),
        ("if 1:\nx", '<span class="at" data-line="2"><mark>x</mark></span>'),
        (b"\xff", "SyntaxError"),
        ("x = 1\0", "SyntaxError"),
        ("# coding: nowhere\n", "SyntaxError"),
    ],
)
def test_a_script_that_cannot_be_compiled_shows_where(site, source, line):
    page = page_of(site.run(source))
    assert line in page and "x.py" in page


def test_a_syntax_error_in_a_module_shows_the_module(site):
    site.write("x = = 1", "broken_for_page.py")
    page = page_of(site.run("import broken_for_page"))
    assert "broken_for_page.py</code>, line 1</p>" in page.partition("<h2>")[0]


def test_everything_is_escaped(site):
    page = page_of(site.run("x = '<b>&\"'\nraise ValueError('<script>alert(1)</script>\\ud800', _GET['q'])",
                            QUERY_STRING="q=%3Cimg%20src=x%3E", REQUEST_URI="/<u>'\""))  # fmt: skip
    assert "&lt;script&gt;alert(1)" in page and "&lt;img src=x&gt;" in page and "/&lt;u&gt;" in page


def test_no_variable_is_shown(site):
    answer = site.run(
        "def f(password): raise ValueError('no')\nf(_SERVER['HTTP_AUTHORIZATION'])",
        HTTP_COOKIE="session=very-secret", HTTP_AUTHORIZATION="Basic c2VjcmV0",
    )  # fmt: skip
    assert "ValueError" in answer.text and "very-secret" not in answer.text and "c2VjcmV0" not in answer.text
    answer = site.run("def f(password):\n  local = password.upper()\n  raise ValueError('no')\nf(_COOKIE['session'])",
                      HTTP_COOKIE="session=very-secret")  # fmt: skip
    assert "ValueError" in answer.text and "secret" not in answer.text.lower()


@pytest.mark.parametrize(
    ("source", "relation"),
    [
        ("try: 1/0\nexcept ZeroDivisionError as e: raise KeyError('k') from e", "It was raised from"),
        ("try: 1/0\nexcept ZeroDivisionError: {}['k']", "It was raised while this was handled:"),
    ],
)
def test_the_exceptions_before_it_are_shown_behind_it(site, source, relation):
    page = page_of(site.run(source))
    first, _, second = page.partition(f"<h2>{relation} ")
    assert "<h1><b>KeyError</b>" in first and second.startswith("<b>ZeroDivisionError</b>")
    assert "from None" not in page
    assert "ZeroDivisionError</b>" not in page_of(site.run("try: 1/0\nexcept Exception: raise KeyError('k') from None"))


@pytest.mark.parametrize(
    "source",
    [
        "def f(): f()\nf()",
        "raise ValueError('x' * 10_000_000)",
        "class E(Exception):\n  def __str__(self): 1/0\nraise E",
        "class E(Exception):\n  __module__ = 5\nraise E('m')",
        "e = SyntaxError('odd', ('f', 1, 'not a number', 5)); raise e",
        "e = SyntaxError('odd', ('f', 10**9, 5, 'text')); raise e",
        "e = SyntaxError(); e.lineno = 'x'; raise e",
        "raise ExceptionGroup('g', [ValueError('inner'), ExceptionGroup('h', [KeyError('deep')])])",
        "e = None\nfor n in range(50):\n  try: raise ValueError(n) from e\n  except ValueError as it: e = it\nraise e",
        "e = ValueError('self'); e.__cause__ = e; raise e",
        "exec('1/0')",
        "exec(compile('1/0', '/no/such/file', 'exec'))",
        "raise MemoryError",
        "x = '" + "y" * 10_000 + "'; 1/0",
        "ä = 'ü' + str(1/0)",
    ],
    ids=range(15),
)  # fmt: skip
def test_whatever_is_raised_makes_a_page_that_has_an_end(site, source):
    answer = site.run(source)
    page = answer.text
    Strict(page)
    assert answer.status == 500 and len(page) < 6 * LONGEST_TEXT
    assert "error" in page.lower() or "E" in page


def test_columns_are_those_of_characters(site):
    assert "ä = &#x27;ü&#x27; + <mark>1/0</mark>" in page_of(site.run("ä = 'ü' + 1/0"))


def test_frames_without_number_are_left_out_in_the_middle(site):
    page = page_of(site.run("import sys\nsys.setrecursionlimit(300)\ndef f(): f()\nf()"))
    assert re.search(r"<p>\d+ frames are left out</p>", page) and page.count("<details") == 40


# -- when something was sent already ----------------------------------------------------------------------------------


def test_where_output_has_left_a_block_is_added(site):
    answer = site.run("echo('begun'); flush()\nraise ValueError('<b>')")
    assert (answer.status, answer.app_status) == (200, 255)
    assert answer.text.startswith("begun\n<pre style=") and "ValueError: &lt;b&gt;" in answer.text
    Strict(answer.text)


@pytest.mark.parametrize(
    "head",
    ["header('Content-Type: application/json')", "header('Content-Type: text/plain')", "header('Content-Length: 5')",
     "header('Content-Encoding: gzip')", "header_remove('Content-Type')"],
)  # fmt: skip
def test_nothing_is_added_to_what_is_not_html(site, head):
    answer = site.run(f"{head}; echo('begun'); flush()\n1/0")
    assert answer.text == "begun" and "ZeroDivisionError" in answer.stderr


def test_nothing_is_added_for_visitors(tmp_path):
    with process_as_it_was():
        assert Site(tmp_path).run("echo('begun'); flush()\n1/0").text == "begun"


def test_nothing_is_added_to_head(site):
    assert site.run("echo('begun'); flush()\n1/0", REQUEST_METHOD="HEAD").body == b""


# -- WSGI -------------------------------------------------------------------------------------------------------------


def wsgi(application, **params):
    output = FakeOutput()
    adapter = WSGIAdapter(application, lambda level, text: None, SapiSettings(display_errors=True))
    adapter(FakeRequest({"REQUEST_METHOD": "GET", "SCRIPT_NAME": "/"} | params), output)
    return output.sent.decode()


def test_an_application_has_the_page_as_well():
    def application(environ, start_response):
        raise KeyError("in the application")

    sent = wsgi(application, REQUEST_URI="/app")
    head, _, page = sent.partition("\r\n\r\n")
    assert head.startswith("Status: 500 ")
    Strict(page)
    assert "KeyError" in page and f"<code>{__file__}</code>" in page and page.count("<details") == 1


@pytest.mark.parametrize(
    ("headers", "is_added"),
    [
        ([("Content-Type", "text/html; charset=utf-8")], True),
        ([("X-A", "b"), ("content-type", "text/html")], True),
        ([("Content-Type", "text/html"), ("Content-Length", "9")], False),
        ([("Content-Type", "text/html"), ("Content-Encoding", "gzip")], False),
        ([("Content-Type", "text/plain")], False),
        ([("X-Content-Type", "text/html")], False),
        ([], False),
    ],
)
def test_a_block_is_added_to_what_an_application_has_sent(headers, is_added):
    def application(environ, start_response):
        start_response("200 OK", headers)
        yield b"begun"
        raise KeyError("late")

    sent = wsgi(application)
    assert "begun" in sent and ("KeyError" in sent) is is_added
    assert "KeyError" not in wsgi(application, REQUEST_METHOD="HEAD")
