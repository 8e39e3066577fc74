"""Where the answer to one request goes: the STDOUT and STDERR streams of it, then END_REQUEST.

Budget of a small answer: one system call, and no object: it is put together in a buffer that the executor keeps, with
room for the record header before it and the end of the request behind it.

An Output outlives its request only as a shell: whoever keeps it and writes later is told so, and can't reach the
answer to another request.
"""
import os
from math import ceil

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

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
from pyfpm.worker._watchdog cimport fpm_guard_enter, fpm_guard_leave


cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int c_poll "poll"(pollfd *fds, unsigned long nfds, int timeout)

# poll's bits are the same, but one of them is for programs alone that define _GNU_SOURCE.
cdef extern from "<sys/epoll.h>" nogil:
    enum:
        EPOLLIN
        EPOLLOUT
        EPOLLERR
        EPOLLHUP
        EPOLLRDHUP


cdef enum:
    # Descriptors that one call of wait takes.
    MOST_WAITED_FOR = 8
    # How often a thread that waits for something else looks whether its web server has gone, in milliseconds.
    LOOKS_EVERY_MS = 100
    # Content that is collected before it is sent, in bytes. One page of most sites fits; less than a record holds.
    STAGING = 32 * 1024
    # A write of this size or more is sent from where it lies instead of being copied.
    LARGE = 16 * 1024
    # Queued bytes at which we send without having been told to.
    EAGER = 256 * 1024
    # Kept of an answer for the access log, in bytes: its headers fit, or they are cut.
    HEAD = 4096
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
        if self._lock is None:
            self._write(data)
            return
        self._lock.enter()
        try:
            self._write(data)
        finally:
            self._lock.leave()

    cdef int _write(self, data) except -1:
        cdef const uint8_t[::1] view
        cdef const uint8_t *start
        cdef size_t length
        cdef bint guarded
        if type(data) is bytes:
            start = <const uint8_t *>PyBytes_AS_STRING(data)
            length = PyBytes_GET_SIZE(data)
        else:
            view = data
            length = view.shape[0]
            start = &view[0] if length else NULL
        if not self._is_open():
            return 0
        if length > STAGING - self._staged or length >= LARGE:
            guarded = self._enter()
            try:
                self._push_staged()
                if length >= LARGE:
                    self._note_head(start, length)
                    self._push_large(data)
                    if self._sender.queued >= EAGER:
                        self._flush(guarded)
                    return 0
            finally:
                self._leave(guarded)
        memcpy(self._staging.buf + FCGI_HEADER_LEN + self._staged, start, length)
        self._staged += length
        return 0

    def error(self, bytes data not None):
        """Add bytes to the STDERR stream. See the stub."""
        if not self._is_open():
            return
        if self._errors is None:
            self._errors = []
        self._errors.append(data)
        self._error_bytes += len(data)
        if self._error_bytes >= STAGING:
            self.flush()

    def flush(self):
        """Send what there is. See the stub."""
        cdef bint guarded
        if not self._is_open():
            return
        guarded = self._enter()
        try:
            if self._lock is None or self._is_open():
                self._flush(guarded)
        finally:
            self._leave(guarded)

    def sendfile(self, int fd, long long offset, long long count):
        """Add a part of a file to the answer. See the stub."""
        cdef bint guarded
        if count <= 0 or not self._is_open():
            return
        guarded = self._enter()
        try:
            if self._lock is not None and not self._is_open():
                return
            self._push_staged()
            self.started = True
            self._sender.push_file(FCGI_STDOUT, self._request.id, fd, offset, count)
            self._sender.stdout_begun = True
            self.content += count
        finally:
            self._leave(guarded)

    def wait(self, descriptors, timeout_s):
        """Wait for one of some descriptors, and for the web server to hang up. See the stub."""
        cdef pollfd looks[MOST_WAITED_FOR + 1]
        cdef int count = 0
        cdef int got
        cdef int timeout_ms = -1 if timeout_s is None else <int>min(ceil(timeout_s * 1000), 1e9)
        if not self._is_open():
            return []
        for fd in descriptors:
            if count == MOST_WAITED_FOR:
                raise ValueError(f"more than {MOST_WAITED_FOR} descriptors to wait for")
            looks[count].fd = fd
            looks[count].events = EPOLLIN
            count += 1
        if self._lock is not None:
            # The connection is the reactor's to look at; it tells us when the web server gives up.
            if timeout_ms < 0 or timeout_ms > LOOKS_EVERY_MS:
                timeout_ms = LOOKS_EVERY_MS
            with nogil:
                got = c_poll(looks, count, timeout_ms)
            self._is_open()
            return [looks[at].fd for at in range(count) if got > 0 and looks[at].revents]
        looks[count].fd = self._sender.fd
        looks[count].events = (0 if self._heard else EPOLLIN | EPOLLRDHUP) | (EPOLLOUT if self._sender.pending() else 0)
        with nogil:  # touches nothing but looks, which is on this stack
            got = c_poll(looks, count + 1, timeout_ms)
        if got < 0:
            PyErr_CheckSignals()
            return []
        if looks[count].revents & EPOLLOUT:
            self.flush()
        if looks[count].revents & ~EPOLLOUT:
            if self.is_given_up():
                self._is_open()  # which says that it is not
            # Something else has come, the next request for one, and stays where it is.
            self._heard = True
        return [looks[at].fd for at in range(count) if looks[at].revents]

    def is_given_up(self):
        """Has the web server hung up, or said that it wants no answer? See the stub."""
        if self._lock is None and not self._ended and not in_forked_child and not self._given_up:
            self._given_up = self._sender.is_given_up(self._request.id, True)
        return self._given_up

    def finish(self):
        """End the answer now. See the stub."""
        cdef Sender sender = self._sender
        cdef bint guarded
        if self._ended or self._waits or in_forked_child:
            return False
        if not self.started and self._staged == 0 and not self._given_up and not sender.broken:
            return False
        if self._lock is not None:
            return self._finish_on_thread()
        self._ended = self._finished = self.started = True
        guarded = fpm_guard_enter(sender.guard)
        try:
            if not sender.broken:
                self._end(0)
                sender.wait_all(guarded)
        finally:
            self._request = None
            self._sender = None
            try:
                sender.answered()
            finally:
                if guarded:
                    fpm_guard_leave(sender.guard)
        return True

    def discard(self):
        """Take back what was written, if nothing of it is sent. See the stub."""
        if self.started:
            return False
        self._staged = 0
        return True

    cdef bint _is_open(self) except -1:
        if self._finished:
            return False
        # Where another thread has ended it, it is given up, and there is no sender any more.
        if self._ended and not (self._given_up and self._lock is not None):
            raise ValueError("the request is over: nothing can be added to its answer")
        if self._given_up or self._sender.broken or in_forked_child:
            raise ConnectionAbortedError("the web server no longer waits for this answer")
        return True

    cdef bint _enter(self) except -1:
        """Go to the connection. What others may have done meanwhile has to be looked at again, with a lock."""
        if self._lock is not None:
            self._lock.enter()
            return False
        return fpm_guard_enter(self._sender.guard)

    cdef int _leave(self, bint guarded) except -1:
        if self._lock is not None:
            self._lock.leave()
        elif guarded:
            self._sender.leave()
        return 0

    cdef bint _finish_on_thread(self) except -1:
        self._lock.enter()
        try:
            if self._ended or self._sender is None:
                return False
            self._sender.answered_by_thread(self._live)
            self._finished = self.started = True
        finally:
            self._lock.leave()
        return True

    def work_with(self, Staging staging not None):
        """From now on the answer is put together there: its thread's own. See the stub."""
        self._staging = staging

    cdef int _push_large(self, data) except -1:
        self.started = True
        # What isn't bytes may change under us before it is sent.
        data = bytes(data)
        self._sender.push_stream(FCGI_STDOUT, self._request.id, data)
        self._sender.stdout_begun = True
        self.content += PyBytes_GET_SIZE(data)
        return 0

    cdef int _note_head(self, const uint8_t *start, size_t length) except -1:
        """Where an answer says its status, it does so first."""
        if self._headed:
            return 0
        self._headed = True
        self.status = 200
        if length >= 11 and memcmp(start, b"Status: ", 8) == 0:
            self.status = (start[8] - 48) * 100 + (start[9] - 48) * 10 + (start[10] - 48)
        if self._keeps_head:
            self.head = start[:length if length < HEAD else HEAD]
        return 0

    cdef int _push_staged(self) except -1:
        cdef uint8_t *buf = self._staging.buf
        cdef uint8_t padding
        if self._staged:
            self._note_head(buf + FCGI_HEADER_LEN, self._staged)
            self.content += self._staged
            self._sender.stdout_begun = True
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
            self._sender.stderr_begun = True
            self._errors = None
            self._error_bytes = 0
        return 0

    cdef int _flush(self, bint guarded) except -1:
        cdef Sender sender = self._sender
        self._push_errors()
        self._push_staged()
        self.started = True
        sender.flush()
        if sender.queued > self._max_queued:
            self._waits = True
            try:
                sender.wait_below(self._max_queued, guarded)
            finally:
                self._waits = False
        if self._lock is not None:
            sender.flushed()  # and not ours: the request may have been ended while we waited
        elif self._looks:
            self._given_up = sender.is_given_up(self._request.id, False)
        return 0

    cdef int end(self, uint32_t app_status) except -1:
        """The answer is complete. Does not wait for the web server: what it doesn't take now stays queued."""
        if self._ended:
            self._finished = False
            return 0
        self._ended = True
        # From here on the request is not in user code any more; its connection tells the guard when it is over.
        if self._lock is None:
            fpm_guard_enter(self._sender.guard)
        if not self._sender.broken:
            self._end(app_status)
        # environ leads to us, by wsgi.errors, and our request to environ: end the cycle, so that nothing of a request
        # waits for the collector.
        self._request = None
        self._sender = None
        self._live = None
        return 0

    cdef int close(self) except -1:
        """Nothing more can be added, and somebody else ends it."""
        self._ended = True
        self._request = None
        self._sender = None
        self._live = None
        return 0

    cdef int _end(self, uint32_t app_status) except -1:
        cdef uint8_t *buf = self._staging.buf
        cdef size_t length = 0
        cdef uint8_t padding
        self._push_errors()
        if self._request.stderr_used:
            self._sender.push(stream_records(FCGI_STDERR, self._request.id, b""))
        if self._staged:
            self._note_head(buf + FCGI_HEADER_LEN, self._staged)
            self.content += self._staged
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
