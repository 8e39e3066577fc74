"""What a worker is told: the configuration's own classes stay with the master."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

# The zygote finds its control socket here; what is said on it is at most so long.
CONTROL_FD = 3
LONGEST_MESSAGE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits and times of the reactor, under the names that ``config.pool`` explains. Sizes are in bytes."""

    max_requests: int
    max_connections: int
    max_params_size: int
    max_params: int
    max_held_connection: int
    max_held_peer: int
    max_held: int
    spool_threshold: int
    spool_directory: str | None
    post_max_size: int
    max_queued: int
    keepalive_timeout_s: float
    request_read_timeout_s: float
    send_timeout_s: float


@dataclass(frozen=True, slots=True)
class Program:
    """What a zygote imports and its workers run, and as whom."""

    pool: str
    app: str | None
    docroots: tuple[str, ...]
    extensions: tuple[str, ...]
    display_errors: bool
    chdir: str | None
    user: str | None
    group: str | None
    workers: int


def to_json(program: Program, settings: Settings) -> bytes:
    return json.dumps({"program": asdict(program), "settings": asdict(settings)}).encode()


def from_json(text: bytes) -> tuple[Program, Settings]:
    told: dict[str, Any] = json.loads(text)
    program = told["program"]
    for name in ("docroots", "extensions"):
        program[name] = tuple(program[name])
    return Program(**program), Settings(**told["settings"])
