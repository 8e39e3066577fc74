"""Name-value pairs: the bytes of a PARAMS stream in, a dict out, and back [3.4].

Budget: one pass over the bytes, one copy of each value (into its str), none of names that were seen before.

Names come from a small cache of interned str objects, since a web server sends the same thirty names each time. Short
values are remembered beside their name: SERVER_NAME, GATEWAY_INTERFACE and most others are the same in the next
request, and comparing is cheaper than making them anew. Both caches are one array of fixed size, so a peer that
invents names can make it useless but not large.
"""
from cpython.dict cimport PyDict_SetDefault
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.unicode cimport PyUnicode_DecodeLatin1
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcmp, memcpy

from pyfpm.protocol._fcgi cimport (
    FCGI_E_LIMIT,
    fcgi_pair,
    fcgi_pair_decode,
    fcgi_pair_lengths_encode,
)

from pyfpm.protocol._errors import LocalProtocolError


cdef extern from "Python.h":
    void *PyUnicode_DATA(object text) noexcept
    Py_ssize_t PyUnicode_GET_LENGTH(object text) noexcept
    bint PyUnicode_IS_ASCII(object text) noexcept
    void PyUnicode_InternInPlace(PyObject **text)
    Py_ssize_t PyDict_GET_SIZE(object mapping) noexcept
    # Cython's own name for _PyDict_NewPresized where CPython exports it, PyDict_New elsewhere.
    dict __Pyx_PyDict_NewPresized(Py_ssize_t n)


cdef enum:
    SLOTS = 1024            # a web server sends some 30 names, so few of them share a slot
    LONGEST_NAME = 64       # longer names are not worth keeping
    LONGEST_VALUE = 64      # longer values differ from request to request, and may be secrets
    USUAL_PAIRS = 40        # nginx sends about 26, the adapters add their own


cdef struct Slot:
    PyObject *name          # an interned ASCII str, owned; NULL if the slot is free
    PyObject *value         # the str that came with it last, owned; may be NULL


cdef Slot cache[SLOTS]

# A second value for one of these means that two parties read the request differently: request smuggling.
UNREPEATABLE = frozenset({"CONTENT_LENGTH", "REQUEST_METHOD", "SCRIPT_FILENAME"})


cdef inline size_t slot_of(const uint8_t *name, size_t length) noexcept:
    # The first and the last eight bytes tell the usual names apart.
    cdef uint64_t head = 0
    cdef uint64_t tail = 0
    if length >= 8:
        memcpy(&head, name, 8)
        memcpy(&tail, name + length - 8, 8)
    else:
        memcpy(&head, name, length)
    return ((head * <uint64_t>0x9E3779B97F4A7C15) ^ (tail * <uint64_t>0xC2B2AE3D27D4EB4F) ^ length) >> 54


cdef inline bint same(object text, const uint8_t *data, size_t length) noexcept:
    # For ASCII text only: one byte a character.
    return <size_t>PyUnicode_GET_LENGTH(text) == length and memcmp(PyUnicode_DATA(text), data, length) == 0


cdef str name_of(Slot *slot, const uint8_t *data, size_t length):
    """The name as str, from the slot where it was kept, or new and then kept there if it is of the usual kind."""
    cdef PyObject *fresh
    cdef str name
    if slot.name != NULL and same(<object>slot.name, data, length):
        return <str>slot.name
    name = PyUnicode_DecodeLatin1(<const char *>data, length, NULL)
    if length <= LONGEST_NAME and PyUnicode_IS_ASCII(name):
        Py_INCREF(name)
        fresh = <PyObject *>name
        PyUnicode_InternInPlace(&fresh)
        name = <str>fresh
        Py_XDECREF(slot.name)
        Py_XDECREF(slot.value)
        slot.name = fresh
        slot.value = NULL
    return name


cdef str value_of(Slot *slot, const uint8_t *data, size_t length):
    """The value as str; the one kept in the slot if it is the same."""
    cdef str value
    if slot.value != NULL and same(<object>slot.value, data, length):
        return <str>slot.value
    value = PyUnicode_DecodeLatin1(<const char *>data, length, NULL)
    if length <= LONGEST_VALUE and PyUnicode_IS_ASCII(value):
        Py_INCREF(value)
        Py_XDECREF(slot.value)
        slot.value = <PyObject *>value
    return value


cdef class PairsDecoder:
    def __cinit__(self, size_t max_size, size_t max_count):
        self.pairs = __Pyx_PyDict_NewPresized(USUAL_PAIRS)
        self._max_size = max_size
        self._max_count = max_count

    cdef PairsResult feed(self, const uint8_t *data, size_t length) except *:
        """Decode what there is; a pair that is cut by the end of data is kept until the rest of it comes."""
        cdef size_t used = 0
        cdef PairsResult result
        cdef bytearray cut
        if self._cut is None:
            result = self._decode(data, length, &used)
            if result == PAIRS_OK and used < length:
                self._cut = bytearray(data[used:length])
            return result
        self._cut += data[:length]
        if <size_t>len(self._cut) < self._wanted:
            return PAIRS_OK
        cut = self._cut
        self._cut = None
        result = self._decode(<const uint8_t *><char *>cut, len(cut), &used)
        if result == PAIRS_OK and used < <size_t>len(cut):
            # Bytes that the cut pair did not need; what is left of them is shorter than one record.
            del cut[:used]
            self._cut = cut
        return result

    cdef PairsResult _decode(self, const uint8_t *data, size_t length, size_t *used) except *:
        cdef size_t at = 0
        cdef size_t step = 0
        cdef fcgi_pair pair
        cdef Slot *slot
        cdef str name
        cdef str value
        cdef int got
        cdef size_t room
        cdef Py_ssize_t distinct
        while at < length:
            room = self._max_size - self._size if self._size < self._max_size else 0
            got = fcgi_pair_decode(data + at, length - at, room, &step, &pair)
            if got == 0:
                self._wanted = step
                break
            if got == FCGI_E_LIMIT:
                return PAIRS_TOO_LARGE
            at += step
            self._size += pair.name_length + pair.value_length
            self._count += 1
            if self._count > self._max_count:
                return PAIRS_TOO_LARGE
            slot = &cache[slot_of(pair.name, pair.name_length)]
            name = name_of(slot, pair.name, pair.name_length)
            if slot.name == <PyObject *>name:
                value = value_of(slot, pair.value, pair.value_length)
            else:
                value = PyUnicode_DecodeLatin1(<const char *>pair.value, pair.value_length, NULL)
            if not PyUnicode_IS_ASCII(value):
                self.non_ascii = True
            distinct = PyDict_GET_SIZE(self.pairs)
            PyDict_SetDefault(self.pairs, name, value)
            if PyDict_GET_SIZE(self.pairs) == distinct and self._merge(name, value):
                return PAIRS_CONFLICT
        used[0] = at
        return PAIRS_OK

    cdef int _merge(self, str name, str value) except -1:
        """A name came again. HAProxy and h2o send repeated headers as repeated pairs; RFC 9110, 5.3 tells how to join
        them. Returns 1 if the two values cannot both be meant."""
        cdef str before = self.pairs[name]
        if name.startswith("HTTP_"):
            self.pairs[name] = before + ("; " if name == "HTTP_COOKIE" else ", ") + value
            self._size += 2
        elif name in UNREPEATABLE:
            if before != value:
                self.conflict = name
                return 1
        else:
            self.pairs[name] = value
        return 0


cdef bytes to_bytes(object part):
    if isinstance(part, bytes):
        return part
    if isinstance(part, str):
        return (<str>part).encode("utf-8", "surrogateescape")
    raise TypeError(f"a name or value must be bytes or str, not {type(part).__name__}")


cdef bytes encode_pairs(object pairs):
    """The wire form of (name, value) pairs; str is written as UTF-8 with surrogateescape."""
    cdef list parts = []
    cdef uint8_t lengths[8]
    cdef bytes name
    cdef bytes value
    for pair in pairs:
        name = to_bytes(pair[0])
        value = to_bytes(pair[1])
        if len(name) > 0x7fffffff or len(value) > 0x7fffffff:
            raise LocalProtocolError("a name or value is longer than 2**31 - 1 bytes")
        parts.append((<char *>lengths)[:fcgi_pair_lengths_encode(lengths, len(name), len(value))])
        parts.append(name)
        parts.append(value)
    return b"".join(parts)
