"""A kept connection belongs to no worker: while the one that has it is busy, another one answers."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from support import processes
from support.waiting import eventually
from support.wire import Wire

# Holds its worker until there is a file of the name; each request is written down.
BUSY = """
import os, time
with open(_GET["ran"], "a") as file:
    file.write(_GET["name"] + "\\n")
if "until" in _GET:
    while not os.path.exists(_GET["until"]):
        time.sleep(0.005)
echo(os.getpid())
"""


@pytest.fixture
def site(place: Path):
    (place / "busy.py").write_text(BUSY)
    return lambda name, until="": (
        f"{place}/busy.py?ran={place}/ran&name={name}" + (f"&until={place}/{until}" if until else "")
    )


def of_one_worker(address: str, script: str, count: int, stack: ExitStack) -> list[Wire]:
    """So many kept connections that one worker has."""
    by_worker: dict[bytes, list[Wire]] = {}
    while True:
        wire = stack.enter_context(Wire(address))
        found = by_worker.setdefault(wire.ask(script, keep=True).body, [])
        found.append(wire)
        if len(found) == count:
            return found


def test_what_comes_on_a_kept_connection_of_a_busy_worker_is_answered_by_another(pyfpm, site, place):
    server = pyfpm("--workers", "2")
    asked = 0
    for turn in range(30):
        with ExitStack() as stack:
            busy, idle, later = of_one_worker(server.socket, site("first"), 3, stack)
            busy.send(busy.request(site(f"busy{turn}", f"go{turn}"), keep=True))
            # Both are answered while the first is not.
            other = idle.ask(site(f"idle{turn}"), keep=True).body
            assert later.ask(site(f"later{turn}"), keep=True).body == other
            (place / f"go{turn}").touch()
            assert busy.answer().body != other
            asked += 3
    ran = [name for name in (place / "ran").read_text().split() if name != "first"]
    assert len(ran) == len(set(ran)) == asked, "none is lost, none was run twice"


def test_the_visitor_of_a_connection_that_went_on_sees_its_end_at_once(pyfpm, site, place):
    """The busy worker must not keep it open behind the back of the one that closes it."""
    server = pyfpm("--workers", "2")
    with ExitStack() as stack:
        busy, idle = of_one_worker(server.socket, site("first"), 2, stack)
        busy.send(busy.request(site("busy", "go"), keep=True))
        idle.send(idle.request(site("last"), keep=False))
        assert idle.answer().status == 200
        assert idle.is_closed()
        (place / "go").touch()
        busy.answer()


def test_a_request_that_has_begun_to_come_stays(pyfpm, site, place):
    server = pyfpm("--workers", "2")
    with ExitStack() as stack:
        busy, half = of_one_worker(server.socket, site("first"), 2, stack)
        worker = half.ask(site("who"), keep=True).body
        request = half.request(site("half"), keep=True)
        half.send(request[:20])
        # What the worker answers on another of its connections comes behind what it has read of this one.
        busy.send(busy.request(site("between"), keep=True))
        busy.answer()
        busy.send(busy.request(site("busy", "go"), keep=True))
        eventually(lambda: "busy" in (place / "ran").read_text())
        half.send(request[20:])
        (place / "go").touch()
        assert half.answer().body == worker
        busy.answer()


def test_while_all_are_busy_it_waits_for_whoever_is_free_first(pyfpm, site, place):
    server = pyfpm("--workers", "2")
    with ExitStack() as stack:
        one, idle = of_one_worker(server.socket, site("first"), 2, stack)
        one.send(one.request(site("one", "go1"), keep=True))
        eventually(lambda: "one" in (place / "ran").read_text().split())
        two = stack.enter_context(Wire(server.socket))
        two.send(two.request(site("two", "go2"), keep=True))
        eventually(lambda: "two" in (place / "ran").read_text().split())
        idle.send(idle.request(site("idle"), keep=True))
        (place / "go2").touch()
        second = two.answer().body
        assert idle.answer().body == second
        (place / "go1").touch()
        one.answer()


def test_the_numbers_of_what_went_on_are_free_again(pyfpm, site, place):
    server = pyfpm("--workers", "2")
    with ExitStack() as stack:
        kept = of_one_worker(server.socket, site("first"), 8, stack)
        before = sum(len(processes.descriptors(pid)) for pid in server.workers)
        kept[0].send(kept[0].request(site("busy", "go"), keep=True))
        for wire in kept[1:]:
            assert wire.ask(site("on"), keep=True).status == 200
        (place / "go").touch()
        kept[0].answer()
    eventually(lambda: sum(len(processes.descriptors(pid)) for pid in server.workers) <= before - len(kept))
