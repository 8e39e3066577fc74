"""The client's (web server's) side of a FastCGI connection, without I/O: requests in, bytes out; bytes in, events out.

Source: FastCGI 1.0.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memset

from pyfpm.protocol._fcgi cimport *
from pyfpm.protocol._pairs cimport decode_pairs, encode_pairs
from pyfpm.protocol._records cimport discrete_record, stream_records

from pyfpm.protocol import _events
from pyfpm.protocol._errors import LocalProtocolError, RemoteProtocolError


cdef class ClientConnection:
    cdef fcgi_reader _reader
    cdef dict _live             # request id: the set of streams that we have not ended
    cdef bytearray _discrete
    cdef bytearray _unread
    cdef bint _eof
    cdef bint _broken

    def __cinit__(self):
        self._live = {}

    # -- requests out ---------------------------------------------------------------------------------------------------

    def begin_request(self, int request_id, int role=FCGI_RESPONDER, bint keep_conn=False):
        cdef uint8_t body[FCGI_BODY_LEN]
        if not 1 <= request_id <= 0xffff:
            raise LocalProtocolError(f"request id {request_id} is not between 1 and 65535")
        if request_id in self._live:
            raise LocalProtocolError(f"request {request_id} is live already")
        if not 0 <= role <= 0xffff:
            raise LocalProtocolError(f"role {role} does not fit into two bytes")
        self._live[request_id] = {FCGI_PARAMS, FCGI_STDIN, FCGI_DATA}
        fcgi_begin_request_encode(body, role, FCGI_KEEP_CONN if keep_conn else 0)
        return discrete_record(FCGI_BEGIN_REQUEST, request_id, body[:FCGI_BODY_LEN])

    def send_params(self, int request_id, params):
        """The whole PARAMS stream with its end."""
        if hasattr(params, "items"):
            params = params.items()
        encoded = encode_pairs(params)
        self._open(request_id, FCGI_PARAMS).discard(FCGI_PARAMS)
        records = stream_records(FCGI_PARAMS, request_id, encoded) if encoded else b""
        return records + stream_records(FCGI_PARAMS, request_id, b"")

    def send_stdin(self, int request_id, data):
        return self._stream(request_id, FCGI_STDIN, data)

    def send_data(self, int request_id, data):
        return self._stream(request_id, FCGI_DATA, data)

    def _stream(self, int request_id, int type, data):
        streams = self._open(request_id, type)
        if not len(data):
            streams.discard(type)
        return stream_records(type, request_id, data)

    def _open(self, int request_id, int type):
        streams = self._live.get(request_id)
        if streams is None:
            raise LocalProtocolError(f"request {request_id} is not live")
        if type not in streams:
            raise LocalProtocolError(f"that stream of request {request_id} has ended")
        return streams

    def abort_request(self, int request_id):
        if request_id not in self._live:
            raise LocalProtocolError(f"request {request_id} is not live")
        return discrete_record(FCGI_ABORT_REQUEST, request_id, b"")

    def get_values(self, names):
        return discrete_record(FCGI_GET_VALUES, 0, encode_pairs([(name, b"") for name in names]))

    @property
    def live_requests(self):
        return tuple(self._live)

    # -- answers in -----------------------------------------------------------------------------------------------------

    def receive_data(self, data):
        if self._eof:
            raise LocalProtocolError("data after the end of the connection")
        if not data:
            self._eof = True
        elif self._unread is None:
            self._unread = bytearray(data)
        else:
            self._unread += data

    def next_event(self):
        cdef const uint8_t[::1] view
        cdef fcgi_span span
        cdef size_t at = 0
        cdef size_t used = 0
        cdef int got = 1
        event = None
        if self._broken:
            raise LocalProtocolError("this connection is broken and must be closed")
        if self._unread is not None:
            view = self._unread
            try:
                while event is None and got == 1:
                    got = fcgi_reader_next(&self._reader, &view[0] + at, view.shape[0] - at, &used, &span)
                    at += used
                    if got < 0:
                        raise self._break("not a FastCGI record: its version byte is not 1")
                    if got == 1:
                        event = self._record(&span)
            finally:
                view = None
                if at == <size_t>len(self._unread):
                    self._unread = None
                else:
                    del self._unread[:at]
        if event is not None:
            return event
        return _events.ConnectionClosed() if self._eof else _events.NEED_DATA

    cdef object _record(self, fcgi_span *span):
        cdef fcgi_end_request end
        cdef int type = span.header.type
        cdef int id = span.header.request_id
        cdef bytes content
        if type == FCGI_STDOUT or type == FCGI_STDERR:
            if id not in self._live:
                return None
            content = span.content[:span.length]
            if type == FCGI_STDERR:
                return _events.Stderr(id, content) if content else None
            return _events.Stdout(id, content) if content else _events.EndOfStdout(id)
        if span.first:
            self._discrete = bytearray()
        self._discrete += span.content[:span.length]
        if not span.last:
            return None
        content = bytes(self._discrete)
        self._discrete = None
        if type == FCGI_END_REQUEST:
            if id not in self._live:
                return None
            if len(content) != FCGI_BODY_LEN:
                raise self._break(f"FCGI_END_REQUEST of {len(content)} bytes instead of 8", id)
            del self._live[id]
            fcgi_end_request_decode(<const uint8_t *><const char *>content, &end)
            return _events.EndRequest(id, end.app_status, end.protocol_status)
        if type == FCGI_GET_VALUES_RESULT:
            return _events.Values(self._values(content))
        if type == FCGI_UNKNOWN_TYPE:
            if not content:
                raise self._break("empty FCGI_UNKNOWN_TYPE")
            return _events.UnknownType(content[0])
        raise self._break(f"a server does not send records of type {type}", id)

    def _values(self, bytes content):
        cdef dict pairs = decode_pairs(<const uint8_t *><const char *>content, len(content))
        if pairs is None:
            raise self._break("FCGI_GET_VALUES_RESULT with a broken name-value pair")
        return pairs

    def _break(self, message, request_id=0):
        self._broken = True
        return RemoteProtocolError(message, request_id)
