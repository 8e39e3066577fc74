"""What every store has to do: one claim, each of them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from pyfpm.sapi.session import ids
from pyfpm.sapi.session.stores import Store
from pyfpm.sapi.session.stores.files import FileStore
from pyfpm.sapi.session.stores.redis import RedisStore
from support.redis_server import RedisServer
from support.waiting import PATIENCE_S

LIFE_S = 1000.0


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.discard()


@pytest.fixture(params=["files", "files in depth", "redis"])
def another(request, tmp_path) -> Callable[[], Store]:
    """A store over the same place, as another worker has it."""
    if request.param == "redis":
        url = request.getfixturevalue("redis").url
        return lambda: RedisStore(url)
    return lambda: FileStore(str(tmp_path), depth=2 * ("depth" in request.param))


@pytest.fixture
def store(another) -> Store:
    return another()


@pytest.fixture
def new() -> str:
    return ids.new_id()


def created(store: Store, session_id: str, data: bytes = b'{"a":1}') -> None:
    held = store.create(session_id, LIFE_S)
    assert held is not None
    held.save(data)


def content(store: Store, session_id: str) -> bytes | None:
    held = store.open(session_id, LIFE_S)
    if held is None:
        return None
    held.release()
    return held.data


def test_what_was_saved_is_there(store, another, new):
    created(store, new)
    assert content(store, new) == content(another(), new) == b'{"a":1}'


def test_a_new_session_is_known_before_it_was_saved(store, new):
    held = store.create(new, LIFE_S)
    assert held.id == new and held.data == b""
    held.touch()
    assert content(store, new) == b""


def test_an_id_that_was_never_given_out_is_unknown(store, new):
    assert store.open(new, LIFE_S) is None


def test_an_id_that_is_there_cannot_be_created(store, new):
    created(store, new)
    assert store.create(new, LIFE_S) is None
    assert content(store, new) == b'{"a":1}'


@pytest.mark.parametrize("end", ["touch", "release"])
def test_without_saving_it_stays_as_it_was(store, new, end):
    created(store, new)
    held = store.open(new, LIFE_S)
    getattr(held, end)()
    assert content(store, new) == b'{"a":1}'


def test_a_destroyed_session_is_unknown(store, another, new):
    created(store, new)
    store.open(new, LIFE_S).destroy()
    assert store.open(new, LIFE_S) is None and another().open(new, LIFE_S) is None


def test_content_may_be_shorter_or_much_longer_than_before(store, new):
    created(store, new)
    for data in (b"x" * 3_000_000, b"y"):
        store.open(new, LIFE_S).save(data)
        assert content(store, new) == data


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("end", ["save", "touch", "release", "destroy"])
def test_one_request_at_a_time_has_a_session(store, another, new, end):
    """The other one waits, and has what the first has made of it."""
    created(store, new)
    held = store.open(new, LIFE_S)
    seen: list[object] = []
    done = threading.Event()

    def other() -> None:
        found = another().open(new, LIFE_S)
        seen.append(done.is_set())
        seen.append(found and found.data)
        if found is not None:
            found.release()

    thread = in_thread(other)
    assert not seen
    done.set()
    getattr(held, end)(*[b'{"a":2}'] * (end == "save"))
    thread.join(PATIENCE_S)
    assert seen == [True, {"save": b'{"a":2}', "destroy": None}.get(end, b'{"a":1}')]


def test_many_at_once_lose_no_change(store, another, new):
    created(store, new, b"0")
    count, times = 8, 25

    def add() -> None:
        own = another()
        for _ in range(times):
            held = own.open(new, LIFE_S)
            held.save(b"%d" % (int(held.data) + 1))

    threads = [in_thread(add) for _ in range(count)]
    for thread in threads:
        thread.join(PATIENCE_S)
    assert content(store, new) == b"%d" % (count * times)


def test_two_sessions_do_not_wait_for_each_other(store, another, new):
    held = store.create(new, LIFE_S)
    second = another().create(ids.new_id(), LIFE_S)
    second.release()
    held.release()


def test_a_session_that_was_not_used_for_its_lifetime_is_unknown(store, new):
    lifetime_s = 0.01
    store.create(new, lifetime_s).save(b"{}")
    # The stores have clocks of their own, and a file's is coarse.
    time.sleep(10 * lifetime_s)
    assert store.open(new, lifetime_s) is None


def test_use_makes_it_live_longer(store, new):
    lifetime_s = 0.4
    store.create(new, lifetime_s).save(b"{}")
    began = used = time.monotonic()
    while time.monotonic() < began + 3 * lifetime_s:
        held = store.open(new, lifetime_s)
        if held is None:
            # On a machine that stood still for so long, it is old by right.
            assert time.monotonic() - used > lifetime_s / 2
            held = store.create(new, lifetime_s)
        used = time.monotonic()
        held.touch()
        time.sleep(lifetime_s / 20)


def test_a_forked_child_takes_nothing_from_its_parent(store, another, new):
    created(store, new)
    held = store.open(new, LIFE_S)
    pid = os.fork()
    if not pid:
        held.abandon()
        os._exit(0)
    os.waitpid(pid, 0)
    seen: list[object] = []
    thread = in_thread(lambda: seen.append(content(another(), new)))
    held.save(b'{"a":3}')
    thread.join(PATIENCE_S)
    assert seen == [b'{"a":3}']


def test_collecting_leaves_what_is_new_or_in_use(store, another, new):
    created(store, new)
    held = store.open(new, LIFE_S)
    used = ids.new_id()
    in_use = store.create(used, LIFE_S)
    another().collect(LIFE_S)
    in_use.save(b"{}")
    held.release()
    assert content(store, new) == b'{"a":1}' and content(store, used) == b"{}"
