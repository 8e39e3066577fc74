from libc.stdint cimport uint8_t, uint32_t

from pyfpm.protocol._server cimport Request
from pyfpm.worker._sender cimport Sender


cdef class Staging:
    cdef uint8_t *buf


cdef class Output:
    cdef Sender _sender
    cdef Request _request
    cdef Staging _staging
    cdef size_t _staged         # bytes of content in staging
    cdef size_t _max_queued
    cdef list _errors           # STDERR content not yet sent, or None
    cdef size_t _error_bytes
    cdef bint _ended
    cdef readonly bint started  # something was sent: it can't be taken back

    cdef int end(self, uint32_t app_status) except -1
    cdef int _end(self, uint32_t app_status) except -1
    cdef int _must_be_open(self) except -1
    cdef int _push_staged(self) except -1
    cdef int _push_errors(self) except -1
    cdef int _flush(self) except -1


cdef Output open_output(Sender sender, Request request, Staging staging, size_t max_queued)
