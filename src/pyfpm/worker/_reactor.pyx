"""The reactor: ready sockets at C speed, between trio and the executor.

It owns an epoll instance with the listeners and all connections of one worker, level-triggered. An epoll descriptor can
itself be waited for: trio waits for ours and then calls ``drain``, which works until nothing is ready or its share is
used up. So trio is paid per wake-up, not per request, and everything that is not a request can be ordinary trio.

Budget of a small request on a new connection: accept4, recv, send, close; on a kept one: recv, send, and its share of
an epoll_wait. A connection meets epoll only if its request is not there when it is accepted. Objects per request: the
Request, its params and their values, an Output; per new connection two more. No logging, no clock but the coarse one
once a round.

Accept one connection, serve it if its bytes are there, then accept the next: what we do not accept, another worker can.

O(connections): the sweep, once a second, which looks at two numbers of each. Everything else is O(ready).
"""
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EAGAIN, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memset
from posix.time cimport clock_gettime, timespec
from posix.unistd cimport close

from pyfpm.protocol._server cimport *
from pyfpm.worker._output cimport Output, Staging, open_output
from pyfpm.worker._sender cimport Sender

import os

from pyfpm.protocol import RemoteProtocolError
from pyfpm.worker.body import Body


cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        int fd
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int maxevents, int timeout)
    enum:
        EPOLL_CLOEXEC
        EPOLL_CTL_ADD
        EPOLL_CTL_DEL
        EPOLL_CTL_MOD
        EPOLLIN
        EPOLLOUT
        EPOLLERR
        EPOLLHUP
        EPOLLEXCLUSIVE

cdef extern from "<sys/socket.h>" nogil:
    struct sockaddr:
        unsigned short sa_family
    struct sockaddr_storage:
        unsigned short ss_family
    ctypedef unsigned int socklen_t
    int accept4(int fd, sockaddr *address, socklen_t *length, int flags)
    Py_ssize_t c_recv "recv"(int fd, void *buf, size_t len, int flags)
    int c_shutdown "shutdown"(int fd, int how)
    enum:
        SOCK_NONBLOCK
        SOCK_CLOEXEC
        SHUT_WR
        AF_INET
        AF_INET6

cdef extern from "<netinet/in.h>" nogil:
    struct in_addr:
        uint32_t s_addr
    struct in6_addr:
        uint8_t s6_addr[16]
    struct sockaddr_in:
        in_addr sin_addr
    struct sockaddr_in6:
        in6_addr sin6_addr

cdef extern from "<time.h>" nogil:
    enum:
        CLOCK_MONOTONIC_COARSE

cdef enum:
    READ = 128 * 1024           # of one recv; nginx sends a body in 32 KiB records, others in up to 64 KiB
    EVENTS = 64                 # of one epoll_wait
    ACCEPT_IN_A_ROW = 32        # then connections that are ready get their turn
    READ_WHILE_QUEUED = 65536   # with more than this waiting to be sent, a connection's requests wait as well
    LINGER_S = 5                # for the web server to take our last words and hang up
    MOST_QUEUED = 4096          # connections in a listen queue; the kernel's own bound
    STOPPING_S = 1              # for the first request of a connection that came just before we stop

    # What one drain may take before trio gets its turn: requests, and seconds below.
    SHARE = 256
    # How long a drain waits for more, in milliseconds.
    PATIENCE_MS = 1

cdef double SHARE_S = 0.010     # the coarse clock moves in steps of 4 ms


cdef double coarse_now() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cdef class Connection(Sender):
    cdef ServerConnection protocol
    cdef object peer            # what Reactor.budgets knows the other end by; None for a unix socket
    cdef uint32_t interest      # what epoll watches for; 0: it does not know us
    cdef double last_active
    cdef bint closing           # close once everything is sent and nothing is live
    cdef bint lingering         # nothing more is read but to be thrown away
    cdef bint used              # a request was answered here: it is a kept connection now
    cdef bytes unread           # input that waits until output has gone


cdef class Reactor:
    cdef int _epoll
    cdef PyObject **_by_fd      # descriptor: its Connection, owned; NULL where there is none
    cdef int _by_fd_size
    cdef dict _listeners        # descriptor: socket
    cdef uint8_t *_buf
    cdef Staging _staging
    cdef object _run            # the executor
    cdef object _refuse
    cdef object _log
    cdef object _settings
    cdef Limits _limits
    cdef Budget _budget
    cdef dict _budgets          # address: [Budget, connections]
    cdef int _max_connections
    cdef size_t _max_queued
    cdef size_t _post_max_size
    cdef double _send_timeout_s
    cdef double _now
    cdef double _started        # of this drain
    cdef bint _accepting
    cdef bint _stopping
    cdef readonly int connections
    cdef readonly uint64_t accepted
    cdef readonly uint64_t requests
    cdef readonly uint64_t aborted

    def __cinit__(self):
        self._epoll = -1

    def __init__(self, run, refuse, settings, log):
        self._run = run
        self._refuse = refuse
        self._settings = settings
        self._max_connections = settings.max_connections
        self._max_queued = settings.max_queued
        self._post_max_size = settings.post_max_size
        self._send_timeout_s = settings.send_timeout_s
        self._log = log
        self._limits = Limits(
            max_requests=settings.max_requests,
            max_params_size=settings.max_params_size,
            max_params=settings.max_params,
            max_held=settings.max_held_connection,
            max_connections=settings.max_connections,
        )
        self._budget = Budget(settings.max_held)
        self._budgets = {}
        self._listeners = {}
        self._staging = Staging()
        self._buf = <uint8_t *>malloc(READ)
        self._by_fd_size = 256
        self._by_fd = <PyObject **>calloc(self._by_fd_size, sizeof(PyObject *))
        if self._buf == NULL or self._by_fd == NULL:
            raise MemoryError
        self._epoll = epoll_create1(EPOLL_CLOEXEC)
        if self._epoll < 0:
            raise OSError(errno, "epoll_create1")

    def __dealloc__(self):
        cdef int fd
        if self._by_fd != NULL:
            for fd in range(self._by_fd_size):
                if self._by_fd[fd] != NULL:
                    close(fd)
                    Py_DECREF(<object>self._by_fd[fd])
        free(self._by_fd)
        free(self._buf)
        if self._epoll >= 0:
            close(self._epoll)

    def fileno(self):
        return self._epoll

    def listen(self, listener):
        listener.setblocking(False)
        self._listeners[listener.fileno()] = listener
        self._watch_listeners(True)

    def stop(self):
        """Take what is in the listen queues already, then no more; end kept connections as they get idle."""
        cdef int most
        for fd in self._listeners:
            # Bounded, since a web server that keeps on connecting must not keep us from stopping.
            most = MOST_QUEUED
            while most > 0 and self._accept_one(fd):
                most -= 1
        self._watch_listeners(False)
        self._listeners.clear()
        self._stopping = True
        for connection in self._all():
            # A request may have come in this moment; who hears nothing else from us then closes us without a loss.
            self._readable(<Connection>connection)
            self._settle(<Connection>connection)

    def drain(self):
        """Serve what is ready, up to a share. True: there may be more, call again soon."""
        cdef epoll_event events[EVENTS]
        cdef int n
        cdef int i
        cdef int fd
        cdef int patience = 0
        cdef uint64_t before = self.requests
        self._now = self._started = coarse_now()
        while True:
            with nogil:  # touches nothing but events, which is on this stack
                n = epoll_wait(self._epoll, events, EVENTS, patience)
            if n <= 0:
                return False
            for i in range(n):
                if self._now - self._started > SHARE_S:
                    return True  # what is left is told again
                fd = events[i].data.fd
                # One that was closed earlier in this round is not there any more; a new one that got its number
                # just finds nothing to read.
                if fd < self._by_fd_size and self._by_fd[fd] != NULL:
                    self._ready(<Connection>self._by_fd[fd], events[i].events)
                elif fd in self._listeners:
                    self._accept(fd)
            self._now = coarse_now()
            if self.requests - before >= SHARE or self._now - self._started > SHARE_S:
                return True
            # Where one request came the next is near, and waiting for it here is much cheaper than in trio. A signal
            # ends the wait, so trio misses nothing but a millisecond.
            patience = PATIENCE_MS if self.requests > before else 0

    def sweep(self):
        """Close connections whose time is up. Call it about once a second."""
        cdef Connection connection
        cdef double idle
        cdef double limit
        self._now = coarse_now()
        for each in self._all():
            connection = <Connection>each
            idle = self._now - connection.last_active
            if connection.lingering:
                limit = LINGER_S
            elif self._stopping and not connection.used and not connection.protocol.has_live():
                limit = STOPPING_S
            elif connection.pending():
                limit = self._send_timeout_s
            elif connection.used and not connection.protocol.has_live():
                limit = self._settings.keepalive_timeout_s
            else:
                limit = self._settings.request_read_timeout_s
            if idle > limit:
                self._close(connection)
        if not self._accepting and not self._stopping:
            self._watch_listeners(True)

    @property
    def stopping(self):
        return self._stopping

    @property
    def unfinished(self):
        """Connections that still have something to say or to hear, once we are stopping."""
        return sum([not (<Connection>each).lingering for each in self._all()])

    # -- connections come and go --------------------------------------------------------------------------------------

    cdef int _accept(self, int listener) except -1:
        """Take connections one after the other, each with its first request if that is there."""
        cdef int most = ACCEPT_IN_A_ROW
        while most > 0 and self._now - self._started <= SHARE_S:
            if not self._accept_one(listener):
                return 0
            most -= 1
        return 0

    cdef bint _accept_one(self, int listener) except -1:
        """False if there is none to be had."""
        cdef sockaddr_storage address
        cdef socklen_t length = sizeof(address)
        cdef int fd
        cdef Connection connection
        if self.connections >= self._max_connections:
            self._watch_listeners(False)
            return False
        fd = accept4(listener, <sockaddr *>&address, &length, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if fd < 0:
            if errno == EMFILE or errno == ENFILE or errno == ENOBUFS or errno == ENOMEM:
                # Level-triggered, so it would be told again and again: look away until a connection ends, or the next
                # sweep. Meanwhile it waits in the listen queue, where other workers see it.
                self._log("WARNING", f"cannot accept a connection: {os.strerror(errno)}")
                self._watch_listeners(False)
                return False
            # Anything else but an empty queue is that connection's own failure [accept(2)].
            return errno != EAGAIN
        connection = self._open(fd, &address)
        self._readable(connection)
        self._settle(connection)
        return True

    cdef Connection _open(self, int fd, sockaddr_storage *address):
        cdef Connection connection = Connection.__new__(Connection)
        cdef Budget budget = self._budget
        if address.ss_family == AF_INET or address.ss_family == AF_INET6:
            connection.peer = peer_of(address)
            budget = self._budget_of(connection.peer)
        connection.fd = fd
        connection.protocol = ServerConnection.__new__(ServerConnection, self._limits, budget)
        connection.last_active = self._now
        connection.send_timeout_s = self._send_timeout_s
        if fd >= self._by_fd_size:
            self._grow(fd)
        Py_INCREF(connection)
        self._by_fd[fd] = <PyObject *>connection
        self.connections += 1
        self.accepted += 1
        return connection

    cdef Budget _budget_of(self, bytes peer):
        entry = self._budgets.get(peer)
        if entry is None:
            entry = self._budgets[peer] = [Budget(self._settings.max_held_peer, self._budget), 0]
        entry[1] += 1
        return entry[0]

    cdef _grow(self, int fd):
        cdef int size = self._by_fd_size
        cdef PyObject **grown
        while size <= fd:
            size *= 2
        grown = <PyObject **>realloc(self._by_fd, size * sizeof(PyObject *))
        if grown == NULL:
            raise MemoryError
        memset(grown + self._by_fd_size, 0, (size - self._by_fd_size) * sizeof(PyObject *))
        self._by_fd = grown
        self._by_fd_size = size

    cdef int _close(self, Connection connection) except -1:
        cdef int fd = connection.fd
        cdef Request request
        if fd < 0:
            return 0
        connection.fd = -1
        for each in connection.protocol.live():
            request = <Request>each
            if not request.refused:
                self.aborted += 1
            self._forget(connection, request)
        connection.drop()
        connection.unread = None
        if connection.peer is not None:
            entry = self._budgets[connection.peer]
            entry[1] -= 1
            if entry[1] == 0:
                del self._budgets[connection.peer]
        close(fd)  # epoll forgets it by itself
        self._by_fd[fd] = NULL
        self.connections -= 1
        Py_DECREF(connection)
        if not self._accepting and not self._stopping:
            self._watch_listeners(True)  # there is room again
        return 0

    cdef list _all(self):
        cdef int fd
        return [<object>self._by_fd[fd] for fd in range(self._by_fd_size) if self._by_fd[fd] != NULL]

    cdef int _watch_listeners(self, bint on) except -1:
        cdef epoll_event event
        self._accepting = on
        for fd in self._listeners:
            event.events = EPOLLIN | EPOLLEXCLUSIVE
            event.data.fd = fd
            epoll_ctl(self._epoll, EPOLL_CTL_ADD if on else EPOLL_CTL_DEL, fd, &event)
        return 0

    cdef int _settle(self, Connection connection) except -1:
        """After every turn: close the connection, or tell epoll what it is waiting for now."""
        cdef epoll_event event
        cdef uint32_t interest
        if connection.fd < 0:
            return 0
        if connection.broken:
            return self._close(connection)
        if not connection.pending():
            if not connection.lingering and not connection.protocol.has_live() and (
                    connection.closing or (self._stopping and connection.used and connection.unread is None)):
                return self._close(connection)
            interest = EPOLLIN
        elif connection.queued > READ_WHILE_QUEUED or (connection.closing and not connection.lingering):
            interest = EPOLLOUT
        else:
            interest = EPOLLIN | EPOLLOUT
        if interest != connection.interest:
            event.events = interest
            event.data.fd = connection.fd
            if epoll_ctl(self._epoll, EPOLL_CTL_MOD if connection.interest else EPOLL_CTL_ADD,
                         connection.fd, &event) < 0:
                self._log("ERROR", f"cannot watch a connection: {os.strerror(errno)}")
                return self._close(connection)
            connection.interest = interest
        return 0

    # -- bytes in -----------------------------------------------------------------------------------------------------

    cdef int _ready(self, Connection connection, uint32_t events) except -1:
        cdef size_t before
        if connection.pending() and events & (EPOLLOUT | EPOLLERR | EPOLLHUP):
            connection.flush()
            connection.last_active = self._now
            if connection.lingering:
                self._shut(connection)
            if connection.unread is not None and connection.queued <= READ_WHILE_QUEUED:
                self._catch_up(connection)
        if connection.fd >= 0 and not connection.broken and events & (EPOLLIN | EPOLLHUP | EPOLLERR):
            if connection.interest & EPOLLIN or not connection.pending():
                self._readable(connection)
        return self._settle(connection)

    cdef int _readable(self, Connection connection) except -1:
        cdef Py_ssize_t n
        if connection.unread is not None:
            return 0
        while True:
            n = c_recv(connection.fd, self._buf, READ, 0)
            if n > 0:
                break
            if n == 0:
                return self._ended(connection)
            if errno == EAGAIN:
                return 0
            if errno != EINTR:
                return self._close(connection)
        connection.last_active = self._now
        return self._receive(connection, self._buf, n)

    cdef int _catch_up(self, Connection connection) except -1:
        cdef bytes unread = connection.unread
        connection.unread = None
        return self._receive(connection, <const uint8_t *><const char *>unread, len(unread))

    cdef int _ended(self, Connection connection) except -1:
        """The web server closed its side. What it still has to get, it gets, in case it only half closed."""
        if connection.pending() and not connection.lingering:
            connection.closing = True
            for request in connection.protocol.live():
                self._abort(connection, <Request>request)
            return 0
        return self._close(connection)

    cdef int _receive(self, Connection connection, const uint8_t *data, size_t length) except -1:
        cdef ServerConnection protocol = connection.protocol
        cdef size_t used = 0
        cdef Step step
        if connection.lingering:
            return 0
        while length:
            try:
                step = protocol.step(data, length, &used)
            except RemoteProtocolError as error:
                return self._hang_up(connection, error)
            data += used
            length -= used
            if step == STEP_NEED_DATA:
                return 0
            self._handle(connection, protocol.request, step)
            if connection.fd < 0 or connection.broken:
                return 0
            if connection.closing and not protocol.has_live():
                return 0  # without KEEP_CONN one request is all there is
            if length and connection.queued > READ_WHILE_QUEUED:
                connection.unread = data[:length]
                return 0
        return 0

    cdef int _handle(self, Connection connection, Request request, Step step) except -1:
        cdef ServerConnection protocol = connection.protocol
        if step == STEP_REQUEST:
            self._check_length(connection, request)
        elif step == STEP_STDIN or step == STEP_DATA:
            return self._collect(connection, request, step == STEP_STDIN)
        elif step == STEP_REFUSED:
            return self._answer_refused(connection, request, protocol.status, protocol.reason)
        elif step == STEP_DRAINED:
            return self._end_refused(connection, request)
        elif step == STEP_ABORT:
            return self._abort(connection, request)
        elif step == STEP_REPLY:
            connection.push(protocol.reply)
            connection.flush()
            if request is not None and not request.keep_conn:
                connection.closing = True
            return 0
        if not request.refused and request.is_complete():
            self._execute(connection, request)
        return 0

    cdef int _execute(self, Connection connection, Request request) except -1:
        cdef Output output = open_output(connection, request, self._staging, self._max_queued)
        cdef int app_status = 0
        self.requests += 1
        if request.stdin is not None:
            request.stdin = request.stdin.open()
        if request.data is not None:
            request.data = request.data.open()
        if not request.keep_conn:
            connection.closing = True
        try:
            app_status = self._run(request, output)
        finally:
            # Whatever happened: the web server gets an end, and the next request a clean table.
            output.end(app_status & 0xffffffff)
            self._now = coarse_now()
            connection.used = True
            connection.last_active = self._now
            self._forget(connection, request)
        return 0

    cdef int _forget(self, Connection connection, Request request) except -1:
        connection.protocol.forget(request)
        if request.stdin is not None:
            request.stdin.close()
            request.stdin = None
        if request.data is not None:
            request.data.close()
            request.data = None
        return 0

    # -- requests that do not run -------------------------------------------------------------------------------------

    cdef int _check_length(self, Connection connection, Request request) except -1:
        """Refuse a body that is announced as too large before it has come."""
        cdef str announced
        if self._post_max_size:
            announced = request.params.get("CONTENT_LENGTH", "")
            if announced.isdecimal() and int(announced[:20]) > self._post_max_size:
                self._too_large(connection, request)
        return 0

    cdef int _collect(self, Connection connection, Request request, bint is_stdin) except -1:
        cdef ServerConnection protocol = connection.protocol
        cdef bytes data = protocol.content[:protocol.content_length]
        body = request.stdin if is_stdin else request.data
        if body is None:
            body = Body(self._settings.spool_threshold, self._settings.spool_directory)
            if is_stdin:
                request.stdin = body
            else:
                request.data = body
        if self._post_max_size and body.size + len(data) > self._post_max_size:
            return self._too_large(connection, request)
        if not body.in_file and not protocol.charge(request, len(data)):
            return self._answer_refused(connection, request, 503, "too much memory in unfinished requests")
        try:
            body.append(data)
        except OSError as error:
            # Out of descriptors or memory can pass, a full disk is said as such.
            status = 503 if error.errno in (EMFILE, ENFILE, ENOMEM) else 507
            return self._answer_refused(connection, request, status, f"cannot store the body: {error.strerror}")
        return 0

    cdef int _too_large(self, Connection connection, Request request) except -1:
        return self._answer_refused(
            connection, request, 413, f"the body is larger than post_max_size, {self._post_max_size} bytes")

    cdef int _answer_refused(self, Connection connection, Request request, int status, str reason) except -1:
        """Answer at once; END_REQUEST follows when the rest of the request has come."""
        cdef Output output = open_output(connection, request, self._staging, self._max_queued)
        cdef bint live = connection.protocol.find(request.id) is request
        cdef bint complete = True
        if live:
            for body in (request.stdin, request.data):
                if body is not None:
                    body.close()
            complete = connection.protocol.refuse(request)
        self._refuse(request, status, reason, output)
        if complete or not live:
            output.end(0)
            self._end(connection, request)
        else:
            output.flush()
        return 0

    cdef int _end_refused(self, Connection connection, Request request) except -1:
        open_output(connection, request, self._staging, 0).end(0)
        return self._end(connection, request)

    cdef int _end(self, Connection connection, Request request) except -1:
        self._forget(connection, request)
        connection.used = True
        if not request.keep_conn:
            connection.closing = True
        return 0

    cdef int _abort(self, Connection connection, Request request) except -1:
        """The web server gave up before the request was complete: it does not run [5.4]."""
        if not request.refused:
            self.aborted += 1
        return self._end_refused(connection, request)

    cdef int _hang_up(self, Connection connection, error) except -1:
        """The stream has lost its sense. Answer what can be answered, then close without cutting that off."""
        cdef Request request
        self._log("WARNING", f"connection closed: {error}")
        for each in connection.protocol.live():
            request = <Request>each
            if not request.refused:
                self._answer_refused(connection, request, 400, str(error))
            if connection.protocol.find(request.id) is request:
                self._end_refused(connection, request)
        # Closing a TCP socket that has unread bytes resets it, and the answer would be lost on the way.
        connection.lingering = True
        connection.closing = True
        connection.last_active = self._now
        return self._shut(connection)

    cdef int _shut(self, Connection connection) except -1:
        connection.flush()
        if not connection.pending():
            c_shutdown(connection.fd, SHUT_WR)
        return 0


cdef bytes peer_of(sockaddr_storage *address):
    if address.ss_family == AF_INET:
        return (<uint8_t *>&(<sockaddr_in *>address).sin_addr)[:4]
    return (<uint8_t *>&(<sockaddr_in6 *>address).sin6_addr)[:16]
