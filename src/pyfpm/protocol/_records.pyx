"""Whole records as bytes, for what is not on the hot path [3.3]."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from pyfpm.protocol._fcgi cimport *

from pyfpm.protocol._errors import LocalProtocolError


cdef void put_end(uint8_t *buf, uint16_t id, uint32_t app_status, uint8_t protocol_status) noexcept nogil:
    """Write the END_LEN bytes that end the STDOUT stream and the request [5.3, 5.5]."""
    fcgi_header_encode(buf, FCGI_STDOUT, id, 0, 0)
    fcgi_header_encode(buf + FCGI_HEADER_LEN, FCGI_END_REQUEST, id, FCGI_BODY_LEN, 0)
    fcgi_end_request_encode(buf + 2 * FCGI_HEADER_LEN, app_status, protocol_status)


cdef bytes discrete_record(uint8_t type, uint16_t id, bytes content):
    """One record. LocalProtocolError if its content does not fit."""
    cdef uint8_t header[FCGI_HEADER_LEN]
    cdef uint8_t padding = fcgi_padding(len(content))
    # A length that wraps around would let its content be read as records of the sender's choice.
    if len(content) > FCGI_MAX_LENGTH:
        raise LocalProtocolError(f"{len(content)} bytes do not fit into one record")
    fcgi_header_encode(header, type, id, len(content), padding)
    return header[:FCGI_HEADER_LEN] + content + bytes(padding)


cdef bytes stream_records(uint8_t type, uint16_t id, object data):
    """Records of a stream that carry data, of at most FCGI_STREAM_CHUNK bytes each; one empty record for b"",
    which ends the stream."""
    cdef const uint8_t[::1] view = data
    cdef size_t left = view.shape[0]
    cdef const uint8_t *at = &view[0] if left else NULL
    cdef size_t records = (left + FCGI_STREAM_CHUNK - 1) // FCGI_STREAM_CHUNK if left else 1
    cdef size_t chunk
    cdef uint8_t padding
    # Only the last record can need padding: FCGI_STREAM_CHUNK is a multiple of eight.
    cdef bytes out = PyBytes_FromStringAndSize(NULL, left + records * FCGI_HEADER_LEN + fcgi_padding(left))
    cdef uint8_t *to = <uint8_t *>PyBytes_AS_STRING(out)
    while True:
        chunk = left if left < FCGI_STREAM_CHUNK else FCGI_STREAM_CHUNK
        padding = fcgi_padding(chunk)
        fcgi_header_encode(to, type, id, chunk, padding)
        to += FCGI_HEADER_LEN
        if chunk:
            memcpy(to, at, chunk)
            memset(to + chunk, 0, padding)
            to += chunk + padding
            at += chunk
            left -= chunk
        if not left:
            return out
