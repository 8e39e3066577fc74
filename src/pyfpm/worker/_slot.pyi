"""What this worker tells of itself on the scoreboard."""

from typing import final

@final
class Slot:
    """The worker's side of its page (csrc/scoreboard.h); written to by the reactor.

    Args:
      fd: of the page, which is mapped; the descriptor is closed. None: a page that nobody else sees.
    Raises:
      OSError: it cannot be mapped. The descriptor is closed.
    """

    def __init__(self, fd: int | None = None) -> None: ...
    def is_idle(self) -> None:
        """The worker has started and waits for its first request."""
