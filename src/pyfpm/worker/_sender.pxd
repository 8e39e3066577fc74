from libc.stdint cimport uint8_t, uint16_t, uint64_t
from libc.stddef cimport size_t
from posix.types cimport off_t

from pyfpm.worker._lock cimport Lock
from pyfpm.worker._watchdog cimport fpm_guard


cdef class Payload:
    """Content of one stream that is framed while it is sent: a bytes object, or a part of an open file."""
    cdef uint8_t type
    cdef uint16_t id
    cdef object data          # bytes, or None for a file
    cdef int fd               # owned
    cdef off_t file_offset
    cdef size_t length        # bytes of content
    cdef size_t wire_length   # with headers and padding
    cdef size_t sent          # bytes on the wire so far


cdef class Sender:
    """The writing half of one connection, with a queue for what the web server does not take yet."""
    cdef int fd
    cdef object queue         # deque of bytes (records) and Payload; None until something is queued
    cdef size_t head_sent     # bytes of the queue's first item that are sent, if that is bytes
    cdef size_t queued        # bytes in memory that wait
    cdef bint broken          # the web server is gone: nothing more can be sent
    cdef double send_timeout_s
    cdef Lock lock            # who writes has it; None: there is one thread only

    # What the guard of a running request has to know.
    cdef fpm_guard *guard
    cdef uint64_t wire        # bytes sent since the connection began
    cdef uint64_t wire_before # the same when the request began
    cdef bint owed            # what was queued before it still is
    cdef bint stdout_begun    # some of its STDOUT was sent or queued
    cdef bint stderr_begun    # and so was some of its STDERR

    cdef bint pending(self) noexcept
    cdef int send(self, const uint8_t *data, size_t length) except -1
    cdef int push(self, bytes records) except -1
    cdef int push_stream(self, uint8_t type, uint16_t id, bytes data) except -1
    cdef int push_file(self, uint8_t type, uint16_t id, int fd, off_t offset, size_t length) except -1
    cdef int flush(self) except -1
    cdef int wait_below(self, size_t bound, bint guarded) except -1
    cdef int wait_all(self, bint guarded) except -1
    cdef int _wait(self, bint guarded) except -1
    cdef bint is_given_up(self, uint16_t id, bint asked) except -1
    cdef int answered(self) except -1
    cdef int answered_by_thread(self, object live) except -1
    cpdef int flushed(self) except -1
    cdef int drop(self) except -1
    cdef void begin(self) noexcept
    cdef void leave(self) noexcept
    cdef bint _at_border(self) noexcept
    cdef int _push(self, object item, size_t weight) except -1
    cdef Py_ssize_t _send_some(self) except -2
    cdef Py_ssize_t _send_file(self, Payload payload) except -2
    cdef int _sent(self, size_t length) except -1
    cdef _payload_sent(self, Payload payload, size_t length)
