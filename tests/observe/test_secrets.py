"""Secrets in messages: shown by their beginning, and searched for in linear time, whoever wrote the message."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.observe.secrets import mask


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Authorization: Bearer abcdefghijkl for /x", "Authorization: Bearer abc*** for /x"),
        ("authorization=Basic dXNlcjpwYXNz", "authorization=Basic dXN***"),
        ("{'HTTP_AUTHORIZATION': 'Basic dXNlcjpwYXNz', 'a': 1}", "{'HTTP_AUTHORIZATION': 'Basic dXN***', 'a': 1}"),
        ('Authorization: Digest username="u", response="0123"', "Authorization: Dige***"),
        ("Authorization: 0123456789abcdef\nnext line", "Authorization: 0123***\nnext line"),
        ("got bearer abcdefghijkl", "got bearer abc***"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3 x", "eyJh*** x"),
        ("sk_live_abcdefghijklmnop", "sk_live_abcd***"),
        ("key AKIAIOSFODNN7EXAMPLE.", "key AKIAIOSF***."),
        ("ghp_0123456789abcdefghijklmnopqrstuvwxyz", "ghp_0123***"),
        ("xoxb-123456789012-abcdefghijkl", "xoxb-1234***"),
        ("GET /?api_key=12345678901234&page=2", "GET /?api_key=123***&page=2"),
        ("/?access_token=abcdefgh&x=1", "/?access_token=ab***&x=1"),
        ("X-Api-Key=0123456789abcdef0123", "X-Api-Key=0123***"),
        ("password=hunter2 user=me", "password=h*** user=me"),
        ("DB_PASSWORD='correct horse battery'", "DB_PASSWORD='corr***'"),
        ('{"password": "my pass word", "n": 1}', '{"password": "my ***", "n": 1}'),
        ("postgres://user:s3cret@host/db", "postgres://user:s***@host/db"),
        ("redis://:abcdefgh@host", "redis://:ab***@host"),
    ],
)
def test_of_a_secret_the_beginning_is_left(text, masked):
    assert mask(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ready to handle connections",
        "SyntaxError: unexpected token: foo",
        "cannot get uid for user 'nobody'",
        "secretary, tokenize, passwords, keyboard=qwerty",
        "http://host:9000/path?x=1 and user@host",
        '[pool www] child 7 said into stderr: "text"',
        "task-force, risk-based sk-short",
        "password=",
        "Authorization:",
    ],
)
def test_what_is_no_secret_stays(text):
    assert mask(text) == text


PIECES = [
    *["eyJ", "eyJaaaaaaaaaa.", "authorization:", "Authorization: Basic ", "bearer ", "://", "://a:", "a:", "@"],
    *["token=", 'token="', "password='", '"password" : ', "sk_live_", "AKIA", "xoxb-", "ghp_", "sk-", "AIza"],
    *[" ", "\t", '"', "'", "=", ".", "-", "_", "a", "0", "\n", "\u20ac", "secret", "api-", "api_key"],
]


@pytest.mark.parametrize("piece", PIECES)
def test_no_input_takes_more_than_its_length_in_time(piece):
    # Quadratic time would be minutes here; the bound is one that no slow machine comes near to.
    text = piece * ((1 << 18) // len(piece)) + "!"
    began = time.process_time()
    mask(text)
    assert time.process_time() - began < 20


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=5)))
def test_nothing_said_makes_it_fail(pieces):
    mask("".join(pieces))


@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=12, max_size=40))
def test_a_secret_cannot_be_put_together_again(secret):
    for around in ("token=%s", "Bearer %s", "Authorization: %s", "://u:%s@h", "api_key='%s'", "sk_test_%s", "ghp_%s"):
        shown = mask(around % secret)
        assert secret not in shown
        assert secret[4:] not in shown
        assert "***" in shown
