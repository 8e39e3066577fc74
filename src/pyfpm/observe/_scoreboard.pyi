"""The master's side of csrc/scoreboard.h: makes the page of a worker, and reads it without believing it."""

from types import TracebackType

from pyfpm.observe.scoreboard import Counters, SlotView

SLOT_SIZE: int
SLOT_MAGIC: int
STRUCT_SIZE: int
BUCKETS: int
BUCKET_UNIT_US: int

class Slot:
    """The page of one worker, mapped by the master. Made by `create_slot`."""

    def __init__(self, fd: int) -> None:
        """Map the page in ``fd``, which is ours from then on, and mark it as a slot.

        Raises:
          OSError: it cannot be mapped; ``fd`` stays the caller's.
        """
    @property
    def fd(self) -> int:
        """The memfd, for the worker to map; close-on-exec; -1 after `close`."""

    def read(self) -> SlotView:
        """What the worker says of itself at this moment, checked; whatever is in the page, this does not fail.

        When the worker is in the middle of a change and does not come out of it, what describes the request is what it
        was at the last look, and ``whole`` is false. Counters are always those of now.

        Raises:
          ValueError: the slot is closed.
        """

    def counters(self) -> Counters:
        """The counters alone, at less cost. Each is right for itself; they are not of one moment.

        Raises:
          ValueError: the slot is closed.
        """

    def close(self) -> None:
        """Unmap the page and close ``fd``. Again is harmless. A slot that is forgotten does it by itself."""

    def __enter__(self) -> Slot: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

def create_slot() -> Slot:
    """A new page for a worker, empty: in a memfd that nobody can shrink, grow or seal further.

    Raises:
      OSError: no descriptor or no memory.
    """

def bucket_of(us: int) -> int:
    """The number of the histogram bucket that counts a duration of so many microseconds."""
