from libc.stdint cimport uint8_t, uint16_t, uint32_t


cdef enum:
    END_LEN = 24  # bytes that put_end writes


cdef void put_end(uint8_t *buf, uint16_t id, uint32_t app_status, uint8_t protocol_status) noexcept nogil
cdef bytes discrete_record(uint8_t type, uint16_t id, bytes content)
cdef bytes stream_records(uint8_t type, uint16_t id, object data)
