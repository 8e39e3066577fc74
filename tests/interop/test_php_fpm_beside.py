"""php-fpm itself beside pyfpm, on the same pool file: what its users' tools look at is the same, or is named here.

What differs on purpose stands in ``EXPECTED`` and its like, so that it can't grow without being seen.
"""

from __future__ import annotations

import html
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

from support.php_fpm import Fpm
from support.server import command
from support.waiting import PATIENCE_S, eventually
from support.webservers import program
from support.wire import Answer

POOL = """
[global]
error_log = $DIR/error.log
pid = $DIR/pid
daemonize = no
{main}
[www]
user = www-data
listen = $DIR/fpm.sock
{pool}
"""

STATIC = """
pm = static
pm.max_children = 1
pm.status_path = /status
ping.path = /ping
catch_workers_output = yes
"""

SCRIPTS = {
    "php": {
        "hello": "<?php header('X-Answer: 42'); echo 'hello';",
        "says": "<?php error_log(str_repeat('a', 2000)); file_put_contents('php://stderr', \"one\\ntwo\\n\");",
        "fails": "<?php throw new Exception('no');",
        "figures": "<?php header('Content-Type: application/json'); echo json_encode(fpm_get_status());",
    },
    "py": {
        "hello": "header('X-Answer: 42'); echo('hello')",
        "says": "import os\nerror_log('a' * 2000)\nos.write(2, b'one\\ntwo\\n')",
        "fails": "raise Exception('no')",
        "figures": "import json\nheader('Content-Type: application/json'); echo(json.dumps(fpm_get_status()))",
    },
}


Both = Callable[..., tuple[Fpm, Fpm]]


@pytest.fixture
def both() -> Iterator[Both]:
    if os.geteuid():
        pytest.skip("php-fpm's pools are run as another user, for which one has to be root")
    php = program("php-fpm8.2", "php8.2-fpm")
    started: list[Fpm] = []

    def start(pool: str = STATIC, main: str = "", *arguments: str, whole: str | None = None) -> tuple[Fpm, Fpm]:
        config = POOL.format(main=main, pool=pool) if whole is None else whole
        pair = (
            Fpm("php", [php], config, SCRIPTS["php"], *arguments),
            Fpm("py", command(), config, SCRIPTS["py"], *arguments),
        )
        started.extend(pair)
        for each in pair:
            each.wait_until_ready() if not arguments else each.process.wait(PATIENCE_S)
        return pair

    yield start
    for each in started:
        each.discard()


# -- pages -------------------------------------------------------------------------------------------------------------

# Not the same in two servers, or at two times; and php-fpm does not know the length of a unix socket's queue.
OWN = r"\b\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}|(?<!\w)\d{2,}(?!\w)"
ITS_OWN = r"((?:start.since|queue.len(?:gth)?|duration|memory)\W+(?:th><td>)?)[\d.]+"


def page(fpm: Fpm, query: str) -> list[str]:
    text = fpm.ask(f"/status?{query}" if query else "/status").body.decode()
    if "openmetrics" in query:
        text = text[text.index("# HELP phpfpm_up") :]  # ours come before
    text = re.sub(OWN, "N", text.replace(str(fpm.directory), "$DIR").replace("pyfpm Status", "PHP-FPM Status"))
    text = re.sub(ITS_OWN, r"\1N", text)
    if query == "html&full":  # a table of processes, whose columns have no names in them
        text = re.sub(r"<td>[\d.N]+</td>", "<td>N</td>", text)
    return html.unescape(text.replace(".php", ".py")).splitlines()


@pytest.mark.parametrize("query", ["", "html", "xml", "openmetrics", "full", "html&full", "xml&full", "nonsense"])
def test_a_status_page_is_the_same_line_by_line(both, query):
    for each in (fpms := both()):
        each.ask('hello?a=b"c<d')
    php, py = (page(each, query) for each in fpms)
    assert py == php


@pytest.mark.parametrize("query", ["json", "json&full"])
def test_the_status_in_json_has_the_same_names_in_this_order_and_of_these_types(both, query):
    for each in (fpms := both()):
        each.ask("hello")
    php, py = (json.loads(each.ask(f"/status?{query}").body) for each in fpms)

    def shape(fields: dict[str, object], among: dict[str, object]) -> list[tuple[str, type]]:
        return [(name, type(value)) for name, value in fields.items() if name in among]

    assert shape(py, php) == shape(php, php)
    if query == "json":
        assert set(py) == set(php)
    for name in (
        "pool",
        "process manager",
        "accepted conn",
        "active processes",
        "total processes",
        "max active processes",
    ):
        assert py[name] == php[name], name
    for ours, theirs in zip(py.get("processes", ()), php.get("processes", ()), strict=True):
        assert shape(ours, theirs) == shape(theirs, theirs)
        assert (ours["state"], ours["requests"], ours["request uri"]) == (
            theirs["state"],
            theirs["requests"],
            theirs["request uri"],
        )


def test_fpm_get_status_has_the_same_names_in_this_order_and_of_these_types(both):
    php, py = (json.loads(each.ask("figures").body) for each in both())

    def shape(fields: dict[str, object]) -> list[tuple[str, str]]:
        # PHP's JSON shows a float without a fraction as an int.
        return [(name, re.sub("float", "int", type(value).__name__)) for name, value in fields.items()]

    assert shape(py) == shape(php)
    assert [*map(shape, py["procs"])] == [*map(shape, php["procs"])]


def head(answer: Answer) -> dict[str, str]:
    """php-fpm names the encoding of its pages; ours have none but ASCII."""
    return {name: re.sub(r"; ?charset=.*", "", value) for name, value in answer.head.items()}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "uri", ["/ping", "/status", "/status?json", "/status?xml", "/status?html", "/status?openmetrics"]
)
def test_a_page_has_the_same_headers(both, uri, method):
    php, py = (each.ask(uri, REQUEST_METHOD=method) for each in both())
    assert head(py) == head(php)
    assert bool(py.body) == bool(php.body)


# -- answers -----------------------------------------------------------------------------------------------------------


def test_a_script_and_one_that_is_not_there_are_answered_in_the_same_way(both):
    fpms = both()
    php, py = (each.ask("hello") for each in fpms)
    assert (head(py), py.body, py.stderr, py.app_status) == (head(php), php.body, php.stderr, php.app_status)
    php, py = (each.ask("missing") for each in fpms)
    assert (py.status, py.body, py.stderr) == (php.status, php.body, php.stderr)
    php, py = (each.ask("fails") for each in fpms)
    assert py.head["status"] == php.head["status"] == "500 Internal Server Error"
    assert (php.stderr[:13], py.stderr[:16]) == (b"PHP message: ", b"Python message: ")


FORMAT = "%R|%u|%m|%r|%Q|%q|%s|%l|%n|%{REMOTE_PORT}e|%{NOPE}e|%{X-Answer}o|%{X-Nope}o|%%|%f"


def test_the_access_log_has_the_same_lines(both):
    fpms = both(STATIC + f'access.log = $DIR/access.log\naccess.format = "{FORMAT}"\n')
    lines = []
    for each in fpms:
        each.ask("/ping")
        each.ask("/status?json")
        each.ask("hello?a=b&c")
        each.ask("hello", REMOTE_USER="joe", HTTP_AUTHORIZATION="Basic am9lOng=", REMOTE_PORT="77")
        each.ask("hello", REQUEST_METHOD="POST", CONTENT_LENGTH="0")
        log = each.directory / "access.log"
        eventually(lambda log=log: len(log.read_text().splitlines()) == 5, "all are logged")
        lines.append(log.read_text().replace(str(each.directory), "$DIR").replace(".php", ".py").splitlines())
    php, py = lines
    # Of a unix socket there is no address, and we have the visitor's in its place.
    assert [line.replace("192.0.2.1|", "-|", 1) for line in py] == php


# -- the log -----------------------------------------------------------------------------------------------------------


def test_start_reopening_reload_and_stop_are_told_in_the_same_lines(both):
    fpms = both(STATIC + "access.log = $DIR/access.log\n")
    for each in fpms:
        each.process.send_signal(signal.SIGUSR1)
        eventually(lambda each=each: "access log file re-opened" in each.log(), "the logs are open again")
        each.ask("/ping")
        each.process.send_signal(signal.SIGUSR2)
        eventually(lambda each=each: each.log().count("ready to handle") == 2, "it has reloaded")
        each.ask("/ping")
        assert each.stop() == 0
    php, py = (each.said() for each in fpms)
    # php-fpm's children end to open their logs.
    assert py == [line for line in php if not re.search(r"child N (exited with code 0|started)", line)]
    for each in fpms:
        assert {"fpm.sock", "pid"}.isdisjoint(os.listdir(each.directory))
        assert (each.directory / "error.log").read_text() == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_each_way_to_stop_has_the_same_lines_and_status(both, number):
    php, py = both()
    assert py.stop(number) == php.stop(number) == 0
    assert py.said() == php.said()


@pytest.mark.parametrize("decorate", ["yes", "no"])
@pytest.mark.parametrize("limit", [600, 1024, 4096])
def test_what_a_worker_says_is_told_in_the_same_lines(both, decorate, limit):
    fpms = both(STATIC + f"decorate_workers_output = {decorate}\n", f"log_limit = {limit}")
    for each in fpms:
        each.ask("says")
        eventually(lambda each=each: re.search('^two$|"two"', each.log(), re.MULTILINE), "it is logged")
        each.stop()
    php, py = fpms
    assert py.said() == php.said()
    longest = max(map(len, py.log().splitlines())) + 1
    assert longest <= limit
    if limit < 2000:  # else it has the programs' names in it
        assert longest == max(map(len, php.log().splitlines())) + 1 == limit


def test_the_titles_of_the_processes_are_the_same_but_for_the_name(both):
    def titles(fpm: Fpm) -> set[str]:
        pids = f"{fpm.process.pid}"
        listed = subprocess.run(
            ["ps", "-o", "args=", "-p", pids, "--ppid", pids], capture_output=True, text=True, check=True
        )
        return {line.strip().replace(str(fpm.directory), "$DIR") for line in listed.stdout.splitlines()}

    php, py = both()
    ours = {title.replace("pyfpm: ", "php-fpm: ") for title in titles(py)}
    assert ours - titles(php) == {"php-fpm: pool www zygote"}
    assert titles(php) <= ours


# -- the configuration -------------------------------------------------------------------------------------------------

DYNAMIC = """
pm = dynamic
pm.max_children = 5
pm.start_servers = 2
pm.min_spare_servers = 1
pm.max_spare_servers = 3
"""

COMMON = """
pm.max_requests = 500
pm.process_idle_timeout = 10s
pm.max_spawn_rate = 16
pm.status_path = /status
ping.path = /ping
ping.response = pong
listen.owner = www-data
listen.group = www-data
listen.mode = 0666
listen.backlog = 64
listen.allowed_clients = 127.0.0.1,::1
access.log = $DIR/$pool.access.log
access.format = "%R - %u %t \\"%m %r%Q%q\\" %s"
access.suppress_path[] = /ping
access.suppress_path[] = /health
slowlog = $DIR/slow.log
request_slowlog_timeout = 2
request_slowlog_trace_depth = 5
request_terminate_timeout = 1m
rlimit_files = 1024
rlimit_core = 1024
chdir = /tmp
catch_workers_output = yes
decorate_workers_output = no
clear_env = no
security.limit_extensions = .php .py
env[PLACE] = here
php_value[date.timezone] = Europe/London
php_admin_value[memory_limit] = 128M
php_flag[display_errors] = On
php_admin_flag[log_errors] = 1
"""

GLOBAL = """
log_limit = 2048
log_buffering = no
emergency_restart_threshold = 10
emergency_restart_interval = 1m
process_control_timeout = 10s
process.max = 128
rlimit_files = 2048
systemd_interval = 5
"""

# Shown by their names, by our own defaults, and in quotes, as a file would have it.
EXPECTED = {"syslog.ident", "syslog.facility", "log_level", "access.format"}


def test_the_dump_of_a_configuration_has_the_same_lines_in_the_same_order(both):
    php, py = (each.said() for each in both(DYNAMIC + COMMON, GLOBAL, "-tt", "-R"))

    def name(line: str) -> str:
        return line.removeprefix("NOTICE:").strip().partition(" ")[0]

    def told(lines: list[str]) -> list[str]:
        return [line for line in lines if line.startswith("NOTICE:") and name(line) not in EXPECTED]

    theirs = told(php)
    names = {name(line) for line in theirs}
    # Ours has directives that are only ours; a pool's error_log is one, which has the name of a global one.
    ours = [line for line in told(py) if name(line) in names and line != "NOTICE: \terror_log = undefined"]
    # Arrays come in another order from php-fpm, the last one first.
    assert [line for line in ours if "]" not in name(line)] == [line for line in theirs if "]" not in name(line)]
    assert sorted(ours) == sorted(theirs)
    assert theirs[-1] == "NOTICE: configuration file $DIR/fpm.conf test is successful"


WRONG = {
    "unknown directive": DYNAMIC + "nonsense = 1",
    "not a number": DYNAMIC + "pm.max_requests = many",
    "not a boolean": DYNAMIC + "catch_workers_output = perhaps",
    "unknown manager": "pm = some",
    "no manager": "",
    "no number of children": "pm = static",
    "fewer spares than need be": DYNAMIC + "pm.max_spare_servers = 9",
    "start outside of spares": DYNAMIC + "pm.start_servers = 4",
    "no spawn rate": DYNAMIC + "pm.max_spawn_rate = 0",
    "no idle timeout": "pm = ondemand\npm.max_children = 1\npm.process_idle_timeout = 0",
    "array with a key": DYNAMIC + "access.suppress_path[ab] = /x",
    "array without a slash": DYNAMIC + "access.suppress_path[] = x",
    "array without a key": DYNAMIC + "php_value[] = x",
    "no array": DYNAMIC + "php_value = x",
    "flag that is none": DYNAMIC + "php_flag[x] = perhaps",
    "status path": DYNAMIC + "pm.status_path = x",
    "ping path": DYNAMIC + "ping.path = /a b",
    "slow log missing": DYNAMIC + "request_slowlog_timeout = 5",
    "slow after the end": DYNAMIC + "request_slowlog_timeout = 5\nrequest_terminate_timeout = 3\nslowlog = $DIR/slow",
    "no such directory": DYNAMIC + "chdir = /nonexistent",
    "no such root": DYNAMIC + "chroot = /nonexistent",
    "no such prefix": DYNAMIC + "prefix = /nonexistent",
    "priority": DYNAMIC + "process.priority = -30",
    "no value": DYNAMIC + "nonsense",
    "no such owner": DYNAMIC + "listen.owner = nonexistent",
    "no such group": DYNAMIC + "listen.group = nonexistent",
    "no such user": DYNAMIC + "user = nonexistent",
    "no such group of the user": DYNAMIC + "group = nonexistent",
    "twice the same address": DYNAMIC + "[again]\nuser = www-data\nlisten = $DIR/fpm.sock\n" + DYNAMIC,
}


@pytest.mark.parametrize("pool", WRONG.values(), ids=WRONG)
def test_a_wrong_configuration_is_refused_in_the_same_lines(both, pool):
    php, py = both(pool, "", "-t")
    assert py.process.returncode == php.process.returncode == 78
    theirs = php.said()
    # The C library's error may be Success; ours may have a line on what was expected instead behind the others.
    assert theirs[-1] == "ERROR: FPM initialization failed"
    assert without_reason(py.said()[: len(theirs)]) == without_reason(theirs)


def without_reason(lines: list[str]) -> list[str]:
    return [re.sub(r"'nonexistent': .*", "'nonexistent': ...", line) for line in lines]


@pytest.mark.parametrize(
    ("main", "pool"),
    [
        ("log_level = loud", DYNAMIC),
        ("log_limit = 100", DYNAMIC),
        ("nonsense = 1", DYNAMIC),
        ("error_log = /nonexistent/log", DYNAMIC),
        ("pid = /nonexistent/pid", DYNAMIC),
        ("", DYNAMIC + "access.log = /nonexistent/log"),
        ("", DYNAMIC + "listen = /nonexistent/socket"),
        ("", DYNAMIC + "listen = 192.0.2.1:9999"),
        ("", DYNAMIC + "listen = 127.0.0.1:69002"),
    ],
    ids=lambda text: text.strip().splitlines()[-1] if text.strip() else "-",
)
def test_what_keeps_it_from_starting_is_told_in_the_same_lines(both, main, pool):
    php, py = both(pool, main)
    assert py.process.wait(PATIENCE_S) == php.process.wait(PATIENCE_S) == 78
    theirs = php.said()
    assert theirs[-1] == "ERROR: FPM initialization failed"
    # php-fpm opens files while it checks the configuration, we while we start.
    checked = "ERROR: failed to post process the configuration"
    assert [line for line in py.said() if line != checked][: len(theirs)][:1] == theirs[:1]
    assert theirs[-1] in py.said()


def test_an_option_that_is_unknown_and_the_version_end_in_the_same_way():
    php = program("php-fpm8.2", "php8.2-fpm")
    for option, first in (("--nonsense", "Usage: "), ("-v", "")):
        done = [
            subprocess.run([*each, option], capture_output=True, text=True, timeout=PATIENCE_S)
            for each in ([php], command())
        ]
        assert done[0].returncode == done[1].returncode
        assert all((each.stdout + each.stderr).startswith(first) for each in done)
