"""memory_limit: a request that takes too much fails alone."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from support.waiting import eventually
from support.wire import Answer, Wire, ask

MIB = 1 << 20

CONFIG = """
[www]
listen = $DIR/fpm.sock
pm = static
pm.max_children = {workers}
memory_limit = 64M
access.log = $DIR/access.log
access.format = "%s"
{more}
"""

HOGS = {
    "at-once": "x = bytearray(200 << 20)\n",
    "bit-by-bit": "x = []\nwhile True: x.append(bytes(1000))\n",
    "strings": "x = 'x'\nwhile True: x += x\n",
    "in-a-function": "def f(x):\n    f(x + bytes(1 << 20))\nf(b'')\n",
}


@pytest.fixture
def site(tmp_path: Path):
    def write(source: str, name: str = "x.py") -> str:
        (tmp_path / name).write_text(source)
        return str(tmp_path / name)

    return write


def config(workers: int = 1, more: str = "") -> str:
    return CONFIG.format(workers=workers, more=more)


@pytest.mark.parametrize("hog", HOGS.values(), ids=HOGS)
def test_a_request_that_takes_too_much_is_a_500_and_the_next_one_is_served(pyfpm, site, hog):
    server = pyfpm(config=config())
    first = server.worker
    with Wire(server.socket) as wire:
        answer = wire.ask(site("echo('half')\n" + hog), keep=True)
        assert (answer.status, answer.app_status) == (500, 255), server.log()
        assert b"half" not in answer.body
        assert "MemoryError" in server.log() and "memory_limit allows a request 67108864 bytes" in server.log()
        assert wire.ask(site("import os\necho(os.getpid())"), keep=True).body.decode() != str(first)
    eventually(lambda: (server.directory / "access.log").read_text().split() == ["500", "200"])


def test_what_stays_in_the_worker_is_not_the_next_requests(pyfpm, site):
    """Each request may take as much, however much the ones before it have left."""
    server = pyfpm(config=config())
    keep = site(
        "import threading\nthreading.kept = [*getattr(threading, 'kept', []), bytes(40 << 20)]\n"
        "echo(len(threading.kept))"
    )
    with Wire(server.socket) as wire:
        assert [wire.ask(keep, keep=True).body for _ in range(4)] == [b"1", b"2", b"3", b"4"]


def test_a_script_may_catch_it_and_go_on(pyfpm, site):
    server = pyfpm(config=config())
    answer = ask(server.socket, site("try: bytearray(200 << 20)\nexcept MemoryError: echo('caught')"))
    assert (answer.status, answer.body) == (200, b"caught")


def test_shutdown_functions_run_behind_it(pyfpm, site):
    server = pyfpm(config=config())
    source = "register_shutdown_function(lambda: echo('sorry' + str(len(bytes(1 << 20)))))\n"
    answer = ask(server.socket, site(source + HOGS["bit-by-bit"]))
    assert (answer.status, answer.body) == (500, b"sorry1048576")


def test_a_healthy_request_beside_it_does_not_notice(pyfpm, site):
    server = pyfpm(config=config(workers=2))
    hog, healthy = site(HOGS["bit-by-bit"], "hog.py"), site("echo(len(bytes(30 << 20)))", "healthy.py")
    hogs: list[Answer] = []

    def be_a_hog() -> None:
        for _ in range(5):
            hogs.append(ask(server.socket, hog))

    thread = threading.Thread(target=be_a_hog)
    thread.start()
    with Wire(server.socket) as wire:
        while thread.is_alive():
            answer = wire.ask(healthy, keep=True)
            assert (answer.status, answer.body) == (200, str(30 << 20).encode())
    thread.join()
    assert [answer.status for answer in hogs] == [500] * 5


def test_processes_that_a_request_forks_have_no_limit(pyfpm, site):
    server = pyfpm(config=config())
    child = "import os\npid = os.fork()\nif not pid:\n    bytearray(200 << 20)\n    os._exit(7)\n"
    source = child + "echo(os.waitpid(pid, 0)[1] >> 8)"
    assert ask(server.socket, site(source)).body == b"7"


APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % len(bytes(int(environ["QUERY_STRING"])))]
"""


def test_it_is_for_applications_as_well(pyfpm, site):
    server = pyfpm(config=config(more=f"app = {site(APPLICATION, 'application_of_test.py')}"))
    with Wire(server.socket) as wire:
        assert wire.ask(f"/?{200 * MIB}", keep=True).status == 500
        assert wire.ask(f"/?{20 * MIB}", keep=True).body == str(20 * MIB).encode()


def test_the_script_can_see_what_there_is(pyfpm, site):
    server = pyfpm()
    answer = ask(server.socket, site("x = bytes(64 << 20)\necho(memory_get_usage(), ' ', memory_get_peak_usage())"))
    now, peak = map(int, answer.body.split())
    assert 0 < now <= peak
