"""The page of the benchmark as an ASGI application."""

from __future__ import annotations

from typing import Any


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    name = scope["query_string"].partition(b"=")[2].decode("latin-1") or "world"
    body = f"Hello, {name}. This page has read its query string, and that is all it does.\n".encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
