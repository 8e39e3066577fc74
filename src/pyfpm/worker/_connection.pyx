"""One connection: what its bytes ask for is collected, run or refused, and answered.

Budget of a small request: no object but the Request, its params and their values, and an Output; two looks at the clock,
which need no system call; no logging.
"""
import os
from contextlib import suppress
from resource import RUSAGE_SELF, getrusage

from libc.errno cimport EMFILE, ENFILE, ENOMEM
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec
from posix.unistd cimport close, pread, sysconf

from pyfpm.protocol._fcgi cimport FCGI_ABORT_REQUEST, fcgi_reader, fcgi_reader_idle, fcgi_reader_next, fcgi_span
from pyfpm.protocol._server cimport (
    STEP_ABORT,
    STEP_DATA,
    STEP_DRAINED,
    STEP_NEED_DATA,
    STEP_REFUSED,
    STEP_REPLY,
    STEP_REQUEST,
    STEP_STDIN,
    STEP_STDIN_END,
    Budget,
    Limits,
    Request,
    ServerConnection,
    Step,
)
from pyfpm.worker._live cimport Live, new_live
from pyfpm.worker._output cimport Output, Staging, open_output
from pyfpm.worker._sender cimport Sender
from pyfpm.worker._slot cimport FPM_STAGE_RUNNING, Slot, fpm_slot_add, fpm_slot_stage
from pyfpm.worker._watchdog cimport (
    Guard,
    fpm_guard_begin,
    fpm_guard_end,
    fpm_guard_finish,
    fpm_guard_leave,
    fpm_now_us,
)

from pyfpm.protocol import AUTHORIZER, FILTER, RESPONDER, RemoteProtocolError
from pyfpm.worker.body import Body


cdef extern from "<time.h>" nogil:
    enum:
        CLOCK_THREAD_CPUTIME_ID

cdef extern from "<unistd.h>" nogil:
    enum:
        _SC_PAGESIZE

cdef extern from "<sys/socket.h>" nogil:
    int c_shutdown "shutdown"(int fd, int how)
    Py_ssize_t c_recv "recv"(int fd, void *buf, size_t len, int flags)
    enum:
        SHUT_WR
        MSG_PEEK
        MSG_DONTWAIT

# poll's bits are the same, but one of them is for programs alone that define _GNU_SOURCE.
cdef extern from "<sys/epoll.h>" nogil:
    enum:
        EPOLLIN
        EPOLLERR
        EPOLLHUP
        EPOLLRDHUP

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int c_poll "poll"(pollfd *fds, unsigned long nfds, int timeout)

cdef enum:
    # Large pieces and files that may wait to be sent; a file's bytes are not counted otherwise.
    MOST_PIECES = 64
    # From so many microseconds on a request's processor time is worth a system call. php-fpm's clock for it ticks as often.
    LONG_US = 10000
    # So much of what waits in a socket is looked at for an ABORT_REQUEST, in bytes: one comes first, or behind the
    # beginning of another request.
    LOOK = 4096


ROLES = (RESPONDER, AUTHORIZER, FILTER)


cdef double clock_now() noexcept nogil:
    return fpm_now_us() * 1e-6


cdef bint find_abort(fcgi_reader *reader, uint16_t id, const uint8_t *data, size_t length) noexcept:
    cdef fcgi_span span
    cdef size_t used = 0
    while length and fcgi_reader_next(reader, data, length, &used, &span) > 0:
        if span.header.type == FCGI_ABORT_REQUEST and span.header.request_id == id:
            return True
        data += used
        length -= used
    return False


cdef class Owner:
    cdef bint give_up(self, Connection connection) except -1:
        """Have somebody else go on with a clean connection, now. False: it stays."""
        return False

    cdef int were_given(self) except -1:
        """The watchdog has given some away while a request ran."""
        return 0


cdef class Service:
    def __cinit__(self):
        self.statm = -1

    def __init__(self, run, refuse, settings, log, Slot slot=None, Guard guard=None, access=None, roles=ROLES):
        self.run = run
        self.lives = {}
        self.refuse = refuse
        self.log = log
        self.staging = Staging()
        self.limits = Limits(
            max_requests=settings.max_requests,
            max_params_size=settings.max_params_size,
            max_params=settings.max_params,
            max_held=settings.max_held_connection,
            max_connections=settings.max_connections,
            roles=roles,
        )
        self.max_queued = settings.max_queued
        self.post_max_size = settings.post_max_size
        self.spool_threshold = settings.spool_threshold
        self.spool_directory = settings.spool_directory
        self.slot = Slot() if slot is None else slot
        self.guard = Guard() if guard is None else guard
        self.guard.state.slot = self.slot.page
        self.access = access
        self.access_wants_head = access is not None and access.wants_head
        self.most_requests = settings.pm_max_requests
        self.most_memory = settings.pm_max_memory
        if self.most_memory:
            with suppress(OSError):  # in a chroot there is no /proc: then what counts is the most that we ever had
                self.statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self.now = clock_now()

    def __dealloc__(self):
        if self.statm >= 0:
            close(self.statm)

    cdef void look_at_cpu(self) noexcept:
        cdef timespec used
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used)
        self.cpu_us = <uint64_t>used.tv_sec * 1000000 + <uint64_t>used.tv_nsec // 1000

    cdef void was_aborted(self) noexcept:
        self.aborted += 1
        fpm_slot_add(&self.slot.page.aborted, 1)

    cdef int ended(
        self, Output output, dict params, uint64_t started_us, uint64_t content_length, object peer
    ) except -1:
        """A request has run: tell who wants to know."""
        cdef uint64_t now_us = fpm_now_us()
        cdef uint64_t duration_us = now_us - started_us
        cdef uint64_t cpu_us = 0
        cdef timespec unix_now
        if duration_us >= LONG_US and self.begin is None:
            # Since this drain began, or the last long request in it ended: short ones before are not worth more.
            cpu_us = self.cpu_us
            self.look_at_cpu()
            cpu_us = self.cpu_us - cpu_us
        self.now = now_us * 1e-6
        self.slot.end(duration_us, cpu_us, output.status // 100, output.content)
        if self.access is not None:
            clock_gettime(CLOCK_REALTIME, &unix_now)
            self.access.add(
                params, output.status, duration_us, cpu_us, content_length, output.head or b"",
                unix_now.tv_sec + unix_now.tv_nsec * 1e-9 - duration_us * 1e-6, peer)
        if self.most_requests and self.requests >= self.most_requests:
            self.exhausted = f"{self.requests} requests were served (pm.max_requests)"
            self.most_requests = 0
        elif self.most_memory:
            self._look_at_limits()
        return 0

    def live_ended(self, Live live):
        """A task has ended, which may have outlived its connection."""
        self.lives.pop(live, None)
        self.ended(live.output, live.request.params if live.logged is None else live.logged, live.started_us,
                   live.content_length, live.peer)
        if self.lives:
            fpm_slot_stage(self.slot.page, FPM_STAGE_RUNNING)
        if self.exhausted is not None:
            self.settle(None)

    cdef int _look_at_limits(self) except -1:
        cdef char text[128]
        cdef Py_ssize_t n
        cdef uint64_t resident
        if self.statm >= 0:
            n = pread(self.statm, text, sizeof(text), 0)
            if n <= 0:
                return 0
            resident = int(text[:n].split()[1]) * sysconf(_SC_PAGESIZE)
        else:
            resident = getrusage(RUSAGE_SELF).ru_maxrss * 1024
        if resident > self.most_memory:
            self.exhausted = f"{resident} bytes of memory are in use (pm.max_memory)"
            self.most_memory = 0
        return 0


cdef Connection open_connection(Service service, int fd, Budget budget):
    cdef Connection connection = Connection.__new__(Connection)
    connection.service = service
    connection.fd = fd
    connection.guard = service.guard.state
    connection.lock = service.lock
    connection.protocol = ServerConnection.__new__(ServerConnection, service.limits, budget)
    connection.last_active = service.now
    return connection


cdef class Connection(Sender):
    cdef int receive(self, const uint8_t *data, size_t length) except -1:
        """Do all that these bytes ask for; they may lie in memory that is used again."""
        self.receiving = True
        try:
            self._receive(data, length)
            if self.begun is not None:
                self._begin_all()
        finally:
            self.receiving = False
        return 0

    cdef int _receive(self, const uint8_t *data, size_t length) except -1:
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
            self.rest = data
            self.rest_length = length
            self._handle(protocol.request, step)
            if self.broken or (self.closing and not protocol.has_live()):
                return 0  # nobody reads, or without KEEP_CONN one request was all
            if length and self.must_wait():
                self.unread = data[:length]
                return 0
        return 0

    cdef int catch_up(self) except -1:
        """Go on with what had to wait."""
        cdef bytes unread = self.unread
        if unread is not None and not self.must_wait() and not self.broken:
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
            if (<Request>each).live is not None:
                self._part(<Request>each)
            elif not (<Request>each).refused:
                self.service.was_aborted()
            self._forget(<Request>each)
        self.drop()
        self.unread = None
        return 0

    cdef int _handle(self, Request request, Step step) except -1:
        if step == STEP_REQUEST:
            self._check_length(request)
            if self.service.begin is not None and not self.service.whole and not request.refused:
                return self._begin(request)
        elif step == STEP_STDIN or step == STEP_DATA:
            if request.live is not None:
                return self._feed(<Live>request.live)
            return self._collect(request, step == STEP_STDIN)
        elif step == STEP_STDIN_END and request.live is not None:
            return (<Live>request.live).feed_end()
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
            if self.service.begin is not None:
                return self._begin(request)
            self._execute(request)
        return 0

    cdef int _execute(self, Request request) except -1:
        cdef Service service = self.service
        cdef Output output = open_output(self, request, service.staging, service.max_queued)
        cdef uint64_t started_us = fpm_now_us()
        cdef dict params = None
        cdef int app_status = 0
        service.requests += 1
        output._looks = True
        service.slot.begin(request.params, started_us)
        if service.access is not None:
            params = dict(request.params)  # an adapter may make its environ of the other one
            output._keeps_head = service.access_wants_head
        if request.stdin is not None:
            request.stdin = request.stdin.open()
        if request.data is not None:
            request.data = request.data.open()
        self.begin()
        self.guard.request_id = request.id
        # Only what is live can be seen by others: ours is taken off, and the rest of the record that ended it.
        self.guard.alone = request.keep_conn and self.rest_length == 0 and self.protocol._count() == 1 and \
            fcgi_reader_idle(&self.protocol._reader) and not self.closing
        fpm_guard_begin(self.guard, started_us)
        service.output = output
        try:
            app_status = service.run(request, output)
        finally:
            # Whatever happened: the web server gets an end, and the next request a clean table.
            service.output = None
            output.end(app_status & 0xffffffff)
            fpm_guard_end(self.guard)
            if self.guard.given:
                (<Owner>service.owner).were_given()
            service.ended(output, params, started_us, service.slot.page.content_length, self.peer)
            self._over(request)
        return 0

    cdef bint is_given_up(self, uint16_t id, bint asked) except -1:
        """See `Output.is_given_up`. Nothing is taken off the socket: what it has may be somebody else's."""
        cdef pollfd look
        if self.broken:
            return True
        look.fd = self.fd
        look.events = EPOLLIN | EPOLLRDHUP
        if c_poll(&look, 1, 0) <= 0:
            return self.rest_length > 0 and self._has_abort(id, NULL, 0)
        if look.revents & (EPOLLERR | EPOLLHUP):
            self.drop()
            return True
        return (asked and self.peer is not None and look.revents & EPOLLRDHUP) or self._has_abort_in_socket(id)

    cdef bint _has_abort_in_socket(self, uint16_t id) noexcept:
        cdef uint8_t waiting[LOOK]
        cdef Py_ssize_t n = c_recv(self.fd, waiting, LOOK, MSG_PEEK | MSG_DONTWAIT)
        return self._has_abort(id, waiting, n if n > 0 else 0)

    cdef bint _has_abort(self, uint16_t id, const uint8_t *waiting, size_t length) noexcept:
        """Is there an ABORT_REQUEST in what was read already, and in what comes behind that?"""
        cdef fcgi_reader reader = self.protocol._reader  # a copy: the real one has its turn later
        return find_abort(&reader, id, self.rest, self.rest_length) or find_abort(&reader, id, waiting, length)

    cdef int answered(self) except -1:
        """The request that runs has its answer (`Output.finish`), and may run for long: the connection is free.

        Its guard is between enter and leave. A connection that is not kept ends here for the web server; its descriptor
        stays until the request ends. One with more than this request on it can't go anywhere.
        """
        self.service.slot.finishing()
        fpm_guard_finish(self.guard)
        if self.broken or self.pending():
            return 0
        if self.guard.alone:
            if self.service.owner != NULL:
                (<Owner>self.service.owner).give_up(self)
        elif self.protocol._count() == 1 and not (<Request>self.protocol.live()[0]).keep_conn:
            c_shutdown(self.fd, SHUT_WR)
        return 0

    # -- requests that go on while others do --------------------------------------------------------------------------

    cdef int _begin(self, Request request) except -1:
        cdef Service service = self.service
        cdef Output output
        cdef Live live
        cdef uint64_t started_us
        started_us = fpm_now_us()
        # A task waits for a slow web server by itself, and must not keep all others waiting.
        output = open_output(self, request, service.staging, service.max_queued if service.whole else <size_t>-1)
        output._keeps_head = service.access_wants_head
        live = new_live(service, self, request, output, started_us)
        live.peer = self.peer
        service.requests += 1
        service.slot.begin(request.params, started_us)
        live.content_length = service.slot.page.content_length
        if service.whole:
            self._lend(live)
        elif request.stdin is not None:
            # The streams of a request may come in any order [3.3]; nobody sends them like this.
            live.feed(request.stdin.open().read())
            self.ahead += live._ahead
            request.stdin.close()
            request.stdin = None
        live.complete = request.is_complete()
        request.live = live
        self.lives += 1
        service.lives[live] = None
        # When all that was read has been handled: as a rule that is all of the request.
        if self.begun is None:
            self.begun = []
        self.begun.append(live)
        return 0

    cdef int _lend(self, Live live) except -1:
        """All of it has come, and goes to a thread, which reads its body as it likes."""
        cdef Request request = live.request
        live._lock = self.service.lock
        live.output._lock = self.service.lock
        live.output._live = live
        if self.service.access is not None:
            live.logged = dict(request.params)  # an adapter may make its environ of the other one
        request.lent = True
        if request.stdin is not None:
            request.stdin = request.stdin.open()
        if request.data is not None:
            request.data = request.data.open()
        return 0

    cdef int answered_by_thread(self, object live) except -1:
        cdef Live its = <Live>live
        its._connection = None
        self.finish(its, 0)
        return 0

    cdef int _begin_all(self) except -1:
        cdef list begun = self.begun
        self.begun = None
        for live in begun:
            self.service.begin(live)
        return 0

    cdef int _feed(self, Live live) except -1:
        cdef bytes data = self.protocol.content[:self.protocol.content_length]
        cdef Service service = self.service
        live.received += len(data)
        if service.post_max_size and live.received > service.post_max_size:
            self._too_large(live.request)
            return 0
        self.ahead += len(data)
        return live.feed(data)

    cdef int _part(self, Request request) except -1:
        """From its executor, which may go on, but not with us."""
        cdef Live live = <Live>request.live
        request.live = None
        self.lives -= 1
        self.ahead -= live._ahead
        return live.abort()

    cdef bint must_wait(self) noexcept:
        """What was read has to wait until something else has gone."""
        return self.is_full() or self.is_paused()

    cdef bint is_full(self) noexcept:
        """Too much waits to be sent for more to be asked for. A task waits by itself, at max_queued, and may well send
        what it reads: then a web server that writes all it has before it reads needs the more of room."""
        return self.queued > (READ_WHILE_QUEUED if self.service.begin is None else self.service.max_queued)

    cdef bint is_paused(self) noexcept:
        return self.ahead > READ_AHEAD

    cdef bint waits_for_body(self):
        """It is the web server's turn, not only ours."""
        cdef Request request
        if self.ahead > READ_AHEAD:
            return False
        for each in self.protocol.live():
            request = <Request>each
            if request.live is None or not (<Live>request.live).complete:
                return True
        return False

    cdef int wake_writers(self) except -1:
        cdef Request request
        if self.queued <= self.service.max_queued // 2 and not self._has_many_pieces():
            for each in self.protocol.live():
                request = <Request>each
                if request.live is not None:
                    (<Live>request.live).can_write()
        return 0

    cdef bint _has_many_pieces(self) noexcept:
        return self.queue is not None and len(self.queue) > MOST_PIECES

    # What a Live calls, from its task:

    def taken(self, size_t length):
        """So much of a body was taken."""
        cdef bint was_paused = self.is_paused()
        self.ahead -= length
        if was_paused and not self.is_paused() and not self.receiving:
            self.catch_up()
            self.service.settle(self)

    cpdef int flushed(self) except -1:
        """Something was written."""
        if self.pending() or self.broken:
            self.last_active = clock_now()
            if not self.receiving:
                self.service.settle(self)
        elif self.lives > 1:
            self.wake_writers()  # what they waited for has gone with ours
        return 0

    def has_room(self):
        return not (self.queued > self.service.max_queued or self._has_many_pieces())

    def finish(self, Live live, uint32_t app_status):
        """The answer is complete."""
        cdef Request request = live.request
        self.lives -= 1
        self.ahead -= live._ahead
        request.live = None
        if live.complete:
            live.output.end(app_status)
            fpm_guard_leave(self.guard)
            self._over(request)
        else:
            # The rest of the body comes still, or not; as with a request that was refused, its end has to wait.
            live.output.flush()
            live.output.close()
            self.protocol.refuse(request)
        if self.lives:
            self.wake_writers()
        if not self.receiving:
            self.catch_up()
            self.service.settle(self)

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
        if request.lent:
            return 0
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
        cdef bint begun = False
        if request.live is not None:
            begun = (<Live>request.live).output.started
            (<Live>request.live).output.close()
            self._part(request)
        fpm_slot_add(&service.slot.page.refused, 1)
        if self.protocol.find(request.id) is request:
            for body in (request.stdin, request.data):
                if body is not None:
                    body.close()
            complete = self.protocol.refuse(request)
        if self.broken:
            return self._over(request)  # the web server did not wait for an answer to the one before
        if not begun:
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
        cdef Output output
        if request.live is not None:
            output = (<Live>request.live).output
            self._part(request)
            output.end(1)
            fpm_guard_leave(self.guard)
            return self._over(request)
        if not request.refused:
            self.service.was_aborted()
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

    cdef bint is_clean(self) noexcept:
        """Between two requests: nothing of the next one was read, nothing waits to be sent. Anybody could go on."""
        return not (self.pending() or self.closing or self.lingering or self.broken or self.protocol.has_live()) \
            and self.unread is None and fcgi_reader_idle(&self.protocol._reader)
