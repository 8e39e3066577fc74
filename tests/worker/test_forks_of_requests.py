"""A request that forks leaves copies of the worker's connections in other hands."""

from __future__ import annotations

import os

from support import processes
from support.waiting import eventually
from support.wire import Wire, ask

CONFIG = """
[global]
error_log = /dev/stderr
[www]
listen = $DIR/fpm.sock
pm = static
pm.max_children = 1
"""


def test_a_connection_that_a_child_holds_open_is_forgotten_when_it_ends(pyfpm, place):
    """Its end used to be told for ever: the worker was busy with it for as long as the child lived."""
    (place / "hello.py").write_text("echo('hello')\n")
    (place / "fork.py").write_text(
        "import os, signal\nchild = os.fork()\nif child == 0:\n    signal.pause()\n    os._exit(0)\necho(child)\n"
    )
    server = pyfpm(config=CONFIG)
    with Wire(server.socket) as kept:
        assert kept.ask(f"{place}/hello.py", keep=True).body == b"hello"
        child = int(ask(server.socket, f"{place}/fork.py").body)
    # Our end of it is closed, the child's is not; it must not be ready for anybody. Two looks at the clock of the
    # worker's processor time, with many turns of its reactor between them.
    used = processes.cpu_seconds(server.worker)
    turns = iter(range(100))
    eventually(lambda: next(turns) == 99)
    assert processes.cpu_seconds(server.worker) - used < 0.5
    os.kill(child, 9)
