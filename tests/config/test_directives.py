"""The table of directives: what each value may be, and what is said of one that may not."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import pytest

from pyfpm.config import ConfigError, MainConfig, PoolConfig
from pyfpm.config import values as v
from pyfpm.config.directives import parse_value, table
from pyfpm.config.load import from_command_line, split_assignment
from pyfpm.config.main import MAIN_DIRECTIVES
from pyfpm.config.pool import POOL_DIRECTIVES
from pyfpm.config.script import ScriptConfig
from pyfpm.sapi.settings import SapiSettings

GOOD: list[tuple[Any, str, Any]] = [
    (v.text, "www-data", "www-data"),
    (v.optional_text, "www-data", "www-data"),
    (v.optional_text, "", None),
    (v.header_text, "text/x", "text/x"),
    (v.header_text, "", None),
    (v.optional_path, "/srv/../app", "/app"),
    (v.optional_path, "", None),
    (v.optional_address, "9001", "9001"),
    (v.optional_address, "", None),
    (v.one_path, "/a b", ("/a b",)),
    (v.log_target, "/var/log/x.log", "/var/log/x.log"),
    (v.log_target, "syslog", "syslog"),
    (v.log_target, "stderr", None),
    (v.number, "-1", -1),
    (v.number, "65535", 65535),
    (v.count, "0", 0),
    (v.count, "12", 12),
    (v.priority, "-19", -19),
    (v.file_limit, "1024", 1024),
    (v.file_limit, "0", None),
    (v.core_limit, "unlimited", "unlimited"),
    (v.core_limit, "-1", "unlimited"),
    (v.core_limit, "0", None),
    (v.core_limit, "4096", 4096),
    (v.log_level, "NOTICE", "notice"),
    (v.log_level, "warn", "warning"),
    (v.facility, "LOCAL7", "local7"),
    (v.manager, "OnDemand", "ondemand"),
    (v.log_form, "json", "json"),
    (v.sigterm, "fast", "fast"),
    (v.app_kind, "wsgi", "wsgi"),
    (v.mechanism, "epoll", "epoll"),
    (v.addresses, "9000 /run/x", ("9000", "/run/x")),
    (v.comma_words, "127.0.0.1, ::1,10.0.0.1", ("127.0.0.1", "::1", "10.0.0.1")),
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
    *[(v.buffering, on, 1) for on in ("1", "On", "yes", "true")],
    *[(v.buffering, off, 0) for off in ("0", "off", "no", "")],
    (v.buffering, "4096", 4096),
    (v.buffering, "64K", 65536),
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
    (v.text, "a\0b", "text without NUL bytes"),
    (v.path, "", "something"),
    *[(v.number, bad, "a whole number") for bad in ("", "-", "1.5", "two", "--1", "1e3")],
    *[(v.count, bad, "a whole number of at least 0") for bad in ("", "-1", "two")],
    (v.core_limit, "much", "a number of bytes, or unlimited"),
    (v.file_limit, "unlimited", "a whole number of at least 0"),
    (v.log_level, "loud", "debug, notice, warning, error or alert"),
    (v.facility, "nosuch", "auth, authpriv, .* or local7"),
    (v.manager, "", "static, dynamic or ondemand"),
    *[
        (v.positive, bad, COUNT)
        for bad in ("", "0", "-1", "1.5", "two", "0x10", "1_000", "1000000000", "\u0662", "1 2")
    ],
    *[(v.size, bad, SIZE) for bad in ("", "-1", "K", "1.5M", "1T", "64KB", "64 K", "0x10", "\u0662K", "64\u212a")],
    *[(v.buffering, bad, "a size like 512 or 4K, On or Off") for bad in ("much", "-1", "1.5K")],
    *[(v.header_text, bad, "text without control characters") for bad in ("a\nb", "\0")],
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

ROWS = [*MAIN_DIRECTIVES.values(), *POOL_DIRECTIVES.values()]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_directive_is_complete(row):
    assert row.sentence.endswith(".")
    assert row.differs in ("", "new") or row.differs.endswith(".")
    assert row.name == row.name.strip()
    assert not set("=[]; ") & set(row.name)
    for value in (row.default, row.in_file):
        if value is not None and value != () and not row.many:
            assert row.parse(row.show(value)) == value, "what is shown cannot be read"
    if row.example and not row.example.startswith('"'):
        row.parse(row.example)


def test_every_parser_is_used():
    assert {row.parse for row in ROWS} == set(v.KINDS)


@pytest.mark.parametrize("config", [MainConfig, PoolConfig])
def test_every_field_is_a_directive_or_one_of_the_arrays(config):
    rest = {field.name for field in dataclasses.fields(config)} - {row.field for row in ROWS}
    assert rest <= {"pool", "env", "env_as_written", "php_values"}


def pool_of(*assignments: str) -> PoolConfig:
    return from_command_line([("listen", "/run/fpm.sock"), *map(split_assignment, assignments)]).pools[0]


@pytest.mark.parametrize(
    ("assignment", "field", "value"),
    [
        ("pm.max_children=4", "pm_max_children", 4),
        (" pm.max_children = 4 ", "pm_max_children", 4),
        ("app=mod:make()", "app", "mod:make()"),
        ("ping.response=a=b", "ping_response", "a=b"),
        ("display_errors=", "display_errors", False),
        ("security.limit_extensions=.py .cgi", "extensions", (".py", ".cgi")),
        ("access.suppress_path[]=/ping", "access_suppress_path", ("/ping",)),
        ("listen=/run/$pool.sock", "listen", ("/run/www.sock",)),
        ("env[A]=b", "env", (("A", "b"),)),
        ("php_flag[display_errors]=on", "php_values", (("php_value", "display_errors", "1"),)),
        ("php_flag[display_errors]=on", "display_errors", True),
    ],
)
def test_an_assignment_sets_a_field(assignment, field, value):
    assert getattr(pool_of(assignment), field) == value


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("pm.max_children=many", "pm.max_children = 'many': expected a whole number of at least 0"),
        ("send_timeout=0", "send_timeout = '0': expected a time above 0"),
        ("listen.mode=rw", "listen.mode = 'rw': expected a file mode like 0660"),
        ("app=", "app = '': expected something"),
        ("display_errors", "display_errors without a value; it is set as display_errors=VALUE"),
        ("php_flag[x]=maybe", "php_flag[x] = 'maybe': expected yes or no"),
        ("error_log=/log/$pool", "error_log = '/log/$pool': Can't use '$pool' when the pool is not defined"),
    ],
)
def test_a_wrong_assignment_names_directive_and_value_and_what_is_right(assignment, message):
    with pytest.raises(ConfigError) as caught:
        pool_of(assignment)
    assert str(caught.value) == message


@pytest.mark.parametrize("assignment", ["nosuch=1", "nosuch", "", "=1", "Listen=/x", "workers=1", "pool=www"])
def test_an_unknown_directive_is_answered_with_those_there_are(assignment):
    with pytest.raises(ConfigError, match=r"unknown directive '.*'; there are: pid, error_log, ") as caught:
        pool_of(assignment)
    assert all(row.name in str(caught.value) for row in ROWS)


def test_a_value_of_the_table_is_parsed_by_its_row():
    assert parse_value(POOL_DIRECTIVES["user"], "a") == "a"


# -- a pool -----------------------------------------------------------------------------------------------------------

DYNAMIC = {"pm": "dynamic", "pm_max_children": 5, "pm_start_servers": 2}
ONLY = "must contain only the following characters '[alphanum]/_-.~'"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"listen": ()}, "no listen address have been defined!"),
        ({"prefix": "/nosuch"}, "the prefix '/nosuch' does not exist or is not a directory"),
        ({"process_priority": 21}, "process.priority must be included into [-19,20]"),
        ({"process_priority": -20}, "process.priority must be included into [-19,20]"),
        ({"pm": None}, "the process manager is missing (static, dynamic or ondemand)"),
        ({"pm_max_children": 0}, "pm.max_children must be a positive value"),
        ({**DYNAMIC}, "pm.min_spare_servers(0) must be a positive value"),
        ({**DYNAMIC, "pm_min_spare_servers": 1}, "pm.max_spare_servers(0) must be a positive value"),
        (
            {**DYNAMIC, "pm_min_spare_servers": 1, "pm_max_spare_servers": 6},
            "pm.min_spare_servers(1) and pm.max_spare_servers(6) cannot be greater than pm.max_children(5)",
        ),
        (
            {**DYNAMIC, "pm_min_spare_servers": 3, "pm_max_spare_servers": 2},
            "pm.max_spare_servers(2) must not be less than pm.min_spare_servers(3)",
        ),
        (
            {**DYNAMIC, "pm_min_spare_servers": 3, "pm_max_spare_servers": 4},
            "pm.start_servers(2) must not be less than pm.min_spare_servers(3) and not greater than"
            " pm.max_spare_servers(4)",
        ),
        (
            {**DYNAMIC, "pm_min_spare_servers": 1, "pm_max_spare_servers": 2, "pm_max_spawn_rate": 0},
            "pm.max_spawn_rate must be a positive value",
        ),
        (
            {"pm": "ondemand", "pm_process_idle_timeout_s": 0},
            "pm.process_idle_timeout(0s) must be greater than 0s",
        ),
        ({"pm_status_path": "status"}, "the status path 'status' must start with a '/'"),
        ({"pm_status_path": "/"}, "the status path '/' is not long enough"),
        ({"pm_status_path": "/a b"}, f"the status path '/a b' {ONLY}"),
        ({"ping_path": "ping"}, "the ping path 'ping' must start with a '/'"),
        ({"ping_path": "/"}, "the ping path '/' is not long enough"),
        ({"ping_path": "/p\u00efng"}, f"the ping path '/p\u00efng' {ONLY}"),
        ({"request_slowlog_timeout_s": 1}, "'slowlog' must be specified for use with 'request_slowlog_timeout'"),
        (
            {"request_slowlog_timeout_s": 9, "request_terminate_timeout_s": 5, "slowlog": "/x"},
            "'request_slowlog_timeout' (9) can't be greater than 'request_terminate_timeout' (5)",
        ),
        (
            {"request_slowlog_trace_depth": 0},
            "'request_slowlog_trace_depth' (0) must be a positive value",
        ),
        ({"access_format": "%z"}, "wrong format for access.format '%z'"),
        ({"access_format": "%{user}"}, "wrong format for access.format '%{user}'"),
        ({"access_format": "%{"}, "wrong format for access.format '%{'"),
        ({"access_format": "%{nosuch}d"}, "wrong format for access.format '%{nosuch}d'"),
        ({"access_format": "%e"}, "wrong format for access.format '%e'"),
        ({"chroot": "/nosuch"}, "the chroot path '/nosuch' does not exist or is not a directory"),
        ({"chdir": "/nosuch"}, "the chdir path '/nosuch' does not exist or is not a directory"),
        ({"chdir": "/dev/null"}, "the chdir path '/dev/null' does not exist or is not a directory"),
        (
            {"chroot": "/usr", "chdir": "/no"},
            "the chdir path '/no' within the chroot path '/usr' ('/usr/no') does not exist or is not a directory",
        ),
        ({"docroots": ("/", "/nosuch")}, "doc_root = '/nosuch': there is no such directory"),
        ({"spool_directory": "/nosuch"}, "spool_directory = '/nosuch': there is no such directory"),
        ({"extensions": ("py",)}, "security.limit_extensions = 'py': an extension begins with a dot"),
        ({"memory_limit": 1 << 20, "pm_threads": 4}, "memory_limit cannot be had with pm.threads"),
        ({"pm_queue_max": 4}, "pm.queue_max is for a pool with pm.threads"),
        ({"pm_queue_timeout_s": 4.0}, "pm.queue_timeout is for a pool with pm.threads"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_a_pool_that_cannot_be_is_refused(fields, message):
    with pytest.raises(ConfigError) as caught:
        PoolConfig(**{"listen": ("/run/fpm.sock",), **fields})
    assert caught.value.message == f"[pool www] {message}"


@pytest.mark.parametrize(
    "fields",
    [
        {"pm_status_path": "/", "pm_status_listen": "9001"},
        {"pm_status_path": "/a_b-c.d~9/"},
        {"chroot": "/usr", "chdir": "/bin"},
        {"chroot": "/usr", "docroots": ("/nosuch",)},
        {"access_format": '%R - %u %t "%m %r%Q%q" %s %f %{milliseconds}d %{kilobytes}M %C%% %{REMOTE_ADDR}e %p %P %n'},
        {"access_format": "%{%H:%M}t %{USER}C %{Content-Type}o %l %T %I %{milli}w %{x}s %"},
    ],
    ids=repr,
)
def test_a_pool_that_can_be_is_taken(fields):
    PoolConfig(listen=("/run/fpm.sock",), **fields)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("listen.owner=nosuch", "[pool www] cannot get uid for user 'nosuch': No such file or directory (2)"),
        ("listen.group=nosuch", "[pool www] cannot get gid for group 'nosuch': No such file or directory (2)"),
        ("listen.acl_users=root,nosuch", "[pool www] cannot get uid for user 'nosuch': No such file or directory (2)"),
        ("listen=127.0.0.1:69002", "invalid port value '69002'"),
        ("listen=127.0.0.1:", "invalid port value ''"),
        ("listen=[::1]:http", "invalid port value 'http'"),
        ("pm.status_listen=70000", "invalid port value '70000'"),
    ],
)
def test_what_the_machine_does_not_have_is_refused(assignment, message):
    with pytest.raises(ConfigError) as caught:
        pool_of(assignment)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["user=nosuch"], "[pool www] cannot get uid for user 'nosuch'"),
        (["user=root", "group=nosuch"], "[pool www] cannot get gid for group 'nosuch'"),
        (["user=4294967295"], "[pool www] cannot get uid for user '4294967295'"),
        (["group=root"], "[pool www] a group without a user: set user as well"),
    ],
    ids=str,
)
def test_root_needs_users_that_exist(assignments, message, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(ConfigError) as caught:
        pool_of(*assignments)
    assert str(caught.value) == message
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert pool_of(*assignments)


def test_a_number_needs_no_entry(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert pool_of("user=4000000", "group=4000001").user == "4000000"


def test_a_pool_cannot_be_changed():
    config = PoolConfig(listen=("/run/fpm.sock",))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.pm_max_children = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"log_limit": 511}, "log_limit must be greater than 512"),
        ({"process_priority": 30}, "process.priority must be included into [-19,20]"),
    ],
    ids=str,
)
def test_a_master_that_cannot_be_is_refused(fields, message):
    with pytest.raises(ConfigError) as caught:
        MainConfig(**fields)
    assert caught.value.message == message


def test_an_adapter_is_given_the_directives_of_php_ini_and_their_defaults():
    told = {field.name: field.default for field in dataclasses.fields(SapiSettings)}
    assert told == {row.field: row.default for row in table(ScriptConfig).values()}
