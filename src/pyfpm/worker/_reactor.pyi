"""The reactor: ready sockets at C speed, between trio and the executor."""

import socket
from collections.abc import Callable, Iterable
from typing import Protocol, final

from pyfpm.sapi.interface import Output, Request
from pyfpm.worker._live import Live
from pyfpm.worker._lock import Lock
from pyfpm.worker._slot import Slot
from pyfpm.worker._watchdog import Guard
from pyfpm.worker.settings import Settings

class Access(Protocol):
    """Who is told of each request that has run."""

    @property
    def wants_head(self) -> bool:
        """``add`` has a use for the beginning of the answer; asked once."""

    def add(
        self,
        params: dict[str, str],
        status: int,
        duration_us: int,
        cpu_us: int,
        content_length: int,
        head: bytes,
        started_unix: float,
        peer: bytes | None,
        /,
    ) -> None:
        """A request has ended.

        Args:
          params: as the web server sent them; a dict of its own.
          status: of HTTP; 0 if the answer was empty.
          cpu_us: processor time; 0 for a request of less than 10 ms.
          content_length: what CONTENT_LENGTH says, 0 if it says nothing.
          head: up to 4096 bytes of the answer, headers first; ``b""`` if it was not wanted.
          started_unix: seconds since 1970.
        """

    def flush(self) -> None:
        """Nothing more comes for now: write what was added."""

@final
class Reactor:
    """Serves the connections of its listeners whenever ``drain`` is called.

    Owns its epoll instance and its connections, and closes them when it is deleted; the listeners stay their owner's.

    Args:
      run: the executor: called with each complete request, returns the application status. What it raises comes out of
        ``drain``, after the request has been ended.
      begin: an asynchronous executor, called in the place of ``run`` as soon as the params of a request are there; it
        returns at once. ``drain`` then never waits, and looks once at what is ready.
      whole: ``begin`` is called when all of the request has come, and may have it answered by other threads.
      refuse: writes the answer to a request that is not run: (request, HTTP status, reason, output).
      settings: limits and times.
      log: ``log(level, message)``.
      slot: where it is told what we do.
      guard: of a ``Watchdog``, or one that nobody looks at.
      access: told of each request that has run.
      allowed: called with the address (4 or 16 bytes) of each TCP connection; False: it is closed
        (``listen.allowed_clients``).
      on_exhausted: called once, with the reason in words, when ``settings.pm_max_requests`` requests have run or
        ``settings.pm_max_memory`` is exceeded; the reactor retires in any case.
      roles: those that are served, all three without it; others are answered with FCGI_UNKNOWN_ROLE.
    Raises:
      MemoryError, OSError: there is no memory or no descriptor for it.
    """

    def __init__(
        self,
        run: Callable[[Request, Output], int] | None,
        refuse: Callable[[Request, int, str, Output], None],
        settings: Settings,
        log: Callable[[str, str], None],
        *,
        begin: Callable[[Live], None] | None = None,
        slot: Slot | None = None,
        guard: Guard | None = None,
        access: Access | None = None,
        allowed: Callable[[bytes], bool] | None = None,
        on_exhausted: Callable[[str], None] | None = None,
        roles: Iterable[int] = ...,
        whole: bool = False,
    ) -> None: ...
    @property
    def lock(self) -> Lock | None:
        """What whoever answers from another thread has meanwhile; None where there is no other thread."""

    @property
    def connections(self) -> int:
        """That are open."""

    @property
    def accepted(self) -> int:
        """Connections since the start; those that other workers gave us are not counted."""

    @property
    def requests(self) -> int:
        """That were run since the start."""

    @property
    def aborted(self) -> int:
        """Requests that were not run since the web server gave them up."""

    @property
    def stopping(self) -> bool: ...
    @property
    def retiring(self) -> bool: ...
    @property
    def unfinished(self) -> int:
        """Connections that still have something to say or to hear, once we are stopping or retiring; and requests that
        an asynchronous executor is at, with or without one."""

    @property
    def lives(self) -> list[Live]:
        """Those, the oldest first."""

    def fileno(self) -> int:
        """The descriptor of the epoll instance: readable when ``drain`` has something to do. It stays ours."""

    def listen(self, listener: socket.socket) -> None:
        """Accept from this socket, which is made non-blocking and must stay open until ``stop``."""

    def share(self, give: socket.socket, take: socket.socket) -> None:
        """Exchange connections with the other workers of the pool, over the two ends of one SOCK_SEQPACKET socketpair.

        Args:
          give: where ours go when we retire, or when a request has to be ended with the process.
          take: where others' come from; made non-blocking. Both must stay open.
        """

    def retire(self) -> None:
        """Take no more connections, and give ours to other workers as they get idle; what is unfinished is finished.

        A connection that cannot be given now, since the socket is full, is served on, and tried again with each
        ``sweep``. Without ``share`` idle ones are closed, as by ``stop``. ``unfinished`` is 0 in the end.
        """

    def stop(self) -> None:
        """Take what is in the listen queues already (up to 4096 each), then no more; end kept connections as they get
        idle. Runs what it finds. ``unfinished`` is 0 once all of them have ended."""

    def hold(self, on: bool, /) -> None:
        """Take no new connections from now on, so that other workers do; or take them again. Requests on those that we
        have still come. May be called by any thread, where ``whole`` says that there are some."""

    def drain(self) -> bool:
        """Serve what is ready, up to 256 requests or 10 ms, not counting the last one's own time.

        Returns:
          True if there may be more, so call again soon; False once nothing was ready (after a request, for 1 ms).
        Raises:
          whatever ``run`` and ``refuse`` raise; the reactor can go on afterwards.
        """

    def output(self) -> Output | None:
        """Where the answer of the request goes that runs here and now; None when none does."""

    def exhaust(self, reason: str) -> None:
        """Retire after the request that runs, as with ``settings.pm_max_requests``."""

    def interrupt(self) -> None:
        """Have the ``drain`` that is under way return soon, and begin nothing new. May be called by handlers of
        signals."""

    def sweep(self) -> None:
        """Close connections whose time is up, and accept again where there was no descriptor left. To be called about
        once a second; O(connections)."""
