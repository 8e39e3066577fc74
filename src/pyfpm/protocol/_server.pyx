"""The server's side of a FastCGI connection, without I/O: bytes in, events out; answers in, bytes out.

One parser, two presentations. ``ServerConnection.step`` reads on to the next thing that matters and leaves it in plain
fields; the reactor calls it on its own receive buffer, so that a small request costs no object but its ``Request``, its
params and their values. ``next_event`` wraps the same steps into event objects for everyone else.

Order of a request's events: ``Request`` once PARAMS has ended; ``Stdin`` and ``Data`` pieces as they come, which may be
before that (the specification lets streams interleave); ``EndOfStdin``, ``EndOfData``. Which of them make a request
complete depends on its role: ``Request.complete``.

A request that is not to run is *refused*: by us over a limit (``Refused`` tells the HTTP status to answer with), or by
the user with ``refuse``. What still comes of it is read and dropped, since some web servers write the whole body
before they read; ``Drained`` tells when END_REQUEST may be sent.

Source: FastCGI 1.0.
"""
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t

cimport cython

from pyfpm.protocol._fcgi cimport *
from pyfpm.protocol._pairs cimport (
    PAIRS_CONFLICT,
    PAIRS_OK,
    PairsDecoder,
    PairsResult,
    decode_pairs,
    encode_pairs,
    new_decoder,
)
from pyfpm.protocol._records cimport END_LEN, discrete_record, put_end, stream_records

from pyfpm.protocol._errors import LocalProtocolError, RemoteProtocolError
from pyfpm.protocol._events import (
    Abort,
    ConnectionClosed,
    Data,
    Drained,
    EndOfData,
    EndOfStdin,
    NEED_DATA,
    Refused,
    Reply,
    Stdin,
)

# Most live requests on one connection. HAProxy's own bound for a multiplexed FastCGI connection is 65,535 and its
# default 100 streams; h2 servers allow 100 to 128.
DEFAULT_MAX_REQUESTS = 128

# Largest PARAMS stream we hold before answering 431, in bytes of names and values.
# Precedents: nginx 4 x 8 KiB of request headers, Apache 100 fields of 8190 bytes, h11 16 KiB in all.
# The web server adds its own variables to the headers it let through, so leave it room above its own limit.
DEFAULT_MAX_PARAMS_SIZE = 256 * 1024

# Most name-value pairs of one request; a pair costs us ten times its wire size when it is tiny.
DEFAULT_MAX_PARAMS = 1000

# Most memory that the unfinished requests of one connection may take, in bytes.
DEFAULT_MAX_HELD = 16 * 1024 * 1024

# Content that nobody wants which we read, in bytes, before we hang up: the rest of a body that was answered early.
# Caddy writes the whole body before it reads the answer, so a small bound would turn our 413 into its 502.
DEFAULT_MAX_IGNORED = 1024 * 1024 * 1024

cdef enum:
    REQUEST_WEIGHT = 512          # bytes that a Request with an empty dict takes
    LONGEST_GET_VALUES = 4096     # three names are defined; this is more than enough for any peer


# A budget outlives the connections that took from it, also when the garbage collector takes them all at once; and
# nothing in it can be part of a cycle.
@cython.final
@cython.no_gc
cdef class Budget:
    """Memory that several connections share, in bytes; budgets nest: a peer's inside that of all.

    Args:
      limit: the most that may be taken.
      parent: a budget that everything taken here is taken from as well.
    """

    def __cinit__(self, size_t limit, Budget parent=None):
        self.limit = limit
        self.parent = parent

    cdef bint take(self, size_t amount) noexcept:
        if amount > self.limit - self.used or (self.parent is not None and not self.parent.take(amount)):
            return False
        self.used += amount
        return True

    cdef void give(self, size_t amount) noexcept:
        self.used -= amount
        if self.parent is not None:
            self.parent.give(amount)


cdef class Limits:
    def __init__(
        self,
        *,
        size_t max_requests=DEFAULT_MAX_REQUESTS,
        size_t max_params_size=DEFAULT_MAX_PARAMS_SIZE,
        size_t max_params=DEFAULT_MAX_PARAMS,
        size_t max_held=DEFAULT_MAX_HELD,
        size_t max_ignored=DEFAULT_MAX_IGNORED,
        size_t max_connections=1024,
        roles=(FCGI_RESPONDER, FCGI_AUTHORIZER, FCGI_FILTER),
    ):
        if max_requests < 1:
            raise ValueError("max_requests must be at least 1")
        for role in roles:
            if role not in (FCGI_RESPONDER, FCGI_AUTHORIZER, FCGI_FILTER):
                raise ValueError(f"{role!r} is not a role; there are RESPONDER 1, AUTHORIZER 2 and FILTER 3")
            self._roles |= 1 << <int>role
        self.max_requests = max_requests
        self.max_params_size = max_params_size
        self.max_params = max_params
        self.max_held = max_held
        self.max_ignored = max_ignored
        self.values = {
            b"FCGI_MAX_CONNS": b"%d" % max_connections,
            b"FCGI_MAX_REQS": b"%d" % (max_connections * max_requests),
            b"FCGI_MPXS_CONNS": b"%d" % (max_requests > 1),
        }


@cython.freelist(16)
cdef class Request:
    @property
    def complete(self):
        return self.is_complete()

    cdef bint is_complete(self) noexcept:
        # An authorizer gets no STDIN, and Apache sends it no record that says so [6.3].
        if not self.params_ended:
            return False
        if self.role == FCGI_AUTHORIZER:
            return True
        return self.stdin_ended and (self.role == FCGI_RESPONDER or self.data_ended)

    def __repr__(self):
        return f"<Request {self.id} role={self.role} complete={self.is_complete()}>"


# Not cleared by the garbage collector: __dealloc__ has something to give back to the budget.
@cython.no_gc_clear
cdef class ServerConnection:
    def __cinit__(self, Limits limits=None, Budget budget=None):
        self._limits = Limits() if limits is None else limits
        self._budget = budget

    def __dealloc__(self):
        if self._budget is not None and self._held:
            self._budget.give(self._held)

    # -- bytes in, as steps -------------------------------------------------------------------------------------------

    cdef Step step(self, const uint8_t *data, size_t length, size_t *used) except *:
        """Read on from data to the next thing that matters. Sets *used to the bytes consumed in any case; content
        points into data. Raises RemoteProtocolError, after which the connection must not be used again."""
        cdef fcgi_span span
        cdef size_t at = 0
        cdef size_t taken = 0
        cdef int got
        cdef Step step
        used[0] = 0
        self.request = None
        while True:
            got = fcgi_reader_next(&self._reader, data + at, length - at, &taken, &span)
            if got < 0:
                self._broken = True
                raise RemoteProtocolError("not a FastCGI record: its version byte is not 1")
            at += taken
            used[0] = at
            if got == 0:
                return STEP_NEED_DATA
            step = self._record(&span)
            if step != STEP_NEED_DATA:
                return step

    cdef Step _record(self, fcgi_span *span) except *:
        cdef Request request
        cdef uint8_t type = span.header.type
        if span.header.request_id == FCGI_NULL_REQUEST_ID or type == FCGI_GET_VALUES:
            return self._management(span)
        if type == FCGI_BEGIN_REQUEST:
            return self._begin(span)
        request = self.find(span.header.request_id)
        if request is None:
            # Records of a request that is over are ignored [3.3]: what is left of a body, or a stray end of it.
            return self._ignore(span.length)
        self.request = request
        if type == FCGI_PARAMS:
            return self._params(request, span)
        if type == FCGI_STDIN or type == FCGI_DATA:
            return self._body(request, span)
        if type == FCGI_ABORT_REQUEST:
            return STEP_ABORT if span.last else STEP_NEED_DATA
        return self._ignore(span.length)

    cdef Step _management(self, fcgi_span *span) except *:
        cdef uint8_t record[16]
        cdef uint8_t type = span.header.type
        # This step may have read records of a request before; the reply isn't its, and doesn't end with it.
        self.request = None
        if type == FCGI_GET_VALUES:
            if span.header.content_length > LONGEST_GET_VALUES:
                self._break("FCGI_GET_VALUES asks for more than there is", 0)
            if not self._assemble(span):
                return STEP_NEED_DATA
            return self._get_values(self.content, self.content_length)
        if FCGI_BEGIN_REQUEST <= type <= FCGI_DATA:
            self._break(f"application record of type {type} with the null request id", 0)
        if not span.last:
            return STEP_NEED_DATA
        fcgi_header_encode(record, FCGI_UNKNOWN_TYPE, 0, FCGI_BODY_LEN, 0)
        fcgi_unknown_type_encode(record + FCGI_HEADER_LEN, type)
        self.reply = record[:16]
        return STEP_REPLY

    cdef Step _get_values(self, const uint8_t *content, size_t length) except *:
        cdef dict pairs = decode_pairs(content, length)
        if pairs is None:
            self._break("FCGI_GET_VALUES with a broken name-value pair", 0)
        asked = (name.encode("latin-1") for name in pairs)
        self.reply = discrete_record(
            FCGI_GET_VALUES_RESULT,
            FCGI_NULL_REQUEST_ID,
            encode_pairs([(name, self._limits.values[name]) for name in asked if name in self._limits.values]),
        )
        return STEP_REPLY

    cdef Step _begin(self, fcgi_span *span) except *:
        cdef fcgi_begin_request body
        cdef Request request
        cdef uint16_t id = span.header.request_id
        cdef uint8_t record[16]
        if span.header.content_length != FCGI_BODY_LEN:
            self._break(f"FCGI_BEGIN_REQUEST of {span.header.content_length} bytes instead of 8", 0)
        if not self._assemble(span):
            return STEP_NEED_DATA
        fcgi_begin_request_decode(self.content, &body)
        request = self.find(id)
        if request is not None:
            if not request.refused:
                self._break(f"FCGI_BEGIN_REQUEST for request {id}, which is being served", id)
            # Its answer is out, and the web server goes on without having finished the old body (Apache can).
            self.forget(request)

        request = Request.__new__(Request)
        request.id = id
        request.role = body.role
        request.keep_conn = body.flags & FCGI_KEEP_CONN
        self.request = request
        if body.role > FCGI_FILTER or not self._limits._roles >> body.role & 1:
            fcgi_header_encode(record, FCGI_END_REQUEST, id, FCGI_BODY_LEN, 0)
            fcgi_end_request_encode(record + FCGI_HEADER_LEN, 0, FCGI_UNKNOWN_ROLE)
            self.reply = record[:16]
            return STEP_REPLY
        if self._first is None and not self._others:
            self._first = request
        elif self._count() >= self._limits.max_requests:
            # Not even kept as refused: a peer that begins requests and nothing else must not grow us (Go's 81548).
            request.refused = True
            request._unlisted = True
            self.status = 503
            self.reason = f"more than {self._limits.max_requests} requests at once on one connection"
            return STEP_REFUSED
        else:
            if self._others is None:
                self._others = {}
            self._others[id] = request
        if not self.charge(request, REQUEST_WEIGHT):
            return self._refuse(request, 503, "too much memory in unfinished requests")
        request._decoder = new_decoder(self._limits.max_params_size, self._limits.max_params)
        return STEP_NEED_DATA

    cdef Step _params(self, Request request, fcgi_span *span) except *:
        cdef PairsDecoder decoder = request._decoder
        cdef PairsResult result
        cdef size_t before
        if request.params_ended:
            self._break("FCGI_PARAMS after the end of the stream", request.id)
        if span.header.content_length == 0:
            request.params_ended = True
            if request.refused:
                return STEP_DRAINED if request.is_complete() else STEP_NEED_DATA
            if decoder._cut is not None:
                self._break("FCGI_PARAMS ends inside a name-value pair", request.id)
            request.params = decoder.finish()
            request.non_ascii = decoder.non_ascii
            request._decoder = None
            return STEP_REQUEST
        if request.refused:
            return self._ignore(span.length)
        before = decoder.weight()
        result = decoder.feed(span.content, span.length)
        if result == PAIRS_CONFLICT:
            return self._refuse(request, 400, f"two values for {decoder.conflict}")
        if result != PAIRS_OK:
            return self._refuse(request, 431, f"FCGI_PARAMS larger than {self._limits.max_params_size} bytes"
                                              f" or {self._limits.max_params} pairs")
        if decoder.weight() > before and not self.charge(request, decoder.weight() - before):
            return self._refuse(request, 503, "too much memory in unfinished requests")
        return STEP_NEED_DATA

    cdef Step _body(self, Request request, fcgi_span *span) except *:
        cdef bint is_stdin = span.header.type == FCGI_STDIN
        cdef bint ended = request.stdin_ended if is_stdin else request.data_ended
        # A responder gets no DATA, an authorizer neither stream [6]; lighttpd sends it an empty STDIN, Apache none.
        if ended or request.role == FCGI_AUTHORIZER or (not is_stdin and request.role != FCGI_FILTER):
            return self._ignore(span.length)
        if span.header.content_length == 0:
            if is_stdin:
                request.stdin_ended = True
            else:
                request.data_ended = True
            if request.refused:
                return STEP_DRAINED if request.is_complete() else STEP_NEED_DATA
            return STEP_STDIN_END if is_stdin else STEP_DATA_END
        if request.refused:
            return self._ignore(span.length)
        self.content = span.content
        self.content_length = span.length
        return STEP_STDIN if is_stdin else STEP_DATA

    cdef Step _ignore(self, size_t length) except *:
        self._ignored += length
        if self._ignored > self._limits.max_ignored:
            self._break(f"more than {self._limits.max_ignored} bytes for requests that are over", 0)
        return STEP_NEED_DATA

    cdef Step _refuse(self, Request request, int status, str reason) except *:
        self.status = status
        self.reason = reason
        self.request = request
        self.refuse(request)
        return STEP_REFUSED

    def _break(self, str message, int request_id):
        self._broken = True
        raise RemoteProtocolError(message, request_id)

    cdef bint _assemble(self, fcgi_span *span) except *:
        """Bring the content of a discrete record together; True when it is whole, in content and content_length."""
        if span.first and span.last:
            self.content = span.content
            self.content_length = span.length
            return True
        if span.first:
            self._discrete = bytearray()
        self._discrete += span.content[:span.length]
        if not span.last:
            return False
        # `reply` keeps the bytes alive while the caller looks at them through content.
        self.reply = bytes(self._discrete)
        self._discrete = None
        self.content = <const uint8_t *><const char *>self.reply
        self.content_length = len(self.reply)
        return True

    # -- bytes in, as events ------------------------------------------------------------------------------------------

    def receive_data(self, data):
        if self._eof:
            raise LocalProtocolError("data after the end of the connection")
        if not len(data):
            self._eof = True
        elif self._unread is None:
            # As a rule the last bytes have been used up and these can't change, so they are parsed where they lie.
            self._unread = data if type(data) is bytes else bytes(data)
            self._at = 0
        else:
            if type(self._unread) is bytes:
                self._unread = bytearray(self._unread)
            del self._unread[:self._at]
            self._at = 0
            self._unread += data

    def next_event(self):
        cdef size_t used = 0
        cdef object unread = self._unread   # stays ours while its bytes are looked at
        cdef const uint8_t *data
        cdef Py_ssize_t length
        if self._broken:
            raise LocalProtocolError("this connection is broken and must be closed")
        if unread is None:
            return ConnectionClosed() if self._eof else NEED_DATA
        if type(unread) is bytes:
            data = <const uint8_t *>PyBytes_AS_STRING(unread)
            length = PyBytes_GET_SIZE(unread)
        else:
            data = <const uint8_t *>PyByteArray_AS_STRING(unread)
            length = PyByteArray_GET_SIZE(unread)
        try:
            event = self._event(self.step(data + self._at, length - self._at, &used))
        finally:
            self._at += used
            if self._at == length:
                self._unread = None
        if event is NEED_DATA and self._eof:
            return ConnectionClosed()
        return event

    cdef object _event(self, Step step):
        if step == STEP_NEED_DATA:
            return NEED_DATA
        if step == STEP_REQUEST:
            return self.request
        if step == STEP_STDIN:
            return Stdin(self.request, self.content[:self.content_length])
        if step == STEP_STDIN_END:
            event = EndOfStdin.__new__(EndOfStdin)  # each request has one, and its __init__ would do just this
            event.request = self.request
            return event
        if step == STEP_DATA:
            return Data(self.request, self.content[:self.content_length])
        if step == STEP_DATA_END:
            return EndOfData(self.request)
        if step == STEP_ABORT:
            return Abort(self.request)
        if step == STEP_REFUSED:
            return Refused(self.request, self.status, self.reason)
        if step == STEP_DRAINED:
            return Drained(self.request)
        return Reply(self.reply, self.request is not None and not self.request.keep_conn)

    # -- answers out ---------------------------------------------------------------------------------------------------

    def send_stdout(self, Request request not None, data):
        self._must_be_open(request)
        return stream_records(FCGI_STDOUT, request.id, data) if len(data) else b""

    def send_stderr(self, Request request not None, data):
        self._must_be_open(request)
        if not len(data):
            return b""
        request.stderr_used = True
        return stream_records(FCGI_STDERR, request.id, data)

    def end_request(self, Request request not None, uint32_t app_status=0, uint8_t protocol_status=0):
        cdef uint8_t end[END_LEN]
        self._must_be_open(request)
        self.forget(request)
        request._unlisted = False
        put_end(end, request.id, app_status, protocol_status)
        return (stream_records(FCGI_STDERR, request.id, b"") if request.stderr_used else b"") + end[:END_LEN]

    def refuse_request(self, Request request not None):
        self._must_be_open(request)
        return request._unlisted or self.refuse(request)

    @property
    def live_requests(self):
        return tuple(self.live())

    cdef int _must_be_open(self, Request request) except -1:
        cdef Request live = self.find(request.id)
        if live is not request and (live is not None or not request._unlisted):
            raise LocalProtocolError(f"request {request.id} is not live: it was ended, or never begun here")
        return 0

    # -- live requests ------------------------------------------------------------------------------------------------

    cdef Request find(self, uint16_t id):
        if self._first is not None and self._first.id == id:
            return self._first
        if self._others:
            return self._others.get(id)
        return None

    cdef bint has_live(self) noexcept:
        return self._first is not None or (self._others is not None and len(self._others) > 0)

    cdef size_t _count(self) noexcept:
        return (self._first is not None) + (0 if self._others is None else <size_t>len(self._others))

    cdef list live(self):
        cdef list found = [] if self._first is None else [self._first]
        if self._others:
            found.extend(self._others.values())
        return found

    cdef bint charge(self, Request request, size_t amount) noexcept:
        """Take memory for request; it is given back when the request is forgotten. False: there is not enough."""
        if amount > self._limits.max_held - self._held or (
                self._budget is not None and not self._budget.take(amount)):
            return False
        request._held += amount
        self._held += amount
        return True

    cdef void forget(self, Request request) except *:
        """The request is over. Unknown ones are fine: over twice is over."""
        if self._first is request:
            self._first = None
        elif self._others is not None and self._others.get(request.id) is request:
            del self._others[request.id]
        self._ignored = 0
        self._release(request)

    cdef void _release(self, Request request) noexcept:
        self._held -= request._held
        if self._budget is not None:
            self._budget.give(request._held)
        request._held = 0

    cdef bint refuse(self, Request request) except *:
        """Drop what comes of request from now on. True if all of it is there already, and nothing more comes."""
        request.refused = True
        request._decoder = None
        request.stdin = None
        request.data = None
        self._release(request)
        return request.is_complete()
