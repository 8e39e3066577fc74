"""Where the answer to one request goes: the STDOUT and STDERR streams of it, then END_REQUEST.

Budget of a small answer: one system call, and no object: it is put together in a buffer that the executor keeps, with
room for the record header before it and the end of the request behind it.

An Output outlives its request only as a shell: whoever keeps it and writes later is told so, and can't reach the
answer to another request.
"""
import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

cimport cython

from pyfpm.protocol._fcgi cimport (
    FCGI_HEADER_LEN,
    FCGI_STDERR,
    FCGI_STDOUT,
    fcgi_header_encode,
    fcgi_padding,
)
from pyfpm.protocol._records cimport END_LEN, put_end, stream_records
from pyfpm.protocol._server cimport Request
from pyfpm.worker._sender cimport Sender


cdef enum:
    # Content that is collected before it is sent, in bytes. One page of most sites fits; less than a record holds.
    STAGING = 32 * 1024
    # A write of this size or more is sent from where it lies instead of being copied.
    LARGE = 16 * 1024
    # Queued bytes at which we send without having been told to.
    EAGER = 256 * 1024
    # STDERR content of one record, in bytes. nginx logs a record as one line of at most 2 KiB.
    ERROR_CHUNK = 2000


# This process was forked by user code. It has the connection as well, but what it would say there would be in the middle
# of what its parent says.
cdef bint in_forked_child = False


def _note_fork():
    global in_forked_child
    in_forked_child = True


cdef class Staging:
    """The buffer that the answers of one executor are put together in, one after the other."""

    def __cinit__(self):
        self.buf = <uint8_t *>malloc(FCGI_HEADER_LEN + STAGING + 8 + END_LEN)
        if self.buf == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.buf)


@cython.freelist(16)
cdef class Output:
    def write(self, data not None):
        """Add bytes to the answer. See the stub."""
        cdef const uint8_t[::1] view
        cdef const uint8_t *start
        cdef size_t length
        if type(data) is bytes:
            start = <const uint8_t *>PyBytes_AS_STRING(data)
            length = PyBytes_GET_SIZE(data)
        else:
            view = data
            length = view.shape[0]
            start = &view[0] if length else NULL
        self._must_be_open()
        if length > STAGING - self._staged or length >= LARGE:
            self._push_staged()
            if length >= LARGE:
                self.started = True
                # What isn't bytes may change under us before it is sent.
                self._sender.push_stream(FCGI_STDOUT, self._request.id, bytes(data))
                if self._sender.queued >= EAGER:
                    self._flush()
                return
        memcpy(self._staging.buf + FCGI_HEADER_LEN + self._staged, start, length)
        self._staged += length

    def error(self, bytes data not None):
        """Add bytes to the STDERR stream. See the stub."""
        self._must_be_open()
        if self._errors is None:
            self._errors = []
        self._errors.append(data)
        self._error_bytes += len(data)
        if self._error_bytes >= STAGING:
            self._flush()

    def flush(self):
        """Send what there is. See the stub."""
        self._must_be_open()
        self._flush()

    def sendfile(self, int fd, long long offset, long long count):
        """Add a part of a file to the answer. See the stub."""
        self._must_be_open()
        if count <= 0:
            return
        self._push_staged()
        self.started = True
        self._sender.push_file(FCGI_STDOUT, self._request.id, fd, offset, count)

    def discard(self):
        """Take back what was written, if nothing of it is sent. See the stub."""
        if self.started:
            return False
        self._staged = 0
        return True

    cdef int _must_be_open(self) except -1:
        if self._ended:
            raise ValueError("the request is over: nothing can be added to its answer")
        if self._sender.broken or in_forked_child:
            raise ConnectionAbortedError("the web server no longer waits for this answer")
        return 0

    cdef int _push_staged(self) except -1:
        cdef uint8_t *buf = self._staging.buf
        cdef uint8_t padding
        if self._staged:
            padding = fcgi_padding(self._staged)
            fcgi_header_encode(buf, FCGI_STDOUT, self._request.id, self._staged, padding)
            memset(buf + FCGI_HEADER_LEN + self._staged, 0, padding)
            self._sender.push(buf[:FCGI_HEADER_LEN + self._staged + padding])
            self._staged = 0
            self.started = True
        return 0

    cdef int _push_errors(self) except -1:
        cdef bytes text
        cdef Py_ssize_t at
        if self._errors is not None:
            text = b"".join(self._errors)
            for at in range(0, len(text), ERROR_CHUNK):
                self._sender.push(stream_records(FCGI_STDERR, self._request.id, text[at:at + ERROR_CHUNK]))
            self._request.stderr_used = True
            self._errors = None
            self._error_bytes = 0
        return 0

    cdef int _flush(self) except -1:
        self._push_errors()
        self._push_staged()
        self.started = True
        self._sender.flush()
        if self._sender.queued > self._max_queued:
            self._sender.wait_below(self._max_queued)
        return 0

    cdef int end(self, uint32_t app_status) except -1:
        """The answer is complete. Does not wait for the web server: what it doesn't take now stays queued."""
        if self._ended:
            return 0
        self._ended = True
        if not self._sender.broken:
            self._end(app_status)
        # environ leads to us, by wsgi.errors, and our request to environ: end the cycle, so that nothing of a request
        # waits for the collector.
        self._request = None
        self._sender = None
        return 0

    cdef int _end(self, uint32_t app_status) except -1:
        cdef uint8_t *buf = self._staging.buf
        cdef size_t length = 0
        cdef uint8_t padding
        self._push_errors()
        if self._request.stderr_used:
            self._sender.push(stream_records(FCGI_STDERR, self._request.id, b""))
        if self._staged:
            padding = fcgi_padding(self._staged)
            fcgi_header_encode(buf, FCGI_STDOUT, self._request.id, self._staged, padding)
            memset(buf + FCGI_HEADER_LEN + self._staged, 0, padding)
            length = FCGI_HEADER_LEN + self._staged + padding
        put_end(buf + length, self._request.id, app_status, 0)
        length += END_LEN
        if self._sender.pending():
            self._sender.push(buf[:length])
            self._sender.flush()
        else:
            self._sender.send(buf, length)
        return 0


def forks_are_the_users():
    """From now on a fork is user code's: workers call it once they are what they are."""
    os.register_at_fork(after_in_child=_note_fork)


cdef Output open_output(Sender sender, Request request, Staging staging, size_t max_queued):
    cdef Output output = Output.__new__(Output)
    output._sender = sender
    output._request = request
    output._staging = staging
    output._max_queued = max_queued
    return output
