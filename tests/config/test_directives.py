"""The table of directives: what each value may be, and what is said of one that may not."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import pytest

from pyfpm.config import ConfigError, PoolConfig
from pyfpm.config import values as v
from pyfpm.config.pool import DIRECTIVES, parse_directive

GOOD: list[tuple[Any, str, Any]] = [
    (v.text, "www-data", "www-data"),
    (v.path, "/srv/app", "/srv/app"),
    (v.path, "/srv/../app/", "/app"),
    (v.paths, "/a /b", ("/a", "/b")),
    (v.paths, "", ()),
    (v.positive, "1", 1),
    (v.positive, "007", 7),
    (v.positive, "999999999", 999999999),
    (v.size, "0", 0),
    (v.size, "512", 512),
    (v.size, "64K", 65536),
    (v.size, "64k", 65536),
    (v.size, "8M", 8 * 1024**2),
    (v.size, "2g", 2 * 1024**3),
    (v.positive_size, "1", 1),
    (v.positive_size, "1K", 1024),
    (v.seconds, "0", 0.0),
    (v.seconds, "30", 30.0),
    (v.seconds, "30s", 30.0),
    (v.seconds, "5m", 300.0),
    (v.seconds, "2h", 7200.0),
    (v.seconds, "1d", 86400.0),
    (v.seconds, "0.5", 0.5),
    (v.seconds, "1.5m", 90.0),
    (v.positive_seconds, "0.1", 0.1),
    *[(v.flag, yes, True) for yes in ("yes", "on", "true", "1", "Yes", "ON")],
    *[(v.flag, no, False) for no in ("no", "off", "false", "0", "", "No", "OFF")],
    (v.mode, "0660", 0o660),
    (v.mode, "660", 0o660),
    (v.mode, "0000", 0),
    (v.mode, "0777", 0o777),
    (v.words, ".py  .cgi", (".py", ".cgi")),
    (v.words, "", ()),
]

SIZE, TIME, COUNT, MODE = "a size like 512", "a time like 30", "a whole number of at least 1", "a file mode like 0660"

BAD: list[tuple[Any, str, str]] = [
    (v.text, "", "something"),
    (v.path, "", "something"),
    *[
        (v.positive, bad, COUNT)
        for bad in ("", "0", "-1", "1.5", "two", "0x10", "1_000", "1000000000", "\u0662", "1 2")
    ],
    *[(v.size, bad, SIZE) for bad in ("", "-1", "K", "1.5M", "1T", "64KB", "64 K", "0x10", "\u0662K", "64\u212a")],
    *[(v.positive_size, bad, "a size of at least 1") for bad in ("0", "0K")],
    (v.positive_size, "much", SIZE),
    *[(v.seconds, bad, TIME) for bad in ("", "-1", "s", "soon", "1w", "30S", "1e3", "inf", "nan", ".5", "5.", "1 m")],
    *[(v.positive_seconds, bad, "a time above 0") for bad in ("0", "0s", "0.0")],
    (v.positive_seconds, "soon", TIME),
    *[(v.flag, bad, "yes or no") for bad in ("maybe", "2", "y", "-")],
    *[(v.mode, bad, MODE) for bad in ("", "0", "66", "0o660", "0888", "rw", "01777", "u+w", "-0660")],
]


def by_name(value: Any) -> str | None:
    return getattr(value, "__name__", None)


@pytest.mark.parametrize(("parse", "value", "parsed"), GOOD, ids=by_name)
def test_a_value_is_read(parse, value, parsed):
    found = parse(value)
    assert found == parsed
    assert type(found) is type(parsed)


@pytest.mark.parametrize(("parse", "value", "expected"), BAD, ids=by_name)
def test_a_wrong_value_says_what_is_right(parse, value, expected):
    with pytest.raises(ValueError, match=expected):
        parse(value)


def test_a_relative_path_is_meant_from_here():
    assert v.path("app") == os.path.join(os.getcwd(), "app")
    assert v.paths("a ../b") == (os.path.abspath("a"), os.path.abspath("../b"))


# -- the table --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DIRECTIVES)
def test_a_directive_is_complete(name):
    field = DIRECTIVES[name]
    assert field.metadata["parse"] in v.NAMES, "the reference has no word for what it takes"
    assert field.metadata["sentence"].endswith(".")
    assert name == name.strip()
    assert "=" not in name


def test_every_parser_is_used():
    assert {field.metadata["parse"] for field in DIRECTIVES.values()} == set(v.NAMES)


def test_every_field_but_the_pools_name_is_a_directive():
    assert {field.name for field in dataclasses.fields(PoolConfig)} == {
        "pool",
        *(field.name for field in DIRECTIVES.values()),
    }


@pytest.mark.parametrize(
    ("assignment", "field", "value"),
    [
        ("pm.max_children=4", "workers", 4),
        (" pm.max_children = 4 ", "workers", 4),
        ("app=mod:make()", "app", "mod:make()"),
        ("user=a=b", "user", "a=b"),
        ("display_errors=", "display_errors", False),
        ("security.limit_extensions=.py .cgi", "extensions", (".py", ".cgi")),
    ],
)
def test_an_assignment_is_a_field_and_its_value(assignment, field, value):
    assert parse_directive(assignment) == (field, value)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("pm.max_children=many", "pm.max_children = 'many': expected a whole number of at least 1"),
        ("send_timeout=0", "send_timeout = '0': expected a time above 0"),
        ("listen.mode=rw", "listen.mode = 'rw': expected a file mode like 0660"),
        ("app=", "app = '': expected something"),
        ("display_errors", "display_errors without a value; it is set as display_errors=VALUE"),
    ],
)
def test_a_wrong_assignment_names_directive_and_value_and_what_is_right(assignment, message):
    with pytest.raises(ConfigError) as caught:
        parse_directive(assignment)
    assert str(caught.value) == message


@pytest.mark.parametrize("assignment", ["nosuch=1", "nosuch", "", "=1", "Listen=/x", "workers=1", "pool=www"])
def test_an_unknown_directive_is_answered_with_those_there_are(assignment):
    with pytest.raises(ConfigError, match=r"unknown directive '.*'; there are: listen, listen\.owner, ") as caught:
        parse_directive(assignment)
    assert all(name in str(caught.value) for name in DIRECTIVES)


# -- a pool -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"listen": ()}, "there is nowhere to listen: give --socket PATH or --listen HOST:PORT"),
        ({"user": "nosuch"}, "cannot get uid for user 'nosuch' (user)"),
        ({"listen_owner": "nosuch"}, "cannot get uid for user 'nosuch' (listen.owner)"),
        ({"user": "root", "group": "nosuch"}, "cannot get gid for group 'nosuch' (group)"),
        ({"listen_group": "nosuch"}, "cannot get gid for group 'nosuch' (listen.group)"),
        ({"group": "root"}, "a group without a user: give --user as well"),
        ({"chdir": "/nosuch"}, "chdir = '/nosuch': there is no such directory"),
        ({"chdir": "/dev/null"}, "chdir = '/dev/null': there is no such directory"),
        ({"docroots": ("/", "/nosuch")}, "doc_root = '/nosuch': there is no such directory"),
        ({"spool_directory": "/nosuch"}, "spool_directory = '/nosuch': there is no such directory"),
        ({"extensions": ("py",)}, "security.limit_extensions = 'py': an extension begins with a dot"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_pool_that_cannot_be_is_refused(fields, message):
    with pytest.raises(ConfigError) as caught:
        PoolConfig(**{"listen": ("/run/fpm.sock",), **fields})
    assert str(caught.value) == message


def test_a_pool_cannot_be_changed():
    config = PoolConfig(listen=("/run/fpm.sock",))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.workers = 2  # type: ignore[misc]
