"""``memory_limit``: what one request may take beyond what its worker has.

The mechanism is RLIMIT_DATA, which counts private writable memory, whoever asks for it: Python, or a C library. Before
a request it is set to what the worker has at that moment and the limit above it, behind it to what it was. So modules
and caches that stay in the worker are not the next request's, and nothing but requests is limited. An allocation that
fails is a MemoryError in Python, and whatever a C library makes of it: one that calls abort() is answered with 502 by
the handler of crashes.

A request that has met the limit gets a reserve, for its traceback, its page and its shutdown functions. Its worker is
replaced when it has ended: memory that is spread all over the heap does not go back to the kernel otherwise, and a
module in the middle of its import may have lost a part.

Cost: three system calls a request, only where there is a limit: pread, prlimit, prlimit; seen: 2.5 us.

Not counted: shared memory and mapped files, the stack of the main thread. Programs that a request starts have the same
limit as their soft one, and may raise it; processes that it forks have none. An asynchronous worker runs many requests
in one memory, so there is no such limit there.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from contextlib import suppress

from pyfpm.sapi import pages
from pyfpm.sapi.interface import Output, Request
from pyfpm.sapi.services import services
from pyfpm.worker.inline import Adapter

# For what has to be said and done about a MemoryError, in bytes.
RESERVE = 16 * 1024**2

DATA_FIELD = 5  # of statm: data and stack, in pages

Log = Callable[[str, str], None]


class MemoryLimit:
    """The limit of this process.

    Args:
      size: bytes that a request may take.

    Raises:
      OSError: there is no /proc, as in a chroot.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._page = resource.getpagesize()
        self._usual = resource.getrlimit(resource.RLIMIT_DATA)
        self._base = 0
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        os.register_at_fork(after_in_child=self.lift)

    def impose(self) -> None:
        self._base = int(os.pread(self._statm, 128, 0).split()[DATA_FIELD]) * self._page
        self._set(self._base + self._size)

    def lift(self) -> None:
        resource.setrlimit(resource.RLIMIT_DATA, self._usual)

    def met(self) -> str:
        """The request has a MemoryError, which is about to be reported. Returns what there is to know about it."""
        self._set(self._base + self._size + RESERVE)
        services().retire(f"a request took more than {self._size} bytes of memory (memory_limit)")
        return f"memory_limit allows a request {self._size} bytes beyond what its worker has"

    def _set(self, size: int) -> None:
        soft, hard = self._usual
        if soft != resource.RLIM_INFINITY:
            size = min(size, soft)
        resource.setrlimit(resource.RLIMIT_DATA, (size, hard))


class MemoryLimited:
    """An adapter around the application's own, whose requests are limited."""

    def __init__(self, adapter: Adapter, limit: MemoryLimit, log: Log) -> None:
        self._adapter = adapter
        self._limit = limit
        self._log = log

    def __call__(self, request: Request, output: Output) -> int:
        self._limit.impose()
        try:
            return self._adapter(request, output)
        except MemoryError:
            # The adapter itself had none left, before the user's code or behind it.
            self._log("ERROR", f"no memory for a request: {self._limit.met()}")
            with suppress(ConnectionAbortedError):
                if output.discard():
                    pages.answer(output, 500)
            return 255
        finally:
            self._limit.lift()
