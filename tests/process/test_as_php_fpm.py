"""What php-fpm's users, their log parsers and its own tests see of a server that runs: the same from pyfpm."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from pathlib import Path

import pytest

from support import processes
from support.server import run_pyfpm
from support.waiting import eventually
from support.wire import Wire, ask

CONFIG = """
[global]
error_log = $DIR/error.log
pid = $DIR/pid
process_control_timeout = 10s
{main}
[www]
listen = {listen}
pm = {pm}
pm.max_children = 1
pm.start_servers = 1
pm.min_spare_servers = 1
pm.max_spare_servers = 1
ping.path = /ping
{pool}
"""

START = ["NOTICE: fpm is running, pid N", "NOTICE: ready to handle connections"]
STOP = ["NOTICE: Terminating ...", "NOTICE: exiting, bye-bye!"]
RELOAD = ["NOTICE: Reloading in progress ...", "NOTICE: reloading: a new generation of pool www"]


def config(pool: str = "", main: str = "", listen: str = "$DIR/fpm.sock", pm: str = "static") -> str:
    return CONFIG.format(pool=pool, main=main, listen=listen, pm=pm)


def said(text: str) -> list[str]:
    """Lines of a log without their time, and numbers that differ as N."""
    lines = [re.sub(r"^\[[^]]*\] ", "", line) for line in text.splitlines()]
    return [re.sub(r"(pid|child|fd=) ?\d+", lambda found: found[0].rstrip("0123456789") + "N", line) for line in lines]


def in_stderr(text: str) -> str:
    return f'WARNING: [pool www] child N said into stderr: "{text}"'


def script(server, text: str, name: str = "script.py") -> str:
    path = Path(server.directory) / name
    path.write_text("import os, sys, time\n" + text)
    return str(path)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def stopped(server) -> list[str]:
    assert server.stop() == 0
    return said(server.log())


def test_the_log_of_a_life_has_these_lines_and_no_others(pyfpm):
    server = pyfpm("-O", config=config())
    assert ask(server.socket, "/ping").body == b"pong"
    server.signal(signal.SIGUSR2)
    eventually(lambda: server.logged("ready to handle") == 2, "it has reloaded")
    inherited = f'NOTICE: using inherited socket fd=N, "{server.socket}"'
    assert stopped(server) == [*START, *RELOAD, inherited, *START, *STOP]


def test_with_the_log_on_stderr_the_file_is_there_and_is_reopened(pyfpm):
    server = pyfpm("-O", config=config("access.log = $DIR/access.log"))
    assert (server.directory / "error.log").read_text() == ""
    server.signal(signal.SIGUSR1)
    eventually(lambda: server.logged("re-opened") == 2, "both are reopened")
    assert stopped(server) == [
        *START,
        "NOTICE: error log file re-opened",
        "NOTICE: access log file re-opened",
        *STOP,
    ]
    assert (server.directory / "error.log").read_text() == ""
    assert not (server.directory / "pid").exists()


def test_with_the_log_in_a_file_stderr_has_the_inherited_sockets_of_a_reload_only(pyfpm):
    server = pyfpm(config=config(), wait=False)
    log = server.directory / "error.log"
    eventually(lambda: log.exists() and "ready" in log.read_text(), "it is ready")
    assert server.log() == ""
    server.signal(signal.SIGUSR2)
    inherited = f'NOTICE: using inherited socket fd=N, "{server.socket}"'
    eventually(lambda: said(server.log()) == [inherited], "stderr has it")
    server.stop()
    assert said(log.read_text()) == [*START, *RELOAD, inherited, *START, *STOP]


def test_nothing_is_said_at_all_where_only_warnings_are_wanted(pyfpm):
    server = pyfpm("-O", config=config(main="log_level = warning"), wait=False)
    eventually(lambda: Path(server.socket).exists(), "it listens")
    assert ask(server.socket, "/ping").body == b"pong"
    assert stopped(server) == []


def test_a_reload_names_the_sockets_of_pools_that_are_no_more(pyfpm):
    more = "[more]\nlisten = $DIR/more.sock\npm = ondemand\npm.max_children = 1\n"
    server = pyfpm("-O", config=config() + more)
    server.configure(config())
    sockets = [f'NOTICE: using inherited socket fd=N, "{server.directory}/{name}.sock"' for name in ("fpm", "more")]
    for expected in (sockets, sockets[:1]):
        before = len(said(server.log()))
        server.signal(signal.SIGUSR2)
        eventually(lambda before=before: said(server.log())[before:][-1:] == START[-1:], "it has reloaded")
        assert said(server.log())[before:] == [*RELOAD, *expected, *START]


def test_signals_that_ask_for_a_reload_while_one_waits_are_one_reload(pyfpm):
    server = pyfpm("-O", config=config())
    for _ in range(25):
        server.signal(signal.SIGUSR2)
    # The last one counts: it may be about what was changed just before.
    eventually(lambda: server.logged("fpm is running") >= 2, "it has reloaded")
    begun = lambda: server.logged("Reloading in progress")  # noqa: E731
    eventually(lambda: server.logged("fpm is running") == begun() + 1, "it is done")
    assert 1 <= begun() <= 5
    assert ask(server.socket, "/ping").body == b"pong"


def test_a_hundred_ondemand_pools_are_no_processes_until_somebody_comes(pyfpm):
    # Each had a zygote: 129 took half a minute and 3.8 GB.
    pools = [
        f"[p{n}]\nlisten = $DIR/p{n}.sock\npm = ondemand\npm.max_children = 5\nping.path = /ping\n" for n in range(129)
    ]
    main = "[global]\nerror_log = /dev/null\npid = $DIR/pid\n"
    server = pyfpm("-O", config=main + "".join(pools))
    assert processes.children(server.pid) == []
    server.configure(main + "".join(pools[:128]))
    server.signal(signal.SIGUSR2)
    eventually(lambda: server.logged("ready to handle") == 2, "it has reloaded")
    assert server.logged("using inherited socket") == 129
    assert processes.children(server.pid) == []
    assert ask(f"{server.directory}/p7.sock", "/ping").body == b"pong"
    assert len(server.workers_of("p7")) == 1


# -- what workers say --------------------------------------------------------------------------------------------------

CAUGHT = "catch_workers_output = yes\n"


def test_a_line_without_a_newline_ends_with_its_request(pyfpm):
    server = pyfpm("-O", config=config(CAUGHT))
    path = script(server, "os.write(1, b'one - '); os.write(2, b'two - '); os.write(2, b'three')")
    for n in (1, 2):
        ask(server.socket, path)
        eventually(lambda n=n: server.logged("said into") == 2 * n, "both are logged")
    lines = [line for line in said(server.log()) if "said into" in line]
    assert sorted(lines) == sorted([in_stderr("two - three"), in_stderr("one - ").replace("stderr", "stdout")] * 2)


def test_what_was_said_before_a_sigterm_is_logged_before_it(pyfpm):
    server = pyfpm("-O", config=config(CAUGHT, main="control_socket = $DIR/fpm.sock.ctl"))
    ask(server.socket, script(server, r"os.write(2, b'msg 1\nmsg 2\nmsg 3')"))
    # The last line ends with its request, which is over a moment after its answer.
    eventually(lambda: not server.control("requests"), "the request is over")
    assert stopped(server) == [*START, *map(in_stderr, ("msg 1", "msg 2", "msg 3")), *STOP]


def test_what_the_first_workers_say_comes_after_the_start(pyfpm):
    port = free_port()
    server = pyfpm("-O", config=config(CAUGHT + "listen.allowed_clients = xxx", listen=f"127.0.0.1:{port}"))
    with Wire(f"127.0.0.1:{port}") as refused:
        assert refused.is_closed()
    assert stopped(server) == [
        *START,
        in_stderr("ERROR: Wrong IP address 'xxx' in listen.allowed_clients"),
        in_stderr("ERROR: There are no allowed addresses"),
        in_stderr("ERROR: Connection disallowed: IP address '127.0.0.1' has been dropped."),
        *STOP,
    ]


# -- error_log() and fpm_get_status() ----------------------------------------------------------------------------------

LONG = "error_log('f' * 2000)"


def test_a_message_for_the_log_goes_through_stderr_and_to_the_web_server(pyfpm):
    server = pyfpm("-O", config=config(CAUGHT))
    answer = ask(server.socket, script(server, "error_log('one'); error_log('two')"))
    assert (answer.status, answer.body) == (200, b"")
    assert answer.stderr == b"Python message: one; Python message: two"
    lines = [in_stderr(f"NOTICE: Python message: {text}") for text in ("one", "two")]
    assert stopped(server) == [*START, *lines, *STOP]


def test_a_message_that_is_too_long_is_cut_for_both(pyfpm):
    server = pyfpm("-O", config=config(CAUGHT + "decorate_workers_output = no"))
    stderr = ask(server.socket, script(server, LONG)).stderr
    assert len(stderr) == 1024 - len("NOTICE: \n")
    assert stderr.endswith(b"fff...")
    assert stopped(server) == [*START, f"NOTICE: {stderr.decode()}", *STOP]


def test_where_output_is_not_caught_the_message_is_a_line_of_the_log(pyfpm):
    server = pyfpm("-O", config=config())
    ask(server.socket, script(server, "error_log('one')"))
    assert stopped(server) == [*START, "NOTICE: [pool www] Python message: one", *STOP]


def test_an_uncaught_exception_follows_the_messages(pyfpm):
    server = pyfpm("-O", config=config())
    stderr = ask(server.socket, script(server, "error_log('one')\n1 / 0")).stderr
    assert stderr.startswith(b"Python message: one; Python message: Traceback ")


FIGURES = """pool process-manager start-time start-since accepted-conn listen-queue max-listen-queue listen-queue-len
    idle-processes active-processes total-processes max-active-processes max-children-reached slow-requests procs"""
PROCESS = """pid state start-time start-since requests request-duration request-method request-uri query-string
    request-length user script last-request-cpu last-request-memory"""


def test_a_script_sees_the_figures_of_its_pool(pyfpm):
    server = pyfpm("-O", config=config())
    path = script(server, "import json\necho(json.dumps(fpm_get_status()))")
    figures = json.loads(ask(server.socket, f"{path}?a=b").body)
    assert list(figures) == FIGURES.split()
    (process,) = figures["procs"]
    assert list(process) == PROCESS.split()
    assert (figures["pool"], figures["accepted-conn"], figures["active-processes"]) == ("www", 1, 1)
    assert (process["pid"], process["state"], process["requests"]) == (server.worker, "Running", 1)
    assert (process["request-uri"], process["query-string"], process["user"]) == ("/script.py", "a=b", "-")
    assert (process["last-request-cpu"], process["last-request-memory"]) == (0.0, 0)


def test_a_request_that_was_too_short_to_be_seen_counts_as_one_at_a_time(pyfpm):
    server = pyfpm("-O", config=config("pm.status_path = /status\npm.status_listen = $DIR/status.sock"))
    path = script(server, "")
    assert ask(server.socket, path).status == 200
    status = json.loads(ask(f"{server.directory}/status.sock", "/status?json").body)
    assert (status["accepted conn"], status["active processes"], status["max active processes"]) == (1, 0, 1)


# -- addresses and files -----------------------------------------------------------------------------------------------


def test_the_access_log_has_the_address_of_the_web_server_and_no_user(pyfpm):
    port = free_port()
    server = pyfpm("-O", config=config("access.log = $DIR/access.log", listen=f"127.0.0.1:{port}"))
    ask(f"127.0.0.1:{port}", "/ping", REMOTE_ADDR="192.0.2.7")
    log = server.directory / "access.log"
    eventually(lambda: log.read_text(), "it is logged")
    assert re.fullmatch(
        r'127\.0\.0\.1 -  \S+ \+0000 "GET /ping" 200\n', re.sub(r" [+-]\d{4}", " +0000", log.read_text())
    )


def test_the_access_log_may_be_stderr_and_stays_it(pyfpm):
    # php-fpm bug 8885: after a reload it went to the error log.
    server = pyfpm(config=config("access.log = /dev/stderr"), wait=False)
    log = server.directory / "error.log"
    eventually(lambda: log.exists() and "ready" in log.read_text(), "it is ready")
    for number, before in (
        (None, "ready"),
        (signal.SIGUSR1, "access log file re-opened"),
        (signal.SIGUSR2, "inherited"),
    ):
        if number is not None:
            server.signal(number)
        eventually(lambda before=before: before in log.read_text(), before)
        known = server.logged('"GET /ping" 200')
        ask(server.socket, "/ping")
        eventually(lambda known=known: server.logged('"GET /ping" 200') == known + 1, "it is logged")
    assert "GET" not in log.read_text()


def test_a_path_that_is_too_long_for_a_socket_is_cut(pyfpm, place):
    path = f"{place}/{'long-' * 40}.sock"
    server = pyfpm("-O", config=config(listen=path))
    cut = os.fsencode(path)[:107].decode()
    expected = (
        f"cannot bind to UNIX socket '{path}' as path is too long (found length: {len(path)}, maximal length: 107)"
    )
    assert said(server.log())[0] == f"WARNING: [pool www] {expected}, trying cut socket path instead '{cut}'"
    assert ask(cut, "/ping").body == b"pong"


def test_and_a_test_of_the_configuration_refuses_it(place):
    path = f"{place}/{'long-' * 40}.sock"
    (place / "fpm.conf").write_text(config(listen=path).replace("$DIR", str(place)))
    done = run_pyfpm("-t", "-R", "-y", str(place / "fpm.conf"))
    assert done.returncode == 78
    assert said(done.stderr)[-1] == "ERROR: FPM initialization failed"
    assert f"[pool www] cannot bind to UNIX socket '{path}' as path is too long" in done.stderr


def test_that_everybody_can_come_is_said_by_a_test_and_not_by_a_start(pyfpm, place):
    (place / "fpm.conf").write_text(config(listen="0.0.0.0:9999").replace("$DIR", str(place)))
    assert "can be reached from other machines" in run_pyfpm("-t", "-R", "-y", str(place / "fpm.conf")).stderr
    server = pyfpm("-O", config=config(listen=f"0.0.0.0:{free_port()}"))
    assert stopped(server) == [*START, *STOP]


@pytest.mark.parametrize(
    ("directives", "expected"),
    [
        ({"main": "error_log = /nonexistent/log"}, "failed to open error_log (/nonexistent/log)"),
        ({"main": "pid = /nonexistent/pid"}, "Unable to create the PID file (/nonexistent/pid)."),
        ({"pool": "access.log = /nonexistent/log"}, "failed to open access log (/nonexistent/log)"),
    ],
    ids=["error_log", "pid", "access.log"],
)
def test_a_file_that_cannot_be_made_keeps_it_from_starting(pyfpm, directives, expected):
    server = pyfpm("-O", config=config(**directives), wait=False)
    assert server.wait() == 78
    lines = said(server.log())
    assert lines[0] == f"ERROR: {expected}: No such file or directory (2)"
    assert lines[-1] == "ERROR: FPM initialization failed"
