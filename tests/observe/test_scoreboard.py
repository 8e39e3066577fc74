"""The scoreboard: a worker may write anything into its page at any time, and the master gets a sane answer from it."""

from __future__ import annotations

import ctypes
import fcntl
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.observe import _scoreboard
from pyfpm.observe._scoreboard import Slot, bucket_of, create_slot
from pyfpm.observe.scoreboard import BUCKET_UNIT_US, BUCKETS, Counters, Histogram, SlotView, Stage
from support.slot import TEXTS, SlotPage, page_of
from support.waiting import eventually

counts = st.integers(0, 2**40)
histograms = st.builds(Histogram, counts, st.tuples(*[counts] * BUCKETS))
counters = st.builds(
    Counters,
    accepted=counts,
    requests=counts,
    refused=counts,
    aborted=counts,
    slow=counts,
    bytes_out=counts,
    statuses=st.tuples(*[counts] * 6),
    service=histograms,
    wait=histograms,
)


@pytest.fixture
def slot():
    with create_slot() as slot:
        yield slot


def test_the_layout_here_is_that_of_the_header():
    assert ctypes.sizeof(SlotPage) == _scoreboard.STRUCT_SIZE <= _scoreboard.SLOT_SIZE
    assert (_scoreboard.BUCKETS, _scoreboard.BUCKET_UNIT_US) == (BUCKETS, BUCKET_UNIT_US)


def test_a_new_slot_is_marked_and_empty(slot):
    assert page_of(slot.fd).magic == _scoreboard.SLOT_MAGIC
    assert slot.read() == SlotView()


def test_what_a_worker_writes_is_read(slot):
    page = page_of(slot.fd)
    page.stage, page.content_length, page.cpu_us, page.duration_us = Stage.RUNNING, 12, 500, 1500
    page.started_us = time.monotonic_ns() // 1000 - 2_000_000
    for name in TEXTS:
        page.write(name, f"the {name}".encode())
    page.accepted, page.requests, page.refused, page.aborted, page.slow, page.bytes_out = 7, 6, 5, 4, 3, 2
    page.connections = 9
    page.status[2], page.service[1], page.wait[BUCKETS - 1], page.service_sum_us, page.wait_sum_us = 6, 5, 4, 100, 10**9
    view = slot.read()
    assert (view.stage, view.busy, view.whole) == (Stage.RUNNING, True, True)
    assert (view.content_length, view.cpu_us, view.duration_us, view.connections) == (12, 500, 1500, 9)
    assert 2_000_000 <= view.age_us < 60_000_000
    assert [getattr(view, name) for name in TEXTS] == [f"the {name}" for name in TEXTS]
    assert view.counters == slot.counters()
    assert view.counters == Counters(
        accepted=7,
        requests=6,
        refused=5,
        aborted=4,
        slow=3,
        bytes_out=2,
        statuses=(0, 0, 6, 0, 0, 0),
        service=Histogram(100, (0, 5, *[0] * (BUCKETS - 2))),
        wait=Histogram(10**9, (*[0] * (BUCKETS - 1), 4)),
    )


def test_the_page_cannot_be_given_another_size(slot):
    for size in (0, 1, 8192):
        with pytest.raises(PermissionError):
            os.ftruncate(slot.fd, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(slot.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    assert not os.get_inheritable(slot.fd)


# Hypothesis is slow with 4096 bytes of its own; these are as many from a few, and it still shrinks the few.
pages = st.binary(min_size=1, max_size=64).map(lambda some: (some * 4096)[:4096]) | st.integers(0).map(
    lambda seed: random.Random(seed).randbytes(4096)
)


@given(pages, st.booleans())
def test_any_bytes_give_a_view_within_bounds(page, still):
    with create_slot() as slot:
        os.pwrite(slot.fd, page, 0)
        if still:
            os.pwrite(slot.fd, bytes(4), SlotPage.seq.offset)
        view = slot.read()
        now = time.monotonic_ns() // 1000
        assert isinstance(view.stage, Stage)
        assert 0 <= view.started_us <= now
        assert 0 <= view.age_us <= now
        assert 0 <= view.duration_us <= now
        for name, room in TEXTS.items():
            assert len(getattr(view, name)) <= 4 * room  # \xff for each byte
            getattr(view, name).encode()
        numbers = [view.content_length, view.cpu_us, view.connections, *view.counters.statuses]
        numbers += [view.counters.service.sum_us, *view.counters.service.buckets, *view.counters.wait.buckets]
        assert all(0 <= number <= 2**56 for number in numbers)


@pytest.mark.parametrize(
    ("uri", "read"),
    [
        (b"/caf\xc3\xa9", "/caf\u00e9"),
        (b"/\xff\xfe", "/\\xff\\xfe"),
        (b"/cut\xe2\x82", "/cut\\xe2\\x82"),
        (b"a\0b", "a\0b"),
    ],
)
def test_a_text_that_is_not_utf_8_is_read_all_the_same(slot, uri, read):
    os.pwrite(slot.fd, uri, SlotPage.uri.offset)
    page_of(slot.fd).uri_length = len(uri)
    assert slot.read().uri == read


def test_a_length_beyond_its_text_is_cut_to_it(slot):
    page = page_of(slot.fd)
    page.uri, page.uri_length, page.query = b"u" * 1024, 65535, b"q" * 512
    assert slot.read().uri == "u" * 1024


def test_a_stage_that_is_none_reads_as_starting(slot):
    page_of(slot.fd).stage = 77
    assert slot.read().stage is Stage.STARTING


def test_a_request_of_the_future_has_no_age(slot):
    page = page_of(slot.fd)
    page.started_us = 2**64 - 1
    page.duration_us = 2**64 - 1
    view = slot.read()
    assert view.age_us == 0
    assert view.duration_us <= time.monotonic_ns() // 1000


def test_a_worker_that_died_in_a_change_is_seen_as_before_it(slot):
    page = page_of(slot.fd)
    page.write("uri", b"/before")
    assert slot.read().uri == "/before"
    page.seq = 1
    page.write("uri", b"/after")
    page.accepted = 5
    view = slot.read()
    assert (view.uri, view.whole) == ("/before", False)
    assert view.counters.accepted == 5
    page.seq = 2
    assert (slot.read().uri, slot.read().whole) == ("/after", True)


# Changes the page for as long as it may, each time all of the description at once.
WRITER = """
import sys, time
from support.slot import page_of
page = page_of(int(sys.argv[1]))
for turn in range(2**30):
    letter = b"%c" % (97 + turn % 26)
    page.seq += 1
    for name, size in (("method", 16), ("uri", 1024), ("query", 512), ("script", 1024), ("user", 64)):
        page.write(name, letter * (1 + turn % size))
    page.content_length = turn % 26
    page.seq += 1
    page.accepted = turn
    time.sleep(0.0001)
"""


def test_a_description_is_never_torn(slot):
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(slot.fd)],
        pass_fds=[slot.fd],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
    )
    try:
        eventually(lambda: slot.counters().accepted or writer.poll() is not None, "the writer writes")
        assert writer.poll() is None
        seen = set()
        while len(seen) < 20:
            view = slot.read()
            if view.whole:
                seen.add(view.uri)
            if seen:
                assert {letter for name in TEXTS for letter in getattr(view, name)} == {chr(97 + view.content_length)}
    finally:
        writer.kill()
        writer.wait()


def test_a_closed_slot_cannot_be_read_and_closing_again_is_harmless():
    slot = create_slot()
    fd = slot.fd
    slot.close()
    slot.close()
    assert slot.fd == -1
    with pytest.raises(ValueError, match="closed"):
        slot.read()
    with pytest.raises(ValueError, match="closed"):
        slot.counters()
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(fd)


def test_a_forgotten_slot_leaves_no_descriptor_and_no_mapping():
    def left():
        return len(os.listdir("/proc/self/fd")), Path("/proc/self/maps").read_text().count("pyfpm-slot")

    before = left()
    for _ in range(3):
        create_slot()
    assert left() == before


def test_what_cannot_be_mapped_is_an_error_and_the_descriptor_stays():
    read_end, write_end = os.pipe()
    with pytest.raises(OSError, match=r"."):
        Slot(read_end)
    os.close(read_end)
    os.close(write_end)


@given(st.lists(counters, max_size=5))
def test_counters_add_up_field_by_field(parts):
    total = sum(parts, Counters())
    for name in ("accepted", "requests", "refused", "aborted", "slow", "bytes_out"):
        assert getattr(total, name) == sum(getattr(part, name) for part in parts)
    assert total.statuses == tuple(sum(part.statuses[i] for part in parts) for i in range(6))
    for name in ("service", "wait"):
        assert getattr(total, name).sum_us == sum(getattr(part, name).sum_us for part in parts)
        assert getattr(total, name).count == sum(getattr(part, name).count for part in parts)


@given(st.integers(0, 2**63))
def test_a_bucket_holds_what_is_below_its_bound(us):
    bucket = bucket_of(us)
    assert us < BUCKET_UNIT_US << bucket or bucket == BUCKETS - 1
    assert bucket == 0 or us >= BUCKET_UNIT_US << (bucket - 1)
