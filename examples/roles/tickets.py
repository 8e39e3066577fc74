"""Tickets that a login page gives out as a cookie: a name, and a signature that only those who know the key can make.

They do not expire, and a cookie that was copied lets its thief in as well: a real site puts a time into what is signed.
"""

import hashlib
import hmac
import os
from http.cookies import CookieError, SimpleCookie

COOKIE = "ticket"


def _signature(name: str) -> str:
    return hmac.new(os.environ["TICKET_KEY"].encode(), name.encode(), hashlib.sha256).hexdigest()


def ticket_for(name: str) -> str:
    return f"{name}.{_signature(name)}"


def name_in(cookies: str) -> str | None:
    """Whose ticket is in a Cookie header; None if there is no valid one."""
    try:
        found = SimpleCookie(cookies).get(COOKIE)
    except CookieError:
        return None
    if found is None:
        return None
    name, _, signature = found.value.rpartition(".")
    return name if name and hmac.compare_digest(signature.encode(), _signature(name).encode()) else None
