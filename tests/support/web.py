"""A visitor: HTTP requests to a web server on this machine."""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from support.waiting import PATIENCE_S


@dataclass(frozen=True)
class Page:
    """What a visitor got. Of a body that was only counted, ``body`` is empty."""

    status: int
    headers: dict[str, str]
    body: bytes
    size: int
    digest: str


def fetch(
    port: int,
    path: str,
    body: bytes | Iterable[bytes] | None = None,
    *,
    method: str | None = None,
    headers: Mapping[str, str] | None = None,
    keep_body: bool = True,
) -> Page:
    """One request. A body that is not bytes is sent chunked, its length not being known, unless a header tells it.

    A web server that refuses a body may close before it has read it; its answer may be lost in that, and is then a
    page of status 0.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.request(
                method or ("GET" if body is None else "POST"), path, body, {"Host": "localhost", **(headers or {})}
            )
        try:
            response = connection.getresponse()
        except ConnectionResetError:
            return Page(0, {}, b"", 0, "")
        kept, size, digest = [], 0, hashlib.sha256()
        while piece := response.read(1 << 20):
            if keep_body:
                kept.append(piece)
            size += len(piece)
            digest.update(piece)
        found = {name.lower(): value for name, value in response.getheaders()}
        return Page(response.status, found, b"".join(kept), size, digest.hexdigest())
    finally:
        connection.close()
