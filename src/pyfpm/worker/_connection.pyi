"""One connection: what its bytes ask for is collected, run or refused, and answered. Used from Cython only."""

from collections.abc import Callable, Iterable
from typing import final

from pyfpm.sapi.interface import Output, Request
from pyfpm.worker._reactor import Access
from pyfpm.worker._sender import Sender
from pyfpm.worker._slot import Slot
from pyfpm.worker._watchdog import Guard
from pyfpm.worker.settings import Settings

@final
class Service:
    """What the connections of a worker have in common: who runs their requests, within which limits.

    Args: as those of ``Reactor``.
    """

    def __init__(
        self,
        run: Callable[[Request, Output], int],
        refuse: Callable[[Request, int, str, Output], None],
        settings: Settings,
        log: Callable[[str, str], None],
        slot: Slot | None = None,
        guard: Guard | None = None,
        access: Access | None = None,
        roles: Iterable[int] = ...,
    ) -> None: ...

@final
class Connection(Sender):
    """One connection, made by the reactor, which owns it and its socket.

    It owns its requests and their bodies, and lets go of them when they are answered or the connection ends.
    """
