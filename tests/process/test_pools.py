"""Several pools of one master: what happens to one is no matter of the others."""

from __future__ import annotations

import os
import signal

import pytest

from support import processes
from support.server import CommandFailed
from support.waiting import eventually
from support.wire import Wire, ask

WHO = "import os\necho(os.getpid())\n"

ONE = """
[global]
error_log = /dev/stderr
[www]
listen = $DIR/fpm.sock
pm = static
pm.max_children = 2
"""
TWO = (
    ONE
    + """
[shop]
listen = $DIR/shop.sock
pm = static
pm.max_children = 2
env[SHOP] = first
"""
)


@pytest.fixture
def who(place):
    (place / "who.py").write_text(WHO)
    return f"{place}/who.py"


def test_each_pool_has_its_own_address_workers_and_zygote(pyfpm, who):
    server = pyfpm(config=TWO)
    www, shop = set(server.workers_of("www")), set(server.workers_of("shop"))
    assert len(www) == len(shop) == 2
    assert int(ask(server.socket, who).body) in www
    assert int(ask(f"{server.directory}/shop.sock", who).body) in shop
    assert len(server.workers_of("www zygote")) == len(server.workers_of("shop zygote")) == 1


def test_a_reload_of_one_pool_leaves_the_other_alone(pyfpm, place, who):
    (place / "env.py").write_text("import os\necho(os.environ['SHOP'])\n")
    server = pyfpm(config=TWO)
    www, shop = set(server.workers_of("www")), set(server.workers_of("shop"))
    zygote = server.workers_of("www zygote")
    server.configure(TWO.replace("first", "second"))
    assert server.control("reload", pool="shop") == {"generations": {"www": 1, "shop": 2}}
    assert ask(f"{server.directory}/shop.sock", f"{place}/env.py").body == b"second"
    eventually(lambda: not shop & set(server.workers_of("shop")), "the old workers of the shop have left")
    assert set(server.workers_of("www")) == www and server.workers_of("www zygote") == zygote


def test_a_pool_that_is_added_serves_and_one_that_is_removed_is_gone(pyfpm, who):
    server = pyfpm(config=ONE)
    server.configure(TWO)
    server.control("reload")
    shop = f"{server.directory}/shop.sock"
    assert int(ask(shop, who).body) in server.workers_of("shop")
    assert int(ask(server.socket, who).body) in server.workers_of("www")
    before = processes.kinds_of_descriptors(server.pid)
    server.configure(ONE)
    server.control("reload")
    eventually(lambda: not server.workers_of("shop") and not server.workers_of("shop zygote"), "the shop has closed")
    assert not os.path.exists(shop)
    assert [pool["pool"] for pool in server.control("status")["pools"]] == ["www"]
    assert int(ask(server.socket, who).body) in server.workers_of("www")
    after = processes.kinds_of_descriptors(server.pid)
    assert sum(after.values()) < sum(before.values()), "nothing of it is kept open"


def test_a_pool_that_is_removed_finishes_what_it_has_begun(pyfpm, place):
    (place / "slow.py").write_text(
        "import os, time\nopen(_GET['mark'], 'w').close()\n"
        "while not os.path.exists(_GET['go']): time.sleep(0.02)\necho('complete')\n"
    )
    server = pyfpm(config=TWO)
    with Wire(f"{server.directory}/shop.sock") as wire:
        wire.send(wire.request(f"{place}/slow.py?mark={place}/mark&go={place}/go"))
        eventually((place / "mark").exists, "the script runs")
        server.configure(ONE)
        server.signal(signal.SIGUSR2)
        eventually(lambda: not os.path.exists(f"{server.directory}/shop.sock") or server.logged("Reloading"), "reload")
        (place / "go").touch()
        assert wire.answer().body == b"complete"
    eventually(lambda: not server.workers_of("shop"), "the shop has closed")


def test_a_pool_that_cannot_start_keeps_the_whole_reload_from_happening(pyfpm, who):
    server = pyfpm(config=ONE)
    before = set(server.workers)
    server.configure(TWO + "app = nosuchmodule:application\n")
    with pytest.raises(CommandFailed, match="nosuchmodule"):
        server.control("reload")
    assert set(server.workers) == before
    assert not os.path.exists(f"{server.directory}/shop.sock"), "what was made for it is undone"
    assert not server.workers_of("shop zygote")
    assert int(ask(server.socket, who).body) in before
    server.configure(TWO)
    server.control("reload")
    assert int(ask(f"{server.directory}/shop.sock", who).body) in server.workers_of("shop")


def test_reloading_a_pool_that_does_not_exist_is_refused_by_name(pyfpm):
    server = pyfpm(config=ONE)
    with pytest.raises(CommandFailed, match=r"there is no pool 'blog'; there are: www"):
        server.control("reload", pool="blog")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_each_pool_runs_as_its_own_user(pyfpm, place, python_for_others):
    users = TWO.replace("[shop]", "user = nobody\ngroup = nogroup\n[shop]\nuser = games\ngroup = games")
    server = pyfpm(config=users, root=False, python=python_for_others)
    assert {processes.owner(pid)[0] for pid in server.workers_of("www")} == {65534}
    assert {processes.owner(pid)[0] for pid in server.workers_of("shop")} == {5}
    assert processes.owner(server.pid)[0] == 0
