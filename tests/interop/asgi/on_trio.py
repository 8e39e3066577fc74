"""An application that is written for trio, and says so by importing it."""

import trio


async def app(scope, receive, send):
    assert scope["type"] == "http"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 0)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"on trio"})
