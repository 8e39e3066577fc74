"""What a zygote and its workers are told: the configuration's own classes stay with the master.

The order is one message: JSON with the three parts below and the names of the descriptors that come with it, in their
order. A fork order brings the new worker's own descriptors likewise.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from pyfpm.observe.log import LogSettings
from pyfpm.sapi.settings import SapiSettings

# The zygote finds its control socket here; what is said on it is at most so long.
CONTROL_FD = 3
LONGEST_MESSAGE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits and times of the reactor, under the names that ``config`` explains. Sizes are in bytes."""

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
    pm_max_requests: int = 0
    pm_max_requests_jitter: int = 0
    pm_max_memory: int = 0
    request_slowlog_timeout_s: float = 0.0
    request_terminate_timeout_s: float = 0.0
    request_terminate_timeout_track_finished: bool = False
    max_execution_time_s: float = 0.0
    listen_allowed_clients: tuple[str, ...] = ()
    pm: str = "static"
    pm_threads: int = 0
    pm_queue_max: int = 0
    pm_queue_timeout_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Program:
    """What a zygote imports and its workers run, and as whom."""

    pool: str
    app: str | None
    docroots: tuple[str, ...]
    extensions: tuple[str, ...] | None
    app_kind: str | None
    app_loop: str | None
    chroot: str | None
    chdir: str | None
    user: str | None
    group: str | None
    pm_max_children: int
    process_priority: int | None
    process_dumpable: bool
    rlimit_files: int | None
    rlimit_core: int | str | None
    clear_env: bool
    env: tuple[tuple[str, str], ...]
    python_path: tuple[str, ...]
    pm_status_path: str | None
    ping_path: str | None
    ping_response: str
    access_format: str
    access_suppress_path: tuple[str, ...]
    catch_workers_output: bool | None
    sapi: SapiSettings


@dataclass(frozen=True, slots=True)
class Orders:
    program: Program
    settings: Settings
    log: LogSettings
    # What each of the descriptors that come with the order is: "listener" (any number), "give", "take", "error_log",
    # "access_log".
    descriptors: tuple[str, ...]


def to_json(orders: Orders) -> bytes:
    return json.dumps(asdict(orders)).encode()


def from_json(text: bytes) -> Orders:
    told: dict[str, Any] = json.loads(text)
    return Orders(
        _from(Program, told["program"] | {"sapi": _from(SapiSettings, told["program"]["sapi"])}),
        _from(Settings, told["settings"]),
        _from(LogSettings, told["log"]),
        tuple(told["descriptors"]),
    )


def _from(kind: Any, values: dict[str, Any]) -> Any:
    return kind(**{field.name: _tuples(values[field.name]) for field in fields(kind)})


def _tuples(value: Any) -> Any:
    """JSON has lists where ours are tuples."""
    return tuple(_tuples(each) for each in value) if isinstance(value, list) else value
