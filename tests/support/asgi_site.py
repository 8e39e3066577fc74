"""An ASGI application for tests that are about the server: each path is one deed. It runs on trio and on asyncio."""

import asyncio
import contextvars
import json
import os
import time

import sniffio
import trio

TEXT = [(b"content-type", b"text/plain")]
NOTE = contextvars.ContextVar("NOTE", default="")

released = None
waiting = 0
seen = []
events = []


def make_event():
    return trio.Event() if sniffio.current_async_library() == "trio" else asyncio.Event()


async def sleep(seconds):
    await (trio.sleep if sniffio.current_async_library() == "trio" else asyncio.sleep)(seconds)


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(scope, receive, send)
    await DEEDS[scope["path"]](scope, receive, send)


async def lifespan(scope, receive, send):
    global released
    assert (await receive())["type"] == "lifespan.startup"
    if os.path.exists("refuse"):
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        return
    released = make_event()
    scope["state"]["since"] = "startup"
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    with open("ended", "a") as file:
        file.write(f"shutdown with {waiting} waiting\n")
    await send({"type": "lifespan.shutdown.complete"})


async def answer(send, body, status=200, headers=TEXT):
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def hello(scope, receive, send):
    await answer(send, b"hello")


async def no_content(scope, receive, send):
    await send({"type": "http.response.start", "status": 204, "headers": [(b"content-length", b"7")]})
    await send({"type": "http.response.body", "body": b"ignored"})


async def pid(scope, receive, send):
    await answer(send, str(os.getpid()).encode())


async def tell_scope(scope, receive, send):
    told = {name: value for name, value in scope.items() if name != "extensions"}
    await answer(send, json.dumps(told, default=lambda data: data.decode("latin-1")).encode())


async def echo(scope, receive, send):
    """What has come of the body goes back at once."""
    await send({"type": "http.response.start", "status": 200, "headers": TEXT})
    more = True
    while more:
        message = await receive()
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})


async def count(scope, receive, send):
    size = pieces = 0
    more = True
    while more:
        message = await receive()
        size += len(message["body"])
        pieces = max(pieces, len(message["body"]))
        more = message["more_body"]
    await answer(send, f"{size} {pieces}".encode())


async def read_when_released(scope, receive, send):
    await wait_for_release()
    await count(scope, receive, send)


async def unread(scope, receive, send):
    await answer(send, b"not read")


async def wait_for_release():
    global waiting
    waiting += 1
    await released.wait()
    waiting -= 1


async def wait(scope, receive, send):
    await wait_for_release()
    await answer(send, str(os.getpid()).encode())


async def release(scope, receive, send):
    released.set()
    await answer(send, b"released")


async def how_many(scope, receive, send):
    await answer(send, str(waiting).encode())


async def until_disconnect(scope, receive, send):
    """Notes when it heard that the visitor has gone, and what send does then."""
    await send({"type": "http.response.start", "status": 200, "headers": TEXT})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass
    heard = time.monotonic()
    try:
        await send({"type": "http.response.body", "body": b"more", "more_body": True})
        error = "none"
    except OSError as raised:
        error = type(raised).__name__
    seen.append({"heard": heard, "error": error, "again": (await receive())["type"]})


async def send_only(scope, receive, send):
    """Never looks at its body."""
    await send({"type": "http.response.start", "status": 200, "headers": TEXT})
    try:
        while True:
            await send({"type": "http.response.body", "body": b".", "more_body": True})
            await sleep(0.01)
    except OSError as error:
        seen.append(type(error).__name__)


async def a_while(scope, receive, send):
    await sleep(1.5)
    await answer(send, b"slept")


async def block_for_a_while(scope, receive, send):
    time.sleep(1.5)
    await answer(send, b"blocked")


async def tell_seen(scope, receive, send):
    await answer(send, json.dumps(seen).encode())


async def large(scope, receive, send):
    """As many megabytes as the query says, and how much of them went before it had to wait."""
    await send({"type": "http.response.start", "status": 200, "headers": TEXT})
    piece = bytes(range(256)) * 256
    for i in range(int(scope["query_string"]) * 16):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        seen[:] = [i + 1]
    await send({"type": "http.response.body"})


async def after_an_answer(scope, receive, send):
    await answer(send, b"first")
    events.append((await receive())["type"])
    try:
        await send({"type": "http.response.body", "body": b"second"})
    except RuntimeError as error:
        events.append(str(error))


async def tell_events(scope, receive, send):
    await answer(send, json.dumps(events).encode())


async def note_and_read(scope, receive, send):
    global waiting
    NOTE.set("of another request")
    waiting += 1
    await released.wait()
    waiting -= 1
    while (await receive())["more_body"]:
        pass
    await answer(send, b"read")


async def note(scope, receive, send):
    """What a request sets in a contextvar is its own."""
    before = NOTE.get()
    NOTE.set(scope["query_string"].decode())
    await sleep(0)
    await answer(send, f"{before}|{NOTE.get()}".encode())


async def fail(scope, receive, send):
    raise LookupError("nothing there")


async def fail_late(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": TEXT})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    raise LookupError("nothing more there")


async def nothing(scope, receive, send):
    pass


async def leave(scope, receive, send):
    raise SystemExit(3)


async def tired(scope, receive, send):
    try:
        await sleep(3600)
    finally:
        events.append("finally")


async def stubborn(scope, receive, send):
    for _ in range(3):
        try:
            await sleep(2)
        except BaseException:
            events.append("caught")
    await answer(send, b"late")


async def block(scope, receive, send):
    while True:
        time.sleep(60)


async def path_send(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": TEXT})
    await send({"type": "http.response.pathsend", "path": os.path.abspath("file")})


async def zero_copy(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": TEXT})
    with open("file", "rb") as file:
        await send({"type": "http.response.body", "body": b"<", "more_body": True})
        await send(
            {"type": "http.response.zerocopysend", "file": file.fileno(), "offset": 2, "count": 5, "more_body": True}
        )
        await send({"type": "http.response.body", "body": b">"})


async def server_sent(scope, receive, send):
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for i in range(3):
        await send(
            {"type": "http.response.body", "body": f"data: {i} {time.monotonic()}\n\n".encode(), "more_body": True}
        )
        await sleep(0.2)
    await send({"type": "http.response.body"})


async def crash(scope, receive, send):
    os.abort()


DEEDS = {
    "/": hello,
    "/hello": hello,
    "/no-content": no_content,
    "/pid": pid,
    "/scope": tell_scope,
    "/echo": echo,
    "/count": count,
    "/read-later": read_when_released,
    "/unread": unread,
    "/wait": wait,
    "/release": release,
    "/waiting": how_many,
    "/until-disconnect": until_disconnect,
    "/seen": tell_seen,
    "/large": large,
    "/after": after_an_answer,
    "/events": tell_events,
    "/note": note,
    "/note-and-read": note_and_read,
    "/fail": fail,
    "/fail-late": fail_late,
    "/nothing": nothing,
    "/leave": leave,
    "/tired": tired,
    "/stubborn": stubborn,
    "/block": block,
    "/block-for-a-while": block_for_a_while,
    "/sleep": a_while,
    "/send-only": send_only,
    "/path": path_send,
    "/zero-copy": zero_copy,
    "/sse": server_sent,
    "/crash": crash,
}
