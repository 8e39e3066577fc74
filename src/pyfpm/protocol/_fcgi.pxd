# Mirrors csrc/fcgi.h, where every function is described.
from libc.stdint cimport uint8_t, uint16_t, uint32_t


cdef extern from "fcgi.h" nogil:
    enum:
        FCGI_VERSION_1
        FCGI_HEADER_LEN
        FCGI_MAX_LENGTH
        FCGI_NULL_REQUEST_ID
        FCGI_STREAM_CHUNK
        FCGI_BODY_LEN
        FCGI_KEEP_CONN

    enum fcgi_type:
        FCGI_BEGIN_REQUEST
        FCGI_ABORT_REQUEST
        FCGI_END_REQUEST
        FCGI_PARAMS
        FCGI_STDIN
        FCGI_STDOUT
        FCGI_STDERR
        FCGI_DATA
        FCGI_GET_VALUES
        FCGI_GET_VALUES_RESULT
        FCGI_UNKNOWN_TYPE
        FCGI_MAXTYPE

    enum fcgi_role:
        FCGI_RESPONDER
        FCGI_AUTHORIZER
        FCGI_FILTER

    enum fcgi_protocol_status:
        FCGI_REQUEST_COMPLETE
        FCGI_CANT_MPX_CONN
        FCGI_OVERLOADED
        FCGI_UNKNOWN_ROLE

    enum fcgi_error:
        FCGI_E_VERSION
        FCGI_E_LIMIT

    struct fcgi_header:
        uint8_t type
        uint8_t padding_length
        uint16_t request_id
        uint16_t content_length

    struct fcgi_span:
        fcgi_header header
        const uint8_t *content
        size_t length
        uint8_t first
        uint8_t last

    struct fcgi_reader:
        pass

    struct fcgi_pair:
        const uint8_t *name
        const uint8_t *value
        uint32_t name_length
        uint32_t value_length

    struct fcgi_begin_request:
        uint16_t role
        uint8_t flags

    struct fcgi_end_request:
        uint32_t app_status
        uint8_t protocol_status

    int fcgi_header_decode(const uint8_t *buf, size_t len, fcgi_header *out) noexcept
    void fcgi_header_encode(uint8_t *buf, uint8_t type, uint16_t request_id, uint16_t content_length,
                            uint8_t padding_length) noexcept
    uint8_t fcgi_padding(size_t content_length) noexcept
    int fcgi_reader_next(fcgi_reader *reader, const uint8_t *buf, size_t len, size_t *used,
                         fcgi_span *out) noexcept
    int fcgi_reader_idle(const fcgi_reader *reader) noexcept
    int fcgi_pair_decode(const uint8_t *buf, size_t len, size_t max, size_t *used, fcgi_pair *out) noexcept
    size_t fcgi_pair_size(uint32_t name_length, uint32_t value_length) noexcept
    size_t fcgi_pair_lengths_encode(uint8_t *buf, uint32_t name_length, uint32_t value_length) noexcept
    void fcgi_begin_request_decode(const uint8_t *buf, fcgi_begin_request *out) noexcept
    void fcgi_begin_request_encode(uint8_t *buf, uint16_t role, uint8_t flags) noexcept
    void fcgi_end_request_decode(const uint8_t *buf, fcgi_end_request *out) noexcept
    void fcgi_end_request_encode(uint8_t *buf, uint32_t app_status, uint8_t protocol_status) noexcept
    void fcgi_unknown_type_encode(uint8_t *buf, uint8_t type) noexcept
