"""A configuration file: what it means as a whole, and what is said of one that is wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pyfpm.config import Config, ConfigError, PoolConfig, dump, load
from pyfpm.config.main import MAIN_DIRECTIVES
from pyfpm.config.pool import POOL_DIRECTIVES

POOL = "[www]\nlisten = 9000\npm = static\npm.max_children = 2\n"


@pytest.fixture(autouse=True)
def nobody(monkeypatch):
    """As who is not root, so that the machine's users do not matter."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


@pytest.fixture
def read(tmp_path):
    def read(text: str | bytes, **options: Any) -> Config:
        path = tmp_path / "pyfpm.conf"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(str(path), **options)

    return read


@pytest.fixture
def refused(read, tmp_path):
    def refused(text: str | bytes, **options: Any) -> ConfigError:
        with pytest.raises(ConfigError) as caught:
            read(text, **options)
        error = caught.value
        error.message = error.message.replace(f"{tmp_path}/", "")
        return error

    return refused


def pool(config: Config) -> PoolConfig:
    [one] = config.pools
    return one


def test_a_file_has_the_defaults_of_php_fpm(read, tmp_path):
    config = read(POOL)
    assert config.path == f"{tmp_path}/pyfpm.conf"
    assert config.main.daemonize
    assert pool(config).clear_env
    assert pool(config).catch_workers_output is False
    assert pool(config).pool == "www"
    assert config.notes == ()


@pytest.mark.parametrize(
    ("lines", "field", "value"),
    [
        ("user = www-data", "user", "www-data"),
        ("user =", "user", None),
        ("USER = www-data", "user", "www-data"),
        ("listen = /run/$pool.sock", "listen", ("/run/www.sock",)),
        ("listen = 127.0.0.1:9000 [::1]:9000", "listen", ("127.0.0.1:9000", "[::1]:9000")),
        ("listen.backlog = -1", "listen_backlog", -1),
        ("listen.allowed_clients = 127.0.0.1, ::1", "listen_allowed_clients", ("127.0.0.1", "::1")),
        ("listen.mode = 0600", "listen_mode", 0o600),
        ("pm = ondemand", "pm", "ondemand"),
        ("pm.max_children = 3\npm.max_children = 4", "pm_max_children", 4),
        ("pm.process_idle_timeout = 5m", "pm_process_idle_timeout_s", 300.0),
        ("pm.status_listen = 9001", "pm_status_path", "/"),
        ("pm.max_memory = 256M", "pm_max_memory", 256 * 1024**2),
        ("access.suppress_path[] = /a\naccess.suppress_path[] = /b", "access_suppress_path", ("/a", "/b")),
        ("request_terminate_timeout = 1m", "request_terminate_timeout_s", 60.0),
        ("request_slowlog_trace_depth = 0", "request_slowlog_trace_depth", 20),
        ("rlimit_core = unlimited", "rlimit_core", "unlimited"),
        ("rlimit_files = 0", "rlimit_files", None),
        ("clear_env = no", "clear_env", False),
        ("clear_env = off ; really", "clear_env", False),
        ('clear_env = "no"', "clear_env", False),
        ("security.limit_extensions =", "extensions", ()),
        ("security.limit_extensions = .py .cgi", "extensions", (".py", ".cgi")),
        ("app = mysite:make()", "app", "mysite:make()"),
        ("python.path[] = /a b\npython.path[] = /c", "python_path", ("/a b", "/c")),
        ("ping.response = yes", "ping_response", "1"),
        ('ping.response = "yes"', "ping_response", "yes"),
        ("process.priority = -5", "process_priority", -5),
        ("pid = x\nuser = undefined", "user", None),
        ("user = a\nuser = undefined", "user", None),
        ("user = 'undefined'", "user", "undefined"),
        ("env[A] = b c", "env", (("A", "b c"),)),
        ("env[A] = $HOME_OF_TEST", "env", (("A", "/home/of/test"),)),
        ("env[A] = $HOME_OF_TEST", "env_as_written", (("A", "$HOME_OF_TEST"),)),
        ("env[A] = $UNSET_IN_TEST", "env", (("A", ""),)),
        ("env[A] = ${HOME_OF_TEST}/x", "env", (("A", "/home/of/test/x"),)),
        ("env[A] = a$HOME_OF_TEST", "env", (("A", "a$HOME_OF_TEST"),)),
        ("env[A] = $pool", "env", (("A", "www"),)),
        ("env[A] = 1\nenv[B] = 2\nenv[A] = 3", "env", (("B", "2"), ("A", "3"))),
        ("php_value[memory_limit] = 1G", "php_values", (("php_value", "memory_limit", "1G"),)),
        ("php_flag[x] = On", "php_values", (("php_value", "x", "1"),)),
        ("php_flag[x] = off", "php_values", (("php_value", "x", "0"),)),
        ("php_admin_flag[x] = yes", "php_values", (("php_admin_value", "x", "1"),)),
        ("php_value[post_max_size] = 8M", "post_max_size", 8 * 1024**2),
        ("php_value[max_execution_time] = 30", "max_execution_time_s", 30.0),
        ("php_flag[display_errors] = on", "display_errors", True),
        ("php_value[display_errors] = stderr", "display_errors", False),
        ("php_admin_value[doc_root] = /usr", "docroots", ("/usr",)),
        ("php_admin_flag[display_errors] = off\nphp_flag[display_errors] = on", "display_errors", False),
        ("display_errors = yes\nphp_flag[display_errors] = off", "display_errors", True),
        ("display_errors = yes\nphp_admin_flag[display_errors] = off", "display_errors", False),
    ],
    ids=repr,
)
def test_a_line_sets_its_field(lines, field, value, read, monkeypatch):
    monkeypatch.setenv("HOME_OF_TEST", "/home/of/test")
    monkeypatch.delenv("UNSET_IN_TEST", raising=False)
    assert getattr(pool(read(POOL + lines.replace("pid = x\n", ""))), field) == value


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("error_log = syslog", "error_log", "syslog"),
        ("error_log = /dev/stderr", "error_log", "/dev/stderr"),
        ("error_log = stderr", "error_log", None),
        ("log_level = warn", "log_level", "warning"),
        ("process_control_timeout = 0", "process_control_timeout_s", 0.0),
        ("daemonize = no", "daemonize", False),
        ("emergency_restart_interval = 1m", "emergency_restart_interval_s", 60.0),
        ("log.format = json", "log_format", "json"),
        ("process.priority = -19", "process_priority", -19),
    ],
    ids=repr,
)
def test_a_line_of_global_sets_its_field(line, field, value, read):
    assert getattr(read(f"[global]\n{line}\n{POOL}").main, field) == value
    assert getattr(read(f"{line}\n{POOL}").main, field) == value, "before any section it is global"
    assert getattr(read(f"{POOL}[GLOBAL]\n{line}").main, field) == value


def test_pools_are_in_order_and_one_that_is_named_twice_is_one(read):
    config = read(
        "[b]\nlisten=1\npm=static\npm.max_children=1\n[a]\nlisten=2\npm=static\npm.max_children=1\n[B]\nlisten=3"
    )
    assert [(each.pool, each.listen) for each in config.pools] == [("b", ("3",)), ("a", ("2",))]


def test_relative_paths_are_meant_from_the_prefix(read, tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "q/www").mkdir(parents=True)
    text = (
        "[global]\npid = run/x.pid\nerror_log = log\n[www]\nlisten = s.sock 9000 [::1]:1\n"
        "pm = static\npm.max_children = 1\naccess.log = ./log/../$pool.log\ndoc_root = www /usr\nprefix = q\n"
        "python.path[] = lib\n"
    )
    for prefix, base in ((None, tmp_path), (str(tmp_path / "p"), tmp_path / "p")):
        if prefix:
            text = text.replace("prefix = q", f"prefix = {tmp_path}/q")
        config = read(text, prefix=prefix)
        assert config.main.pid == f"{base}/run/x.pid"
        assert config.main.error_log == f"{base}/log"
        assert pool(config).prefix == f"{tmp_path}/q"
        assert pool(config).listen == (f"{tmp_path}/q/s.sock", "9000", "[::1]:1")
        assert pool(config).access_log == f"{tmp_path}/q/www.log"
        assert pool(config).docroots == (f"{tmp_path}/q/www", "/usr")
        assert pool(config).python_path == (f"{tmp_path}/q/lib",)


def test_chroot_may_begin_with_the_prefix(read, refused, tmp_path):
    (tmp_path / "jail").mkdir()
    assert pool(read(f"{POOL}chroot = $prefix/jail")).chroot == f"{tmp_path}/jail"
    assert pool(read(f"{POOL}prefix = jail\nchroot = $prefix")).chroot == f"{tmp_path}/jail"
    assert "must be use at the beginning" in refused(f"{POOL}chroot = /a/$prefix").message


@pytest.mark.parametrize(
    ("main", "first", "found"),
    [
        ("control_socket = /x", "", "/x"),
        ("pid = /run/a.pid", "", "/run/a.pid.ctl"),
        ("", "listen = 9000 /run/b.sock", "/run/b.sock.ctl"),
        ("", "", None),
    ],
    ids=str,
)
def test_the_control_socket_is_where_both_ends_look(main, first, found, read):
    assert read(f"{main}\n{POOL}{first}").control_socket == found


# -- includes ---------------------------------------------------------------------------------------------------------


def write(directory: Path, **files: str) -> None:
    for name, text in files.items():
        (directory / f"{name}.conf").write_text(text)


def test_includes_are_read_in_the_order_of_their_names(read, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/dir.conf").mkdir()
    write(tmp_path / "d", b="[www]\npm.max_children = 2", a=POOL + "pm.max_children = 1", c="[www]\nuser = c")
    config = read("[global]\ninclude = d/*.conf")
    assert (pool(config).pm_max_children, pool(config).user) == (2, "c")
    assert config.notes[0][0] == "NOTICE"


def test_an_include_belongs_to_the_section_around_it_and_leaves_its_own(read, refused, tmp_path):
    write(tmp_path, user="user = a", other="[other]\nlisten = 1\npm = static\npm.max_children = 1")
    assert pool(read(f"{POOL}include = user.conf\npm.max_children = 9")).pm_max_children == 9
    assert refused(f"[global]\ninclude = other.conf\npid = /x\n{POOL}").message == "[pyfpm.conf:3] unknown entry 'pid'"


def test_an_include_that_matches_nothing_is_a_warning(read, tmp_path):
    config = read(f"[global]\ninclude = none.d/*.conf\n{POOL}")
    place = f"{tmp_path}/pyfpm.conf at line 2."
    assert config.notes == (("WARNING", f"Nothing matches the include pattern 'none.d/*.conf' from {place}"),)


def test_an_error_in_an_include_names_both_files(refused, tmp_path):
    write(tmp_path, bad="[www]\n\nnosuch = 1")
    error = refused("[global]\ninclude = bad.conf")
    assert error.message == "[bad.conf:3] unknown entry 'nosuch'"
    assert error.trail == (
        f"Unable to include {tmp_path}/bad.conf from {tmp_path}/pyfpm.conf at line 2",
        f"failed to load configuration file '{tmp_path}/pyfpm.conf'",
    )


def test_a_file_that_includes_itself_is_refused(refused):
    error = refused("[global]\ninclude = pyfpm.conf")
    assert error.message == "failed to include more than 5 files recursively"
    assert len(error.trail) == 6


# -- errors -----------------------------------------------------------------------------------------------------------

NOT_A_NUMBER = "is not a valid number (greater or equal than zero)"


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("nosuch = 1", "unknown entry 'nosuch'", ""),
        ("pm.max_childen = 1", "unknown entry 'pm.max_childen'", "did you mean pm.max_children?"),
        ("log_level = debug", "unknown entry 'log_level'", "log_level belongs into [global]"),
        ("php_value = 1", "unknown entry 'php_value'", "it is an array: php_value[KEY] = VALUE"),
        ("access.suppress_path = /", "unknown entry 'access.suppress_path'",
         "it is an array: access.suppress_path[] = VALUE"),
        ("user", "value is NULL for a ZEND_INI_PARSER_ENTRY", "expected user = VALUE"),
        ("# user", "value is NULL for a ZEND_INI_PARSER_ENTRY", "comments begin with ;"),
        ("env[A]", "value is NULL for a ZEND_INI_PARSER_ENTRY", "expected env = VALUE"),
        ("pm = fast", "unable to parse value for entry 'pm': invalid process manager (static, dynamic or ondemand)",
         "pm = 'fast': expected static, dynamic or ondemand"),
        ("pm.max_children = many", f"unable to parse value for entry 'pm.max_children': {NOT_A_NUMBER}",
         "pm.max_children = 'many': expected a whole number of at least 0"),
        ("clear_env = maybe", "unable to parse value for entry 'clear_env': invalid boolean value",
         "clear_env = 'maybe': expected yes or no"),
        ("request_terminate_timeout = 1w",
         "unable to parse value for entry 'request_terminate_timeout': invalid time value",
         "request_terminate_timeout = '1w': expected a time like 30, 30s, 5m, 2h or 1d"),
        ("php_value[] = 1", "You must provide a key for field 'php_value'", "expected php_value[KEY] = VALUE"),
        ("php_flag[x] = maybe", "error while parsing 'php_flag[x]' : invalid boolean value",
         "php_flag[x] = 'maybe': expected yes or no"),
        ("env[A=B] = 1", "error while parsing 'env[A=B]' : invalid value", "env[A=B] = '1': expected a name without ="),
        ("access.suppress_path[/] = x", "Keys provided to field 'access.suppress_path' are ignored",
         "expected access.suppress_path[] = VALUE"),
        ("access.suppress_path[] = x", "Values provided to field 'access.suppress_path' must begin with '/'",
         "access.suppress_path[] = 'x'"),
        ("env[A] =", "empty value", "env[A] needs one"),
        ("python.path[] =", "empty value", "python.path[] needs one"),
        ("nosuch[a] = 1", "unknown directive 'nosuch'", ""),
        ("user[a] = 1", "unknown directive 'user'", ""),
    ],
    ids=repr,
)  # fmt: skip
def test_a_wrong_line_is_told_in_php_fpms_words(line, message, hint, refused, tmp_path):
    error = refused(f"[www]\n\n{line}")
    assert error.message == f"[pyfpm.conf:3] {message}"
    if hint or "user" not in line:
        assert error.hint == hint
    assert error.trail == (f"failed to load configuration file '{tmp_path}/pyfpm.conf'",)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("log_level = loud", "unable to parse value for entry 'log_level': invalid value for 'log_level'"),
        (
            "pid = /run/$pool.pid",
            "unable to parse value for entry 'pid': Can't use '$pool' when the pool is not defined",
        ),
        ("user = a", "unknown entry 'user'"),
        ("env[A] = b", "Array are not allowed in the global section"),
        ("events.mechanism = select2", "event mechanism 'select2' is not available on this system"),
        (
            "rlimit_core = some",
            "unable to parse value for entry 'rlimit_core': must be greater than zero or 'unlimited'",
        ),
    ],
    ids=repr,
)
def test_a_wrong_line_of_global_is_told_in_php_fpms_words(line, message, refused):
    assert refused(f"[global]\n{line}\n{POOL}").message == f"[pyfpm.conf:2] {message}"


@pytest.mark.parametrize(
    ("text", "level", "message"),
    [
        ("", "ERROR", "No pool defined. at least one pool section must be specified in config file"),
        ("[global]\npid = /x", "ERROR", "No pool defined. at least one pool section must be specified in config file"),
        ("[global]\nlog_limit = 511\n" + POOL, "ERROR", "log_limit must be greater than 512"),
        ("[www]", "ALERT", "[pool www] no listen address have been defined!"),
        ("[www]\nlisten = 1", "ALERT", "[pool www] the process manager is missing (static, dynamic or ondemand)"),
        ("[www]\nlisten = 1\npm = static", "ALERT", "[pool www] pm.max_children must be a positive value"),
        (POOL + "php_value[post_max_size] = much", "ERROR",
         "[pool www] php_value[post_max_size]: post_max_size = 'much': expected a size like 512, 64K, 8M or 1G"),
        (POOL + POOL.replace("www", "b"), "ERROR",
         "[pool b] unable to set listen address as it's already used in another pool 'www'"),
        (POOL + "pm.status_listen = 9001\n" + POOL.replace("www", "b").replace("9000", "9001"), "ERROR",
         "[pool b] unable to set listen address as it's already used in another pool 'www'"),
    ],
    ids=repr,
)  # fmt: skip
def test_a_file_that_does_not_hold_together_is_refused(text, level, message, refused):
    error = refused(text)
    assert (error.level, error.message) == (level, message)
    assert error.trail == ("failed to post process the configuration",)
    assert error.lines() == [(level, message), ("ERROR", "failed to post process the configuration")]


def test_what_the_machine_does_not_have_is_no_fault_of_the_file(refused, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    error = refused(POOL + "user = nosuch")
    assert error.lines() == [("ERROR", "[pool www] cannot get uid for user 'nosuch'")]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", None),
        ("nosuch", "No such file or directory (2)"),
        (".", "Is a directory (21)"),
        ("a\0b", "embedded null byte"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(name, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load(name)
    if reason is None:
        assert caught.value.message == "configuration filename is empty"
    else:
        assert caught.value.message == f"failed to open configuration file '{name}': {reason}"


def test_a_device_without_end_is_refused():
    with pytest.raises(ConfigError, match="too large: more than 16 MiB"):
        load("/dev/zero")


def test_a_prefix_that_is_none_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="the global prefix '/nosuch' does not exist or is not a directory"):
        load(str(tmp_path / "x"), prefix="/nosuch")


@pytest.mark.parametrize(
    ("before", "after"),
    [(b"\xef\xbb\xbf", b""), (b"", b"user = \xff\r\n"), (b"", b"user = a"), (b"; " + b"x" * 100_000 + b"\n", b"")],
    ids=["BOM", "latin-1", "no newline", "a long line"],
)
def test_a_strange_file_is_read_all_the_same(before, after, read):
    assert pool(read(before + POOL.replace("\n", "\r\n").encode() + after)).pm_max_children == 2


def test_a_file_of_ten_thousand_lines_is_read(read):
    lines = "".join(f"env[V{number}] = {number}\n" for number in range(10_000))
    assert len(pool(read(POOL + lines)).env) == 10_000


# -- notes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "note"),
    [
        ("pm = dynamic\npm.min_spare_servers = 1\npm.max_spare_servers = 3\npm.max_children = 3",
         ("NOTICE", "[pool www] pm.start_servers is not set. It's been set to 2.")),
        ("php_value[nosuch] = /srv",
         ("WARNING", "[pool www] php_value[nosuch] is accepted, but it has no effect here")),
        ("php_value[error_log] = syslog",
         ("WARNING", "[pool www] php_value[error_log] is accepted, but it has no effect here")),
        ("user = a", ("NOTICE", "[pool www] 'user' directive is ignored when FPM is not running as root")),
        ("group = a", ("NOTICE", "[pool www] 'group' directive is ignored when FPM is not running as root")),
        ("chroot = /usr", ("NOTICE", "[pool www] 'chroot' directive is ignored when FPM is not running as root")),
        ("process.priority = 1",
         ("NOTICE", "[pool www] 'process.priority' directive is ignored when FPM is not running as root")),
        ("[global]\nevents.mechanism = poll",
         ("NOTICE", "events.mechanism = poll is accepted; pyfpm waits with epoll")),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_accepted_may_be_noted(lines, note, read):
    assert read(POOL + lines).notes == (note,)


def test_ondemand_has_no_spare_workers(read):
    found = pool(read(POOL + "pm = ondemand\npm.start_servers = 3\npm.min_spare_servers = 9"))
    assert (found.pm_start_servers, found.pm_min_spare_servers) == (0, 0)


# -- the command line over it ----------------------------------------------------------------------------------------


def test_an_override_counts_more_than_the_file_in_every_pool(read, tmp_path, monkeypatch):
    monkeypatch.chdir("/usr")
    text = POOL + POOL.replace("www", "b").replace("9000", "9001")
    config = read(text, overrides=[("pm.max_children", "7"), ("pid", "x.pid"), ("access.log", "$pool.log")])
    assert [each.pm_max_children for each in config.pools] == [7, 7]
    assert config.main.pid == "/usr/x.pid", "relative to where the command was given"
    assert [each.access_log for each in config.pools] == ["/usr/www.log", "/usr/b.log"]


# -- dump -------------------------------------------------------------------------------------------------------------


def test_a_dump_is_in_php_fpms_form(read):
    lines = dump(
        read(POOL + "access.suppress_path[] = /ping\nphp_flag[a] = On\nphp_admin_flag[b] = no\nenv[C] = $HOME")
    )
    assert lines[0] == "[global]"
    assert lines[1:4] == ["\tpid = undefined", "\terror_log = undefined", "\tsyslog.ident = pyfpm"]
    assert "\tdaemonize = yes" in lines
    assert "\tlog_level = NOTICE" in lines
    assert lines[lines.index("[www]") - 1] == " "
    assert "\tpm.process_idle_timeout = 10" in lines
    assert "\trequest_slowlog_timeout = 0s" in lines
    assert "\taccess.suppress_path[] = /ping" in lines
    assert lines[-4:] == ["\tenv[C] = $HOME", "\tphp_value[a] = 1", "\tphp_admin_value[b] = 0", " "]


def again(config: Config, directory: Path) -> Config:
    path = directory / "dump.conf"
    path.write_text("\n".join(dump(config)), errors="surrogateescape")
    return load(str(path))


def values_of(rows: dict[str, Any]) -> st.SearchStrategy[str]:
    word = st.text(st.characters(exclude_characters="\n\0'", exclude_categories=["Cs"]))
    numbers = st.integers(1, 9).map(str)
    value = st.one_of(
        numbers, st.sampled_from(["yes", "no", "10s", "1.5h", "64K", "/usr", "/a"]), word.map(lambda text: f"'{text}'")
    )
    return st.lists(st.tuples(st.sampled_from(sorted(rows)), value), max_size=6).map(
        lambda pairs: "".join(f"{name}{'[]' if rows[name].many else ''} = {value}\n" for name, value in pairs)
    )


@settings(deadline=None, max_examples=200)
@given(
    values_of(MAIN_DIRECTIVES),
    values_of(POOL_DIRECTIVES),
    st.text(st.characters(exclude_characters="\n\0'", exclude_categories=["Cs"])),
)
def test_a_dump_means_the_same_again(tmp_path_factory, main, www, text):
    directory = tmp_path_factory.getbasetemp()
    path = directory / "any.conf"
    path.write_text(f"[global]\n{main}\n{POOL}{www}\nenv[A] = 'x{text}'\nphp_value[b] = '{text}'")
    try:
        config = load(str(path))
    except ConfigError:
        return
    assert again(config, directory) == Config(main=config.main, pools=config.pools, path=str(directory / "dump.conf"))


@pytest.mark.parametrize("lines", ["security.limit_extensions =", "listen.backlog = -1", "rlimit_core = unlimited"])
def test_a_dump_of_nothing_is_nothing(lines, read, tmp_path):
    config = read(POOL + lines)
    assert again(config, tmp_path).pools == config.pools


SNIPPETS = st.sampled_from(
    ["[global]\n", "[www]\n", "listen = ", "pm = static\n", "pm.max_children = ", "env[", "]", " = ", "'", '"', "\n",
     "${", "}", "include = ", "*", "any.conf", "$pool", "php_flag[x] = ", "access.suppress_path[] = ", ";", "\0", "yes",
     "9", "/"]
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(st.lists(st.one_of(SNIPPETS, st.text())).map("".join))
@example("[global]\ninclude = any.conf")
def test_any_file_is_read_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.conf"
    path.write_text(text, errors="surrogatepass")
    whole = ("[pool ", "No pool defined", "failed to include", "log_limit", "process.priority", "invalid port")
    assert reason_of(str(path)).startswith((f"[{path}:", "right", *whole))


def reason_of(path: str) -> str:
    try:
        load(path)
    except ConfigError as error:
        return error.message
    return "right"
