"""The header block that applications and scripts share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.sapi.headers import HOP_BY_HOP, header_line

# RFC 9110, 5.6.2, spelled out once more.
TOKEN = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

names = st.text(TOKEN, min_size=1).filter(lambda name: name.lower() not in HOP_BY_HOP)


@given(names, st.text())
def test_a_header_is_one_line_or_an_error(name, value):
    try:
        line = header_line(name, value)
    except ValueError:
        assert any(character < " " or character == "\x7f" for character in value)
    else:
        assert line == f"{name}: {value}\r\n"
        assert not set(value) & {"\r", "\n", "\0"}


@given(st.text())
def test_a_name_is_a_token_or_an_error(name):
    try:
        header_line(name, "")
    except ValueError:
        assert not name or set(name) - set(TOKEN)
    else:
        assert not set(name) - set(TOKEN)


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP))
def test_a_hop_by_hop_header_is_left_out_in_any_case(name):
    for spelled in (name, name.upper(), name.title()):
        assert header_line(spelled, "x") == ""


def test_the_value_of_a_header_that_is_left_out_is_checked_all_the_same():
    with pytest.raises(ValueError, match="control character"):
        header_line("Connection", "a\r\nX-Evil: 1")


def test_what_is_remembered_of_names_has_a_bound():
    """Names can come from a visitor; there are more of them than memory."""
    for number in range(2000):
        assert header_line(f"X-{number}", "") == f"X-{number}: \r\n"
    assert header_line("X-1999", "b") == "X-1999: b\r\n"
