"""A site, the server that runs it, and the web servers in front of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support import webservers
from support.server import Server, public_directory

MB = 1024**2
BLOCK = os.urandom(MB)


@pytest.fixture(scope="module")
def site() -> Iterator[Path]:
    """The scripts of ``tests/interop/site`` where web servers that run as somebody else can see them."""
    place = public_directory()
    root = place / "site"
    shutil.copytree(Path(__file__).parent / "site", root)
    (root / "block").write_bytes(BLOCK)
    yield root
    shutil.rmtree(place, ignore_errors=True)


@dataclass
class Front:
    """A web server with a pyfpm behind it."""

    web: webservers.WebServer
    pyfpm: Server
    label: str

    @property
    def port(self) -> int:
        return self.web.port

    @property
    def software(self) -> str:
        return self.label.partition("-")[0]


@pytest.fixture(scope="module")
def behind(site: Path) -> Iterator[Callable[..., Front]]:
    """Starts a pyfpm and a web server in front of it; both are stopped at the end of the module."""
    started: list[Any] = []

    def start(
        kind: type[webservers.WebServer],
        *arguments: str,
        tcp: bool = False,
        label: str = "",
        cwd: Path | None = None,
        **options: str,
    ) -> Front:
        listen = ("--listen", "127.0.0.1:0") if tcp else ()
        pyfpm = Server(*listen, *arguments, cwd=cwd)
        started.append(pyfpm)
        pyfpm.wait_until_ready()
        web = kind(pyfpm.addresses[0], site, **options)
        started.append(web)
        return Front(web, pyfpm, label)

    yield start
    failures = []
    for each in reversed(started):
        try:
            each.discard()
        except AssertionError as failure:
            failures.append(failure)
    if failures:
        raise failures[0]
