"""Starlette, with what sites use of it."""

import hashlib
import pathlib
from contextlib import asynccontextmanager

import anyio
import sniffio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from starlette.routing import Mount, Route

done = []


@asynccontextmanager
async def lifespan(app):
    yield {"started": True}


async def index(request):
    return JSONResponse(
        {
            "loop": sniffio.current_async_library(),
            "started": request.state.started,
            "path": request.url.path,
            "root_path": request.scope["root_path"],
            "query": request.query_params.multi_items(),
            "client": request.client.host,
            "host": request.headers["host"],
            "cookies": request.cookies,
        }
    )


async def digest(request):
    found = hashlib.sha256()
    async for piece in request.stream():
        found.update(piece)
    return PlainTextResponse(found.hexdigest())


async def form(request):
    async with request.form() as fields:
        uploaded = await fields["file"].read()
        return JSONResponse({"name": fields["name"], "file": fields["file"].filename, "size": len(uploaded)})


async def stream(request):
    async def pieces():
        for i in range(5):
            yield f"piece {i}\n"
            await anyio.sleep(0)

    return StreamingResponse(pieces(), media_type="text/plain")


async def file(request):
    return FileResponse(pathlib.Path(__file__), media_type="text/x-python")


async def later(request):
    async def note():
        await anyio.sleep(0.05)
        done.append(request.url.path)

    return JSONResponse(done, background=BackgroundTask(note))


async def redirect(request):
    response = RedirectResponse(request.url_for("index"))
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response


async def missing(request):
    raise HTTPException(404, "nobody here")


async def fail(request):
    raise LookupError("of Starlette")


class Marks(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        response = await call_next(request)
        response.headers["x-marked"] = "yes"
        return response


routes = [
    Route("/", index, name="index"),
    Route("/digest", digest, methods=["POST"]),
    Route("/form", form, methods=["POST"]),
    Route("/stream", stream),
    Route("/file", file),
    Route("/later", later),
    Route("/redirect", redirect),
    Route("/missing", missing),
    Route("/fail", fail),
    Mount("/below", routes=[Route("/{name}", index)]),
]
app = Starlette(routes=routes, lifespan=lifespan, middleware=[Middleware(GZipMiddleware), Middleware(Marks)])
