from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

from pyfpm.protocol._server cimport Request
from pyfpm.worker._lock cimport Lock
from pyfpm.worker._output cimport Output


cdef class Live:
    cdef readonly Request request
    cdef readonly Output output
    cdef object _connection     # None once it has nothing to do with us any more
    cdef object _service
    cdef Lock _lock             # of the worker, where requests run on threads; else None
    cdef dict logged            # its params, where they may be changed and somebody wants to have them
    cdef object peer            # what the reactor knows the other end by
    cdef uint64_t started_us
    cdef uint64_t content_length
    cdef uint64_t received      # bytes of the body
    cdef list _pieces           # of the body, that nobody has taken yet; None: there are none
    cdef size_t _ahead          # their bytes
    cdef readonly bint complete # all of the body has come
    cdef readonly bint gone     # the web server does not wait for the answer any more
    cdef readonly bint over
    cdef object _on_input
    cdef object _on_output
    cdef public object task     # its executor's own
    cdef public bint timed_out

    cdef int feed(self, bytes data) except -1
    cdef int feed_end(self) except -1
    cdef int abort(self) except -1
    cdef int can_write(self) except -1
    cdef int _end(self, uint32_t app_status) except -1
    cdef int _can_read(self) except -1
    cdef int _wake(self) except -1
    cdef bint waits_to_write(self) noexcept


cdef Live new_live(object service, object connection, Request request, Output output, uint64_t started_us)
