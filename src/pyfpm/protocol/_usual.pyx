"""The pairs that each request begins with: a web server sends the same names in the same order every time, and most of
them with the same values.

While a request follows what was usual, its bytes are only compared: whole runs of pairs at once, and in between the names
of those whose values differ from request to request. Its dict is then a copy of a template, with those values put in. From
the first pair that is another one, pairs are read one by one.

What is usual is learnt from a request, and shrinks to what later ones have in common with it; when nothing fits any more it
is learnt anew. Values that may be somebody's secret are not remembered. Everything is of fixed size, whatever a peer sends.
"""
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t
from libc.string cimport memcmp, memcpy

from pyfpm.protocol._fcgi cimport fcgi_pair, fcgi_pair_decode, fcgi_pair_lengths_encode

cdef enum:
    # Fewer pairs in common are not worth a template, and mean that another web server or location asks.
    FEWEST = 8
    # So many requests in a row that begin otherwise make us learn anew; fewer may be visitors among others.
    PATIENCE = 16


cdef bint is_secret(str name):
    return "COOKIE" in name or "AUTH" in name or "TOKEN" in name or "KEY" in name or "PASS" in name


cdef class UsualPairs:
    def __cinit__(self):
        self._template = {}

    cdef size_t follow(self, const uint8_t *data, size_t length, size_t max_size, size_t *size,
                       bint *non_ascii) except? 0xffffffff:
        """Take in the pairs at the beginning of a request that are as usual. Returns the bytes they take; sets *size to
        that of their names and values, which is at most max_size."""
        cdef size_t at = 0
        cdef size_t step = 0
        cdef size_t run
        cdef size_t run_size
        cdef int one_by_one = 0     # up to here pairs are looked at singly, since the run as a whole did not fit
        cdef int i
        cdef fcgi_pair pair
        cdef Usual *usual
        cdef Usual *last
        for i in range(self._at):
            Py_CLEAR(self._fresh[i])  # left by a request that was given up
        self._at = 0
        size[0] = 0
        while self._at < self._length:
            usual = &self._usual[self._at]
            if usual.run_end > self._at and self._at >= one_by_one:
                last = &self._usual[usual.run_end - 1]
                run = last.wire_at + last.wire_length - usual.wire_at
                run_size = last.size_at + last.size - usual.size_at
                if run <= length - at and run_size <= max_size - size[0] \
                        and memcmp(data + at, self._wire + usual.wire_at, run) == 0:
                    for i in range(self._at, usual.run_end):
                        self._fresh[i] = NULL
                    self._at = usual.run_end
                    at += run
                    size[0] += run_size
                    continue
                one_by_one = usual.run_end
            if at == length or fcgi_pair_decode(data + at, length - at, max_size - size[0], &step, &pair) != 1:
                break
            if not self._follow_pair(&pair, non_ascii):
                break
            at += step
            size[0] += pair.name_length + pair.value_length
        return at

    cdef int _follow_pair(self, fcgi_pair *pair, bint *non_ascii) except -1:
        """True if this pair has the name that usually comes next; it is then taken in."""
        cdef Usual *usual = &self._usual[self._at]
        cdef PyObject *value
        if not same(usual.name, pair.name, pair.name_length):
            return False
        if usual.value != NULL and same(usual.value, pair.value, pair.value_length):
            self._fresh[self._at] = NULL
            self._at += 1
            return True
        value = PyUnicode_DecodeLatin1(<const char *>pair.value, pair.value_length, NULL)
        if not PyUnicode_IS_ASCII(value):
            non_ascii[0] = True
        self._fresh[self._at] = value
        self._at += 1
        if usual.value != NULL:
            # It is not the same each time after all.
            Py_CLEAR(usual.value)
            self._template[<object>usual.name] = None
            self._find_runs()
        return True

    cdef int count(self) noexcept:
        return self._at

    cdef dict take(self):
        """The pairs that followed, as a new dict."""
        cdef dict pairs
        cdef int i
        # Making a dict can start the garbage collector, and that any code, also some that decodes requests: until we
        # are done with what we remember, it has to do without.
        self.busy = True
        if self._at == self._length and self._length:
            self._misses = 0
            pairs = self._template.copy()
            for i in range(self._at):
                if self._fresh[i] != NULL:
                    pairs[<object>self._usual[i].name] = <object>self._fresh[i]
                    Py_CLEAR(self._fresh[i])
        else:
            self._misses += 1
            pairs = __Pyx_PyDict_NewPresized(USUAL_PAIRS)
            for i in range(self._at):
                pairs[<object>self._usual[i].name] = <object>(
                    self._usual[i].value if self._fresh[i] == NULL else self._fresh[i])
                Py_CLEAR(self._fresh[i])
            if self._at >= FEWEST:
                self._shrink(self._at)
        self._at = 0
        self.busy = False
        return pairs

    cdef learn(self, dict pairs):
        """These are a request's pairs. Each name came once, in this order."""
        cdef Usual *usual
        cdef bytes text
        cdef size_t at = 0
        cdef size_t size = 0
        if (self._length and self._misses < PATIENCE) or len(pairs) < FEWEST:
            return
        self._shrink(0)
        self._misses = 0
        # Roomy from the start, and so are its copies.
        self._template = __Pyx_PyDict_NewPresized(USUAL_PAIRS)
        for name, value in pairs.items():
            if self._length == USUAL_PAIRS or len(name) > LONGEST_VALUE // 2 or not name.isascii():
                break
            usual = &self._usual[self._length]
            usual.name = <PyObject *>name
            Py_INCREF(usual.name)
            usual.value = NULL
            usual.wire_at = at
            usual.wire_length = 0
            usual.size_at = size
            usual.size = 0
            if len(value) <= LONGEST_VALUE and value.isascii() and not is_secret(name):
                usual.value = <PyObject *>value
                Py_INCREF(usual.value)
                usual.wire_length = fcgi_pair_lengths_encode(self._wire + at, len(name), len(value))
                text = (name + value).encode("ascii")
                memcpy(self._wire + at + usual.wire_length, <const char *>text, len(text))
                usual.wire_length += len(text)
                usual.size = len(text)
                at += usual.wire_length
                size += usual.size
            self._template[name] = None if usual.value == NULL else value
            self._length += 1
        self._find_runs()

    cdef void _find_runs(self) noexcept:
        cdef int end = self._length
        cdef int i
        for i in range(self._length - 1, -1, -1):
            if self._usual[i].value == NULL:
                end = i
            self._usual[i].run_end = end

    def _shrink(self, int length):
        while self._length > length:
            self._length -= 1
            del self._template[<object>self._usual[self._length].name]
            Py_CLEAR(self._usual[self._length].name)
            Py_CLEAR(self._usual[self._length].value)
        self._find_runs()
