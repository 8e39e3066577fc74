"""Where sessions are kept: ``interface`` says what that takes, ``files`` and ``redis`` do it."""

from __future__ import annotations

import os
import re
from functools import lru_cache

from pyfpm.sapi.session.errors import SessionError
from pyfpm.sapi.session.stores.files import FileStore
from pyfpm.sapi.session.stores.interface import Held, Store

__all__ = ["Held", "Store", "store_of"]

# PHP's forms: DIRECTORY, DEPTH;DIRECTORY, DEPTH;MODE;DIRECTORY.
_FILES_PATH = re.compile(r"(?:(?P<depth>[0-9]+);)?(?:(?P<mode>[0-7]+);)?(?P<directory>/[^;]*)")
# 16 to this power are the directories.
DEEPEST = 5


@lru_cache(maxsize=64)
def store_of(save_handler: str, save_path: str | None) -> Store:
    """The store of these two directives; one each for a process.

    Raises:
      SessionError: there is none of this kind, or the path is none for it.
    """
    if save_handler == "files":
        return _files(save_path)
    if save_handler == "redis":
        from pyfpm.sapi.session.stores import redis

        if not save_path:
            raise SessionError(f"session.save_handler = redis needs session.save_path = {redis.FORMS}")
        return redis.RedisStore(save_path)
    raise SessionError(f"session.save_handler = {save_handler} is neither files nor redis")


def _files(save_path: str | None) -> FileStore:
    if not save_path:
        parent = os.environ.get("TMPDIR") or "/tmp"
        return FileStore(f"{parent}/pyfpm-sessions-{os.geteuid()}", private=True)
    found = _FILES_PATH.fullmatch(save_path)
    if found is None or int(found["depth"] or 0) > DEEPEST:
        raise SessionError(
            f"session.save_path = {save_path} is not an absolute path, DEPTH;PATH or DEPTH;MODE;PATH"
            f" with a depth of {DEEPEST} at most"
        )
    return FileStore(
        found["directory"].rstrip("/") or "/", depth=int(found["depth"] or 0), mode=int(found["mode"] or "600", 8)
    )
