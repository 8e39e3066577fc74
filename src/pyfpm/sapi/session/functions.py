"""The functions for sessions that a script has, under PHP's names (https://www.php.net/manual/en/ref.session.php).

Where PHP warns and returns false, these raise: SessionError or HeadersSentError, ValueError or TypeError for
arguments.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from pyfpm.sapi.current import AtEnd, CurrentRequest, current
from pyfpm.sapi.session import ids
from pyfpm.sapi.session.errors import SessionError
from pyfpm.sapi.session.options import changed, options_of
from pyfpm.sapi.session.session import ACTIVE, DISABLED, NONE, Session, finish

PHP_SESSION_DISABLED = DISABLED
PHP_SESSION_NONE = NONE
PHP_SESSION_ACTIVE = ACTIVE

READ_AND_CLOSE = "read_and_close"


def _session(request: CurrentRequest | None = None) -> Session:
    request = request or current()
    if request.session is None:
        request.session = Session(options_of(request.settings))
        request.at_end(AtEnd.SESSION, functools.partial(finish, request))
    session: Session = request.session
    return session


def _changeable(what: str) -> Session:
    session = _session()
    if session.is_active:
        raise SessionError(f"{what} cannot be changed while a session is active")
    return session


def session_start(options: Mapping[str, Any] | None = None, /, **more: Any) -> bool:
    """Begin a session, or go on with the visitor's: ``_SESSION`` has its data, and what it has at the end is kept.

    Another request of the same session waits until then, or until ``session_write_close()``.

    Args:
      options: of this request, by their names in PHP without ``session.``, as a mapping or by keyword;
        ``read_and_close=True`` to read ``_SESSION`` and hold nobody up.

    Raises:
      HeadersSentError: output has left already, and there is a header to be sent.
      SessionError: the store cannot be reached, or cannot keep it.
      TypeError, ValueError: there is no such option, or it cannot have this value.
    """
    request = current()
    session = _session(request)
    if session.is_active:
        return True
    given = {**(options or {}), **more}
    read_and_close = bool(given.pop(READ_AND_CLOSE, False))
    if given:
        session.options = changed(session.options, given)
    session.start(request, read_and_close=read_and_close)
    return True


def session_id(id: str | None = None) -> str:
    """The id, ``""`` when there is none. With ``id``, the next ``session_start()`` takes this one; in strict mode only
    if there is a session of it. Returns the one before.

    Raises:
      SessionError: a session is active.
      ValueError: an id cannot be like this.
    """
    if id is None:
        return _session().id
    session = _changeable("the session's id")
    if not ids.is_valid(id):
        raise ValueError(f"{id!r} is no session id: A-Z, a-z, 0-9, '-' and ',' are allowed, {ids.LONGEST} at most")
    before, session.id = session.id, id
    return before


def session_name(name: str | None = None) -> str:
    """The name of the cookie. With ``name``, change it, and return the one before. Raises as ``session_id``."""
    if name is None:
        return _session().options.name
    return str(_change("the session's name", "name", name))


def session_cache_limiter(value: str | None = None) -> str:
    """Which caching headers go with a session. With ``value``, change it, and return the one before."""
    if value is None:
        return _session().options.cache_limiter
    return str(_change("the cache limiter", "cache_limiter", value))


def session_cache_expire(value: int | None = None) -> int:
    """The minutes that these allow. With ``value``, change it, and return the one before."""
    if value is None:
        return _session().options.cache_expire
    return int(_change("cache_expire", "cache_expire", value))


def _change(what: str, option: str, value: object) -> Any:
    session = _changeable(what)
    before = getattr(session.options, option)
    session.options = changed(session.options, {option: value})
    return before


def session_get_cookie_params() -> dict[str, Any]:
    """``lifetime``, ``path``, ``domain``, ``secure`` (None: where the request came by HTTPS), ``httponly`` and
    ``samesite`` (``""`` for none) of the cookie."""
    options = _session().options
    return {
        "lifetime": int(options.cookie_lifetime),
        "path": options.cookie_path,
        "domain": options.cookie_domain or "",
        "secure": options.cookie_secure,
        "httponly": options.cookie_httponly,
        "samesite": "" if options.cookie_samesite == "off" else options.cookie_samesite.capitalize(),
    }


def session_set_cookie_params(
    lifetime: float | Mapping[str, Any] | None = None,
    path: str | None = None,
    domain: str | None = None,
    secure: bool | None = None,
    httponly: bool | None = None,
    samesite: str | None = None,
) -> bool:
    """Change them, for this request. What is None stays.

    Args:
      lifetime: in seconds; or a mapping of any of these, as in PHP 7.3.

    Raises:
      SessionError: a session is active.
      TypeError, ValueError: there is no such parameter, or it cannot have this value.
    """
    session = _changeable("the cookie's parameters")
    if isinstance(lifetime, Mapping):
        given = {name.lower(): value for name, value in lifetime.items()}
    else:
        given = {
            "lifetime": lifetime,
            "path": path,
            "domain": domain,
            "secure": secure,
            "httponly": httponly,
            "samesite": samesite,
        }
        given = {name: value for name, value in given.items() if value is not None}
    session.options = changed(session.options, given, "cookie_")
    return True


def session_create_id(prefix: str = "") -> str:
    """A new id, for ``session_id()``. Raises ValueError for a prefix that an id cannot have."""
    return ids.new_id(prefix)


def session_regenerate_id(delete_old_session: bool = False) -> bool:
    """Go on under a new id: to be called when somebody logs in, so that an id from before is worth nothing.

    Unless it is deleted, the old session stays for requests that are under way, as it was when this one began.

    Raises:
      HeadersSentError: output has left already.
      SessionError: no session is active, or the store cannot be reached.
    """
    request = current()
    _session(request).regenerate(request, delete_old=delete_old_session)
    return True


def session_destroy() -> bool:
    """Remove the session. ``_SESSION`` keeps its data until the request ends. Raises SessionError without a session."""
    _session().destroy()
    return True


def session_unset() -> bool:
    """Empty ``_SESSION``. False when no session is active."""
    request = current()
    session = _session(request)
    if not session.is_active:
        return False
    session.empty(request)
    return True


def session_write_close() -> bool:
    """Keep the session now, and let other requests have it. ``_SESSION`` can still be read. False when none is active.

    Raises:
      TypeError: a value in ``_SESSION`` cannot be kept; it names the key. What was kept before still is.
      SessionError: the store cannot be reached, or has no room.
    """
    request = current()
    session = _session(request)
    if not session.is_active:
        return False
    session.save(request)
    return True


def session_abort() -> bool:
    """End the session without keeping what has changed. False when none is active."""
    session = _session()
    if not session.is_active:
        return False
    session.abort()
    return True


def session_reset() -> bool:
    """``_SESSION`` as it was when the session began. False when none is active."""
    request = current()
    session = _session(request)
    if not session.is_active:
        return False
    session.reset(request)
    return True


def session_status() -> int:
    """``PHP_SESSION_NONE`` or ``PHP_SESSION_ACTIVE``."""
    return ACTIVE if _session().is_active else NONE


def session_gc() -> int:
    """Remove old sessions now; returns how many those were. Raises SessionError when no session is active."""
    return _session().collect()


session_commit = session_write_close

FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        session_abort,
        session_cache_expire,
        session_cache_limiter,
        session_create_id,
        session_destroy,
        session_gc,
        session_get_cookie_params,
        session_id,
        session_name,
        session_regenerate_id,
        session_reset,
        session_set_cookie_params,
        session_start,
        session_status,
        session_unset,
        session_write_close,
    )
} | {"session_commit": session_commit}

CONSTANTS = {
    "PHP_SESSION_ACTIVE": PHP_SESSION_ACTIVE,
    "PHP_SESSION_DISABLED": PHP_SESSION_DISABLED,
    "PHP_SESSION_NONE": PHP_SESSION_NONE,
}
