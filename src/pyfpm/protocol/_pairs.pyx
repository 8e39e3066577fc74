"""Name-value pairs: the bytes of a PARAMS stream in, a dict out, and back [3.4].

Budget: one pass over the bytes, one copy of each value (into its str), none of names that were seen before.

A stream begins as the one before it did (``_usual``). From where it does not, names come from a small cache of interned
str objects, and short values are remembered beside their name: most of them are the same in the next request, and
comparing is cheaper than making them anew. All this is of fixed size, so a peer that invents names can make it useless
but not large.
"""
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

cimport cython

from pyfpm.protocol._fcgi cimport (
    FCGI_E_LIMIT,
    FCGI_MAX_LENGTH,
    fcgi_pair,
    fcgi_pair_decode,
    fcgi_pair_lengths_encode,
)

from pyfpm.protocol._usual cimport *

from pyfpm.protocol._errors import LocalProtocolError


cdef enum:
    SLOTS = 1024            # a web server sends some 30 names, so few of them share a slot
    LONGEST_NAME = 64       # longer names are not worth keeping


cdef struct Slot:
    PyObject *name          # an interned ASCII str, owned; NULL if the slot is free
    PyObject *value         # the str that came with it last, owned; may be NULL
    bint secret             # its values are not kept


cdef Slot cache[SLOTS]
cdef UsualPairs usual_pairs = UsualPairs()

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


cdef PyObject *name_of(Slot *slot, const uint8_t *data, size_t length) except NULL:
    """The name as a new reference to a str: what the slot has, or a new one, kept there if it is of the usual kind."""
    cdef PyObject *name
    if slot.name != NULL and same(slot.name, data, length):
        name = slot.name
        Py_INCREF(name)
        return name
    name = PyUnicode_DecodeLatin1(<const char *>data, length, NULL)
    if length <= LONGEST_NAME and PyUnicode_IS_ASCII(name):
        PyUnicode_InternInPlace(&name)
        Py_XDECREF(slot.name)
        Py_CLEAR(slot.value)
        slot.name = name
        Py_INCREF(name)
        slot.secret = is_secret(<str>name)
    return name


cdef PyObject *value_of(Slot *slot, const uint8_t *data, size_t length) except NULL:
    """The value as a new reference to a str; the one kept in the slot if it is the same."""
    cdef PyObject *value
    if slot.value != NULL and same(slot.value, data, length):
        value = slot.value
        Py_INCREF(value)
        return value
    value = PyUnicode_DecodeLatin1(<const char *>data, length, NULL)
    if length <= LONGEST_VALUE and PyUnicode_IS_ASCII(value) and not slot.secret:
        Py_XDECREF(slot.value)
        slot.value = value
        Py_INCREF(value)
    return value


@cython.freelist(16)
cdef class PairsDecoder:

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
        cdef PyObject *name
        cdef PyObject *value
        cdef int got
        cdef size_t room
        cdef Py_ssize_t distinct = 0
        if self.pairs is None and usual_pairs.busy:
            self.pairs = {}
        elif self.pairs is None:
            at = usual_pairs.follow(data, length, self._max_size, &self._size, &self.non_ascii)
            self._count = usual_pairs.count()
            self.pairs = usual_pairs.take()
            if self._count > self._max_count:
                return PAIRS_TOO_LARGE
        distinct = PyDict_GET_SIZE(<PyObject *>self.pairs)
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
            try:
                if slot.name == name:
                    value = value_of(slot, pair.value, pair.value_length)
                else:
                    value = PyUnicode_DecodeLatin1(<const char *>pair.value, pair.value_length, NULL)
                try:
                    if not PyUnicode_IS_ASCII(value):
                        self.non_ascii = True
                    PyDict_SetDefault(<PyObject *>self.pairs, name, value)
                    if PyDict_GET_SIZE(<PyObject *>self.pairs) > distinct:
                        distinct += 1
                    elif self._merge(<str>name, <str>value):
                        return PAIRS_CONFLICT
                finally:
                    Py_DECREF(value)
            finally:
                Py_DECREF(name)
        used[0] = at
        return PAIRS_OK

    cdef dict finish(self):
        """A request's stream has ended: all its pairs."""
        if self.pairs is None:
            self.pairs = {}
        if <size_t>PyDict_GET_SIZE(<PyObject *>self.pairs) == self._count and not usual_pairs.busy:
            usual_pairs.learn(self.pairs)
        return self.pairs

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


cdef PairsDecoder new_decoder(size_t max_size, size_t max_count):
    """For at most max_size bytes of names and values, and max_count pairs."""
    cdef PairsDecoder decoder = PairsDecoder.__new__(PairsDecoder)
    decoder._max_size = max_size
    decoder._max_count = max_count
    return decoder


cdef dict decode_pairs(const uint8_t *data, size_t length):
    """The pairs of a management record, which are not like a request's; None if they are malformed."""
    cdef PairsDecoder decoder = new_decoder(FCGI_MAX_LENGTH, FCGI_MAX_LENGTH)
    decoder.pairs = {}
    if decoder.feed(data, length) != PAIRS_OK or decoder._cut is not None:
        return None
    return decoder.pairs


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
