"""What a worker does for the scripts that run in it, beyond the request: the log, and the figures of its pool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyfpm.sapi.interface import Output


@dataclass(frozen=True, slots=True)
class Services:
    """What a worker does for its scripts.

    Attributes:
      error_log: writes a message to the log; returns what the web server's error log is to have.
      figures: what fpm_get_status() returns; None when it cannot be known.
      retire: has the worker replaced after this request; called with the reason.
      output: where the answer of the request goes that runs in the main thread; None when none does.
      set_time_limit: gives it so many seconds from now on, 0 for no limit; False if that cannot be done.
      out_of_memory: a request has met a MemoryError, and what is done about it needs some memory; returns a note for
        whoever reads about it.
      longest_s: how long a request may run at most, in seconds; 0 for no limit.
    """

    error_log: Callable[[str], bytes] = lambda message: message.encode("utf-8", "backslashreplace")
    figures: Callable[[], dict[str, Any] | None] = lambda: None
    retire: Callable[[str], None] = lambda reason: None
    output: Callable[[], Output | None] = lambda: None
    set_time_limit: Callable[[float], bool] = lambda seconds: False
    out_of_memory: Callable[[], str | None] = lambda: None
    longest_s: float = 0.0


_services = Services()


def provide(services: Services) -> None:
    """To be called once in a worker."""
    global _services
    _services = services


def services() -> Services:
    return _services
