"""A reload that fails leaves nothing of the new generation behind."""

from __future__ import annotations

import pytest

from support import processes
from support.server import CommandFailed
from support.waiting import eventually

CONFIG = """
[global]
error_log = /dev/stderr
[www]
listen = $DIR/fpm.sock
pm = static
pm.max_children = 1
chdir = $DIR
app = slow:application
[broken]
listen = $DIR/broken.sock
pm = static
pm.max_children = 1
chdir = $DIR
app = broken:application
"""
APP = "application = lambda environ, start: []\n"


@pytest.mark.parametrize("where", ["in the worker", "in the fork"])
def test_another_pool_s_failure_takes_back_what_was_half_prepared(pyfpm, monkeypatch, where):
    """It used to stay: a worker of the new code served beside the old ones, and its zygote waited for ever."""
    from support import server as module

    original = module.public_directory

    def directory():
        path = original()
        (path / "slow.py").write_text(APP)
        (path / "broken.py").write_text(APP)
        return path

    monkeypatch.setattr(module, "public_directory", directory)
    server = pyfpm(config=CONFIG, env={"PYTHONDONTWRITEBYTECODE": "1"})
    when = "after_in_child" if where == "in the worker" else "before"
    marker = server.directory / "forking"
    (server.directory / "slow.py").write_text(
        APP + "import os, time\n"
        "def wait():\n"
        f"    open({str(marker)!r}, 'w').close()\n"
        "    time.sleep(1)\n"
        f"os.register_at_fork({when}=wait)\n"
    )
    (server.directory / "broken.py").write_text(
        f"import os, time\nwhile not os.path.exists({str(marker)!r}): time.sleep(0.01)\ntime.sleep(0.1)\n1 / 0\n"
    )
    before = set(processes.children(server.pid))
    with pytest.raises(CommandFailed, match="ZeroDivisionError"):
        server.control("reload")
    eventually(lambda: set(processes.children(server.pid)) <= before, "nothing of it is left", within=10)
    pools = {pool["pool"]: pool["generations"] for pool in server.control("status")["pools"]}
    assert pools == {"www": {"1": 1}, "broken": {"1": 1}}
