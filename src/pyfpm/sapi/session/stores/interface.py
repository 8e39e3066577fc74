"""What a place for sessions has to do. Every store passes the tests in tests/sapi/test_session_stores.py."""

from __future__ import annotations

from typing import Protocol


class Held(Protocol):
    """A session that this request alone has. Each of the four verbs ends that, also when it raises.

    Attributes:
      data: what was kept, as it was when it was opened; ``b""`` for a new one.
    """

    @property
    def id(self) -> str: ...

    @property
    def data(self) -> bytes: ...

    def save(self, data: bytes) -> None:
        """Keep this from now on. Raises SessionError, and then what was kept before still is."""

    def touch(self) -> None:
        """It was used, and stays as it is."""

    def destroy(self) -> None:
        """It is unknown from now on."""

    def release(self) -> None:
        """Nothing was done with it."""

    def abandon(self) -> None:
        """We are a forked process: let go of what we inherited; it is our parent's still."""


class Store(Protocol):
    """Keeps sessions by their id. Ids are valid ones (``ids.is_valid``).

    Args:
      lifetime_s: a session that was not used for this long is unknown. So it must not be shorter than the time between
        two requests of a visitor.

    Raises:
      SessionError: the store cannot be reached, or has no room.
    """

    def create(self, session_id: str, lifetime_s: float) -> Held | None:
        """A new session. None when there is one of this id."""

    def open(self, session_id: str, lifetime_s: float) -> Held | None:
        """One that there is, as soon as no other request has it. None when there is none."""

    def collect(self, lifetime_s: float) -> int:
        """Remove what is old, and say how many that were. Never one that a request has."""
