"""The command line with a configuration file, and the environment beneath it: what is run, tested, refused."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from pyfpm.cli import configuration, from_environment, main, parser
from pyfpm.config import Config, ConfigError, StartOptions

EX_USAGE, EX_CONFIG = 64, 78
ROOT = Path(__file__).parent.parent.parent
TEXT = "[global]\nerror_log = {0}/log\n[www]\nlisten = {0}/www.sock\npm = static\npm.max_children = 2\n"


@pytest.fixture(autouse=True)
def nobody(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for name in [name for name in os.environ if name.startswith("PYFPM_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "pyfpm.conf"
    path.write_text(TEXT.format(tmp_path))
    return path


@pytest.fixture
def ran(monkeypatch):
    """What would have been run."""
    calls: list[tuple[Config, StartOptions]] = []
    monkeypatch.setattr("pyfpm.master.supervisor.run", lambda config, options: calls.append((config, options)) or 0)
    return calls


def lines(text: str) -> list[str]:
    """The log without its times."""
    return [re.sub(r"^\[\d\d-\w{3}-\d{4} [\d:.]+\] ", "", line) for line in text.splitlines()]


def read(*arguments: str, **environment: str) -> Config:
    return configuration(parser().parse_args(arguments), from_environment(environment))


# -- -t and -tt -------------------------------------------------------------------------------------------------------


def test_a_file_that_is_right_passes_its_test(file, capfd):
    assert main(["-y", str(file), "-t"]) == 0
    said = capfd.readouterr()
    assert lines(said.err) == [f"NOTICE: configuration file {file} test is successful"]
    assert said.out == ""


def test_tt_prints_the_whole_configuration(file, capfd):
    assert main(["-tt", "-y", str(file)]) == 0
    said = lines(capfd.readouterr().err)
    assert said[0] == "NOTICE: [global]"
    assert f"NOTICE: \terror_log = {file.parent}/log" in said
    assert "NOTICE: [www]" in said
    assert "NOTICE: \tpm.max_children = 2" in said
    assert said[-1] == f"NOTICE: configuration file {file} test is successful"
    assert "pm.max_children = 2" in file.read_text(), "nothing else was printed twice"


def test_tt_says_what_is_noted_first(file, capfd):
    with file.open("a") as out:
        out.write("pm = dynamic\npm.min_spare_servers = 1\npm.max_spare_servers = 2\n")
    assert main(["-y", str(file), "-tt"]) == 0
    said = lines(capfd.readouterr().err)
    assert said[0] == "NOTICE: [pool www] pm.start_servers is not set. It's been set to 1."
    assert "NOTICE: \tpm.start_servers = 1" in said


@pytest.mark.parametrize("switches", [["-t"], ["-tt"], []], ids=str)
def test_a_file_that_is_wrong_is_told_and_nothing_runs(switches, file, ran, capfd):
    with file.open("a") as out:
        out.write("pm.max_childen = 1\n")
    assert main(["-y", str(file), *switches]) == EX_CONFIG
    assert lines(capfd.readouterr().err) == [
        f"ERROR: [{file}:7] unknown entry 'pm.max_childen'",
        f"ERROR: failed to load configuration file '{file}'",
        "ERROR: FPM initialization failed",
        "ERROR: did you mean pm.max_children?",
    ]
    assert ran == []


@pytest.mark.parametrize(
    ("directive", "what"),
    [
        ("error_log={0}/none/log", "error_log ({0}/none/log): No such file or directory (2)"),
        ("access.log={0}/none/log", "access log ({0}/none/log): No such file or directory (2)"),
        ("access.log={0}", "access log ({0}): Is a directory (21)"),
        ("slowlog={0}/none/log", "slowlog ({0}/none/log): No such file or directory (2)"),
    ],
)
def test_a_log_that_cannot_be_opened_fails_the_test(directive, what, file, tmp_path, capfd):
    """It used to pass -t, and the start failed."""
    options = ["-d", "request_slowlog_timeout=1s", "-d", "slowlog=/dev/null", "-d", directive.format(tmp_path)]
    assert main(["-y", str(file), *options, "-tt"]) == EX_CONFIG
    assert lines(capfd.readouterr().err) == [
        f"ERROR: failed to open {what.format(tmp_path)}",
        "ERROR: failed to post process the configuration",
        "ERROR: FPM initialization failed",
    ]


def test_a_test_makes_no_log(file, tmp_path):
    assert main(["-y", str(file), "-t", "-d", f"access.log={tmp_path}/access"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pyfpm.conf"]


def test_a_test_needs_no_file(capfd):
    assert main(["--listen", "9000", "-t"]) == 0
    assert lines(capfd.readouterr().err) == ["NOTICE: configuration of the command line test is successful"]


@pytest.mark.parametrize("switches", [[], ["-t"], ["--workers", "2"]], ids=str)
def test_without_file_and_address_both_ways_are_shown(switches, capfd):
    assert main(switches) == EX_CONFIG
    said = capfd.readouterr().err
    assert "--socket PATH or --listen HOST:PORT, or a configuration file with -y FILE" in said


def test_a_file_and_an_application_do_not_go_together(file, capfd):
    assert main(["-y", str(file), "mod:app"]) == EX_CONFIG
    assert "each says app = MODULE:CALLABLE in its section" in capfd.readouterr().err


def test_the_sample_files_are_right(capfd, tmp_path):
    assert main(["-y", str(ROOT / "examples/pyfpm.conf"), "-d", f"error_log={tmp_path}/log", "-t"]) == 0
    assert "WARNING" not in capfd.readouterr().err


def test_every_line_of_the_sample_files_may_be_used(tmp_path):
    """What is commented out there would be taken as it stands, but for what this machine may not have, and what cannot
    be had beside another (pm.threads)."""
    skipped = ("prefix", "chroot", "chdir", "doc_root", "app", "listen.acl", "memory_limit")
    for name in ("pyfpm.conf", "pool.d/www.conf"):
        text = (ROOT / "examples" / name).read_text()
        used = [line.removeprefix(";") for line in text.splitlines() if re.match(r";[a-z]", line)]
        (tmp_path / Path(name).name).write_text(
            re.sub(r"(?m)^;.*\n", "", text)
            + "\n".join(line for line in used if not line.startswith(skipped)).replace("pool.d/", "")
        )
    config = read("-y", str(tmp_path / "www.conf"))
    assert config.pools[0].ping_path == "/ping"


# -- what is run ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("switches", "daemonize"),
    [([], True), (["-F"], False), (["--nodaemonize"], False), (["-D"], True), (["-d", "daemonize=no"], False),
     (["-d", "daemonize=no", "-D"], True)],
    ids=str,
)  # fmt: skip
def test_a_file_goes_to_the_background_unless_told_otherwise(switches, daemonize, file, ran):
    assert main(["-y", str(file), *switches]) == 0
    [(config, options)] = ran
    assert config.path == str(file)
    assert options.daemonize is daemonize


@pytest.mark.parametrize(("switches", "daemonize"), [([], False), (["-D"], True)], ids=str)
def test_without_a_file_it_stays(switches, daemonize, ran):
    assert main(["--listen", "9000", *switches]) == 0
    assert ran[0][1].daemonize is daemonize


def test_switches_arrive(file, ran):
    assert main(["-y", str(file), "-O", "-R", "-n", "-e", "-g", "/run/x.pid"]) == 0
    [(config, options)] = ran
    assert (options.force_stderr, options.allow_root, config.main.pid) == (True, True, "/run/x.pid")


def test_c_is_accepted_and_said_to_do_nothing(file, ran, capfd):
    assert main(["-y", str(file), "-c", "/etc/php.ini"]) == 0
    assert "NOTICE: -c /etc/php.ini is ignored" in capfd.readouterr().err
    assert len(ran) == 1


@pytest.mark.parametrize("option", ["-i", "-m"])
def test_what_only_php_has_is_refused(option, capsys):
    with pytest.raises(SystemExit) as caught:
        main([option])
    assert caught.value.code == EX_USAGE
    assert capsys.readouterr().err.startswith("Usage: pyfpm ")


def test_a_reload_reads_file_and_command_line_again_from_where_we_started(file, ran, monkeypatch):
    monkeypatch.chdir(file.parent)
    assert main(["-y", "pyfpm.conf", "-d", "access.log=a.log", "--workers", "3"]) == 0
    [(config, options)] = ran
    monkeypatch.chdir("/")
    assert options.reload() == config
    with file.open("a") as out:
        out.write("pm.max_requests = 5\n")
    again = options.reload().pools[0]
    assert (again.pm_max_requests, again.pm_max_children, again.access_log) == (5, 3, f"{file.parent}/a.log")
    file.write_text("nosuch")
    with pytest.raises(ConfigError, match="value is NULL"):
        options.reload()


# -- root -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "switches", "message"),
    [
        ("", [], "ALERT: [pool www] user has not been defined"),
        ("user = root", [], "ERROR: [pool www] please specify user and group other than root"),
        ("user = 0", [], "ERROR: [pool www] please specify user and group other than root"),
        ("user = nobody\ngroup = root", [], "ERROR: [pool www] please specify user and group other than root"),
        ("user = nosuch", ["-R"], "ERROR: [pool www] cannot get uid for user 'nosuch'"),
        ("user = nobody\ngroup = nosuch", [], "ERROR: [pool www] cannot get gid for group 'nosuch'"),
    ],
    ids=repr,
)
def test_no_pool_of_a_file_runs_as_root(user, switches, message, file, ran, monkeypatch, capfd):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with file.open("a") as out:
        out.write(user)
    assert main(["-y", str(file), *switches]) == EX_CONFIG
    assert lines(capfd.readouterr().err)[:2] == [message, "ERROR: FPM initialization failed"]
    assert ran == []


@pytest.mark.parametrize(("user", "switches"), [("user = nobody", []), ("", ["-R"]), ("user = root", ["-R"])], ids=str)
def test_unless_it_is_meant(user, switches, file, ran, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with file.open("a") as out:
        out.write(user)
    assert main(["-y", str(file), *switches]) == 0
    assert len(ran) == 1


# -- command line over environment over file -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "environment", "workers"),
    [
        ([], {}, 2),
        ([], {"PYFPM_WORKERS": "3"}, 3),
        ([], {"PYFPM_DIRECTIVES": "pm.max_children=3 pm.max_requests=9"}, 3),
        ([], {"PYFPM_DIRECTIVES": "pm.max_children=3", "PYFPM_WORKERS": "4"}, 4),
        (["--workers", "5"], {"PYFPM_WORKERS": "3"}, 5),
        (["-d", "pm.max_children=5"], {"PYFPM_WORKERS": "3"}, 5),
        (["-d", "pm.max_children=5", "--workers", "6"], {"PYFPM_WORKERS": "3"}, 6),
    ],
    ids=str,
)
def test_the_command_line_counts_more_than_the_environment_and_that_more_than_the_file(
    arguments, environment, workers, file
):
    assert read("-y", str(file), *arguments, **environment).pools[0].pm_max_children == workers
    assert read(*arguments, **environment, PYFPM_FPM_CONFIG=str(file)).pools[0].pm_max_children == workers


@pytest.mark.parametrize(
    ("arguments", "environment", "listen"),
    [
        ([], {"PYFPM_SOCKET": "/a '/b c'"}, ("/a", "/b c")),
        ([], {"PYFPM_SOCKET": "/a", "PYFPM_LISTEN": "9000"}, ("/a", "9000")),
        (["--listen", "9001"], {"PYFPM_SOCKET": "/a"}, ("9001",)),
    ],
    ids=str,
)
def test_addresses_of_the_environment(arguments, environment, listen):
    assert read(*arguments, **environment).pools[0].listen == listen


@pytest.mark.parametrize(
    ("arguments", "environment", "daemonize"),
    [
        ([], {"PYFPM_DAEMONIZE": "no"}, False),
        ([], {"PYFPM_DAEMONIZE": "yes"}, True),
        (["-D"], {"PYFPM_DAEMONIZE": "no"}, True),
        (["-F"], {"PYFPM_DAEMONIZE": "yes"}, False),
    ],
    ids=str,
)
def test_switches_of_the_environment(arguments, environment, daemonize, file, ran, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["-y", str(file), *arguments]) == 0
    assert ran[0][1].daemonize is daemonize


def test_a_test_may_be_asked_for_by_the_environment(file, ran, monkeypatch):
    monkeypatch.setenv("PYFPM_TEST", "yes")
    monkeypatch.setenv("PYFPM_VERSION", "1.2.3")
    assert main(["-y", str(file)]) == 0
    assert ran == []


def test_a_switch_of_the_environment_is_yes_or_no():
    with pytest.raises(ConfigError, match="PYFPM_FORCE_STDERR = 'loud': expected yes or no"):
        read(PYFPM_FORCE_STDERR="loud")


def test_every_option_may_come_from_the_environment():
    for action in parser()._actions:
        if action.dest not in ("help", "version", "info", "modules"):
            found: Any = from_environment({f"PYFPM_{action.dest.upper()}": "1"})
            assert getattr(found, action.dest) is not None
