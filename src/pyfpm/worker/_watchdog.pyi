"""What stays awake while user code has the worker; csrc/watchdog.h tells the whole story."""

from types import FrameType
from typing import final

@final
class Guard:
    """What the reactor, the watchdog's thread and the handlers of signals have in common. One for each reactor.

    Raises:
      MemoryError: there is none.
    """

    def busy(self) -> None:
        """An event loop has come back from waiting. Until ``idle`` that is one request to the watchdog: what it has to
        say of it (slow, too long) is of a loop that does not come round. Not for an executor that is not asynchronous.
        """

    def idle(self) -> None:
        """It has nothing to do, and waits."""

@final
class Watchdog:
    """Ends requests that take too long and tells the master of what goes wrong, without the GIL.

    What it tells, one message each on the control socket (SOCK_SEQPACKET): ``L``, ``T``, ``C``, ``D`` with a traceback
    of all threads, and ``q``: somebody waits in the listen queue while we are busy.

    It keeps a pointer to its guard for good, so make one in a process that serves until it ends.

    Args:
      control_fd: the socket to the master; it stays the caller's, and must stay open. -1: nobody is told.
      slow_s: ``request_slowlog_timeout``, seconds; 0: none.
      soft_s: ``max_execution_time``: ExecutionTimeout is raised in the request. Seconds; 0: none.
      hard_s: ``request_terminate_timeout``: the request is answered with 504, connections that are between two
        requests go to other workers, and the process ends itself by SIGTERM. Seconds; 0: none.
      track_finished: that is also for what a request does behind fastcgi_finish_request()
        (``request_terminate_timeout_track_finished``).
      move_ready: when a request has run for 10 ms, let other workers have the connections that are between two requests
        and on which something has come. For the inline executor.
      tell_queue: send ``q``.
    """

    guard: Guard
    def __init__(
        self,
        control_fd: int = -1,
        *,
        slow_s: float = 0,
        soft_s: float = 0,
        hard_s: float = 0,
        track_finished: bool = False,
        move_ready: bool = False,
        tell_queue: bool = False,
    ) -> None: ...
    @property
    def watches(self) -> bool:
        """It has a thread, since there is something to watch over."""

    def start(self) -> None:
        """Take over the signals of crashes, SIGRTMAX (tell where all threads are) and SIGRTMAX-1, and start the thread
        if one of the limits, ``move_ready`` or ``tell_queue`` is set. Once in a process, in its main thread.

        Raises:
          OSError: a handler cannot be installed, or there is no thread to be had.
          RuntimeError: this process has one already.
        """

    def set_time_limit(self, seconds: float) -> bool:
        """The request may take so long from now on, in place of ``soft_s``; 0 or less: as long as it likes.

        Returns:
          False, and nothing is done, in a process that has no watchdog: one that was forked by a request.
        Raises:
          OSError: this is the first limit of all, and there is no thread to be had.
        """

    def on_soft_limit(self, signum: int, frame: FrameType | None) -> None:
        """The handler of SIGRTMAX-1. Raises ExecutionTimeout if the request that it was sent for still runs."""
