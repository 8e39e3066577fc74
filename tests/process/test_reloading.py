"""Reload: another generation takes over, or the old one goes on as if nothing had been."""

from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path

import pytest

from support import processes
from support.server import CommandFailed
from support.waiting import eventually
from support.wire import Wire, ask

CONFIG = """
[global]
error_log = /dev/stderr
process_control_timeout = 20s
[www]
listen = $DIR/fpm.sock
pm = static
pm.max_children = 2
chdir = $DIR
app = app:application
"""

APP = """
import os
VERSION = {version!r}
def application(environ, start):
    start('200 OK', [])
    return [f'{{VERSION}} {{os.getpid()}}'.encode()]
"""


def write_app(server_or_directory, version: str, before: str = "") -> None:
    directory = getattr(server_or_directory, "directory", server_or_directory)
    (Path(directory) / "app.py").write_text(before + APP.format(version=version))


@pytest.fixture
def site(pyfpm, monkeypatch):
    """A server with version one of an application."""
    from support import server as module

    original = module.public_directory

    def with_app():
        directory = original()
        write_app(directory, "one")
        return directory

    monkeypatch.setattr(module, "public_directory", with_app)
    # An application that was changed within the second would be taken from its byte code.
    return pyfpm(config=CONFIG, env={"PYTHONDONTWRITEBYTECODE": "1"})


def version(server) -> str:
    return ask(server.socket).body.decode().split()[0]


def serves_only(server, expected: str) -> None:
    for _ in range(6):
        assert version(server) == expected


def inodes(server) -> set[str]:
    return processes.sockets(server.pid)


def test_a_reload_serves_the_new_code_on_the_same_socket(site):
    before, made, listening = set(site.workers), os.stat(site.socket).st_ino, inodes(site)
    write_app(site, "two")
    assert site.control("reload") == {"generations": {"www": 2}}
    eventually(lambda: not before & set(site.workers), "the old workers have left")
    serves_only(site, "two")
    assert len(site.workers) == 2
    assert os.stat(site.socket).st_ino == made and listening & inodes(site)
    assert site.logged("Reloading in progress ...") == 1
    assert site.logged("using inherited socket fd=") == 1
    assert site.logged("fpm is running, pid") == 2


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_reloads(site, number):
    write_app(site, "two")
    site.signal(number)
    eventually(lambda: site.logged("ready to handle connections") == 2, "it has reloaded")
    eventually(lambda: len(site.workers) == 2, "the old workers have left")
    serves_only(site, "two")


BROKEN = {
    "a syntax error": ("def application(:\n", "SyntaxError"),
    "an import that raises": ("raise RuntimeError('database is down')\n", "database is down"),
    "a module that is missing": ("import nosuchmodule\n", "No module named 'nosuchmodule'"),
    "an import that ends the process": ("import os\nos._exit(3)\n", "ended without a word"),
    "an import that exits": ("raise SystemExit('no licence')\n", "no licence"),
    "workers that cannot start": (
        "import os\nos.register_at_fork(after_in_child=lambda: os._exit(9))\n",
        "ended before it was ready|is gone|cannot fork",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_code_that_does_not_work_is_never_served(site, what):
    source, reason = BROKEN[what]
    before, kept = set(site.workers), processes.kinds_of_descriptors(site.pid)
    write_app(site, "two", before=source)
    with pytest.raises(CommandFailed, match=reason):
        site.control("reload")
    assert set(site.workers) == before
    serves_only(site, "one")
    assert site.logged("reload failed, the old generation goes on") == 1
    eventually(lambda: processes.kinds_of_descriptors(site.pid) == kept, "nothing of it is kept open")
    site.kill_worker(before.pop())
    write_app(site, "three")
    site.control("reload")
    eventually(lambda: len(site.workers) == 2 and version(site) == "three")


BAD_CONFIGS = {
    "an unknown directive": (CONFIG + "nosuch = 1\n", "nosuch"),
    "a bad value": (CONFIG + "pm.max_requests = many\n", "pm.max_requests"),
    "an address of others": (CONFIG + "listen = 192.0.2.1:9000\n", "192.0.2.1:9000"),
    "a user that vanished": (CONFIG + "user = nosuchuser\n", "nosuchuser"),
    "no pool at all": ("[global]\n", "No pool defined"),
    "a log that cannot be opened": (CONFIG + "access.log = /nosuch/access.log\n", "access.log"),
    "a directory that is not there": (CONFIG.replace("chdir = $DIR", "chdir = /nosuch"), "/nosuch"),
}


@pytest.mark.parametrize("what", BAD_CONFIGS)
def test_a_configuration_that_does_not_work_changes_nothing(site, what):
    text, reason = BAD_CONFIGS[what]
    before, kept, made = set(site.workers), processes.kinds_of_descriptors(site.pid), os.stat(site.socket)
    site.configure(text)
    with pytest.raises(CommandFailed, match=reason):
        site.control("reload")
    assert set(site.workers) == before
    serves_only(site, "one")
    now = os.stat(site.socket)
    assert (now.st_ino, now.st_mode, now.st_gid) == (made.st_ino, made.st_mode, made.st_gid)
    eventually(lambda: processes.kinds_of_descriptors(site.pid) == kept, "nothing of it is kept open")


def test_a_port_that_somebody_else_has_fails_the_reload(site):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        site.configure(CONFIG + f"[second]\nlisten = 127.0.0.1:{port}\npm = static\npm.max_children = 1\n")
        with pytest.raises(CommandFailed, match=f"unable to bind listening socket for address '127.0.0.1:{port}'"):
            site.control("reload")
    serves_only(site, "one")


def test_old_workers_are_replaced_while_the_new_code_hangs_in_its_import(site):
    directory = site.directory
    write_app(site, "two", before=f"import time\nopen('{directory}/hangs', 'w').close()\ntime.sleep(3600)\n")
    site.signal(signal.SIGUSR2)
    eventually((directory / "hangs").exists, "the import hangs")
    for _ in range(2):
        site.kill_worker(site.workers[0])
    serves_only(site, "one")
    site.signal(signal.SIGTERM)
    assert site.wait() == 0, "nor does it keep us from stopping"


def test_reloads_at_the_same_time_come_one_after_the_other(site):
    results = []
    write_app(site, "two")
    threads = [threading.Thread(target=lambda: results.append(site.control("reload"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result["generations"]["www"] for result in results) == [2, 3, 4, 5]
    eventually(lambda: len(site.workers) == 2, "the old workers have left")
    serves_only(site, "two")


def test_stopping_in_the_middle_of_a_reload_stops(site):
    site.signal(signal.SIGUSR2)
    eventually(lambda: site.logged("Reloading in progress"), "it reloads")
    site.signal(signal.SIGTERM)
    assert site.wait() == 0
    assert site.logged("exiting, bye-bye!") == 1


def test_a_zygote_that_is_killed_in_a_reload_fails_it_and_nothing_else(site):
    directory = site.directory
    old = site.zygote
    write_app(site, "two", before=f"import time\nopen('{directory}/hangs', 'w').close()\ntime.sleep(3600)\n")
    failure: list[str] = []

    def reload() -> None:
        try:
            site.control("reload")
        except CommandFailed as error:
            failure.append(str(error))

    thread = threading.Thread(target=reload)
    thread.start()
    eventually((directory / "hangs").exists, "the import hangs")
    (new,) = [pid for pid in site.workers_of("www zygote") if pid != old]
    os.kill(new, signal.SIGKILL)
    thread.join()
    assert "ended without a word" in failure[0]
    serves_only(site, "one")
    write_app(site, "three")
    site.control("reload")
    eventually(lambda: len(site.workers) == 2 and version(site) == "three")


def test_thirty_reloads_leave_nothing_behind(site):
    kept, memory = processes.kinds_of_descriptors(site.pid), processes.own_memory(site.pid)
    for _ in range(30):
        site.control("reload")
    eventually(lambda: len(site.workers) == 2 and len(site.workers_of("www zygote")) == 1, "the old ones have left")
    eventually(lambda: processes.kinds_of_descriptors(site.pid) == kept, "no descriptor is left")
    assert not [pid for pid in processes.children(site.pid) if processes.state(pid) == "Z"]
    assert processes.own_memory(site.pid) < memory + 6 * 1024**2


def test_a_request_in_flight_is_finished_by_the_old_generation(pyfpm, place):
    (place / "slow.py").write_text(
        "import os, time\nopen(_GET['mark'], 'w').close()\n"
        "while not os.path.exists(_GET['go']): time.sleep(0.02)\necho(os.getpid())\n"
    )
    server = pyfpm(config=CONFIG.replace("app = app:application\n", ""))
    before = set(server.workers)
    with Wire(server.socket) as wire:
        wire.send(wire.request(f"{place}/slow.py?mark={place}/mark&go={place}/go"))
        eventually((place / "mark").exists, "the script runs")
        server.control("reload")
        eventually(lambda: len(before & set(server.workers)) == 1, "the idle one has left")
        (place / "go").touch()
        assert int(wire.answer().body) in before
    eventually(lambda: not before & set(server.workers), "the other, too")


def test_an_old_worker_that_does_not_finish_is_killed_in_the_end(pyfpm, place):
    (place / "stuck.py").write_text("open(_GET['mark'], 'w').close()\nwhile True: pass\n")
    text = CONFIG.replace("app = app:application\n", "").replace("[global]\n", "[global]\nretire_timeout = 1s\n")
    server = pyfpm(config=text)
    before = set(server.workers)
    with Wire(server.socket) as wire:
        wire.send(wire.request(f"{place}/stuck.py?mark={place}/mark"))
        eventually((place / "mark").exists, "the script runs")
        server.control("reload")
        eventually(lambda: not before & set(server.workers), "it was killed", within=15)


def test_the_number_of_workers_follows_the_new_configuration(site):
    site.configure(CONFIG.replace("max_children = 2", "max_children = 5"))
    site.control("reload")
    eventually(lambda: len(site.workers) == 5)
    site.configure(CONFIG.replace("max_children = 2", "max_children = 1"))
    site.control("reload")
    eventually(lambda: len(site.workers) == 1)
    serves_only(site, "one")


def test_an_address_that_is_added_is_served_and_the_one_that_left_is_closed(site):
    site.configure(CONFIG.replace("fpm.sock", "other.sock"))
    site.control("reload")
    other = f"{site.directory}/other.sock"
    assert ask(other).status == 200
    eventually(lambda: not os.path.exists(site.socket), "the old one is gone")
