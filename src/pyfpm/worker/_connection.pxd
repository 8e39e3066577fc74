from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from pyfpm.protocol._server cimport Budget, Limits, Request, ServerConnection, Step
from pyfpm.worker._live cimport Live
from pyfpm.worker._lock cimport Lock
from pyfpm.worker._output cimport Output, Staging
from pyfpm.worker._sender cimport Sender
from pyfpm.worker._slot cimport Slot
from pyfpm.worker._watchdog cimport Guard, fpm_guard


cdef class Owner:
    """Of connections: the reactor."""
    cdef bint give_up(self, Connection connection) except -1
    cdef int were_given(self) except -1


cdef class Service:
    """What the connections of a worker have in common: who runs their requests, within which limits."""
    cdef object run             # the executor: (request, output) -> application status
    cdef object begin           # an asynchronous executor in its place: (live); None: there is none
    cdef bint whole             # it wants a request only when all of its body has come
    cdef Lock lock              # and answers from threads, which have this while they do; else None
    cdef object settle          # for it, the reactor: (connection), after something was done outside of a drain
    cdef dict lives             # what it has begun and not ended: Live: None, the oldest first
    cdef object refuse          # (request, status, reason, output): writes the answer to a request that does not run
    cdef object log             # (level, message)
    cdef Limits limits
    cdef Staging staging
    cdef size_t max_queued
    cdef size_t post_max_size
    cdef size_t spool_threshold
    cdef object spool_directory
    cdef Slot slot
    cdef Guard guard
    cdef void *owner            # an Owner, which owns us; NULL in tests of parts
    cdef Output output          # of the request that runs here and now; None: there is none
    cdef object access          # told of each request that has run; None: nobody is
    cdef bint access_wants_head
    cdef double now             # the clock when it was last looked at
    cdef uint64_t cpu_us        # the processor's time of this thread when it was last looked at
    cdef uint64_t most_requests # pm.max_requests
    cdef uint64_t most_memory   # pm.max_memory
    cdef int statm              # of /proc, if there is a limit of memory and a /proc; else -1
    cdef str exhausted          # which of the two is reached
    cdef uint64_t requests      # that were run
    cdef uint64_t aborted       # that were not, because the web server gave them up

    cdef void look_at_cpu(self) noexcept
    cdef int ended(self, Output output, dict params, uint64_t started_us, uint64_t content_length,
                   object peer) except -1
    cdef void was_aborted(self) noexcept
    cdef int _look_at_limits(self) except -1


cdef class Connection(Sender):
    cdef Service service
    cdef ServerConnection protocol
    cdef object peer            # what the reactor knows the other end by; None for a unix socket
    cdef uint32_t interest      # what epoll watches for; 0: it does not know us
    cdef double last_active
    cdef bint closing           # to be closed once everything is sent and nothing is live
    cdef bint lingering         # what comes is thrown away, until the web server hangs up
    cdef size_t unwanted        # bytes that were
    cdef uint32_t reads         # after which something had come
    cdef bint used              # a request was answered here: it is a kept connection now
    cdef bytes unread           # input that waits until output has gone
    cdef const uint8_t *rest    # what was read behind what is being handled
    cdef size_t rest_length
    cdef bint receiving         # we are in `receive`: who has called it settles us
    cdef list begun             # requests that its executor has not heard of yet; None: there are none
    cdef size_t lives           # requests that an asynchronous executor has begun
    cdef size_t ahead           # bytes of their bodies that nobody has taken yet

    cdef int receive(self, const uint8_t *data, size_t length) except -1
    cdef int catch_up(self) except -1
    cdef int peer_closed(self) except -1
    cdef int abandon(self) except -1
    cdef int shut(self) except -1
    cdef int end_silent(self) except -1
    cdef int _handle(self, Request request, Step step) except -1
    cdef int _execute(self, Request request) except -1
    cdef bint _has_abort_in_socket(self, uint16_t id) noexcept
    cdef bint _has_abort(self, uint16_t id, const uint8_t *waiting, size_t length) noexcept
    cdef int _receive(self, const uint8_t *data, size_t length) except -1
    cdef int _begin(self, Request request) except -1
    cdef int _lend(self, Live live) except -1
    cdef int _begin_all(self) except -1
    cdef int _feed(self, Live live) except -1
    cdef int _part(self, Request request) except -1
    cdef bint must_wait(self) noexcept
    cdef bint is_full(self) noexcept
    cdef bint is_paused(self) noexcept
    cdef bint waits_for_body(self)
    cdef int wake_writers(self) except -1
    cdef bint _has_many_pieces(self) noexcept
    cdef int _forget(self, Request request) except -1
    cdef int _check_length(self, Request request) except -1
    cdef int _collect(self, Request request, bint is_stdin) except -1
    cdef int _answer_refused(self, Request request, int status, str reason) except -1
    cdef int _end_refused(self, Request request) except -1
    cdef int _over(self, Request request) except -1
    cdef int _abort(self, Request request) except -1
    cdef int _hang_up(self, error) except -1
    cdef int linger(self) except -1
    cdef bint is_clean(self) noexcept


cdef Connection open_connection(Service service, int fd, Budget budget)
cdef double clock_now() noexcept nogil

cdef enum:
    # With more than this waiting to be sent, in bytes, a connection's next requests wait as well. Not with less: a web
    # server may write all it has before it reads our answer, so we must not stop reading too early.
    READ_WHILE_QUEUED = 65536
    # With more than this of bodies that their tasks have not taken, in bytes, nothing is read either. The same as uvicorn's.
    READ_AHEAD = 65536
    # Of a connection that is to be closed, in bytes: the rest of a body that was answered early, and nobody reads.
    MOST_UNWANTED = 1073741824
