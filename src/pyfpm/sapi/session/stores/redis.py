"""Sessions in Redis (or Valkey, or what else speaks its protocol and runs Lua), for a site on several machines.

Two keys a session: ``pyfpm:session:{ID}`` has its data and expires when it is old; ``pyfpm:session:{ID}:lock`` has the
token of the request that has it. Each verb is one script that Redis runs as a whole, so one round trip.

A lock expires: the worker that took it may be gone, with its machine. Its token says whose it is, so that a worker of
the same machine sees when that one was killed, and takes the lock. It lasts as long as a request may run. Where
nothing limits that, a request may outlive its lock, and still saves if the data is what it has read; if it is not, or
the session was destroyed, that is an error and the newer data stays.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from typing import Any
from urllib.parse import urlsplit

from pyfpm.sapi.services import services
from pyfpm.sapi.session.errors import SessionError
from pyfpm.sapi.session.stores import owner

FORMS = "redis://HOST:PORT/DATABASE, rediss://HOST:PORT/DATABASE or unix:///PATH?db=DATABASE"

CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 5.0

# How long a lock lasts where no limit says how long a request may.
LOCK_S = 60.0
# What ends a request at its limit takes its time.
GRACE_S = 5.0

# Between two looks at a lock that another request has.
SHORTEST_WAIT_S, LONGEST_WAIT_S = 0.001, 0.05

BUSY, UNKNOWN, OURS = 0, 1, 2

# KEYS: data, lock. ARGV: token, and what is named in each.
CREATE = """-- milliseconds of the lock, of the data
if redis.call('EXISTS', KEYS[1], KEYS[2]) > 0 then return 0 end
redis.call('SET', KEYS[1], '', 'PX', ARGV[3])
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return 1
"""
OPEN = """-- milliseconds of the lock
local data = redis.call('GET', KEYS[1])
if not data then return {1} end
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] then return {0, holder} end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return {2, data}
"""
# What ends the hold. Without a lock, the data has to be what was read.
MAY_CHANGE = """
local holder = redis.call('GET', KEYS[2])
if holder ~= ARGV[1] then
    if holder then return 0 end
    local data = redis.call('GET', KEYS[1])
    if not data or redis.sha1hex(data) ~= ARGV[2] then return 0 end
end
redis.call('DEL', KEYS[2])
"""
SAVE = MAY_CHANGE + "redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[3]) return 1"
TOUCH = MAY_CHANGE + "redis.call('PEXPIRE', KEYS[1], ARGV[3]) return 1"
DESTROY = (
    "redis.call('DEL', KEYS[1]) if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end return 1"
)
RELEASE = "if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end return 1"


class RedisStore:
    """A database of Redis.

    Args:
      url: where it is, as redis-py takes it.

    Raises:
      SessionError: redis-py is not installed, or this is no such URL.
    """

    def __init__(self, url: str) -> None:
        try:
            # Here, since only those who want it have it, and it is large.
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError:
            raise SessionError(
                "session.save_handler = redis needs the package redis: pip install 'pyfpm-server[redis]'"
            ) from None
        self.place = _without_secrets(url)
        try:
            self._client: Any = redis.Redis.from_url(
                url,
                socket_connect_timeout=CONNECT_TIMEOUT_S,
                socket_timeout=ANSWER_TIMEOUT_S,
                # Once more at once, for a connection that Redis has closed meanwhile; the visitor waits.
                retry=Retry(NoBackoff(), 1),
            )
            # An option that it does not have shows here; nothing is connected yet.
            self._client.connection_pool.make_connection()
        except (ValueError, TypeError) as error:
            raise SessionError(f"session.save_path = {self.place} is not {FORMS}: {error}") from None
        self._error = redis.RedisError
        self._scripts = {text: self._client.register_script(text) for text in SCRIPTS}

    def create(self, session_id: str, lifetime_s: float) -> HeldKey | None:
        held = HeldKey(self, session_id, lifetime_s)
        return held if held.run(CREATE, _ms(_lock_s()), _ms(lifetime_s)) else None

    def open(self, session_id: str, lifetime_s: float) -> HeldKey | None:
        held = HeldKey(self, session_id, lifetime_s)
        lock_s = _lock_s()
        # A lock that is there when we come is gone by then, but others may be faster than we each time.
        deadline = time.monotonic() + 2 * lock_s
        wait_s = SHORTEST_WAIT_S
        while True:
            found, *what = held.run(OPEN, _ms(lock_s))
            if found == UNKNOWN:
                return None
            if found == OURS:
                held.data = what[0]
                return held
            holder = what[0]
            if owner.is_gone(holder.decode("utf-8", "replace").partition(" ")[2]):
                held.free(holder)
                continue
            if time.monotonic() > deadline:
                raise SessionError(f"other requests of this session have held it for {2 * lock_s:g} s")
            time.sleep(wait_s)
            wait_s = min(LONGEST_WAIT_S, wait_s * 1.5)

    def collect(self, lifetime_s: float) -> int:
        """Redis does that by itself."""
        return 0

    def run(self, script: str, keys: list[str], *arguments: str | bytes | int) -> Any:
        try:
            return self._scripts[script](keys=keys, args=arguments)
        except self._error as error:
            raise SessionError(f"sessions are in {self.place}, and that failed: {error}") from None
        except BaseException:
            # max_execution_time may strike between question and answer, and the next question would have this answer:
            # the session of somebody else.
            self._client.connection_pool.disconnect()
            raise


class HeldKey:
    """A session in Redis, or one that is to be had."""

    __slots__ = ("_keys", "_lifetime_s", "_store", "_token", "data", "id")

    def __init__(self, store: RedisStore, session_id: str, lifetime_s: float) -> None:
        self._store = store
        self._lifetime_s = lifetime_s
        # The braces keep the two in one slot of a cluster.
        key = f"pyfpm:session:{{{session_id}}}"
        self._keys = [key, key + ":lock"]
        self._token = f"{secrets.token_hex(16)} {owner.ours()}"
        self.id = session_id
        self.data = b""

    def run(self, script: str, *arguments: str | bytes | int) -> Any:
        return self._store.run(script, self._keys, self._token, *arguments)

    def save(self, data: bytes) -> None:
        self._change(SAVE, data)

    def touch(self) -> None:
        self._change(TOUCH)

    def _change(self, script: str, *arguments: bytes) -> None:
        read = hashlib.sha1(self.data, usedforsecurity=False).hexdigest()
        if not self.run(script, read, _ms(self._lifetime_s), *arguments):
            raise SessionError(
                "this request has outlived its hold on the session, which another one has changed or destroyed; a limit"
                " in max_execution_time or request_terminate_timeout makes it last as long as a request may"
            )

    def destroy(self) -> None:
        self.run(DESTROY)

    def release(self) -> None:
        self.run(RELEASE)

    def free(self, holder: bytes) -> None:
        """End the hold of somebody who cannot do that any more."""
        self._store.run(RELEASE, self._keys, holder)

    def abandon(self) -> None:
        """The connection is not ours to use; redis-py sees that by itself."""


def _lock_s() -> float:
    longest_s = services().longest_s
    return longest_s + GRACE_S if longest_s else LOCK_S


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _without_secrets(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "redis"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


SCRIPTS = (CREATE, OPEN, SAVE, TOUCH, DESTROY, RELEASE)
