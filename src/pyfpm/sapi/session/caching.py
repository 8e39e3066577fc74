"""What keeps pages of a session out of caches that others share: the headers of PHP's cache limiters."""

from __future__ import annotations

import os
import time
from email.utils import formatdate

from pyfpm.sapi.current import CurrentRequest
from pyfpm.sapi.session.options import SessionOptions

# Long gone; PHP's date.
PAST = "Thu, 19 Nov 1981 08:52:00 GMT"


def send(request: CurrentRequest, options: SessionOptions) -> None:
    """Raises HeadersSentError when output has left already."""
    limiter = options.cache_limiter
    if limiter == "none":
        return
    response = request.response
    response.must_be_changeable()
    for name, value in _fields(request, limiter, options.cache_expire * 60):
        response.add((name.lower(), f"{name}: {value}\r\n"), True)


def _fields(request: CurrentRequest, limiter: str, most_s: int) -> list[tuple[str, str]]:
    if limiter == "nocache":
        return [("Expires", PAST), ("Cache-Control", "no-store, no-cache, must-revalidate"), ("Pragma", "no-cache")]
    changed = ("Last-Modified", formatdate(_changed(request), usegmt=True))
    if limiter == "public":
        until = formatdate(time.time() + most_s, usegmt=True)
        return [("Expires", until), ("Cache-Control", f"public, max-age={most_s}"), changed]
    private = [("Cache-Control", f"private, max-age={most_s}"), changed]
    return [("Expires", PAST), *private] if limiter == "private" else private


def _changed(request: CurrentRequest) -> float:
    try:
        return os.stat(request.namespace["__file__"]).st_mtime
    except (KeyError, OSError):
        return time.time()
