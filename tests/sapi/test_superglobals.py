"""What query strings, forms, cookies and the rest of a request are to a script: PHP 8.2's answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from time import perf_counter
from typing import Any

import pytest
from fakes import Site, process_as_it_was
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.sapi import superglobals
from pyfpm.sapi.superglobals import flat_cookies, flat_query, merge, parse_authorization
from pyfpm.sapi.variables import Variables

FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def site(tmp_path):
    with process_as_it_was():
        yield Site(tmp_path)


def parsed(parse: Callable[[str, Variables], None], text: str, max_vars: int = 1000) -> dict[str, Any]:
    variables = Variables(max_vars, 64, parse is superglobals.parse_cookies)
    parse(text, variables)
    return variables.result()


def parse_query(text: str, max_vars: int = 1000) -> dict[str, Any]:
    found = parsed(superglobals.parse_query, text, max_vars)
    assert flat_query(text, max_vars) in (None, found)
    return found


def parse_form(text: str, max_vars: int = 1000) -> dict[str, Any]:
    found = parsed(superglobals.parse_form, text, max_vars)
    assert flat_query(text, max_vars) in (None, found)
    return found


def parse_cookies(text: str, max_vars: int = 1000) -> dict[str, Any]:
    found = parsed(superglobals.parse_cookies, text, max_vars)
    assert flat_cookies(text, max_vars) in (None, found)
    return found


# -- query strings and forms -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parse", [parse_query, parse_form])
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", {}),
        ("a=1&b=2", {"a": "1", "b": "2"}),
        ("a=1&a=2", {"a": "2"}),
        ("a=1;b=2", {"a": "1;b=2"}),
        ("a", {"a": ""}),
        ("a=", {"a": ""}),
        ("=1", {}),
        ("a=b=c", {"a": "b=c"}),
        ("&&a=1&", {"a": "1"}),
        ("a+b=c+d", {"a_b": "c d"}),
        ("++a=1", {"a": "1"}),
        ("a.b=c.d", {"a_b": "c.d"}),
        ("a=%2B%26%3D", {"a": "+&="}),
        ("a%2Eb%20c=1", {"a_b_c": "1"}),
        ("a%5B%5D=1&a%5b%5d=2", {"a": ["1", "2"]}),
        ("a%3D=1", {"a=": "1"}),
        ("a=%C3%BC&%C3%BC=1", {"a": "ü", "ü": "1"}),
        ("a=%ff&%ff=1", {"a": "\udcff", "\udcff": "1"}),
        ("a=\xc3\xbc\xff", {"a": "ü\udcff"}),
        ("a=%C3&b=%BC", {"a": "\udcc3", "b": "\udcbc"}),
        ("a=%zz%2&%=%&b%=1", {"a": "%zz%2", "%": "%", "b%": "1"}),
        ("a=%00b", {"a": "\0b"}),
        ("a%00b=1", {"a": "1"}),
        ("a[]=1&a[]=2&a[x]=3", {"a": {"0": "1", "1": "2", "x": "3"}}),
    ],
)
def test_a_query_or_form_is_split_at_ampersands_and_decoded(parse, query, found):
    assert parse(query) == found


def test_a_nul_ends_a_query_as_a_string_in_c_and_only_a_name_in_a_form():
    assert parse_query("a=1\0&b=2") == {"a": "1"}
    assert parse_form("a=1\0&b\0c=2") == {"a": "1\0", "b": "2"}


@pytest.mark.parametrize("parse", [parse_query, parse_form])
def test_no_more_variables_are_read_than_max_input_vars(parse):
    for text in ("&".join(f"v{n}=1" for n in range(9)), "&".join(f"v[{n}]=1" for n in range(9))):
        variables = Variables(5, 64)
        getattr(superglobals, parse.__name__)(text, variables)
        assert variables.overflowed
        result = variables.result()
        assert len(result.get("v", result)) == 5
        assert flat_query(text, 5) is None


@pytest.mark.parametrize(("text", "overflows"), [("a&b&c&d&e", False), ("a&b&c&d&e&", False), ("a&b&c&d&e&f", True)])
def test_exactly_max_input_vars_are_not_too_many(text, overflows):
    for parse in (superglobals.parse_query, superglobals.parse_form):
        variables = Variables(5, 64)
        parse(text, variables)
        assert variables.overflowed == overflows
        assert list(variables.result()) == list("abcde")


def test_what_is_empty_counts_in_a_form_but_not_in_a_query():
    assert parse_query("&&&&&&a", 5) == {"a": ""}
    assert parse_form("&&&&&&a", 5) == {}
    assert parse_query("=&=&=&=&=&=&a", 5) == {}


# -- cookies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("a=1; b=2", {"a": "1", "b": "2"}),
        ("a=1;b=2; c = 3 ; d", {"a": "1", "b": "2", "c_": " 3 ", "d": ""}),
        ("a=first; a=second", {"a": "first"}),
        ("a[x]=first; a[x]=second; a=third", {"a": {"x": "second"}}),
        ("a=1; a=2; a[]=3", {"a": ["3"]}),
        ("a=x+y%20z%00", {"a": "x+y z\0"}),
        ("a+b=1", {"a+b": "1"}),
        ("a=1=2", {"a": "1=2"}),
        ("nothing; a=1;; ", {"nothing": "", "a": "1"}),
        ("  ;;; =1; a", {"a": ""}),
        ("a=1;\x0b\tb=%ff", {"a": "1", "b": "\udcff"}),
        ("a=1&b=2,c=3", {"a": "1&b=2,c=3"}),
        ('a="b; c"', {"a": '"b', 'c"': ""}),
        ("a.b=1; a_b=2; c d=3", {"a_b": "1", "c_d": "3"}),
        ("\xc3\xbc=\xc3\xbc", {"ü": "ü"}),
        ("a=1\0; b=2", {"a": "1"}),
    ],
)
def test_a_cookie_header_is_split_at_semicolons_and_the_first_counts(header, found):
    assert parse_cookies(header) == found


def test_an_encoded_cookie_name_cannot_pass_for_a_protected_one():
    """CVE-2020-7070: the name was percent-decoded."""
    assert parse_cookies("__%48ost-id=forged; ..Host-id=forged") == {"__%48ost-id": "forged"}


@pytest.mark.parametrize("name", ["v", "v."])
def test_no_more_cookies_are_read_than_max_input_vars(name):
    assert len(parse_cookies("; ".join(f"{name}{n}" for n in range(9)), 5)) == 5
    assert len(parse_cookies("; ; ; ; ; ; ;" + "; ".join(f"{name}{n}" for n in range(5)), 5)) == 5


# -- both ways to read -------------------------------------------------------------------------------------------------

TEXT = st.text(st.sampled_from("ab&=;+ .[]%0\0\t\xff"), max_size=40)


@given(TEXT)
def test_the_short_way_finds_what_the_long_way_finds(text):
    parse_query(text)
    parse_form(text)
    parse_cookies(text)


@given(TEXT, st.integers(0, 4))
def test_the_short_way_keeps_to_the_limit(text, most):
    parse_query(text, most)
    parse_form(text, most)
    parse_cookies(text, most)


@pytest.mark.parametrize(
    "text",
    ["&" * 8_000_000, "a&" * 4_000_000, "a[" * 4_000_000, "%41" * 2_000_000, "a=" + "%ff" * 2_000_000, "+" * 8_000_000],
    ids=["nothing", "names", "brackets", "encoded name", "encoded value", "spaces"],
)
def test_a_huge_form_takes_no_more_than_its_length(text):
    start = perf_counter()
    parse_form(text)
    assert perf_counter() - start < 10


# -- _REQUEST ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "found"),
    [
        ("GP", '{"a": "2", "b": {"y": "1", "x": "2"}, "c": ["2", "3"], "g": "1", "p": "2"}'),
        ("PG", '{"a": "1", "b": {"x": "2", "y": "1"}, "c": ["1", "3"], "p": "2", "g": "1"}'),
        ("gpc", '{"a": "3", "b": {"y": "1", "x": "2"}, "c": ["2", "3"], "g": "1", "p": "2"}'),
        ("xCyC", '{"a": "3"}'),
        ("", "{}"),
    ],
)
def test_request_has_the_arrays_of_request_order_merged(tmp_path, order, found):
    with process_as_it_was():
        answer = Site(tmp_path, request_order=order).run(
            "import json\necho(json.dumps(_REQUEST))", b"a=2&b[x]=2&c[]=2&p=2", REQUEST_METHOD="POST",
            CONTENT_TYPE=FORM, QUERY_STRING="a=1&b[y]=1&c[]=1&c[]=3&g=1", HTTP_COOKIE="a=3",
        )  # fmt: skip
    assert answer.text == found, answer.log


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        ({"a": ["1"]}, {"a": {"1": "2"}}, {"a": ["1", "2"]}),
        ({"a": ["1"]}, {"a": {"2": "2"}}, {"a": {"0": "1", "2": "2"}}),
        ({"a": ["1"]}, {"a": "2"}, {"a": "2"}),
        ({"a": "1"}, {"a": ["2"]}, {"a": ["2"]}),
        ({"a": {"b": ["1"]}}, {"a": {"b": ["2"]}}, {"a": {"b": ["2"]}}),
        ({"a": []}, {}, {"a": []}),
    ],
)
def test_arrays_are_merged_as_php_merges_them(first, second, both):
    assert merge(first, second) == both


def test_a_change_in_request_changes_nothing_else(site):
    answer = site.run("_REQUEST['a'].append(3)\n_REQUEST['b']['c'] = 2\necho(_GET)", QUERY_STRING="a[]=1&b[c]=1")
    assert answer.text == "{'a': ['1'], 'b': {'c': '1'}}", answer.log


def test_merging_is_not_recursive():
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    merged: Any = merge(deep, deep)
    depth = 0
    while merged:
        merged = merged["a"]
        depth += 1
    assert depth == 100_000


# -- _SERVER -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("Basic am9lOnNlY3JldA==", {"PHP_AUTH_USER": "joe", "PHP_AUTH_PW": "secret"}),
        ("basic  am9lOnNlY3JldA", {"PHP_AUTH_USER": "joe", "PHP_AUTH_PW": "secret"}),
        ("Basic !!am9lOg==", {"PHP_AUTH_USER": "joe"}),
        ("Basic am9lOng6eQ", {"PHP_AUTH_USER": "joe", "PHP_AUTH_PW": "x:y"}),
        ("Basic Ong=", {"PHP_AUTH_USER": "", "PHP_AUTH_PW": "x"}),
        ("Basic am9lOgB4", {"PHP_AUTH_USER": "joe"}),
        ("Basic am9l", {}),
        ("Basic am9lO", {}),
        ("Basic am9lOn", {"PHP_AUTH_USER": "joe"}),
        ("Basic =am9lOng", {"PHP_AUTH_USER": "joe", "PHP_AUTH_PW": "x"}),
        ("Basic am9lOng=am9lOng=", {"PHP_AUTH_USER": "joe", "PHP_AUTH_PW": "x\x1a\udc9b\udcd9N\udc9e"}),
        ("Basic w7w6w7w=", {"PHP_AUTH_USER": "ü", "PHP_AUTH_PW": "ü"}),
        ("Basic ", {}),
        ("Basic", {}),
        ("Basicam9lOg==", {}),
        ('Digest username="\xc3\xbc"', {"PHP_AUTH_DIGEST": 'username="ü"'}),
        ("DIGEST ", {"PHP_AUTH_DIGEST": ""}),
        ("digest", {}),
        ("Bearer am9lOng=", {}),
    ],
)
def test_who_the_authorization_header_says_it_is(header, found):
    assert parse_authorization(header) == found


def test_server_has_who_it_is(site):
    source = "import json\necho(json.dumps({name: _SERVER[name] for name in _SERVER if 'AUTH' in name}))"
    answer = site.run(source, HTTP_AUTHORIZATION="Basic am9lOsO8")
    assert json.loads(answer.text) == {
        "HTTP_AUTHORIZATION": "Basic am9lOsO8", "PHP_AUTH_USER": "joe", "PHP_AUTH_PW": "ü",
    }  # fmt: skip
    # With other text that has to be decoded.
    answer = site.run(source, HTTP_AUTHORIZATION="Digest ü", QUERY_STRING="ü")
    assert json.loads(answer.text) == {"HTTP_AUTHORIZATION": "Digest ü", "PHP_AUTH_DIGEST": "ü"}
    # The web server would have to decide to pass it on.
    assert "PHP_AUTH" not in site.run(source, REDIRECT_HTTP_AUTHORIZATION="Basic am9lOnNlY3JldA==").text


@pytest.mark.parametrize(
    ("query", "argv"),
    [("", []), ("a+b%20c+=1++", ["a", "b%20c", "=1", "", ""]), ("a=1&b=2", ["a=1&b=2"]), ("ü+é", ["ü", "é"])],
)
def test_argv_is_the_query_string_at_its_plus_signs_and_sys_argv_is_the_script(site, query, argv):
    answer = site.run(
        "import json, sys\nassert sys.argv == [__file__]\necho(json.dumps([_SERVER['argv'], _SERVER['argc']]))",
        QUERY_STRING=query,
    )
    assert json.loads(answer.text) == [argv, len(argv)], answer.log


@pytest.mark.parametrize(
    ("fix_pathinfo", "params", "php_self"),
    [
        (True, {"SCRIPT_NAME": "/x.py"}, "/x.py"),
        (True, {"SCRIPT_NAME": "/x.py", "PATH_INFO": "/more"}, "/x.py/more"),
        (True, {}, ""),
        (False, {"SCRIPT_NAME": "/x.py"}, "/x.py"),
        (False, {"SCRIPT_NAME": "/x.py", "PATH_INFO": "/more"}, "/more"),
        (False, {"SCRIPT_NAME": "/x.py", "PATH_INFO": ""}, ""),
    ],
)
def test_php_self(tmp_path, fix_pathinfo, params, php_self):
    with process_as_it_was():
        site = Site(tmp_path, cgi_fix_pathinfo=fix_pathinfo)
        assert site.run("echo(_SERVER['PHP_SELF'])", **params).text == php_self


def test_the_environment_and_the_parameters_are_two_things(site):
    answer = site.run(
        "import os\nfor name in 'HTTP_PROXY', 'HTTP_HOST', 'SCRIPT_FILENAME':\n"
        "    assert name not in os.environ and name not in _ENV, name\n"
        "echo(_ENV == dict(os.environ), 'PATH' in _ENV, 'PATH' in _SERVER, 'HTTP_PROXY' in _SERVER)",
        HTTP_PROXY="http://evil", HTTP_HOST="h",
    )  # fmt: skip
    assert answer.text == "TrueTrueFalseFalse", answer.log


def test_the_operator_is_told_of_too_many_variables_and_too_deep_ones(tmp_path):
    with process_as_it_was():
        site = Site(tmp_path, max_input_vars=2, max_input_nesting_level=1)
        answer = site.run(
            "echo(_GET, _POST, _COOKIE)", b"a=1&b=2&c=3", QUERY_STRING="a[x][y]=1&b=2", HTTP_COOKIE="a;b;c",
            CONTENT_TYPE=FORM, REQUEST_METHOD="POST",
        )  # fmt: skip
    assert answer.text == "{'b': '2'}{'a': '1', 'b': '2'}{'a': '', 'b': ''}"
    assert answer.stderr == (
        "Python message: _GET: names with more brackets than max_input_nesting_level = 1 are left out; "
        "Python message: _POST: there are more than max_input_vars = 2; the others are left out; "
        "Python message: _COOKIE: there are more than max_input_vars = 2; the others are left out"
    )
