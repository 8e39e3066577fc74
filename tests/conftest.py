"""Fixtures that tests of several kinds share; the verbs behind them are in ``support``."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.server import Server, public_directory

# CI installs every server, and there a test that could not find one has failed.
REQUIRE_SERVERS = os.environ.get("PYFPM_TEST_REQUIRE_SERVERS") == "1"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "big: moves a gigabyte; leave these out with -m 'not big'")
    # A shell has what it starts in the background ignore these, and nohup does. What we start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that other users can enter, and whose path is short: ``tmp_path`` is neither."""
    path = public_directory()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def pyfpm() -> Iterator[Callable[..., Server]]:
    """Starts ``pyfpm`` with the given arguments, or with ``config`` as its file (``Server.of_config``).

    It is stopped when the test ends, and must leave nothing behind.
    """
    started: list[Server] = []

    def start(*arguments: str, wait: bool = True, config: str | None = None, **options: Any) -> Server:
        server = Server(*arguments, **options) if config is None else Server.of_config(config, *arguments, **options)
        started.append(server)
        if wait:
            server.wait_until_ready()
        return server

    yield start
    failures = []
    for server in reversed(started):
        try:
            server.discard()
        except AssertionError as failure:
            failures.append(failure)
    if failures:
        raise failures[0]
