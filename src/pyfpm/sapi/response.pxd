# Makes a C struct of the class when the module is compiled; the module itself is plain Python.
cdef class ScriptResponse:
    cdef object _output
    cdef bint _bodiless
    cdef list _held
    cdef Py_ssize_t _held_size
    cdef public list headers
    cdef public object status
    cdef public bint head_sent
    cdef public str sent_at

    cpdef write(self, data)
    cpdef send_head(self)
    cpdef end(self)
    cdef _send(self, data)
    cdef _note_sender(self)
