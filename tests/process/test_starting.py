"""Start: what a good command line gives, and what a wrong one says."""

from __future__ import annotations

import os
import signal
import socket
import stat
from pathlib import Path

import pytest

from support import processes
from support.server import run_pyfpm
from support.waiting import eventually
from support.wire import ask

HELLO = 'import os\necho("hello from ", os.getpid())\n'

# Exit statuses of sysexits.h, as php-fpm uses them.
EX_USAGE, EX_CONFIG = 64, 78


@pytest.fixture
def hello(tmp_path: Path) -> str:
    (tmp_path / "hello.py").write_text(HELLO)
    return str(tmp_path / "hello.py")


def test_there_are_as_many_workers_as_were_asked_for(pyfpm):
    server = pyfpm("--workers", "3")
    assert len(server.workers) == 3


def test_one_worker_is_the_default(pyfpm):
    assert len(pyfpm().workers) == 1


def test_the_master_the_zygote_and_the_workers_have_php_fpms_titles(pyfpm):
    server = pyfpm()
    assert processes.title(server.pid) == "pyfpm: master process"
    assert processes.title(server.zygote) == "pyfpm: pool www zygote"
    assert processes.title(server.worker) == "pyfpm: pool www"


def test_ipv4_ipv6_and_unix_sockets_are_listened_on_at_once(pyfpm, hello, place):
    path = str(place / "another.sock")
    server = pyfpm("--listen", "127.0.0.1:0", "--listen", "[::1]:0", "--socket", path)
    assert len(server.addresses) == 3
    for address in server.addresses:
        assert ask(address, hello).body == b"hello from %d" % server.worker


def test_a_port_alone_is_on_loopback_only(pyfpm):
    server = pyfpm("--listen", ":0")
    (address,) = server.addresses
    assert address.startswith("127.0.0.1:")


def test_a_socket_that_others_can_reach_is_warned_about(pyfpm):
    server = pyfpm("--listen", "0.0.0.0:0")
    assert server.logged("can be reached from other machines") == 1


def test_the_unix_socket_has_the_mode_that_was_asked_for(pyfpm):
    server = pyfpm("--socket-mode", "0600")
    assert stat.S_IMODE(os.stat(server.socket).st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a socket away")
def test_the_unix_socket_has_the_owner_that_was_asked_for(pyfpm):
    server = pyfpm("--socket-owner", "nobody", "--socket-group", "daemon")
    info = os.stat(server.socket)
    assert (info.st_uid, info.st_gid) == (65534, 1)


def test_a_stale_socket_file_is_replaced(pyfpm, hello, place):
    path = str(place / "stale.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as nobody:
        nobody.bind(path)
    assert os.path.exists(path)
    server = pyfpm("--socket", path)
    assert ask(path, hello).body == b"hello from %d" % server.worker


def test_the_socket_of_a_living_server_is_not_taken_and_the_server_not_disturbed(pyfpm, hello):
    living = pyfpm()
    second = run_pyfpm("-R", "--socket", living.socket)
    assert second.returncode == EX_CONFIG
    assert f"another server is listening on '{living.socket}' already: process {living.pid} " in second.stderr
    assert ask(living.socket, hello).body == b"hello from %d" % living.worker


def test_a_port_that_is_in_use_is_said_to_be(pyfpm):
    living = pyfpm("--listen", "127.0.0.1:0")
    (address,) = living.addresses
    second = run_pyfpm("-R", "--listen", address)
    assert second.returncode == EX_CONFIG
    assert f"unable to bind listening socket for address '{address}': Address already in use (98)" in second.stderr


def test_a_file_that_is_no_socket_is_left_alone(tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    refused = run_pyfpm("-R", "--socket", str(path))
    assert refused.returncode == EX_CONFIG
    assert "exists and is not a socket" in refused.stderr
    assert path.read_text() == "data"


@pytest.mark.parametrize(
    "arguments",
    [("--no-such-option",), ("--socket",), ("--socket", "/tmp/x", "app:a", "app:b"), ("--work", "3")],
    ids=["unknown", "without its value", "two applications", "abbreviated"],
)
def test_a_wrong_option_is_answered_with_the_usage(arguments):
    refused = run_pyfpm(*arguments)
    assert refused.returncode == EX_USAGE
    assert refused.stderr.startswith("Usage: ")
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "there is nowhere to listen"),
        (("--socket", "fpm.sock", "--workers", "0"), "pm.max_children must be a positive value"),
        (("--socket", "fpm.sock", "--workers", "many"), "pm.max_children = 'many': expected"),
        (("--socket", "fpm.sock", "--user", "nosuchuser"), "cannot get uid for user 'nosuchuser'"),
        (("--socket", "fpm.sock", "--user", "nobody", "--group", "nosuchgroup"), "cannot get gid for group"),
        (("--socket", "fpm.sock", "--chdir", "/no/such/place"), "does not exist or is not a directory"),
        (("--socket", "fpm.sock", "--docroot", "/no/such/place"), "there is no such directory"),
        (("--socket", "fpm.sock", "-d", "no_such_directive=1"), "unknown directive 'no_such_directive'"),
        (("--socket", "fpm.sock", "-d", "send_timeout=soon"), "send_timeout = 'soon': expected a time like"),
        (("--listen", "127.0.0.1:notaport"), "invalid port value 'notaport'"),
        (("--listen", "::1:9000"), "an IPv6 address is written in brackets"),
        (("--listen", "no.such.host.invalid:9000"), "cannot resolve the listening address"),
        (("--socket", "x" * 200), "longer than the 107 bytes"),
        (("--socket", "no/such/directory/fpm.sock"), "No such file or directory"),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, tuple) else "",
)
def test_a_value_that_cannot_be_used_is_a_configuration_error(arguments, reason, tmp_path):
    refused = run_pyfpm("-R", *arguments, cwd=tmp_path)
    assert refused.returncode == EX_CONFIG
    assert reason in refused.stderr
    assert "FPM initialization failed" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not list(tmp_path.iterdir()), "something was left behind"


BROKEN = {
    "missing": ("import no_such_library\ndef application(e, s): pass\n", "application", "No module named"),
    "syntax": ("def application(:\n", "application", "SyntaxError"),
    "raises": ("raise RuntimeError('database is down')\n", "application", "database is down"),
    "exits": ("import sys\nsys.exit('no licence')\n", "application", "no licence"),
    "dies": ("import os\nos._exit(3)\n", "application", "ended without a word"),
    "killed": ("import os\nos.kill(os.getpid(), 9)\n", "application", "ended without a word"),
    "number": ("application = 42\n", "application", "is not callable"),
    "nameless": ("something = 42\n", "", "has neither 'application' nor 'app'"),
    "misnamed": ("def application(e, s): pass\n", "applikation", "has no 'applikation'"),
    "factory": ("def create():\n    raise KeyError('SECRET')\n", "create()", "KeyError: 'SECRET'"),
    "produces": ("def create():\n    return None\n", "create()", "is not callable"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_an_application_that_cannot_be_loaded_is_explained(kind, tmp_path):
    source, name, reason = BROKEN[kind]
    (tmp_path / f"{kind}.py").write_text(source)
    spec = f"{kind}:{name}" if name else kind
    refused = run_pyfpm("-R", "--socket", "fpm.sock", spec, cwd=tmp_path)
    assert refused.returncode == EX_CONFIG
    assert reason in refused.stderr
    assert f"cannot load the application {spec}" in refused.stderr
    assert "pyfpm/master" not in refused.stderr, "our own frames are of no use to anybody"
    assert not (tmp_path / "fpm.sock").exists()


def test_a_module_that_does_not_exist_is_named_with_where_it_was_looked_for(tmp_path):
    refused = run_pyfpm("-R", "--socket", "fpm.sock", "nosuch.module:application", cwd=tmp_path)
    assert refused.returncode == EX_CONFIG
    assert "no module named 'nosuch' for the application" in refused.stderr
    assert str(tmp_path) in refused.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_start_that_takes_long_can_be_given_up(pyfpm, tmp_path, number):
    """The signal met a pool without a zygote: AttributeError, and the process that imported was left behind."""
    (tmp_path / "slow.py").write_text("import time\nopen('importing', 'w').close()\ntime.sleep(600)\n")
    server = pyfpm("slow:application", cwd=tmp_path, wait=False)
    eventually((tmp_path / "importing").exists, "the application is being imported")
    server.signal(number)
    assert server.wait() == 0
    assert "Traceback" not in server.log()
    assert not os.path.exists(server.socket)
    server.is_gone()


def test_a_master_killed_while_the_application_is_imported_leaves_nothing_behind(pyfpm, tmp_path):
    (tmp_path / "slow.py").write_text("open('importing', 'w').close()\nwhile True: pass\n")
    server = pyfpm("slow:application", cwd=tmp_path, wait=False)
    eventually((tmp_path / "importing").exists, "the application is being imported")
    server.signal(signal.SIGKILL)
    server.wait()
    server.is_gone()
