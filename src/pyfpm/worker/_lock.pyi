"""The one lock of a worker whose requests run on threads: who has it may touch the connections."""

from types import TracebackType
from typing import final

@final
class Lock:
    """Recursive, and released by the thread that has it: ``with lock: ...``. The interpreter is free while we wait."""

    def __enter__(self) -> None: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
