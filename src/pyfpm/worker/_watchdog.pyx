"""What stays awake while user code has the worker; csrc/watchdog.h tells the whole story.

Tracebacks are faulthandler's, which needs no GIL and no memory: it writes into a file that has no name, and our handlers
send what they find there. It goes first when we crash, and we after it, because it calls the handlers that it found; the
other way round we would lose ours to an application that calls ``faulthandler.disable()``.
"""
import faulthandler
import fcntl
import os
import signal
import warnings

from libc.errno cimport errno
from libc.stdlib cimport calloc, free

from pyfpm.sapi.timeout import ExecutionTimeout


cdef extern from "watchdog.h" nogil:
    int fpm_crash_install(fpm_guard *guard, int control_fd, int trace_fd) noexcept
    int fpm_dump_install() noexcept
    int fpm_watchdog_start(const fpm_watchdog_options *options) noexcept


DUMP_SIGNAL = signal.SIGRTMAX
SOFT_SIGNAL = signal.SIGRTMAX - 1

# Of a request's time; what is more is no limit, and would not fit.
cdef double LONGEST_LIMIT_S = 1e9

cdef int installed_in = 0       # pid


cdef class Guard:
    def __cinit__(self):
        self.state = <fpm_guard *>calloc(1, sizeof(fpm_guard))
        if self.state == NULL:
            raise MemoryError
        self.state.give_fd = -1
        self.state.epoll_fd = -1

    def __dealloc__(self):
        if not self._watched:
            free(self.state)


    def busy(self):
        fpm_guard_begin(self.state, fpm_now_us())

    def idle(self):
        fpm_guard_end(self.state)


cdef class Watchdog:
    def __init__(
        self, int control_fd=-1, *, double slow_s=0, double soft_s=0, double hard_s=0, bint track_finished=False,
        bint move_ready=False, bint tell_queue=False,
    ):
        self.guard = Guard()
        self._options.control_fd = control_fd
        self._options.slow_us = <uint64_t>(slow_s * 1e6)
        self._options.soft_us = <uint64_t>(soft_s * 1e6)
        self._options.hard_us = <uint64_t>(hard_s * 1e6)
        self._options.track_finished = track_finished
        self._options.move_ready = move_ready
        self._options.tell_queue = tell_queue and control_fd >= 0
        self.guard.state.soft_us = self._options.soft_us

    @property
    def watches(self):
        return bool(self._options.slow_us or self._options.soft_us or self._options.hard_us
                    or self._options.move_ready or self._options.tell_queue)

    def start(self):
        global installed_in
        if installed_in == os.getpid():
            raise RuntimeError("this process has a watchdog already")
        trace_fd = os.memfd_create("pyfpm-trace", os.MFD_CLOEXEC)
        # In append mode, so that cutting it is all it takes to begin anew.
        fcntl.fcntl(trace_fd, fcntl.F_SETFL, os.O_APPEND)
        installed_in = os.getpid()
        self.guard._watched = True
        faulthandler.disable()  # what enabled it in the zygote, say PYTHONFAULTHANDLER, found no handler of ours
        if fpm_crash_install(self.guard.state, self._options.control_fd, trace_fd) < 0:
            raise OSError(errno, "cannot handle the signals of a crash")
        faulthandler.enable(trace_fd)
        faulthandler.register(DUMP_SIGNAL, trace_fd, all_threads=True, chain=False)
        if fpm_dump_install() < 0:
            raise OSError(errno, "cannot handle SIGRTMAX")
        signal.signal(SOFT_SIGNAL, self.on_soft_limit)
        if self.watches:
            self._start_thread()

    cdef int _start_thread(self) except -1:
        # Said to an application that forks: the child might wait for a lock that a thread held. Ours holds none.
        warnings.filterwarnings("ignore", r"This process \(pid=\d+\) is multi-threaded", DeprecationWarning)
        if fpm_watchdog_start(&self._options) < 0:
            raise OSError(errno, "cannot start the watchdog")
        self._has_thread = True
        return 0

    def set_time_limit(self, double seconds):
        if installed_in != os.getpid():
            return False
        if seconds > 0 and not self._has_thread:
            self._start_thread()
        fpm_guard_limit(self.guard.state, <uint64_t>(min(seconds, LONGEST_LIMIT_S) * 1e6) if seconds > 0 else 0)
        return True

    def on_soft_limit(self, signum, frame):
        cdef double limit_s = self.guard.state.soft_now_us * 1e-6
        if fpm_guard_soft_is_due(self.guard.state):
            seconds = f"{limit_s:g} second{'' if limit_s == 1 else 's'}"
            raise ExecutionTimeout(f"Maximum execution time of {seconds} exceeded")
