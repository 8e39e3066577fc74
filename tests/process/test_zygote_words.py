"""What a zygote says to the master is said by user code: it may be anything."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest

from pyfpm.master.children import Children
from pyfpm.observe.log import Log
from support.waiting import eventually
from support.wire import ask

CONFIG = """
[global]
error_log = /dev/stderr
[good]
listen = $DIR/fpm.sock
pm = static
pm.max_children = 1
[bad]
listen = $DIR/bad.sock
pm = ondemand
pm.max_children = 1
chdir = $DIR
app = app:application
"""

# The zygote's end of its control socket is descriptor 3: answer the next order before the zygote does.
LIAR = """
import os, socket
application = lambda environ, start: []
said = {said!r}
control = socket.socket(fileno=os.dup(3))
control.send(b'ready[]')
if said:
    control.recv(65536)
    control.send(said)
    import time; time.sleep(3600)
"""


@pytest.fixture
def with_app(pyfpm, monkeypatch):
    from support import server as module

    original = module.public_directory

    def start(text: str):
        def directory():
            path = original()
            (path / "app.py").write_text(text)
            return path

        monkeypatch.setattr(module, "public_directory", directory)
        return pyfpm(config=CONFIG)

    return start


def lives(server, place) -> bool:
    (place / "hello.py").write_text("echo('hello')\n")
    return ask(server.socket, f"{place}/hello.py").body == b"hello" and server.process.poll() is None


def poke(server) -> None:
    """Have a worker of the bad pool started."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"{server.directory}/bad.sock")
        eventually(lambda: server.logged("[pool bad]") or server.process.poll() is not None, "the pool has failed")


@pytest.mark.parametrize("said", [b"forked x", b"forked ", b"forked 1" + b"0" * 30, b"\xff"])
def test_an_answer_without_sense_is_no_worker_and_not_the_end_of_the_master(with_app, place, said):
    server = with_app(LIAR.format(said=said))
    poke(server)
    assert lives(server, place)


# Not with a real master: one that believed it would, as root, end the machine that the tests run on.
@pytest.mark.parametrize("number", [-1, 0, 1, os.getppid(), os.getpid()])
def test_a_process_that_is_no_child_of_ours_is_not_taken_for_one(number):
    """``kill(-1)`` is everybody."""
    with pytest.raises(ChildProcessError):
        Children(Log()).watch(number)


def test_a_child_is_watched_once():
    with subprocess.Popen(["sleep", "3600"]) as child:
        children = Children(Log())
        children.watch(child.pid)
        with pytest.raises(ChildProcessError):
            children.watch(child.pid)
        child.kill()


def test_more_warnings_than_fit_in_a_message_are_cut(with_app, place):
    """The list used to be cut in the middle of its JSON, which ended the master."""
    server = with_app(
        "import threading\n"
        "application = lambda environ, start: []\n"
        "for i in range(600):\n"
        "    threading.Thread(target=threading.Event().wait, name=f'thread number {i} ' * 3, daemon=True).start()\n"
    )
    assert lives(server, place)
    assert server.logged("left a thread behind")
