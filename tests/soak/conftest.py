"""Load for as long as something is done to the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.load import Load

HELLO = 'import os\necho("hello ", _GET["name"], " from ", os.getpid())\n'


@pytest.fixture
def hello(place: Path) -> Path:
    (place / "hello.py").write_text(HELLO)
    return place / "hello.py"


@pytest.fixture
def load() -> Iterator[Callable[..., Load]]:
    started: list[Load] = []

    def start(*arguments: Any, **options: Any) -> Load:
        started.append(Load(*arguments, **options))
        return started[-1]

    yield start
    for each in started:
        each.discard()
