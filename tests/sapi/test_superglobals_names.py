"""Which array a variable's name makes: PHP 8.2's answers, asked from the real one."""

from __future__ import annotations

import json
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.sapi.variables import Variables


def made(*names: str, max_vars: int = 1000, max_depth: int = 64, first_counts: bool = False) -> dict[str, object]:
    """Of variables with the values 1, 2, 3 and so on, in one word or as ``name=value``."""
    variables = Variables(max_vars, max_depth, first_counts)
    for number, name in enumerate(names, 1):
        variables.add(name, str(number))
    return variables.result()


@pytest.mark.parametrize(
    ("name", "php"),
    [
        ("a", '{"a":"1"}'),
        ("a.b c", '{"a_b_c":"1"}'),
        ("a.b c[d.e f]", '{"a_b_c":{"d.e f":"1"}}'),
        ("  a", '{"a":"1"}'),
        ("a ", '{"a_":"1"}'),
        (".a", '{"_a":"1"}'),
        ("\ta", '{"\\ta":"1"}'),
        ("", "{}"),
        ("  ", "{}"),
        ("[a]", "{}"),
        (" [a]", "{}"),
        ("[", "{}"),
        # An index that never ends is none.
        ("a[", '{"a_":"1"}'),
        ("a[ ", '{"a__":"1"}'),
        ("a[b c.d[e", '{"a_b_c_d_e":"1"}'),
        ("a[b][c.d e", '{"a":{"b":"1"}}'),
        ("a[][x", '{"a":["1"]}'),
        ("a[b][", '{"a":{"b":"1"}}'),
        # Behind the last bracket nothing counts.
        ("a[b]c.d[e", '{"a":{"b":"1"}}'),
        ("a[b]x[c]", '{"a":{"b":"1"}}'),
        ("a[]]", '{"a":["1"]}'),
        ("a]", '{"a]":"1"}'),
        ("a[[]", '{"a":{"[":"1"}}'),
        ("a[[b]]", '{"a":{"[b":"1"}}'),
        # One space may be in the empty brackets.
        ("a[ ]", '{"a":["1"]}'),
        ("a[\n]", '{"a":["1"]}'),
        ("a[\v]", '{"a":["1"]}'),
        ("a[  ]", '{"a":{"  ":"1"}}'),
        ("a[ x]", '{"a":{" x":"1"}}'),
        ("a[\xa0]", '{"a":{"\\u00a0":"1"}}'),
        # A NUL ends it.
        ("a\0b", '{"a":"1"}'),
        ("a[x\0y]", '{"a_x":"1"}'),
        ("\0a", "{}"),
        ("0", '{"0":"1"}'),
        ("GLOBALS[x]", '{"GLOBALS":{"x":"1"}}'),
        ("this", '{"this":"1"}'),
        ("\udcff[\udcfe]", '{"\\udcff":{"\\udcfe":"1"}}'),
    ],
)
def test_a_name_makes_the_array_that_it_makes_in_php(name, php):
    assert json.dumps(made(name), separators=(",", ":")) == php


@pytest.mark.parametrize(
    ("names", "php"),
    [
        ("a a", '{"a":"2"}'),
        ("a a[]", '{"a":["2"]}'),
        ("a[] a", '{"a":"2"}'),
        ("a[] a a[]", '{"a":["3"]}'),
        ("a[b] a[b][c]", '{"a":{"b":{"c":"2"}}}'),
        ("a[b][c] a[b]", '{"a":{"b":"2"}}'),
        ("a b a", '{"a":"3","b":"2"}'),
        ("a[][x] a[][x] a[1][y]", '{"a":[{"x":"1"},{"x":"2","y":"3"}]}'),
        # What [] comes to behind an integer, and what is one.
        ("a[] a[2] a[]", '{"a":{"0":"1","2":"2","3":"3"}}'),
        ("a[-5] a[]", '{"a":{"-5":"1","-4":"2"}}'),
        ("a[08] a[]", '{"a":{"08":"1","0":"2"}}'),
        ("a[8] a[]", '{"a":{"8":"1","9":"2"}}'),
        ("a[-0] a[]", '{"a":{"-0":"1","0":"2"}}'),
        ("a[+5] a[]", '{"a":{"+5":"1","0":"2"}}'),
        ("a[--5] a[]", '{"a":{"--5":"1","0":"2"}}'),
        ("a[-] a[]", '{"a":{"-":"1","0":"2"}}'),
        ("a[1.5] a[]", '{"a":{"1.5":"1","0":"2"}}'),
        ("a[\u0665] a[]", '{"a":{"\\u0665":"1","0":"2"}}'),
        ("a[9223372036854775806] a[] a[]", '{"a":{"9223372036854775806":"1","9223372036854775807":"2"}}'),
        ("a[9223372036854775807] a[] a[][x]", '{"a":{"9223372036854775807":"1"}}'),
        ("a[9223372036854775808] a[]", '{"a":{"9223372036854775808":"1","0":"2"}}'),
        ("a[-9223372036854775808] a[]", '{"a":{"-9223372036854775808":"1","-9223372036854775807":"2"}}'),
        ("a[-9223372036854775809] a[]", '{"a":{"-9223372036854775809":"1","0":"2"}}'),
        # A list is one whose keys are in order.
        ("a[0] a[1]", '{"a":["1","2"]}'),
        ("a[1] a[0]", '{"a":{"1":"1","0":"2"}}'),
        ("a[0] a[2] a[1]", '{"a":{"0":"1","2":"2","1":"3"}}'),
        ("a[0] a[1] a[0]", '{"a":["3","2"]}'),
        ("a[00]", '{"a":{"00":"1"}}'),
        # The variables themselves stay a dict.
        ("0 1", '{"0":"1","1":"2"}'),
    ],
)
def test_several_names_make_the_arrays_that_they_make_in_php(names, php):
    assert json.dumps(made(*names.split(" ")), separators=(",", ":")) == php


@pytest.mark.parametrize(
    ("name", "php"),
    [
        ("__Host-x", '{"__Host-x":"1"}'),
        ("  __Host-x", '{"__Host-x":"1"}'),
        ("__Host- x", '{"__Host-_x":"1"}'),
        ("__Host-[x]", '{"__Host-":{"x":"1"}}'),
        ("__host-x", '{"__host-x":"1"}'),
        ("..Host-x", "{}"),
        ("_ Host-x", "{}"),
        ("_.Host-[x]", "{}"),
        ("_.Secure-x", "{}"),
        ("_[Host-x", "{}"),
        (".[Host-x", "{}"),
        ("a[__Host-x]", '{"a":[]}'),
        ("a[__Secure-x][]", '{"a":[]}'),
    ],
)
def test_no_name_becomes_a_protected_one(name, php):
    """CVE-2022-31629 and CVE-2024-2756: "..Host-x" became "__Host-x", which only this very host can set."""
    assert json.dumps(made(name), separators=(",", ":")) == php


@pytest.mark.parametrize(
    ("max_depth", "names", "php"),
    [
        (2, "a[b] a[c][d] a[b][c][d] b", '{"b":"4"}'),
        (2, "a[b] a[b][c][d] a", '{"a":"3"}'),
        (2, "x[a][b][c", "{}"),
        (2, "x x[a][b][c", "{}"),
        (2, "x.y[1] x.y[a][b][c]", "{}"),
        (0, "a[b] b", '{"b":"2"}'),
        (0, "a a[", "{}"),
    ],
)
def test_a_variable_that_is_nested_too_deeply_goes_with_all_that_it_had(max_depth, names, php):
    variables = Variables(1000, max_depth)
    for number, name in enumerate(names.split(" "), 1):
        variables.add(name, str(number))
    assert json.dumps(variables.result(), separators=(",", ":")) == php
    assert variables.too_deep


@pytest.mark.parametrize(
    ("max_vars", "names", "taken"),
    [(3, "a b c", "abc"), (3, "a b c d", "abc"), (0, "a", ""), (-1, "a b", "ab"), (2, ". [ a", "_")],
)
def test_no_more_variables_are_taken_than_may_be(max_vars, names, taken):
    variables = Variables(max_vars, 64)
    for name in names.split(" "):
        variables.add(name, "")
    assert "".join(variables.result()) == taken
    assert variables.overflowed == (0 <= max_vars < len(names.split(" ")))


@pytest.mark.parametrize(
    ("names", "php"),
    [
        ("a a", '{"a":"1"}'),
        ("a.b a_b", '{"a_b":"1"}'),
        ("a_b a.b", '{"a_b":"1"}'),
        ("a a[x]", '{"a":{"x":"2"}}'),
        ("a[x] a", '{"a":{"x":"1"}}'),
        ("a[x] a[x]", '{"a":{"x":"2"}}'),
    ],
)
def test_of_cookies_the_first_one_counts_unless_it_is_in_an_array(names, php):
    assert json.dumps(made(*names.split(" "), first_counts=True), separators=(",", ":")) == php


PIECES = st.sampled_from(["a", "b", "0", "1", "-2", "[", "]", "[]", "[a]", "[0]", " ", ".", "\0", "\udcff", "ü"])


@given(st.lists(st.lists(PIECES, max_size=8).map("".join), max_size=8))
def test_whatever_the_names_are_the_result_is_plain_data(names):
    def check(value: object) -> None:
        if isinstance(value, dict):
            assert all(type(key) is str for key in value)
            assert list(value) != [str(n) for n in range(len(value))]
        if isinstance(value, dict | list):
            for inner in value.values() if isinstance(value, dict) else value:
                check(inner)
        else:
            assert type(value) is str

    result = made(*names)
    assert type(result) is dict
    for key, value in result.items():
        assert key and not set(" .[\0") & set(key)
        check(value)


@pytest.mark.parametrize(
    "name",
    ["a" + "[" * 1_000_000, "a" + "[]" * 100_000, "a" + "[a" * 500_000, " " * 1_000_000 + "a", "." * 1_000_000],
    ids=["brackets", "levels", "halves", "spaces", "dots"],
)
def test_a_long_name_costs_no_more_than_its_length(name):
    start = perf_counter()
    for max_depth in (64, 10_000_000):
        made(*[name] * 3, max_depth=max_depth)
    assert perf_counter() - start < 10
