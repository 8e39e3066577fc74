from libc.stdint cimport uint8_t


cdef enum PairsResult:
    PAIRS_OK = 0
    PAIRS_TOO_LARGE = 1  # more bytes or more pairs than the limits allow
    PAIRS_CONFLICT = 2   # a name that must not be repeated was, with another value


cdef class PairsDecoder:
    """Name-value pairs from a stream that arrives in any pieces."""
    cdef readonly dict pairs
    cdef readonly bint non_ascii
    cdef bytearray _cut         # the beginning of a pair whose end has not come; None between two pairs
    cdef size_t _wanted         # length of _cut at which it is worth decoding again
    cdef size_t _size           # bytes of names and values so far
    cdef size_t _count
    cdef size_t _max_size
    cdef size_t _max_count
    cdef readonly str conflict  # the name of PAIRS_CONFLICT

    cdef PairsResult feed(self, const uint8_t *data, size_t length) except *
    cdef PairsResult _decode(self, const uint8_t *data, size_t length, size_t *used) except *
    cdef dict finish(self)
    cdef int _merge(self, str name, str value) except -1
    cdef inline bint ended(self) noexcept:
        return self._cut is None

    cdef inline size_t weight(self) noexcept:
        # What the pairs cost in memory, roughly: two str objects and a place in the dict each, and the bytes.
        return self._size + 160 * self._count + (0 if self._cut is None else len(self._cut))


cdef PairsDecoder new_decoder(size_t max_size, size_t max_count)
cdef dict decode_pairs(const uint8_t *data, size_t length)
cdef bytes encode_pairs(object pairs)
