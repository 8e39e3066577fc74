from cpython.object cimport PyObject
from libc.stdint cimport uint8_t
from libc.string cimport memcmp

from pyfpm.protocol._fcgi cimport fcgi_pair


cdef extern from "Python.h":
    # With pointers: in the loops over pairs Cython's own counting of references would show.
    void Py_INCREF(PyObject *)
    void Py_DECREF(PyObject *)
    void Py_XDECREF(PyObject *)
    void Py_CLEAR(PyObject *)
    void *PyUnicode_DATA(PyObject *text) noexcept
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject *text) noexcept
    bint PyUnicode_IS_ASCII(PyObject *text) noexcept
    void PyUnicode_InternInPlace(PyObject **text)
    PyObject *PyUnicode_DecodeLatin1(const char *data, Py_ssize_t length, const char *errors) except NULL
    PyObject *PyDict_SetDefault(PyObject *dict, PyObject *key, PyObject *default) except NULL
    Py_ssize_t PyDict_GET_SIZE(PyObject *dict) noexcept
    # Cython's own name for _PyDict_NewPresized where CPython exports it, PyDict_New elsewhere.
    dict __Pyx_PyDict_NewPresized(Py_ssize_t n)


cdef enum:
    USUAL_PAIRS = 40        # nginx sends about 26, the adapters add their own
    LONGEST_VALUE = 128     # a User-Agent; longer values are hardly ever the same again
    USUAL_WIRE = 8192       # USUAL_PAIRS of them fit


cdef inline bint same(PyObject *text, const uint8_t *data, size_t length) noexcept:
    # For ASCII text only: one byte a character.
    return <size_t>PyUnicode_GET_LENGTH(text) == length and memcmp(PyUnicode_DATA(text), data, length) == 0


cdef bint is_secret(str name)


cdef struct Usual:
    PyObject *name          # an interned ASCII str, owned
    PyObject *value         # the str that comes with it each time, owned; NULL where it differs, or may be a secret
    size_t wire_at          # where its bytes lie in _wire
    size_t wire_length
    size_t size_at          # of names and values before it in _wire
    size_t size             # of its name and value
    int run_end             # from here to this one, exclusive, all have a value: they can be compared at once


cdef class UsualPairs:
    cdef bint busy
    cdef Usual _usual[USUAL_PAIRS]
    cdef int _length
    cdef int _misses                    # requests in a row that began otherwise
    cdef uint8_t _wire[USUAL_WIRE]      # the usual pairs as they arrive
    cdef dict _template                 # the pairs as a dict, with None where there is no value
    cdef PyObject *_fresh[USUAL_PAIRS]  # of the request being read: the other values, owned; NULL where it is the usual
    cdef int _at                        # pairs of it that are as usual so far

    cdef size_t follow(self, const uint8_t *data, size_t length, size_t max_size, size_t *size,
                       bint *non_ascii) except? 0xffffffff
    cdef int _follow_pair(self, fcgi_pair *pair, bint *non_ascii) except -1
    cdef int count(self) noexcept
    cdef dict take(self)
    cdef learn(self, dict pairs)
    cdef void _find_runs(self) noexcept
