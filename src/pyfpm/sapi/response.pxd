# Makes a C struct of the class when the module is compiled; the module itself is plain Python.
cimport cython


cdef class ScriptResponse:
    cdef object _output
    cdef bint _bodiless
    cdef list _held
    cdef Py_ssize_t _held_size
    cdef str _phrase
    cdef public list headers
    cdef readonly object status
    cdef public bint head_sent
    cdef public str sent_at
    cdef public bint told

    cpdef write(self, data)
    @cython.locals(block=str, has_content=bint)
    cpdef send_head(self)
    cpdef give_up(self)
    cpdef set_status(self, status, phrase=*)
    cpdef add(self, tuple field, bint replace)
    cpdef remove(self, name)
    cpdef must_be_changeable(self)
    cpdef end(self)
    cpdef error(self, data)
    cdef _send(self, data)
    cdef _note_sender(self)


cdef bint _has_content_type(list headers)
