"""The command line: php-fpm's habits, and what is meant by which option."""

from __future__ import annotations

import os
from typing import Any

import pytest

from pyfpm import __version__
from pyfpm.cli import configuration, main, parser
from pyfpm.config import Config, ConfigError, MainConfig, PoolConfig

EX_USAGE, EX_CONFIG = 64, 78


def config_of(*arguments: str) -> PoolConfig:
    [pool] = configuration(parser().parse_args(["--socket", "/run/fpm.sock", *arguments])).pools
    return pool


def test_without_options_it_is_what_the_table_says():
    config = configuration(parser().parse_args(["--socket", "/run/fpm.sock"]))
    assert config == Config(main=MainConfig(), pools=(PoolConfig(listen=("/run/fpm.sock",)),))
    assert config.path is None
    assert not config.main.daemonize
    assert not config.pools[0].clear_env
    assert config.pools[0].catch_workers_output is None


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (["--workers", "4"], "pm_max_children", 4),
        (["--socket-mode", "0600"], "listen_mode", 0o600),
        (["--socket-owner", "root"], "listen_owner", "root"),
        (["--socket-group", "root"], "listen_group", "root"),
        (["--user", "root"], "user", "root"),
        (["--user", "root", "--group", "root"], "group", "root"),
        (["--chdir", "/usr"], "chdir", "/usr"),
        (["--docroot", "/usr", "--docroot", "/etc"], "docroots", ("/usr", "/etc")),
        (["--socket", "/run/b.sock"], "listen", ("/run/fpm.sock", "/run/b.sock")),
        (["--listen", "127.0.0.1:9000", "--listen", "[::1]:9000"], "listen",
         ("/run/fpm.sock", "127.0.0.1:9000", "[::1]:9000")),
        (["--pm", "ondemand"], "pm", "ondemand"),
        (["mod:app"], "app", "mod:app"),
        (["-d", "send_timeout=5m"], "send_timeout_s", 300.0),
        (["-dsend_timeout=5m"], "send_timeout_s", 300.0),
        (["-d", "send_timeout=5m", "-d", "send_timeout=1m"], "send_timeout_s", 60.0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_an_option_sets_its_directive(arguments, field, value):
    assert getattr(config_of(*arguments), field) == value


@pytest.mark.parametrize(
    ("option", "directive", "field", "value"),
    [
        (["--workers", "4"], "pm.max_children=8", "pm_max_children", 4),
        (["--socket-mode", "0600"], "listen.mode=0666", "listen_mode", 0o600),
        (["--chdir", "/usr"], "chdir=/etc", "chdir", "/usr"),
        (["--docroot", "/usr"], "doc_root=/etc", "docroots", ("/usr",)),
        (["mod:app"], "app=other:app", "app", "mod:app"),
        ([], "listen=9000", "listen", ("/run/fpm.sock",)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_option_counts_more_than_its_directive_in_any_order(option, directive, field, value):
    assert getattr(config_of(*option, "-d", directive), field) == value
    assert getattr(config_of("-d", directive, *option), field) == value


def test_relative_paths_are_meant_from_where_the_command_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("app", "www", "spool"):
        os.mkdir(name)
    config = config_of("--socket", "a.sock", "--docroot", "www", "--chdir", "app", "-d", "spool_directory=spool")
    assert config.listen[1] == f"{tmp_path}/a.sock"
    assert config.docroots == (f"{tmp_path}/www",)
    assert config.chdir == f"{tmp_path}/app"
    assert config.spool_directory == f"{tmp_path}/spool"
    assert config_of("-d", "doc_root=www app").docroots == (f"{tmp_path}/www", f"{tmp_path}/app")


@pytest.mark.parametrize("option", ["--socket", "--listen", "--docroot"])
def test_an_option_with_nothing_in_it_is_refused(option):
    """--docroot "" was the current directory; it is a variable that was not set."""
    with pytest.raises(ConfigError, match=f"{option} was given nothing"):
        config_of(option, "")


@pytest.mark.parametrize("arguments", [["--user", ""], ["--chdir", ""], ["--workers", ""], [""]], ids=str)
def test_nor_is_nothing_a_value(arguments):
    with pytest.raises(ConfigError, match="= '': expected "):
        config_of(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nosuch"], "unrecognized arguments: --nosuch"),
        (["--work", "2"], "unrecognized arguments: --work"),
        (["--workers"], "argument --workers: expected one argument"),
        (["a:b", "c:d"], "unrecognized arguments: c:d"),
        (["-x"], "unrecognized arguments: -x"),
    ],
    ids=str,
)
def test_a_wrong_option_is_answered_with_the_usage_first(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == EX_USAGE
    said = capsys.readouterr()
    assert said.err.startswith("Usage: pyfpm ")
    assert said.err.endswith(f"pyfpm: {message}\n") or message in said.err
    assert said.out == ""


@pytest.mark.parametrize("option", ["-v", "--version"])
def test_the_version_is_said(option, capsys):
    with pytest.raises(SystemExit) as caught:
        main([option])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(f"pyfpm {__version__} (Python ")


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_the_help_has_every_option_and_two_examples(option, capsys):
    with pytest.raises(SystemExit) as caught:
        main([option])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith("Usage: pyfpm ")
    for action in parser()._actions:
        assert not action.option_strings or action.option_strings[0] in said
    assert said.count("  pyfpm --socket ") == 2


def test_a_wrong_value_is_a_configuration_error(capfd):
    assert main(["--listen", "9000", "--workers", "0"]) == EX_CONFIG
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].endswith(" ALERT: [pool www] pm.max_children must be a positive value")
    assert lines[1].endswith(" ERROR: FPM initialization failed")
    assert lines[2].endswith(" ERROR: expected pm.max_children = 1 or more")


def test_what_is_said_of_a_wrong_value_cannot_forge_a_line(capfd):
    assert main(["-d", "x\n[23-Nov-2026 10:00:00] NOTICE: fine\x1b[2K"]) == EX_CONFIG
    said = capfd.readouterr().err
    assert "\x1b" not in said
    assert "\n[23-Nov-2026 10:00:00] NOTICE: fine" not in said


@pytest.mark.parametrize(
    ("arguments", "warned"),
    [([], True), (["-R"], False), (["--allow-to-run-as-root"], False), (["--user", "nobody"], False)],
    ids=str,
)
def test_root_is_warned_unless_it_is_meant(arguments, warned, monkeypatch, capfd):
    ran: list[Any] = []
    monkeypatch.setattr("pyfpm.master.supervisor.run", lambda config, start: ran.append((config, start)) or 0)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert main(["--socket", "/run/fpm.sock", *arguments]) == 0
    assert len(ran) == 1
    assert ("WARNING: the application runs as root" in capfd.readouterr().err) == warned
