"""The session of one request: begun by ``session_start()``, kept when the request ends if not before.

    NONE ──start──▶ ACTIVE ──save, abort, destroy, end of the request──▶ NONE

While it is active, no other request has it. Whatever ends it gives it free, also where it could not be kept.
"""

from __future__ import annotations

import secrets
from typing import Any

from pyfpm.sapi.current import CurrentRequest
from pyfpm.sapi.services import services
from pyfpm.sapi.session import caching, cookie, ids, values
from pyfpm.sapi.session.errors import SessionError
from pyfpm.sapi.session.options import SessionOptions
from pyfpm.sapi.session.stores import Held, Store, store_of

# PHP's numbers.
DISABLED, NONE, ACTIVE = 0, 1, 2


class Session:
    """Methods take the request, since one that we kept would keep us: nothing is left to the collector."""

    __slots__ = ("_held", "_limited", "id", "options")

    def __init__(self, options: SessionOptions) -> None:
        self.options = options
        self.id = ""
        self._held: Held | None = None
        # The headers of the cache limiter are made.
        self._limited = False

    @property
    def is_active(self) -> bool:
        return self._held is not None

    @property
    def _store(self) -> Store:
        return store_of(self.options.save_handler, self.options.save_path)

    def start(self, request: CurrentRequest, *, read_and_close: bool = False) -> None:
        """Raises SessionError, or HeadersSentError; there is no session then."""
        store = self._store
        held, data = self._known(request, store)
        try:
            if held is None:
                held = self._new(request, store)
            elif cookie.received(request, self.options.name) != held.id:
                cookie.send(request, self.options, held.id)
            if not self._limited:
                caching.send(request, self.options)
                self._limited = True
        except BaseException:
            if held is not None:
                held.release()
            raise
        self.id = held.id
        self._fill(request, data)
        if read_and_close:
            held.touch()
        else:
            self._held = held
        self._collect_by_chance(store)

    def _known(self, request: CurrentRequest, store: Store) -> tuple[Held | None, dict[str, Any]]:
        """The session that was asked for, if it may be had."""
        asked = self.id or cookie.received(request, self.options.name)
        if not isinstance(asked, str) or not ids.is_valid(asked):
            return None, {}
        lifetime_s = self.options.gc_maxlifetime
        held = store.open(asked, lifetime_s)
        while held is None and not self.options.use_strict_mode:
            # Between the two, another request may have made it.
            held = store.create(asked, lifetime_s) or store.open(asked, lifetime_s)
        if held is None:
            return None, {}
        try:
            return held, values.decode(held.data)
        except ValueError as error:
            # Of another program that has the same place and the same cookie, say PHP. Not ours to overwrite.
            held.release()
            told = services().error_log(f"session {held.id[:8]}... has not the form of ours, a new one begins: {error}")
            request.response.message(told)
            return None, {}

    def _new(self, request: CurrentRequest, store: Store) -> Held:
        # Nothing is left behind in the store where the visitor can't be told the id.
        cookie.is_secure(request, self.options)
        request.response.must_be_changeable()
        while True:
            held = store.create(ids.new_id(), self.options.gc_maxlifetime)
            if held is not None:
                break
        cookie.send(request, self.options, held.id)
        return held

    def _fill(self, request: CurrentRequest, data: dict[str, Any]) -> None:
        found = request.superglobal("_SESSION")
        found.clear()
        found.update(data)
        if "_SESSION" in request.namespace:
            # Where the script has put another one in its place.
            request.namespace["_SESSION"] = found

    def take_bound(self, request: CurrentRequest) -> None:
        """``_SESSION = {}`` in a script means the session, as in PHP. To be called while the namespace is there."""
        if self._held is None:
            return
        data = request.superglobal("_SESSION")
        bound = request.namespace.get("_SESSION", data)
        if bound is not data and isinstance(bound, dict):
            new = dict(bound)
            data.clear()
            data.update(new)

    def save(self, request: CurrentRequest) -> None:
        """Keep it and end it. Raises TypeError or SessionError; it is ended, and what was kept before still is."""
        self.take_bound(request)
        held = self._let_go()
        try:
            data = values.encode(request.superglobal("_SESSION"))
        except BaseException:
            held.release()
            raise
        if self.options.lazy_write and data == (held.data or values.EMPTY):
            held.touch()
        else:
            held.save(data)

    def abort(self) -> None:
        """End it, and keep what was kept before."""
        self._let_go().release()

    def reset(self, request: CurrentRequest) -> None:
        """Forget what this request has changed."""
        held = self._must_be_active()
        self._fill(request, values.decode(held.data))

    def empty(self, request: CurrentRequest) -> None:
        self._must_be_active()
        self._fill(request, {})

    def destroy(self) -> None:
        """Remove it. Its id is unknown from then on."""
        held = self._let_go()
        self.id = ""
        held.destroy()

    def regenerate(self, request: CurrentRequest, *, delete_old: bool) -> None:
        """Go on under another id. The old one, unless it is deleted, keeps what it had when this request began: whoever
        else knows it has no part in what comes now."""
        old = self._must_be_active()
        self._held = self._new(request, self._store)
        self.id = self._held.id
        if delete_old:
            old.destroy()
        else:
            old.touch()

    def collect(self) -> int:
        self._must_be_active()
        return self._store.collect(self.options.gc_maxlifetime)

    def disown(self) -> None:
        """We are a forked process now, and it is our parent's."""
        held, self._held = self._held, None
        if held is not None:
            held.abandon()

    def _collect_by_chance(self, store: Store) -> None:
        # Not by random, which a script may have seeded.
        if secrets.randbelow(self.options.gc_divisor) >= self.options.gc_probability:
            return
        try:
            store.collect(self.options.gc_maxlifetime)
        except SessionError as error:
            services().error_log(str(error))  # It is no fault of this request.

    def _must_be_active(self) -> Held:
        if self._held is None:
            raise SessionError("there is no session: session_start() comes first")
        return self._held

    def _let_go(self) -> Held:
        held = self._must_be_active()
        self._held = None
        return held


def finish(request: CurrentRequest) -> None:
    """At the end of a request: keep its session. Raises as ``Session.save`` does."""
    session = request.session
    if session is not None and session.is_active:
        session.save(request)
