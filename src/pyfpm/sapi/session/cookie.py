"""The cookie that carries a session's id."""

from __future__ import annotations

import math
import time

from pyfpm.sapi.current import CurrentRequest
from pyfpm.sapi.functions import setcookie
from pyfpm.sapi.session.errors import SessionError
from pyfpm.sapi.session.options import SessionOptions


def received(request: CurrentRequest, name: str) -> object:
    """What the visitor sent under this name: a str, or whatever else a cookie can be made to be."""
    return request.superglobal("_COOKIE").get(name)


def send(request: CurrentRequest, options: SessionOptions, session_id: str) -> None:
    """In place of an earlier one of this request: two of one name would be for the browser to choose from.

    Raises:
      HeadersSentError: output has left already.
      SessionError: browsers would refuse it.
    """
    secure = is_secure(request, options)
    response = request.response
    response.must_be_changeable()
    if response.headers is not None:
        begins = f"Set-Cookie: {options.name}="
        response.headers = [field for field in response.headers if not field[1].startswith(begins)]
    samesite = options.cookie_samesite
    lifetime_s = options.cookie_lifetime
    setcookie(
        options.name,
        session_id,
        # Whole seconds, as they are written, and not one less since some time has passed.
        expires=math.ceil(time.time() + lifetime_s) if lifetime_s else 0,
        path=options.cookie_path,
        domain=options.cookie_domain or "",
        secure=secure,
        httponly=options.cookie_httponly,
        samesite="" if samesite == "off" else samesite.capitalize(),
    )


def is_secure(request: CurrentRequest, options: SessionOptions) -> bool:
    """Whether it is to go over HTTPS alone.

    Raises:
      SessionError: it is not, and for SameSite=None browsers want it.
    """
    secure = options.cookie_secure
    if secure is None:
        secure = _is_https(request)
    if options.cookie_samesite == "none" and not secure:
        raise SessionError(
            "browsers refuse a cookie of SameSite=None without Secure: set session.cookie_secure = yes, or let the web"
            " server send HTTPS=on with requests that came by it"
        )
    return secure


def _is_https(request: CurrentRequest) -> bool:
    https = request.server.get("HTTPS", "")
    return https.lower() not in ("", "off") or request.server.get("REQUEST_SCHEME") == "https"
