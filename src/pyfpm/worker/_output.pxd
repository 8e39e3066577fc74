from libc.stdint cimport uint8_t, uint32_t, uint64_t

from pyfpm.protocol._server cimport Request
from pyfpm.worker._lock cimport Lock
from pyfpm.worker._sender cimport Sender


cdef class Staging:
    cdef uint8_t *buf


cdef class Output:
    cdef Sender _sender
    cdef Request _request
    cdef Staging _staging
    cdef Lock _lock             # of the worker, where requests run on threads; else None
    cdef object _live           # then also: the request itself
    cdef size_t _staged         # bytes of content in staging
    cdef size_t _max_queued
    cdef bint _heard            # from the web server, while we waited for others
    cdef list _errors           # STDERR content not yet sent, or None
    cdef size_t _error_bytes
    cdef bint _ended
    cdef bint _finished         # by user code: what is added now goes nowhere
    cdef bint _waits            # for the web server; user code may run meanwhile, in the handler of a signal
    cdef bint _looks            # for that, with each flush
    cdef bint _given_up         # by the web server: nobody reads what is added
    cdef readonly bint started  # something was sent: it can't be taken back
    cdef bint _headed           # the first of STDOUT has been looked at
    cdef bint _keeps_head
    cdef bytes head             # the first of STDOUT, if somebody wants it
    cdef int status             # of HTTP; 0 if nothing was said
    cdef uint64_t content       # bytes of STDOUT

    cdef int end(self, uint32_t app_status) except -1
    cdef int close(self) except -1
    cdef int _end(self, uint32_t app_status) except -1
    cdef bint _is_open(self) except -1
    cdef int _write(self, data) except -1
    cdef bint _enter(self) except -1
    cdef int _leave(self, bint guarded) except -1
    cdef bint _finish_on_thread(self) except -1
    cdef int _push_large(self, data) except -1
    cdef int _note_head(self, const uint8_t *start, size_t length) except -1
    cdef int _push_staged(self) except -1
    cdef int _push_errors(self) except -1
    cdef int _flush(self, bint guarded) except -1


cdef Output open_output(Sender sender, Request request, Staging staging, size_t max_queued)
