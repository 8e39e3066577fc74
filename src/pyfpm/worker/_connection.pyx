"""One connection: what its bytes ask for is collected, run or refused, and answered.

Budget of a small request: no object but the Request, its params and their values, and an Output; no clock but the coarse
one, no logging.
"""
from libc.errno cimport EMFILE, ENFILE, ENOMEM
from libc.stdint cimport uint8_t, uint32_t
from posix.time cimport clock_gettime, timespec

from pyfpm.protocol._server cimport (
    STEP_ABORT,
    STEP_DATA,
    STEP_DRAINED,
    STEP_NEED_DATA,
    STEP_REFUSED,
    STEP_REPLY,
    STEP_REQUEST,
    STEP_STDIN,
    Budget,
    Limits,
    Request,
    ServerConnection,
    Step,
)
from pyfpm.worker._output cimport Output, Staging, open_output
from pyfpm.worker._sender cimport Sender

from pyfpm.protocol import RemoteProtocolError
from pyfpm.worker.body import Body


cdef extern from "<time.h>" nogil:
    enum:
        CLOCK_MONOTONIC_COARSE

cdef extern from "<sys/socket.h>" nogil:
    int c_shutdown "shutdown"(int fd, int how)
    enum:
        SHUT_WR


cdef double coarse_now() noexcept nogil:
    """Seconds, in steps of some milliseconds, for a fraction of what the exact clock costs."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cdef class Service:
    def __init__(self, run, refuse, settings, log):
        self.run = run
        self.refuse = refuse
        self.log = log
        self.staging = Staging()
        self.limits = Limits(
            max_requests=settings.max_requests,
            max_params_size=settings.max_params_size,
            max_params=settings.max_params,
            max_held=settings.max_held_connection,
            max_connections=settings.max_connections,
        )
        self.max_queued = settings.max_queued
        self.post_max_size = settings.post_max_size
        self.spool_threshold = settings.spool_threshold
        self.spool_directory = settings.spool_directory
        self.now = coarse_now()


cdef Connection open_connection(Service service, int fd, Budget budget):
    cdef Connection connection = Connection.__new__(Connection)
    connection.service = service
    connection.fd = fd
    connection.protocol = ServerConnection.__new__(ServerConnection, service.limits, budget)
    connection.last_active = service.now
    return connection


cdef class Connection(Sender):
    cdef int receive(self, const uint8_t *data, size_t length) except -1:
        """Do all that these bytes ask for; they may lie in memory that is used again."""
        cdef ServerConnection protocol = self.protocol
        cdef size_t used = 0
        cdef Step step
        self.last_active = self.service.now
        self.reads += 1
        if self.lingering:
            self.unwanted += length
            if self.unwanted > MOST_UNWANTED:
                self.drop()
        while length and not self.lingering:
            try:
                step = protocol.step(data, length, &used)
            except RemoteProtocolError as error:
                return self._hang_up(error)
            data += used
            length -= used
            if step == STEP_NEED_DATA:
                return 0
            self._handle(protocol.request, step)
            if self.broken or (self.closing and not protocol.has_live()):
                return 0  # nobody reads, or without KEEP_CONN one request was all
            if length and self.queued > READ_WHILE_QUEUED:
                self.unread = data[:length]
                return 0
        return 0

    cdef int catch_up(self) except -1:
        """Go on with what had to wait."""
        cdef bytes unread = self.unread
        if unread is not None and self.queued <= READ_WHILE_QUEUED and not self.broken:
            self.unread = None
            self.receive(<const uint8_t *><const char *>unread, len(unread))
        return 0

    cdef int peer_closed(self) except -1:
        """The web server has closed its side. What it may still read, it gets, in case it closed only half."""
        self.closing = True
        for request in self.protocol.live():
            self._abort(<Request>request)
        if self.lingering or not self.pending():
            self.drop()
        return 0

    cdef int abandon(self) except -1:
        """The connection is closed: let go of everything."""
        for each in self.protocol.live():
            if not (<Request>each).refused:
                self.service.aborted += 1
            self._forget(<Request>each)
        self.drop()
        self.unread = None
        return 0

    cdef int _handle(self, Request request, Step step) except -1:
        if step == STEP_REQUEST:
            self._check_length(request)
        elif step == STEP_STDIN or step == STEP_DATA:
            return self._collect(request, step == STEP_STDIN)
        elif step == STEP_REFUSED:
            return self._answer_refused(request, self.protocol.status, self.protocol.reason)
        elif step == STEP_DRAINED:
            return self._end_refused(request)
        elif step == STEP_ABORT:
            return self._abort(request)
        elif step == STEP_REPLY:
            self.push(self.protocol.reply)
            self.flush()
            if request is not None and not request.keep_conn:
                self.closing = True
            return 0
        if not request.refused and request.is_complete():
            self._execute(request)
        return 0

    cdef int _execute(self, Request request) except -1:
        cdef Service service = self.service
        cdef Output output = open_output(self, request, service.staging, service.max_queued)
        cdef int app_status = 0
        service.requests += 1
        if request.stdin is not None:
            request.stdin = request.stdin.open()
        if request.data is not None:
            request.data = request.data.open()
        try:
            app_status = service.run(request, output)
        finally:
            # Whatever happened: the web server gets an end, and the next request a clean table.
            output.end(app_status & 0xffffffff)
            service.now = coarse_now()
            self._over(request)
        return 0

    cdef int _over(self, Request request) except -1:
        self.used = True
        self.last_active = self.service.now
        if not request.keep_conn:
            self.closing = True
        return self._forget(request)

    cdef int _forget(self, Request request) except -1:
        self.protocol.forget(request)
        if self.protocol.request is request:
            # What the last step found would else be kept as long as the connection is idle: params, environ and all.
            self.protocol.request = None
        if request.stdin is not None:
            request.stdin.close()
            request.stdin = None
        if request.data is not None:
            request.data.close()
            request.data = None
        return 0

    # -- bodies -------------------------------------------------------------------------------------------------------

    cdef int _check_length(self, Request request) except -1:
        """Refuse a body that is announced as too large before it has come."""
        cdef str announced
        if self.service.post_max_size and not request.refused:
            announced = request.params.get("CONTENT_LENGTH", "")
            if announced.isdecimal() and int(announced[:20]) > self.service.post_max_size:
                self._too_large(request)
        return 0

    cdef int _collect(self, Request request, bint is_stdin) except -1:
        cdef Service service = self.service
        cdef bytes data = self.protocol.content[:self.protocol.content_length]
        body = request.stdin if is_stdin else request.data
        if body is None:
            body = Body(service.spool_threshold, service.spool_directory)
            if is_stdin:
                request.stdin = body
            else:
                request.data = body
        if service.post_max_size and body.size + len(data) > service.post_max_size:
            return self._too_large(request)
        if not body.in_file and not self.protocol.charge(request, len(data)):
            return self._answer_refused(request, 503, "too much memory in unfinished requests")
        try:
            body.append(data)
        except OSError as error:
            # Too few descriptors or too little memory can pass; a full disk is said as such.
            status = 503 if error.errno in (EMFILE, ENFILE, ENOMEM) else 507
            return self._answer_refused(request, status, f"cannot store the body: {error.strerror}")
        return 0

    def _too_large(self, Request request):
        self._answer_refused(
            request, 413, f"the body is larger than post_max_size, {self.service.post_max_size} bytes")
        return 0

    # -- requests that do not run -------------------------------------------------------------------------------------

    cdef int _answer_refused(self, Request request, int status, str reason) except -1:
        """Answer now; END_REQUEST follows when all of the request has come, or nothing more does (`end_silent`).

        Web servers differ in what they do with a body once the answer to it has begun. Caddy and a client behind
        HAProxy send all of it before they read, and would wait in vain for a reader if we had ended the request; nginx
        sends no more of it and waits for the end.
        """
        cdef Service service = self.service
        cdef Output output = open_output(self, request, service.staging, service.max_queued)
        cdef bint complete = True
        if self.protocol.find(request.id) is request:
            for body in (request.stdin, request.data):
                if body is not None:
                    body.close()
            complete = self.protocol.refuse(request)
        if self.broken:
            return self._over(request)  # the web server did not wait for an answer to the one before
        service.refuse(request, status, reason, output)
        if complete:
            output.end(0)
            return self._over(request)
        output.flush()
        return 0

    cdef int end_silent(self) except -1:
        """Nothing has come for a while: end the requests that are answered, and of which there should be more.

        If it comes after all, it is dropped: on a kept connection as records of a request that is over [3.3], else
        until the web server closes.
        """
        cdef Request request
        for each in self.protocol.live():
            request = <Request>each
            if request.refused:
                self._end_refused(request)
        if self.closing and not self.lingering and not self.protocol.has_live():
            return self.linger()
        return 0

    cdef int _end_refused(self, Request request) except -1:
        open_output(self, request, self.service.staging, 0).end(0)
        return self._over(request)

    cdef int _abort(self, Request request) except -1:
        """The web server gave up before the request was complete: it does not run [5.4]."""
        if not request.refused:
            self.service.aborted += 1
        return self._end_refused(request)

    cdef int _hang_up(self, error) except -1:
        """The stream has lost its sense. Answer what can be answered, then close without cutting that off."""
        cdef Request request
        self.service.log("WARNING", f"connection closed: {error}")
        for each in self.protocol.live():
            request = <Request>each
            if not request.refused:
                self._answer_refused(request, 400, str(error))
            if self.protocol.find(request.id) is request:
                self._end_refused(request)
        return self.linger()

    cdef int linger(self) except -1:
        """Closing a socket that has unread bytes resets it, and the answer would be lost on the way."""
        self.lingering = True
        self.closing = True
        return self.shut()

    cdef int shut(self) except -1:
        """Say that nothing more comes, once everything has gone."""
        self.flush()
        if not self.pending():
            c_shutdown(self.fd, SHUT_WR)
        return 0
