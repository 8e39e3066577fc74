"""The reactor: ready sockets at C speed, between trio and the executor."""

import socket
from collections.abc import Callable
from typing import final

from pyfpm.sapi.interface import Output, Request
from pyfpm.worker.settings import Settings

@final
class Reactor:
    """Serves the connections of its listeners whenever ``drain`` is called.

    Owns its epoll instance and its connections, and closes them when it is deleted; the listeners stay their owner's.

    Args:
      run: the executor: called with each complete request, returns the application status. What it raises comes out of
        ``drain``, after the request has been ended.
      refuse: writes the answer to a request that is not run: (request, HTTP status, reason, output).
      settings: limits and times.
      log: ``log(level, message)``.
    Raises:
      MemoryError, OSError: there is no memory or no descriptor for it.
    """

    def __init__(
        self,
        run: Callable[[Request, Output], int],
        refuse: Callable[[Request, int, str, Output], None],
        settings: Settings,
        log: Callable[[str, str], None],
    ) -> None: ...
    @property
    def connections(self) -> int:
        """That are open."""

    @property
    def accepted(self) -> int:
        """Connections since the start."""

    @property
    def requests(self) -> int:
        """That were run since the start."""

    @property
    def aborted(self) -> int:
        """Requests that were not run since the web server gave them up."""

    @property
    def stopping(self) -> bool: ...
    @property
    def unfinished(self) -> int:
        """Connections that still have something to say or to hear, once we are stopping."""

    def fileno(self) -> int:
        """The descriptor of the epoll instance: readable when ``drain`` has something to do. It stays ours."""

    def listen(self, listener: socket.socket) -> None:
        """Accept from this socket, which is made non-blocking and must stay open until ``stop``."""

    def stop(self) -> None:
        """Take what is in the listen queues already (up to 4096 each), then no more; end kept connections as they get
        idle. Runs what it finds. ``unfinished`` is 0 once all of them have ended."""

    def drain(self) -> bool:
        """Serve what is ready, up to 256 requests or 10 ms, not counting the last one's own time.

        Returns:
          True if there may be more, so call again soon; False once nothing was ready (after a request, for 1 ms).
        Raises:
          whatever ``run`` and ``refuse`` raise; the reactor can go on afterwards.
        """

    def sweep(self) -> None:
        """Close connections whose time is up, and accept again where there was no descriptor left. To be called about
        once a second; O(connections)."""
