"""The syntax alone: which text is which entry, as PHP's parser has it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.config import ConfigError
from pyfpm.config.ini import Entry, Section, parse, written

ENVIRONMENT = {"HOME": "/root", "EMPTY": "", "NO": "no", "QUOTE": '";'}


def read(text: str) -> list[Section | Entry]:
    return list(parse(text, "x.conf", ENVIRONMENT))


def value_of(text: str) -> str | None:
    [entry] = read(f"name = {text}")
    assert isinstance(entry, Entry)
    return entry.value


VALUES = [
    ("plain", "plain"),
    ("  blanks around  ", "blanks around"),
    ("two  words", "two  words"),
    ("", ""),
    ("; only a comment", ""),
    ("a ; comment", "a"),
    ("a;comment", "a"),
    ('"a ; b" ; comment', "a ; b"),
    ("'a ; b' ; comment", "a ; b"),
    ('""', ""),
    ("''", ""),
    ('" a "', " a "),
    (r'"say \"yes\""', 'say "yes"'),
    (r'"a\\b"', r"a\b"),
    (r'"it\'s"', "it's"),
    (r'"a\nb"', r"a\nb"),
    (r"'a\'", "a\\"),
    (r"C:\dir\;", "C:\\dir\\"),
    ("it's", "it's"),
    ("'open", "'open"),
    ('"a"b', "ab"),
    ("a'b c'", "a'b c'"),
    ("a 'b c'", "a b c"),
    ('a "b" c', "abc"),
    ('"${HOME}/x"', "/root/x"),
    ("${HOME}/x", "/root/x"),
    ("'${HOME}'", "${HOME}"),
    ("${UNSET}x", "x"),
    ("${UNSET:-default}", "default"),
    ("${EMPTY:-default}", "default"),
    ("${HOME:-default}", "/root"),
    # A variable is text: neither constants nor quotes come out of it.
    ("${NO}", "no"),
    ('"${QUOTE}"', '";'),
    ("${QUOTE}x", '";x'),
    ("$HOME", "$HOME"),
    ("$pool", "$pool"),
    ("100$", "100$"),
    ("${open", "${open"),
    *[(word, "1") for word in ("yes", "on", "true", "Yes", "ON", "TRUE", "yes ; comment")],
    *[(word, "") for word in ("no", "off", "false", "none", "null", "No", "NULL")],
    ('"yes"', "yes"),
    ("'off'", "off"),
    ("yes please", "yes please"),
    ("online", "online"),
    # What PHP's parser calculates, or chokes on.
    ("mysite:make()", "mysite:make()"),
    ("postgres://u:p@h/db?a=b&c=d", "postgres://u:p@h/db?a=b&c=d"),
    ("E_ALL & ~E_NOTICE", "E_ALL & ~E_NOTICE"),
    ("%R - %u %t", "%R - %u %t"),
    ("[::1]:9000", "[::1]:9000"),
    ("#5", "#5"),
    ("\u00fc\u20ac", "\u00fc\u20ac"),
]


@pytest.mark.parametrize(("text", "value"), VALUES, ids=repr)
def test_a_value_is_read(text, value):
    assert value_of(text) == value


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("", []),
        ("; comment\n  ; comment", []),
        ("[www]", [Section("www", 1)]),
        ("  [ www ]  ; comment", [Section("www", 1)]),
        ('["www"]', [Section("www", 1)]),
        ("[www] a = b", [Section("www", 1), Entry("a", None, "b", True, 1)]),
        ("a=b", [Entry("a", None, "b", True, 1)]),
        ("a.b_c = d", [Entry("a.b_c", None, "d", True, 1)]),
        ("a", [Entry("a", None, None, True, 1)]),
        ("a ; = b", [Entry("a", None, None, True, 1)]),
        ("a =", [Entry("a", None, "", True, 1)]),
        ("a = 'b'", [Entry("a", None, "b", False, 1)]),
        ("a[] = b", [Entry("a", "", "b", True, 1)]),
        ("a[b.c] = d", [Entry("a", "b.c", "d", True, 1)]),
        ("a[b] = c[d] = e", [Entry("a", "b", "c[d] = e", True, 1)]),
        ("a['b'] = c", [Entry("a", "b", "c", True, 1)]),
        ("a[b]", [Entry("a", "b", None, True, 1)]),
        ("# a", [Entry("# a", None, None, True, 1)]),
        ("\n\na = b", [Entry("a", None, "b", True, 3)]),
        ("\ufeff[www]\r\na = b\r\n", [Section("www", 1), Entry("a", None, "b", True, 2)]),
        ("a = b\n", [Entry("a", None, "b", True, 1)]),
    ],
    ids=repr,
)
def test_a_file_is_sections_and_entries(text, items):
    assert read(text) == items


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = b\n[www", r"[x.conf:2] syntax error: '[www' has no ']' at its end"),
        ("[]", "[x.conf:1] syntax error: '' is no name for a section"),
        ("[a/b]", "[x.conf:1] syntax error: 'a/b' is no name for a section"),
        ("= b", "[x.conf:1] syntax error, unexpected '=': expected [section], name = value or ; comment"),
        ("a[b = c", "[x.conf:1] syntax error: a[ has no ']' behind its key"),
        ('a = "b', '[x.conf:1] syntax error: a " is not closed'),
        ('a = "b\nc"', '[x.conf:1] syntax error: a " is not closed'),
        ("a{b} = c", "[x.conf:1] syntax error, unexpected '{' behind 'a'"),
        ("a\0 = b", "[x.conf:1] a NUL byte"),
    ],
    ids=repr,
)
def test_a_broken_line_is_named(text, message):
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert str(caught.value).startswith(message)


ONE_LINE = st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]))


@given(ONE_LINE)
def test_what_is_written_is_read_as_the_same(value):
    assert value_of(written(value)) == value


@given(st.text())
def test_any_text_is_read_or_refused_with_its_line(text):
    assert reason_of(text).startswith(("[x.conf:", "right"))


def reason_of(text: str) -> str:
    try:
        read(text)
    except ConfigError as error:
        return str(error)
    return "right"
