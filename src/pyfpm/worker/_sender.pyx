"""What the web server does not take at once waits here, and goes out without being copied.

Small answers never get here as objects: ``send`` tries the socket directly and keeps only what did not fit. Large ones
are queued as they are, framed on the fly: a full record is FCGI_HEADER_LEN + FCGI_STREAM_CHUNK = 65536 bytes on the
wire, so where a header falls follows from the offset alone, and one ``sendmsg`` takes a megabyte. Files go by
``sendfile`` and need no memory.

No send blocks, except ``wait_below``: that is how a request which writes faster than the web server reads is slowed
down to its pace.
"""
from collections import deque

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memset
from posix.types cimport off_t
from posix.unistd cimport close, dup

from pyfpm.protocol._fcgi cimport (
    FCGI_HEADER_LEN,
    FCGI_STREAM_CHUNK,
    fcgi_header_encode,
    fcgi_padding,
)
from pyfpm.worker._watchdog cimport fpm_guard_enter, fpm_guard_leave


cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "<sys/socket.h>" nogil:
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    Py_ssize_t c_send "send"(int fd, const void *buf, size_t len, int flags)
    Py_ssize_t c_sendmsg "sendmsg"(int fd, const msghdr *msg, int flags)
    enum:
        MSG_DONTWAIT
        MSG_NOSIGNAL
        MSG_MORE

cdef extern from "<sys/sendfile.h>" nogil:
    Py_ssize_t c_sendfile "sendfile"(int out_fd, int in_fd, off_t *offset, size_t count)

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int c_poll "poll"(pollfd *fds, unsigned long nfds, int timeout)
    enum:
        POLLOUT

cdef enum:
    RECORD = 65536          # FCGI_HEADER_LEN + FCGI_STREAM_CHUNK
    PIECES = 64             # of one sendmsg; a record takes two

cdef uint8_t ZEROS[8]
memset(ZEROS, 0, 8)


cdef class Payload:
    def __cinit__(self):
        self.fd = -1

    def __dealloc__(self):
        if self.fd >= 0:
            close(self.fd)


cdef class Sender:
    def __cinit__(self):
        self.fd = -1
        self.send_timeout_s = 60

    cdef bint pending(self) noexcept:
        return self.queue is not None and len(self.queue) > 0

    cdef int send(self, const uint8_t *data, size_t length) except -1:
        """Send records that lie in memory the caller will use again; what is not taken is copied and queued."""
        cdef Py_ssize_t sent = 0
        if self.broken:
            return 0
        if not self.pending():
            while True:
                sent = c_send(self.fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL)
                if sent >= 0:
                    self.wire += sent
                    if <size_t>sent == length:
                        return 0
                    break
                if errno == EAGAIN:
                    sent = 0
                    break
                if errno != EINTR:
                    return self.drop()
        # Whole, so that it is seen where the wire stands.
        self.push(data[:length])
        self.head_sent += sent
        self.queued -= sent
        return 0

    cdef int push(self, bytes records) except -1:
        return self._push(records, PyBytes_GET_SIZE(records))

    cdef int push_stream(self, uint8_t type, uint16_t id, bytes data) except -1:
        """Queue content of a stream; the object is kept until it is sent."""
        cdef Payload payload = Payload.__new__(Payload)
        payload.type = type
        payload.id = id
        payload.data = data
        payload.length = PyBytes_GET_SIZE(data)
        measure(payload)
        return self._push(payload, payload.length)

    cdef int push_file(self, uint8_t type, uint16_t id, int fd, off_t offset, size_t length) except -1:
        """Queue a part of a file. The descriptor is duplicated; raises OSError when that can't be done."""
        cdef Payload payload = Payload.__new__(Payload)
        payload.type = type
        payload.id = id
        payload.file_offset = offset
        payload.length = length
        payload.fd = dup(fd)
        if payload.fd < 0:
            raise OSError(errno, "cannot duplicate the descriptor of the file to send")
        measure(payload)
        return self._push(payload, 0)

    cdef int _push(self, object item, size_t weight) except -1:
        if self.broken:
            return 0
        if self.queue is None:
            self.queue = deque()
        self.queue.append(item)
        self.queued += weight
        return 0

    cdef int flush(self) except -1:
        """Send as much as the socket takes now."""
        cdef Py_ssize_t sent
        while self.pending() and not self.broken:
            sent = self._send_some()
            if sent >= 0:
                self.wire += sent
                self._sent(sent)
            elif errno == EAGAIN:
                return 0
            elif errno != EINTR:
                return self.drop()
        return 0

    cdef int wait_below(self, size_t bound, bint guarded) except -1:
        """Block until at most bound bytes wait. A web server that takes nothing for send_timeout_s is gone.

        guarded: a request runs, and it is for us to tell its guard while we only wait."""
        self.flush()
        while self.queued > bound and not self.broken:
            self._wait(guarded)
        return 0

    cdef int wait_all(self, bint guarded) except -1:
        """The same until nothing waits any more, files included."""
        self.flush()
        while self.pending() and not self.broken:
            self._wait(guarded)
        return 0

    cdef int _wait(self, bint guarded) except -1:
        cdef pollfd poll
        cdef int got
        cdef int timeout = <int>(self.send_timeout_s * 1000)
        cdef int depth = 0
        poll.fd = self.fd
        poll.events = POLLOUT
        if guarded:
            self.leave()
        if self.lock is not None:
            depth = self.lock.let_go()
        try:
            with nogil:  # touches nothing but poll, which is on this stack
                got = c_poll(&poll, 1, timeout)
            if got < 0:
                PyErr_CheckSignals()
        finally:
            if self.lock is not None:
                self.lock.take_again(depth)
            if guarded:
                fpm_guard_enter(self.guard)
        if got == 0:
            return self.drop()
        return self.flush()

    cdef bint is_given_up(self, uint16_t id, bint asked) except -1:
        """Has the web server no use for the answer to this request any more? For connections to say."""
        return self.broken

    cdef int answered(self) except -1:
        """The request that runs is answered, and runs on. For connections to do something about it."""
        return 0

    cdef int answered_by_thread(self, object live) except -1:
        """The same of one of several that run."""
        return 0

    cpdef int flushed(self) except -1:
        """Something was written outside of a drain. For connections to tell epoll."""
        return 0

    cdef void begin(self) noexcept:
        """A request begins, which others may have to end for us."""
        self.wire_before = self.wire
        self.owed = self.pending()
        self.stdout_begun = False
        self.stderr_begun = False
        self.guard.fd = self.fd
        self.guard.intact = not self.owed and not self.broken
        self.guard.begun = False
        self.guard.stderr_used = False

    cdef void leave(self) noexcept:
        """Back to user code, which may not come back: tell how far we are."""
        cdef bint something = self.wire != self.wire_before
        if not self.pending():
            self.owed = False
        self.guard.intact = not self.owed and not self.broken and self._at_border()
        self.guard.begun = something and self.stdout_begun
        self.guard.stderr_used = something and self.stderr_begun
        fpm_guard_leave(self.guard)

    cdef bint _at_border(self) noexcept:
        """No record is cut on the wire."""
        if not self.pending():
            return True
        item = self.queue[0]
        if isinstance(item, bytes):
            return self.head_sent == 0
        return (<Payload>item).sent % RECORD == 0

    cdef int drop(self) except -1:
        """The web server is gone: forget what waits for it."""
        self.broken = True
        self.queue = None
        self.queued = 0
        self.head_sent = 0
        return 0

    cdef Py_ssize_t _send_some(self) except -2:
        """One system call for what stands first in the queue. Returns bytes sent; -1 with errno set."""
        cdef iovec pieces[PIECES]
        cdef msghdr message
        cdef uint8_t headers[PIECES][FCGI_HEADER_LEN]
        cdef int count = 0
        cdef size_t at
        cdef size_t inside
        cdef size_t content
        cdef size_t chunk
        cdef Payload payload
        cdef bint more = False
        for item in self.queue:
            if count + 3 > PIECES:
                more = True
                break
            if isinstance(item, bytes):
                at = self.head_sent if count == 0 else 0
                pieces[count].iov_base = PyBytes_AS_STRING(item) + at
                pieces[count].iov_len = PyBytes_GET_SIZE(item) - at
                count += 1
                continue
            payload = <Payload>item
            if payload.data is None:
                if count == 0:
                    return self._send_file(payload)
                more = True
                break
            at = payload.sent
            while at < payload.wire_length and count + 3 <= PIECES:
                content = at // RECORD * FCGI_STREAM_CHUNK
                inside = at % RECORD
                chunk = min(payload.length - content, <size_t>FCGI_STREAM_CHUNK)
                if inside < FCGI_HEADER_LEN:
                    fcgi_header_encode(headers[count], payload.type, payload.id, chunk, fcgi_padding(chunk))
                    pieces[count].iov_base = headers[count] + inside
                    pieces[count].iov_len = FCGI_HEADER_LEN - inside
                    at += FCGI_HEADER_LEN - inside
                    inside = FCGI_HEADER_LEN
                    count += 1
                inside -= FCGI_HEADER_LEN
                if inside < chunk:
                    pieces[count].iov_base = PyBytes_AS_STRING(payload.data) + content + inside
                    pieces[count].iov_len = chunk - inside
                    at += chunk - inside
                    inside = chunk
                    count += 1
                inside -= chunk
                if inside < fcgi_padding(chunk):
                    pieces[count].iov_base = ZEROS
                    pieces[count].iov_len = fcgi_padding(chunk) - inside
                    at += fcgi_padding(chunk) - inside
                    count += 1
            if at < payload.wire_length:
                more = True
                break
        memset(&message, 0, sizeof(message))
        message.msg_iov = pieces
        message.msg_iovlen = count
        return c_sendmsg(self.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL | (MSG_MORE if more else 0))

    cdef Py_ssize_t _send_file(self, Payload payload) except -2:
        cdef uint8_t header[FCGI_HEADER_LEN]
        cdef size_t content = payload.sent // RECORD * FCGI_STREAM_CHUNK
        cdef size_t inside = payload.sent % RECORD
        cdef size_t chunk = min(payload.length - content, <size_t>FCGI_STREAM_CHUNK)
        cdef off_t offset
        cdef Py_ssize_t sent
        if inside < FCGI_HEADER_LEN:
            fcgi_header_encode(header, payload.type, payload.id, chunk, fcgi_padding(chunk))
            return c_send(self.fd, header + inside, FCGI_HEADER_LEN - inside, MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE)
        inside -= FCGI_HEADER_LEN
        if inside >= chunk:
            inside -= chunk
            return c_send(self.fd, ZEROS, fcgi_padding(chunk) - inside, MSG_DONTWAIT | MSG_NOSIGNAL)
        offset = payload.file_offset + content + inside
        sent = c_sendfile(self.fd, payload.fd, &offset, chunk - inside)
        if sent == 0:
            # The file became shorter than the length that was promised. The record cannot be ended; hang up.
            self.drop()
        return sent

    cdef int _sent(self, size_t length) except -1:
        """Move on in the queue by length bytes on the wire."""
        cdef size_t left
        cdef Payload payload
        while length and self.pending():
            item = self.queue[0]
            if isinstance(item, bytes):
                left = PyBytes_GET_SIZE(item) - self.head_sent
                if length < left:
                    self.head_sent += length
                    self.queued -= length
                    return 0
                self.head_sent = 0
                self.queued -= left
            else:
                payload = <Payload>item
                left = payload.wire_length - payload.sent
                if length < left:
                    self._payload_sent(payload, length)
                    return 0
                self._payload_sent(payload, left)
            length -= left
            self.queue.popleft()
        return 0

    cdef _payload_sent(self, Payload payload, size_t length):
        # Only content in memory counts as queued: none of a file's, none of the framing.
        cdef size_t before = content_sent(payload)
        payload.sent += length
        if payload.data is not None:
            self.queued -= content_sent(payload) - before


cdef void measure(Payload payload) noexcept:
    cdef size_t records = (payload.length + FCGI_STREAM_CHUNK - 1) // FCGI_STREAM_CHUNK
    payload.wire_length = payload.length + records * FCGI_HEADER_LEN + fcgi_padding(payload.length)


cdef size_t content_sent(Payload payload) noexcept:
    cdef size_t inside = payload.sent % RECORD
    cdef size_t content = payload.sent // RECORD * FCGI_STREAM_CHUNK
    if inside > FCGI_HEADER_LEN:
        content += inside - FCGI_HEADER_LEN
    return min(content, payload.length)
