"""``php_value[...]`` and its like: PHP's settings in PHP's syntax, for the directives of ours that have their names."""

from __future__ import annotations

import os

import pytest

from pyfpm.config import ConfigError
from pyfpm.config.load import load
from pyfpm.config.php import COUNTERPARTS, counterpart, parse_setting

M = 1024**2


@pytest.fixture
def pool(tmp_path):
    def read(*lines: str):
        path = tmp_path / "fpm.conf"
        path.write_text("[www]\nlisten = /run/fpm.sock\npm = static\npm.max_children = 1\n" + "\n".join(lines))
        config = load(str(path))
        return config.pools[0], [text for level, text in config.notes if level == "WARNING"]

    return read


@pytest.mark.parametrize(
    ("setting", "value", "field", "parsed"),
    [
        ("memory_limit", "128M", "memory_limit", 128 * M),
        ("memory_limit", "-1", "memory_limit", 0),
        ("memory_limit", "134217728", "memory_limit", 128 * M),
        ("post_max_size", "0", "post_max_size", 0),
        ("post_max_size", "-1", "post_max_size", 0),
        ("upload_max_filesize", "64m", "upload_max_filesize", 64 * M),
        ("upload_max_filesize", "-1", "upload_max_filesize", 0),
        ("max_execution_time", "-1", "max_execution_time_s", 0.0),
        ("max_execution_time", "300", "max_execution_time_s", 300.0),
        ("max_input_vars", "5000", "max_input_vars", 5000),
        ("max_multipart_body_parts", "-1", "max_multipart_body_parts", -1),
        ("output_buffering", "On", "output_buffering", 1),
        ("output_buffering", "Off", "output_buffering", 0),
        ("output_buffering", "4096", "output_buffering", 4096),
        ("default_charset", "iso-8859-1", "default_charset", "iso-8859-1"),
        ("default_charset", '""', "default_charset", None),
        ("default_charset", "none", "default_charset", None),
        ("default_mimetype", "", "default_mimetype", None),
        ("auto_prepend_file", "none", "auto_prepend_file", None),
        ("auto_prepend_file", "/srv/p.py", "auto_prepend_file", "/srv/p.py"),
        ("error_log", "/var/log/x.log", "error_log", "/var/log/x.log"),
        ("log_errors", "Off", "log_errors", False),
        ("display_errors", "stdout", "display_errors", True),
        ("display_errors", "stderr", "display_errors", False),
        ("request_order", '""', "request_order", "GPC"),
        ("cgi.fix_pathinfo", "0", "cgi_fix_pathinfo", False),
        ("session.save_path", '"2;/var/lib/s"', "session_save_path", "2;/var/lib/s"),
        ("session.save_handler", "redis", "session_save_handler", "redis"),
        ("session.gc_maxlifetime", "1440", "session_gc_maxlifetime_s", 1440.0),
        ("session.cookie_lifetime", "0", "session_cookie_lifetime_s", 0.0),
        ("session.cookie_secure", "1", "session_cookie_secure", True),
        ("session.cookie_samesite", "Strict", "session_cookie_samesite", "strict"),
        ("session.cookie_samesite", '""', "session_cookie_samesite", "off"),
        ("session.cache_limiter", '""', "session_cache_limiter", "none"),
        ("SESSION.Name", "S", "session_name", "S"),
    ],
)
@pytest.mark.parametrize("kind", ["php_value", "php_admin_value"])
def test_a_setting_of_php_sets_our_directive(pool, kind, setting, value, field, parsed):
    www, warnings = pool(f"{kind}[{setting}] = {value}")
    assert getattr(www, field) == parsed
    assert type(getattr(www, field)) is type(parsed)
    assert warnings == []


@pytest.mark.parametrize(
    ("setting", "value", "field"),
    [
        ("display_errors", True, "display_errors"),
        ("log_errors", False, "log_errors"),
        ("file_uploads", False, "file_uploads"),
        ("ignore_user_abort", True, "ignore_user_abort"),
        ("session.auto_start", True, "session_auto_start"),
        ("session.cookie_httponly", False, "session_cookie_httponly"),
        ("session.use_strict_mode", True, "session_use_strict_mode"),
    ],
)
@pytest.mark.parametrize("words", [("On", "Off"), ("yes", "no"), ("1", "0"), ("true", "false")])
def test_a_flag_of_php_sets_our_flag(pool, setting, value, field, words):
    www, warnings = pool(f"php_flag[{setting}] = {words[not value]}")
    assert (getattr(www, field), warnings) == (value, [])


def test_a_relative_path_is_meant_from_the_prefix(pool, tmp_path):
    www, _ = pool("php_value[error_log] = log/x", "php_admin_value[auto_append_file] = a.py")
    assert (www.error_log, www.auto_append_file) == (str(tmp_path / "log/x"), str(tmp_path / "a.py"))


def test_every_counterpart_is_a_directive_and_takes_its_own_default():
    for name in COUNTERPARTS:
        row = counterpart(name)
        assert row is not None and row.name == name
        if row.default not in (None, ()):
            assert parse_setting(row, row.show(row.default), os.sep) == row.default


@pytest.mark.parametrize("setting", ["opcache.enable", "nosuch", "cgi.timeout"])
def test_a_setting_without_a_counterpart_is_named_in_a_warning(pool, setting):
    _, warnings = pool(f"php_value[{setting}] = 1")
    assert warnings == [f"[pool www] php_value[{setting}] is accepted, but it has no effect here"]


@pytest.mark.parametrize(
    ("setting", "instead"),
    [
        ("open_basedir", "the rights of the pool's user are the limit"),
        ("Date.Timezone", "env[TZ] does that"),
        ("include_path", "python.path[] does that"),
    ],
)
def test_the_warning_names_what_is_there_instead(pool, setting, instead):
    _, warnings = pool(f"php_value[{setting}] = 1")
    assert warnings == [f"[pool www] php_value[{setting}] is accepted, but it has no effect here; {instead}"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("php_value[memory_limit] = lots", "memory_limit = 'lots': expected a size like 512, 64K, 8M or 1G"),
        ("php_value[session.save_handler] = memcached", "session.save_handler = 'memcached': expected files or redis"),
        ("php_value[output_buffering] = some", "output_buffering = 'some': expected a size like 512 or 4K, On or Off"),
    ],
)
def test_a_value_that_cannot_be_one_is_refused(pool, line, message):
    with pytest.raises(ConfigError) as caught:
        pool(line)
    assert f"[pool www] {line.partition(' ')[0]}: {message}" in str(caught.value)
