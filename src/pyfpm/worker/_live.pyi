"""A request that goes on while others do; see ``pyfpm.sapi.interface.Live`` for an adapter's view of it."""

from collections.abc import Callable
from typing import Any, final

from pyfpm.sapi.interface import Event, Output, Request
from pyfpm.worker._output import Staging

@final
class Live:
    """Made by its connection when the request begins, never by itself."""

    task: Any
    """Its executor's own; None again once it is over."""

    timed_out: bool
    """Its time was up, and it is being cancelled."""

    @property
    def request(self) -> Request: ...
    @property
    def params(self) -> dict[str, str]: ...
    @property
    def output(self) -> Output: ...
    @property
    def age_s(self) -> float:
        """Since it began."""

    @property
    def has_input(self) -> bool: ...
    @property
    def at_end(self) -> bool: ...
    @property
    def has_room(self) -> bool: ...
    @property
    def gone(self) -> bool: ...
    @property
    def over(self) -> bool: ...
    def take(self) -> bytes: ...
    def when_input(self, make_event: Callable[[], Event], /) -> Event: ...
    def when_output(self, make_event: Callable[[], Event], /) -> Event: ...
    def flush(self) -> None: ...
    def end_in_its_place(self) -> None:
        """``end`` while its thread runs on: whatever that adds from now on raises ConnectionAbortedError."""

    def work_with(self, staging: Staging, /) -> None:
        """From now on the answer is put together there. For a thread that begins to run the request."""

    def close_streams(self) -> None:
        """The body is not needed any more. For who runs whole requests: it was lent to him."""

    def end(self, app_status: int = 0, /) -> None: ...
