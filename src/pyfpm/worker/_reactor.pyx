"""The reactor: ready sockets at C speed, between trio and the executor.

It owns an epoll instance with the listeners and all connections of one worker, level-triggered. An epoll descriptor can
itself be waited for: trio waits for ours and then calls ``drain``, which works until nothing is ready or its share is
used up. So trio is paid per wake-up, not per request, and everything that is not a request can be ordinary trio.

Budget of a small request on a new connection: accept4, recv, send, close; on a kept one: recv, send, and its share of
an epoll_wait. A connection meets epoll only if its request is not there when it is accepted. Objects per new connection:
two, beside those of the request.

Accept one connection, serve it if its bytes are there, then accept the next: what we do not accept, another worker can.

A connection that is between two requests belongs to nobody in particular. A worker that retires gives such connections to
the others (csrc/handoff.h) instead of closing them: a web server that has just sent the next request on one would lose it.
Which ones they are is also written where a watchdog or the handler of a crash can do the same in our place.

O(connections): the sweep, once a second, which looks at two numbers of each, and retiring. Everything else is O(ready).
"""
from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EAGAIN, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset
from posix.unistd cimport close

from pyfpm.protocol._server cimport Budget
from pyfpm.worker._connection cimport Connection, Owner, Service, clock_now, open_connection
from pyfpm.worker._lock cimport Lock
from pyfpm.worker._slot cimport FPM_STAGE_RETIRING, Slot, fpm_slot_set
from pyfpm.worker._watchdog cimport (
    FPM_CLEAN_FRESH,
    FPM_CLEAN_KEPT,
    FPM_FRESH,
    FPM_GIVEN,
    FPM_KEPT,
    FPM_MOST_LISTENERS,
    FPM_NOT_CLEAN,
    FPM_TAKE_END,
    Guard,
    fpm_give,
    fpm_guard_listen,
    fpm_take,
)

import os

from pyfpm.worker._connection import ROLES


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
        EPOLLRDHUP
        EPOLLEXCLUSIVE

cdef extern from "<sys/socket.h>" nogil:
    struct sockaddr:
        unsigned short sa_family
    struct sockaddr_storage:
        unsigned short ss_family
    ctypedef unsigned int socklen_t
    int getpeername(int fd, sockaddr *address, socklen_t *length)
    int accept4(int fd, sockaddr *address, socklen_t *length, int flags)
    Py_ssize_t c_recv "recv"(int fd, void *buf, size_t len, int flags)
    enum:
        MSG_DONTWAIT
        SOCK_NONBLOCK
        SOCK_CLOEXEC
        AF_INET
        AF_INET6

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int c_poll "poll"(pollfd *fds, unsigned long nfds, int timeout)

cdef extern from "<netinet/in.h>" nogil:
    struct in_addr:
        uint32_t s_addr
    struct in6_addr:
        uint8_t s6_addr[16]
    struct sockaddr_in:
        in_addr sin_addr
    struct sockaddr_in6:
        in6_addr sin6_addr

cdef enum:
    READ = 128 * 1024           # of one recv; nginx sends a body in 32 KiB records, others in up to 64 KiB
    EVENTS = 64                 # of one epoll_wait
    ACCEPT_IN_A_ROW = 32        # then connections that are ready get their turn
    SILENCE_S = 1               # of a request that is answered already: nginx sends no more of it
    LINGER_S = 5                # for the web server to take our last words and hang up
    MOST_QUEUED = 4096          # connections in a listen queue; the kernel's own bound
    STOPPING_S = 1              # for the first request of a connection that came just before we stop

    # What one drain may take before trio gets its turn: requests, and seconds below.
    SHARE = 256
    # How long a drain waits for more, in milliseconds.
    PATIENCE_MS = 1

cdef double SHARE_S = 0.010


cdef bint is_ready(Connection connection) noexcept:
    """Something has come, or can be sent, that we have not looked at yet."""
    cdef pollfd poll
    poll.fd = connection.fd
    poll.events = <short>connection.interest  # the bits are the same as epoll's
    return c_poll(&poll, 1, 0) > 0


cdef class Reactor(Owner):
    cdef int _epoll
    cdef int _nowhere           # takes the place of a connection that was given away
    cdef PyObject **_by_fd      # descriptor: its Connection, owned; NULL where there is none
    cdef int _by_fd_size
    cdef dict _listeners        # descriptor: socket
    cdef uint8_t *_buf
    cdef Service _service
    cdef Budget _budget
    cdef dict _budgets          # address: [Budget, connections]
    cdef size_t _max_held_peer
    cdef int _max_connections
    cdef double _keepalive_timeout_s
    cdef double _read_timeout_s
    cdef double _send_timeout_s
    cdef double _started        # of this drain
    cdef bint _accepting
    cdef bint _interrupted
    cdef bint _stopping
    cdef bint _retiring
    cdef int _give              # where our connections go when we retire; -1: nowhere
    cdef int _take              # where others' come from
    cdef object _handoff        # the two sockets
    cdef uint8_t *_clean        # descriptor: may somebody else go on with it (enum fpm_clean)
    cdef list _fresh            # connections whose tasks have not had their turn yet
    cdef object _allowed        # of which addresses connections are taken; None: of all
    cdef object _on_exhausted
    cdef Lock _lock             # of a worker that answers from threads; else None
    cdef bint _held             # its executor has enough to do
    cdef readonly int connections
    cdef readonly uint64_t accepted

    def __cinit__(self):
        self._epoll = -1
        self._nowhere = -1
        self._give = -1
        self._take = -1

    def __init__(
        self, run, refuse, settings, log, *, begin=None, Slot slot=None, Guard guard=None, access=None, allowed=None,
        on_exhausted=None, roles=ROLES, bint whole=False,
    ):
        self._service = Service(run, refuse, settings, log, slot, guard, access, roles)
        self._service.owner = <void *>self
        if begin is not None:
            self._service.begin = begin
            self._service.settle = self._settle_again
            self._service.whole = whole
            self._lock = self._service.lock = Lock() if whole else None
            # None of the requests is the one that runs, so none can be answered in our place.
            self._service.guard.state.fd = -1
        self._allowed = allowed
        self._on_exhausted = on_exhausted
        self._budget = Budget(settings.max_held)
        self._budgets = {}
        self._listeners = {}
        self._fresh = []
        self._max_held_peer = settings.max_held_peer
        self._max_connections = settings.max_connections
        self._keepalive_timeout_s = settings.keepalive_timeout_s
        self._read_timeout_s = settings.request_read_timeout_s
        self._send_timeout_s = settings.send_timeout_s
        self._buf = <uint8_t *>malloc(READ)
        self._by_fd_size = 256
        self._by_fd = <PyObject **>calloc(self._by_fd_size, sizeof(PyObject *))
        self._clean = <uint8_t *>calloc(self._by_fd_size, 1)
        if self._buf == NULL or self._by_fd == NULL or self._clean == NULL:
            raise MemoryError
        self._service.guard.state.clean = self._clean
        self._service.guard.state.clean_size = self._by_fd_size
        self._epoll = epoll_create1(EPOLL_CLOEXEC)
        if self._epoll < 0:
            raise OSError(errno, "epoll_create1")
        self._service.guard.state.epoll_fd = self._epoll
        self._nowhere = os.eventfd(0, os.EFD_CLOEXEC)
        self._service.guard.state.nowhere_fd = self._nowhere

    def __dealloc__(self):
        cdef int fd
        if self._by_fd != NULL:
            for fd in range(self._by_fd_size):
                if self._by_fd[fd] != NULL:
                    close(fd)
                    Py_DECREF(<object>self._by_fd[fd])
        free(self._by_fd)
        free(self._buf)
        if self._service is not None and not self._service.guard._watched:
            free(self._clean)
        if self._epoll >= 0:
            close(self._epoll)
        if self._nowhere >= 0:
            close(self._nowhere)

    def fileno(self):
        return self._epoll

    def listen(self, listener):
        listener.setblocking(False)
        self._listeners[listener.fileno()] = listener
        self._tell_guard()
        self._watch_listeners(True)

    def share(self, give, take):
        take.setblocking(False)
        self._handoff = (give, take)
        self._give = give.fileno()
        self._take = take.fileno()
        self._service.guard.state.give_fd = self._give
        self._tell_guard()
        self._watch_listeners(True)

    def retire(self):
        self._enter()
        try:
            self._retire()
        finally:
            self._leave()

    cdef void _enter(self) noexcept:
        if self._lock is not None:
            self._lock.enter()

    cdef void _leave(self) noexcept:
        if self._lock is not None:
            self._lock.leave()

    cdef int _retire(self) except -1:
        if self._stopping or self._retiring:
            return 0
        self._no_more()
        self._service.slot.stage(FPM_STAGE_RETIRING)
        if self._give < 0:
            self._stopping = True
        self._retiring = True
        for connection in self._all():
            if self._stopping:
                self._read(<Connection>connection)
            self._settle(<Connection>connection)
        return 0

    def stop(self):
        """Take what is in the listen queues already, then no more; end kept connections as they get idle."""
        self._enter()
        try:
            self._stop()
        finally:
            self._leave()

    cdef int _stop(self) except -1:
        cdef int most
        for fd in self._listeners:
            # Bounded, since a web server that keeps on connecting must not keep us from stopping.
            most = MOST_QUEUED
            while most > 0 and self._accept_one(fd):
                most -= 1
        # Connections that somebody gave away have, maybe, a request on them as well.
        most = MOST_QUEUED
        while most > 0 and self._take >= 0 and self._adopt_one():
            most -= 1
        self._no_more()
        self._service.slot.stage(FPM_STAGE_RETIRING)
        self._stopping = True
        for connection in self._all():
            # A request may have come in this moment; who hears nothing else from us then closes us without a loss.
            self._read(<Connection>connection)
            self._settle(<Connection>connection)
        return 0

    def hold(self, bint on):
        """Take no new connections: others may. See the stub."""
        self._enter()
        try:
            if on != self._held:
                self._held = on
                if on and self._accepting:
                    self._watch_listeners(False)
                elif not on and not self._accepting and not self._stopping and not self._retiring:
                    self._watch_listeners(True)
        finally:
            self._leave()

    def drain(self):
        """Serve what is ready, up to a share. True: there may be more, call again soon."""
        cdef uint64_t before = self._service.requests
        self._interrupted = False
        self._service.now = self._started = clock_now()
        if self._service.begin is None:
            self._service.look_at_cpu()
        self._enter()
        try:
            return self._drain(before)
        finally:
            if self._service.access is not None:
                self._service.access.flush()
            self._leave()

    cdef bint _drain(self, uint64_t before) except -1:
        cdef epoll_event events[EVENTS]
        cdef int n
        cdef int i
        cdef int fd
        cdef int patience = 0
        cdef int depth
        if self._fresh:
            self._settle_fresh()
        while True:
            depth = self._lock.let_go() if self._lock is not None else 0
            with nogil:  # touches nothing but events, which is on this stack
                n = epoll_wait(self._epoll, events, EVENTS, patience)
            if self._lock is not None:
                self._lock.take_again(depth)
            if n <= 0:
                return False
            for i in range(n):
                if self._service.now - self._started > SHARE_S or self._is_interrupted():
                    return True  # what is left is told again
                fd = events[i].data.fd
                # One that was closed earlier in this round is not there any more; a new one that got its number
                # just finds nothing to read.
                if fd < self._by_fd_size and self._by_fd[fd] != NULL:
                    self._ready(<Connection>self._by_fd[fd], events[i].events)
                elif not self._accepting:
                    pass  # an older event than our decision
                elif fd == self._take:
                    self._adopt()
                elif fd in self._listeners:
                    self._accept(fd)
                if self._service.exhausted is not None:
                    self._exhaust()
            if self._service.begin is not None:
                # Tasks have been told, and should have their turn.
                return n == EVENTS or len(self._fresh) > 0
            self._service.now = clock_now()
            if self._service.requests - before >= SHARE or self._service.now - self._started > SHARE_S:
                return True
            # Where one request came the next is near, and waiting for it here is much cheaper than in trio. A signal
            # ends the wait, so trio misses nothing but a millisecond.
            patience = PATIENCE_MS if self._service.requests > before else 0

    def interrupt(self):
        self._interrupted = True

    def output(self):
        return self._service.output

    def exhaust(self, str reason):
        self._service.exhausted = reason

    def sweep(self):
        """Close connections whose time is up. Call it about once a second."""
        self._enter()
        try:
            self._sweep()
        finally:
            self._leave()

    cdef int _sweep(self) except -1:
        cdef Connection connection
        cdef double idle
        cdef double limit
        self._service.now = clock_now()
        for each in self._all():
            connection = <Connection>each
            idle = self._service.now - connection.last_active
            if connection.lingering:
                limit = LINGER_S
            elif self._stopping and not connection.used and not connection.protocol.has_live():
                limit = STOPPING_S
            elif connection.pending():
                limit = self._send_timeout_s
            elif connection.lives and not connection.waits_for_body():
                continue  # it is our turn, for as long as it takes
            elif connection.used and not connection.protocol.has_live():
                limit = self._keepalive_timeout_s
            else:
                limit = self._read_timeout_s
            # A request that runs for long makes everybody else look idle, who may not be.
            if idle > limit and not is_ready(connection):
                self._close(connection)
            elif idle > SILENCE_S and connection.protocol._count() > connection.lives and not is_ready(connection):
                connection.end_silent()
                self._settle(connection)
            elif self._retiring:
                self._settle(connection)  # there may be room for it in the handoff socket now
        if not self._accepting and not self._held and not self._stopping and not self._retiring:
            self._watch_listeners(True)
        if self._service.access is not None:
            self._service.access.flush()  # of requests that a task has ended
        return 0

    @property
    def lock(self):
        return self._lock

    @property
    def requests(self):
        return self._service.requests

    @property
    def aborted(self):
        return self._service.aborted

    @property
    def stopping(self):
        return self._stopping

    @property
    def retiring(self):
        return self._retiring

    @property
    def unfinished(self):
        return sum([not (<Connection>each).lingering for each in self._all()]) + len(self._service.lives)

    @property
    def lives(self):
        return list(self._service.lives)

    # -- connections come and go --------------------------------------------------------------------------------------

    cdef int _accept(self, int listener) except -1:
        """Take connections one after the other, each with its first request if that is there."""
        cdef int most = ACCEPT_IN_A_ROW
        while most > 0 and self._accepting and self._service.now - self._started <= SHARE_S \
                and not self._is_interrupted():
            if not self._accept_one(listener) or self._service.exhausted is not None:
                return 0
            most -= 1
        return 0

    cdef bint _is_interrupted(self) except -1:
        """Somebody else should have the thread. Signals that have come get their handlers now, who may say so: in here
        Python has no other occasion to call them."""
        PyErr_CheckSignals()
        return self._interrupted

    cdef int _adopt(self) except -1:
        """Take connections that other workers have given away."""
        cdef int most = ACCEPT_IN_A_ROW
        while most > 0 and self._accepting and self._service.now - self._started <= SHARE_S \
                and self._service.exhausted is None:
            if not self._adopt_one():
                return 0
            most -= 1
        return 0

    cdef bint _adopt_one(self) except -1:
        """False if there is none to be had."""
        cdef sockaddr_storage address
        cdef socklen_t length = sizeof(address)
        cdef Connection connection
        cdef char kind = 0
        cdef int fd
        if self.connections >= self._max_connections:
            self._watch_listeners(False)
            return False
        fd = fpm_take(self._take, &kind)
        if fd == FPM_TAKE_END:
            self._watch_listeners(False)
            self._take = -1
            self._watch_listeners(True)
            return False
        if fd < 0:
            if errno == EMFILE or errno == ENFILE or errno == ENOMEM:
                self._watch_listeners(False)  # as with one that cannot be accepted
            if errno != EAGAIN:
                self._service.log("WARNING", f"cannot take a connection over: {os.strerror(errno)}")
            return False
        memset(&address, 0, sizeof(address))
        getpeername(fd, <sockaddr *>&address, &length)  # an error is met again when we read
        connection = self._open(fd, &address)
        connection.used = kind == FPM_KEPT
        self._read(connection)
        self._settle_new(connection)
        return True

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
                self._service.log("WARNING", f"cannot accept a connection: {os.strerror(errno)}")
                self._watch_listeners(False)
                return False
            # Anything else but an empty queue is that connection's own failure [accept(2)].
            return errno != EAGAIN
        if self._allowed is not None and (
                address.ss_family == AF_INET or address.ss_family == AF_INET6) and not self._allowed(peer_of(&address)):
            close(fd)
            return True
        connection = self._open(fd, &address)
        self.accepted += 1
        self._read(connection)
        self._settle_new(connection)
        return True

    cdef Connection _open(self, int fd, sockaddr_storage *address):
        cdef Connection connection
        cdef bytes peer = None
        cdef Budget budget = self._budget
        if address.ss_family == AF_INET or address.ss_family == AF_INET6:
            peer = peer_of(address)
            budget = self._budget_of(peer)
        connection = open_connection(self._service, fd, budget)
        connection.peer = peer
        connection.send_timeout_s = self._send_timeout_s
        if fd >= self._by_fd_size:
            self._grow(fd)
        Py_INCREF(connection)
        self._by_fd[fd] = <PyObject *>connection
        self._count(1)
        return connection

    cdef void _count(self, int more) noexcept:
        self.connections += more
        fpm_slot_set(&self._service.slot.page.connections, self.connections)

    cdef Budget _budget_of(self, bytes peer):
        entry = self._budgets.get(peer)
        if entry is None:
            entry = self._budgets[peer] = [Budget(self._max_held_peer, self._budget), 0]
        entry[1] += 1
        return entry[0]

    cdef _grow(self, int fd):
        cdef int size = self._by_fd_size
        cdef PyObject **grown
        cdef uint8_t *clean
        while size <= fd:
            size *= 2
        clean = <uint8_t *>calloc(size, 1)
        if clean == NULL:
            raise MemoryError
        grown = <PyObject **>realloc(self._by_fd, size * sizeof(PyObject *))
        if grown == NULL:
            free(clean)
            raise MemoryError
        memcpy(clean, self._clean, self._by_fd_size)
        # The old one stays for whoever looks at it in this moment; all of them together are no larger than this one.
        self._clean = clean
        self._service.guard.state.clean = clean
        self._service.guard.state.clean_size = size
        memset(grown + self._by_fd_size, 0, (size - self._by_fd_size) * sizeof(PyObject *))
        self._by_fd = grown
        self._by_fd_size = size

    cdef int _close(self, Connection connection) except -1:
        connection.abandon()
        return self._let_go(connection)

    cdef int _let_go(self, Connection connection) except -1:
        cdef epoll_event event
        cdef int fd = connection.fd
        connection.fd = -1
        if connection.peer is not None:
            entry = self._budgets[connection.peer]
            entry[1] -= 1
            if entry[1] == 0:
                del self._budgets[connection.peer]
        self._clean[fd] = FPM_NOT_CLEAN
        if connection.interest:
            # By itself epoll forgets it only when nobody has it open, and user code may have forked: its end would be
            # told again and again, of a connection that we do not know any more.
            epoll_ctl(self._epoll, EPOLL_CTL_DEL, fd, &event)
        close(fd)
        self._by_fd[fd] = NULL
        self._count(-1)
        Py_DECREF(connection)
        if not self._accepting and not self._held and not self._stopping and not self._retiring:
            self._watch_listeners(True)  # there is room again
        return 0

    cdef bint give_up(self, Connection connection) except -1:
        if self._give < 0:
            return False
        connection.used = True
        if self._give_away(connection):
            return True
        # Ours again when the request has ended. Until then whoever ends it in our place may give it away.
        self._clean[connection.fd] = FPM_CLEAN_KEPT
        return False

    cdef bint _give_away(self, Connection connection) except -1:
        """Let another worker go on with a clean connection. False: nobody takes it now, it stays ours."""
        cdef epoll_event event
        cdef bint watched = connection.interest != 0
        # While it is on its way it must not be ready here, and closing what others have open is no news to epoll.
        if watched:
            epoll_ctl(self._epoll, EPOLL_CTL_DEL, connection.fd, &event)
            connection.interest = 0
        if fpm_give(self._give, connection.fd, FPM_KEPT if connection.used else FPM_FRESH, 0) < 0:
            return False
        connection.drop()
        self._let_go(connection)
        return True

    cdef int were_given(self) except -1:
        cdef Connection connection
        cdef int fd
        self._service.guard.state.given = 0
        for fd in range(self._by_fd_size):
            if self._clean[fd] == FPM_GIVEN and self._by_fd[fd] != NULL:
                connection = <Connection>self._by_fd[fd]
                connection.interest = 0  # epoll has forgotten it
                connection.drop()
                self._let_go(connection)
        return 0

    cdef int _exhaust(self) except -1:
        cdef str reason = self._service.exhausted
        self._service.exhausted = None
        if self._on_exhausted is not None:
            self._on_exhausted(reason)
        self._retire()
        return 0

    cdef int _no_more(self) except -1:
        """Take no connections any more, from nobody."""
        self._watch_listeners(False)
        self._listeners.clear()
        self._take = -1
        fpm_guard_listen(self._service.guard.state, 0)
        return 0

    cdef int _tell_guard(self) except -1:
        """Where somebody may wait for us while we are busy. Connections that others gave away are somebody as well."""
        cdef list places = list(self._listeners)[:FPM_MOST_LISTENERS]
        if self._take >= 0:
            places.append(self._take)
        for i, fd in enumerate(places):
            self._service.guard.state.listeners[i] = fd
        fpm_guard_listen(self._service.guard.state, len(places))
        return 0

    cdef list _all(self):
        cdef int fd
        return [<object>self._by_fd[fd] for fd in range(self._by_fd_size) if self._by_fd[fd] != NULL]

    cdef int _watch_listeners(self, bint on) except -1:
        cdef epoll_event event
        self._accepting = on
        for fd in [*self._listeners, *([self._take] if self._take >= 0 else [])]:
            event.events = EPOLLIN | EPOLLEXCLUSIVE
            event.data.fd = fd
            epoll_ctl(self._epoll, EPOLL_CTL_ADD if on else EPOLL_CTL_DEL, fd, &event)
        return 0

    # -- connections get ready -----------------------------------------------------------------------------------------

    cdef int _ready(self, Connection connection, uint32_t events) except -1:
        if connection.pending() and events & (EPOLLOUT | EPOLLERR | EPOLLHUP):
            connection.last_active = self._service.now
            if connection.lingering:
                connection.shut()
            else:
                connection.flush()
                connection.catch_up()
                if connection.lives:
                    connection.wake_writers()
        if events & (EPOLLIN | EPOLLERR | EPOLLHUP | EPOLLRDHUP) and not connection.broken:
            if connection.is_paused():
                connection.drop()  # for epoll has nothing else to say: they have hung up
            elif connection.interest & EPOLLIN or not connection.pending():
                self._read(connection)
        return self._settle(connection)

    cdef int _read(self, Connection connection) except -1:
        cdef Py_ssize_t n
        if connection.unread is not None:
            return 0
        self._clean[connection.fd] = FPM_NOT_CLEAN
        while True:
            n = c_recv(connection.fd, self._buf, READ, MSG_DONTWAIT)
            if n > 0:
                return connection.receive(self._buf, n)
            if n == 0:
                return connection.peer_closed()
            if errno == EAGAIN:
                return 0
            if errno != EINTR:
                return connection.drop()

    cdef int _settle_new(self, Connection connection) except -1:
        """A task that has its request may well answer at once: then epoll never has to know of the connection."""
        if connection.lives and not connection.broken:
            self._fresh.append(connection)
            return 0
        return self._settle(connection)

    cdef int _settle_fresh(self) except -1:
        cdef list fresh = self._fresh
        cdef Connection connection
        self._fresh = []
        for each in fresh:
            connection = <Connection>each
            if connection.fd >= 0:
                self._settle(connection)
        return 0

    def _settle_again(self, Connection connection):
        """A task has done something with it, outside of a drain."""
        if connection is not None and connection.fd >= 0:
            self._settle(connection)
        if self._service.exhausted is not None:
            self._exhaust()

    cdef int _settle(self, Connection connection) except -1:
        """After every turn: close the connection, or tell epoll what it is waiting for now."""
        cdef epoll_event event
        cdef uint32_t interest
        if connection.fd < 0:
            return 0  # it was given away in the middle of its request
        if connection.broken:
            return self._close(connection)
        if self._give >= 0 and connection.is_clean():
            if self._retiring and not self._stopping and self._give_away(connection):
                return 0
            self._clean[connection.fd] = FPM_CLEAN_KEPT if connection.used else FPM_CLEAN_FRESH
        if not connection.pending():
            if not connection.lingering and not connection.protocol.has_live() and (
                    connection.closing or (self._stopping and connection.used and connection.unread is None)):
                if not connection.closing or connection.reads <= 1:
                    return self._close(connection)
                # Who writes a request bit by bit may be at it still: flup's client sends an empty DATA record that
                # nobody needs, and would find the connection closed before it read the answer.
                connection.linger()
            interest = EPOLLRDHUP if connection.is_paused() else EPOLLIN
        elif connection.is_paused():
            interest = EPOLLOUT | EPOLLRDHUP
        elif connection.is_full() or (connection.closing and not connection.lingering):
            interest = EPOLLOUT
        else:
            interest = EPOLLIN | EPOLLOUT
        if interest != connection.interest:
            event.events = interest
            event.data.fd = connection.fd
            if epoll_ctl(self._epoll, EPOLL_CTL_MOD if connection.interest else EPOLL_CTL_ADD,
                         connection.fd, &event) < 0:
                self._service.log("ERROR", f"cannot watch a connection: {os.strerror(errno)}")
                return self._close(connection)
            connection.interest = interest
        return 0


cdef bytes peer_of(sockaddr_storage *address):
    if address.ss_family == AF_INET:
        return (<uint8_t *>&(<sockaddr_in *>address).sin_addr)[:4]
    return (<uint8_t *>&(<sockaddr_in6 *>address).sin6_addr)[:16]
