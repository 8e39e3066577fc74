"""FastAPI, with what sites use of it."""

from typing import Annotated

import sniffio
from fastapi import BackgroundTasks, Depends, FastAPI, UploadFile
from pydantic import BaseModel

app = FastAPI()
done = []


class Item(BaseModel):
    name: str
    price: float


def in_a_thread():
    """Not async: FastAPI runs it in a thread."""
    return str(sniffio.thread_local.name)


@app.get("/")
async def index(thread: Annotated[str, Depends(in_a_thread)], q: str = ""):
    return {"loop": sniffio.current_async_library(), "q": q}


@app.post("/items")
def create(item: Item):
    return {"name": item.name.upper(), "price": item.price * 2}


@app.post("/upload")
async def upload(file: UploadFile):
    return {"name": file.filename, "size": len(await file.read())}


@app.get("/later")
async def later(tasks: BackgroundTasks):
    tasks.add_task(done.append, "done")
    return done
