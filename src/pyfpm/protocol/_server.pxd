from libc.stdint cimport uint8_t, uint16_t, uint32_t

from pyfpm.protocol._fcgi cimport fcgi_reader, fcgi_span
from pyfpm.protocol._pairs cimport PairsDecoder


cdef enum Step:
    STEP_NEED_DATA = 0   # all bytes are used
    STEP_REQUEST = 1     # `request` has its params
    STEP_STDIN = 2       # content, content_length: a piece of the body of `request`
    STEP_STDIN_END = 3
    STEP_DATA = 4        # content, content_length: a piece of the FCGI_DATA of `request`
    STEP_DATA_END = 5
    STEP_ABORT = 6       # the web server gave `request` up
    STEP_REFUSED = 7     # `request` is not to run; `status` and `reason` tell what to answer
    STEP_DRAINED = 8     # all of a refused `request` has come
    STEP_REPLY = 9       # `reply` must be written as it is


cdef class Budget:
    cdef readonly size_t limit
    cdef readonly size_t used
    cdef readonly Budget parent

    cdef bint take(self, size_t amount) noexcept
    cdef void give(self, size_t amount) noexcept


cdef class Limits:
    cdef readonly size_t max_requests
    cdef readonly size_t max_params_size
    cdef readonly size_t max_params
    cdef readonly size_t max_held
    cdef readonly size_t max_ignored
    cdef readonly dict values
    cdef uint8_t _roles         # a bit for each that is served


cdef class Request:
    cdef readonly uint16_t id
    cdef readonly uint16_t role
    cdef readonly bint keep_conn
    cdef readonly bint params_ended
    cdef readonly bint stdin_ended
    cdef readonly bint data_ended
    cdef readonly bint refused
    cdef readonly bint non_ascii
    cdef readonly dict params
    cdef public object stdin
    cdef public object data
    cdef object live             # what runs it, where that takes longer than a call; the user's own
    cdef bint lent               # its streams are with who runs it, who will close them; the user's own
    cdef PairsDecoder _decoder
    cdef size_t _held
    cdef bint stderr_used
    cdef bint _unlisted         # refused over max_requests: to be answered although it never was live

    cdef bint is_complete(self) noexcept


cdef class ServerConnection:
    cdef fcgi_reader _reader
    cdef Limits _limits
    cdef Budget _budget
    cdef Request _first         # the one live request where there is just one, as there nearly always is
    cdef dict _others           # request id: the live requests beside it; None until the first comes
    cdef bytearray _discrete    # content of a discrete record whose end has not come; else None
    cdef object _unread         # what receive_data stored: bytes, or a bytearray that grows; else None
    cdef Py_ssize_t _at         # where next_event reads on in it
    cdef bint _eof
    cdef bint _broken
    cdef size_t _held           # bytes taken from the budget
    cdef size_t _ignored        # bytes of content that no request wanted

    # What the last step found.
    cdef Request request
    cdef const uint8_t *content
    cdef size_t content_length
    cdef int status
    cdef str reason
    cdef bytes reply

    cdef Step step(self, const uint8_t *data, size_t length, size_t *used) except *
    cdef Step _record(self, fcgi_span *span) except *
    cdef Step _management(self, fcgi_span *span) except *
    cdef void _release(self, Request request) noexcept
    cdef size_t _count(self) noexcept
    cdef Step _get_values(self, const uint8_t *content, size_t length) except *
    cdef Step _begin(self, fcgi_span *span) except *
    cdef Step _params(self, Request request, fcgi_span *span) except *
    cdef Step _body(self, Request request, fcgi_span *span) except *
    cdef Step _ignore(self, size_t length) except *
    cdef Step _refuse(self, Request request, int status, str reason) except *
    cdef bint _assemble(self, fcgi_span *span) except *
    cdef int _must_be_open(self, Request request) except -1
    cdef Request find(self, uint16_t id)
    cdef bint charge(self, Request request, size_t amount) noexcept
    cdef bint refuse(self, Request request) except *
    cdef void forget(self, Request request) except *
    cdef bint has_live(self) noexcept
    cdef list live(self)
    cdef object _event(self, Step step)
