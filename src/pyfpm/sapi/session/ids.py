"""Session ids: which are ours to give, and which a visitor may name.

An id comes from a cookie, so from anybody. It becomes part of a path or of a key only after ``is_valid``: nothing that
means something to a file system or to Redis is in its alphabet.
"""

from __future__ import annotations

import re
import secrets

# PHP's alphabet; its longest is 256, which with sess_ before it is no name for a file any more.
LONGEST = 128
_VALID = re.compile(rf"[A-Za-z0-9,-]{{1,{LONGEST}}}")

# 128 bits: what OWASP asks for twice over, and as long as PHP's by default.
_RANDOM_BYTES = 16


def is_valid(session_id: object) -> bool:
    return isinstance(session_id, str) and _VALID.fullmatch(session_id) is not None


def new_id(prefix: str = "") -> str:
    """An id that nobody can guess.

    Raises:
      ValueError: the prefix has what an id cannot have, or is too long.
    """
    made = prefix + secrets.token_hex(_RANDOM_BYTES)
    if not is_valid(made):
        raise ValueError(
            f"{prefix!r} is no prefix for a session id: A-Z, a-z, 0-9, '-' and ',' are allowed,"
            f" {LONGEST - 2 * _RANDOM_BYTES} at most"
        )
    return made
