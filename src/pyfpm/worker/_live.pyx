"""A request that goes on while others do: what an asynchronous executor is given of it.

It begins when its params are complete. From then on the connection brings its body, piece by piece, and the news that
the web server has gone; the executor's task takes them when it likes, and says when it is over. Either side may be the
first, so both are told apart: ``gone`` is the web server's end, ``over`` is ours.

Whoever has to wait leaves something with a ``set`` method, and looks again once that was called. Events are the loop's,
and made only where somebody waits, so that a request that is answered at once costs none.

There is no buffer of its own: what is written is handed over to the connection before the task gives up the thread
(``flush``, ``end``), so all can use the same staging, one after the other. A request that waits costs its objects.
"""
from cpython.bytes cimport PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t

cimport cython

from pyfpm.protocol._server cimport Request
from pyfpm.worker._output cimport Output
from pyfpm.worker._watchdog cimport fpm_now_us


@cython.freelist(16)
cdef class Live:
    @property
    def params(self):
        return self.request.params

    @property
    def age_s(self):
        return (fpm_now_us() - self.started_us) * 1e-6

    @property
    def has_input(self):
        return self._pieces is not None

    @property
    def at_end(self):
        return self.complete and self._pieces is None

    @property
    def has_room(self):
        return self._connection is None or self._connection.has_room()

    # -- the executor's side ------------------------------------------------------------------------------------------

    def take(self):
        cdef bytes data
        cdef size_t taken = self._ahead
        if self._pieces is None:
            return b""
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = None
        self._ahead = 0
        if self._connection is not None:
            self._connection.taken(taken)
        return data

    def when_input(self, make_event):
        if self._on_input is None:
            self._on_input = make_event()
        return self._on_input

    def when_output(self, make_event):
        if self._on_output is None:
            self._on_output = make_event()
        return self._on_output

    def flush(self):
        if self._connection is not None:
            self.output.flush()
            self._connection.flushed()

    def end(self, uint32_t app_status=0):
        if self._lock is None:
            self._end(app_status)
            return
        self._lock.enter()
        try:
            self._end(app_status)
        finally:
            self._lock.leave()

    def end_in_its_place(self):
        """Its thread runs on, and is told with the next thing that it adds that nobody waits for it. See the stub."""
        self._lock.enter()
        try:
            self._end(1)
            self.output._given_up = True
        finally:
            self._lock.leave()

    cdef int _end(self, uint32_t app_status) except -1:
        if self.over:
            return 0
        self.over = True
        connection, self._connection = self._connection, None
        self.task = None
        if connection is not None:
            connection.finish(self, app_status)
        elif self._lock is not None:
            # The web server has gone, or has its answer. Who still writes is told from now on that it is over.
            self.output.end(app_status)
        self._service.live_ended(self)
        return self._wake()

    def work_with(self, staging):
        """From now on the answer is put together there: in its thread's own memory."""
        self.output.work_with(staging)

    def close_streams(self):
        """The body is not needed any more. For who runs whole requests: it was lent."""
        for stream in (self.request.stdin, self.request.data):
            if stream is not None:
                stream.close()

    # -- the connection's side ----------------------------------------------------------------------------------------

    cdef int feed(self, bytes data) except -1:
        if self._pieces is None:
            self._pieces = [data]
        else:
            self._pieces.append(data)
        self._ahead += PyBytes_GET_SIZE(data)
        return self._can_read()

    cdef int feed_end(self) except -1:
        self.complete = True
        return self._can_read()

    cdef int abort(self) except -1:
        """The connection has nothing more for us, nor wants anything."""
        self.gone = True
        self.output._given_up = True
        self._connection = None
        self._pieces = None
        self._ahead = 0
        return self._wake()

    cdef int can_write(self) except -1:
        event = self._on_output
        if event is not None:
            self._on_output = None
            event.set()
        return 0

    cdef bint waits_to_write(self) noexcept:
        return self._on_output is not None

    cdef int _can_read(self) except -1:
        event = self._on_input
        if event is not None:
            self._on_input = None
            event.set()
        return 0

    cdef int _wake(self) except -1:
        self._can_read()
        return self.can_write()


cdef Live new_live(object service, object connection, Request request, Output output, uint64_t started_us):
    cdef Live live = Live.__new__(Live)
    live._service = service
    live._connection = connection
    live.request = request
    live.output = output
    live.started_us = started_us
    return live
