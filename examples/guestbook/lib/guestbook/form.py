"""Forms: their fields, and the token that shows that a form is one of ours.

Without a token, a page of another site could have a visitor's browser send our forms, with the visitor's cookies:
cross-site request forgery.
"""

from __future__ import annotations

import hmac
import secrets
from html import escape

from pyfpm import _POST, _SESSION


def field(name: str) -> str:
    """As clean text; "" when it is absent, or not a single value."""
    value = _POST.get(name, "")
    # What is no character in UTF-8 has no place in the database.
    return value.encode("utf-8", "replace").decode().strip() if isinstance(value, str) else ""


def token() -> str:
    """For a hidden field. The session has to be active."""
    made = _SESSION.setdefault("token", secrets.token_urlsafe(24))
    return f'<input type=hidden name=token value="{escape(made)}">'


def is_ours() -> bool:
    """The form that was sent has the token of this session."""
    known = _SESSION.get("token", "")
    return bool(known) and hmac.compare_digest(field("token").encode(), known.encode())
