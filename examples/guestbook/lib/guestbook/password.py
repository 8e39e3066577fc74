"""The administrator's password: ``python -m guestbook.password`` makes what ``GUESTBOOK_ADMIN`` is to be."""

from __future__ import annotations

import getpass
import hashlib
import hmac
import os
import secrets


def hashed(password: str, salt: str) -> str:
    """Slow on purpose (some 50 ms and 16 MiB), for whoever gets hold of it and wants to guess."""
    return hashlib.scrypt(password.encode(), salt=bytes.fromhex(salt), n=2**14, r=8, p=1).hex()


def is_set() -> bool:
    return ":" in os.environ.get("GUESTBOOK_ADMIN", "")


def is_right(password: str) -> bool:
    salt, _, expected = os.environ.get("GUESTBOOK_ADMIN", "").partition(":")
    return is_set() and hmac.compare_digest(hashed(password, salt), expected)


if __name__ == "__main__":
    salt = secrets.token_hex(16)
    print(f"GUESTBOOK_ADMIN={salt}:{hashed(getpass.getpass(), salt)}")
