"""Sessions in Redis: its lock, which expires, and Redis away."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
from fakes import Site, process_as_it_was

from pyfpm.sapi import services
from pyfpm.sapi.session import ids
from pyfpm.sapi.session.errors import SessionError
from pyfpm.sapi.session.stores import owner, store_of
from pyfpm.sapi.session.stores.redis import RedisStore
from support.redis_server import RedisServer

LIFE_S = 1000.0


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.discard()


@pytest.fixture
def store(redis) -> RedisStore:
    return RedisStore(redis.url)


@pytest.fixture
def held_id(store) -> str:
    new = ids.new_id()
    store.create(new, LIFE_S).save(b'{"a":1}')
    return new


def lock_of(session_id: str) -> str:
    return f"pyfpm:session:{{{session_id}}}:lock"


def test_data_and_lock_expire(store, held_id):
    held = store.open(held_id, LIFE_S)
    client = store._client
    assert 0 < client.pttl(lock_of(held_id)) <= 60_000
    assert 0 < client.pttl(f"pyfpm:session:{{{held_id}}}") <= LIFE_S * 1000
    held.save(b"{}")
    assert not client.exists(lock_of(held_id))


def test_a_lock_lasts_as_long_as_a_request_may_run(store, held_id, monkeypatch):
    monkeypatch.setattr(services, "_services", services.Services(longest_s=300.0))
    held = store.open(held_id, LIFE_S)
    assert 300_000 < store._client.pttl(lock_of(held_id)) <= 305_000
    held.release()


def test_the_session_of_a_worker_that_is_gone_is_free_when_its_lock_expires(store, held_id):
    store.open(held_id, LIFE_S)
    store._client.pexpire(lock_of(held_id), 50)
    held = store.open(held_id, LIFE_S)
    assert held.data == b'{"a":1}'
    held.release()


def test_a_request_that_outlived_its_lock_saves_what_nobody_has_changed(store, held_id):
    held = store.open(held_id, LIFE_S)
    store._client.delete(lock_of(held_id))
    held.save(b'{"a":2}')
    again = store.open(held_id, LIFE_S)
    assert again.data == b'{"a":2}'
    again.release()


@pytest.mark.parametrize(("verb", "left"), [("save", b'{"b":2}'), ("destroy", None)])
def test_it_takes_nothing_from_the_request_that_came_after_it(store, held_id, verb, left):
    first = store.open(held_id, LIFE_S)
    store._client.delete(lock_of(held_id))
    second = store.open(held_id, LIFE_S)
    with pytest.raises(SessionError, match="this request has outlived its hold on the session"):
        first.save(b'{"late":1}')
    first.release()
    assert store._client.exists(lock_of(held_id))
    getattr(second, verb)(*[b'{"b":2}'] * (verb == "save"))
    with pytest.raises(SessionError, match="changed or destroyed"):
        first.save(b'{"late":1}')
    found = store.open(held_id, LIFE_S)
    assert (found and found.data) == left


def test_a_redis_that_was_restarted_is_used_again(redis, store, held_id):
    redis.stop()
    with pytest.raises(SessionError, match="sessions are in unix://"):
        store.open(held_id, LIFE_S)
    redis.start()
    assert store.open(held_id, LIFE_S) is None
    store.create(held_id, LIFE_S).save(b"{}")


def test_a_redis_that_has_forgotten_the_scripts_is_told_them_again(store, held_id):
    store._client.script_flush()
    store.open(held_id, LIFE_S).save(b"{}")


@pytest.mark.parametrize("url", ["http://x", "redis://h:port", "/var/lib", "redis://h/0?colour=1"])
def test_a_path_that_is_no_redis_is_refused(url):
    with pytest.raises(SessionError, match="is not redis://HOST:PORT/DATABASE"):
        RedisStore(url)


def test_a_password_is_not_told():
    with pytest.raises(SessionError) as told:
        RedisStore("redis://me:secret@127.0.0.1:1/0").open(ids.new_id(), LIFE_S)
    assert "secret" not in str(told.value) and "redis://127.0.0.1:1/0" in str(told.value)


def test_redis_needs_a_path():
    with pytest.raises(SessionError, match=r"needs session.save_path = redis://HOST:PORT/DATABASE"):
        store_of("redis", None)


def test_a_script_has_a_500_while_redis_is_away_and_a_session_when_it_is_back(redis, tmp_path):
    with process_as_it_was():
        site = Site(tmp_path, session_save_handler="redis", session_save_path=redis.url)
        source = "session_start(); _SESSION['n'] = _SESSION.get('n', 0) + 1; echo(_SESSION['n'])"
        assert site.run(source).text == "1"
        redis.stop()
        answer = site.run(source)
        assert answer.status == 500 and "SessionError: sessions are in unix://" in answer.log
        redis.start()
        answer = site.run(source)
        cookie = answer.all("Set-Cookie")[0].partition(";")[0]
        assert [site.run(source, HTTP_COOKIE=cookie).text for _ in range(2)] == ["2", "3"]


def test_redis_going_away_in_the_middle_is_a_500(redis, tmp_path, monkeypatch):
    switch = ModuleType("redis_switch")
    switch.stop = redis.stop
    monkeypatch.setitem(sys.modules, "redis_switch", switch)
    with process_as_it_was():
        site = Site(tmp_path, session_save_handler="redis", session_save_path=redis.url)
        source = "import redis_switch; session_start(); _SESSION['a'] = 1; echo('page'); redis_switch.stop()"
        answer = site.run(source)
        redis.start()
    assert answer.status == 500 and "page" not in answer.text and "sessions are in unix://" in answer.log


def test_the_session_of_a_process_that_is_gone_is_free_at_once(store, redis, held_id):
    pid = os.fork()
    if not pid:
        RedisStore(redis.url).open(held_id, LIFE_S)
        os._exit(0)
    os.waitpid(pid, 0)
    assert store._client.pttl(lock_of(held_id)) > 0
    held = store.open(held_id, LIFE_S)
    assert held.data == b'{"a":1}'
    held.release()


def test_a_process_of_another_machine_or_time_is_not_taken_for_gone():
    machine, pid, started = owner.ours().split("/")
    assert int(pid) == os.getpid() and int(started) > 0
    assert not owner.is_gone(f"{machine}/{pid}/{started}")
    assert owner.is_gone(f"{machine}/{pid}/1")
    for other in ("", "x", f"other/{pid}/1", f"{machine}/x/1", f"{machine}/{10**30}/1", f"{machine}/{pid}/"):
        assert not owner.is_gone(other)


def test_an_answer_that_nobody_has_read_is_not_that_of_the_next_question(store, held_id, monkeypatch):
    """max_execution_time may interrupt anything."""

    class Up(BaseException):
        pass

    def interrupted(connection, *arguments, **options):
        raise Up

    other = ids.new_id()
    store.create(other, LIFE_S).save(b'{"secret":1}')
    with monkeypatch.context() as patch:
        patch.setattr("redis.client.Redis.parse_response", interrupted)
        with pytest.raises(Up):
            store.open(other, LIFE_S)
    held = store.open(held_id, LIFE_S)
    assert held.data == b'{"a":1}'
    held.release()
