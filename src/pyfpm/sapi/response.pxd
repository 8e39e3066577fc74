# Makes a C struct of the class when the module is compiled; the module itself is plain Python.
cimport cython


cdef class Defaults:
    cdef readonly str charset
    cdef readonly str content_type
    cdef readonly bytes head
    cdef readonly Py_ssize_t hold
    cdef readonly dict known_headers


cdef object _settings
cdef Defaults _defaults

cpdef Defaults defaults_of(settings)


cdef class ScriptResponse:
    cdef object _output
    cdef bint _bodiless
    cdef bint _complete
    cdef list _held
    cdef Py_ssize_t _held_size
    cdef Py_ssize_t _hold
    cdef str _phrase
    cdef bint _replaces
    cdef public bint aborted
    cdef public bint ignores_abort
    cdef public object before_head
    cdef public object buffers
    cdef readonly Defaults defaults
    cdef readonly bint flushes
    cdef public list headers
    cdef readonly object status
    cdef public bint head_sent
    cdef readonly str sent_file
    cdef readonly int sent_line
    cdef public bint told

    cpdef write(self, data)
    cpdef emit(self, data)
    cpdef flush(self)
    cpdef send_head(self)
    @cython.locals(block=str, has_content=bint, headers=list)
    cdef bytes _head(self)
    cpdef give_up(self)
    cpdef set_status(self, status, phrase=*)
    cpdef add(self, tuple field, bint replace)
    cpdef remove(self, name)
    cpdef must_be_changeable(self)
    cpdef go_on(self, status, bint bodiless)
    cpdef keep_page(self)
    cpdef end(self)
    cdef _note_abort(self)
    cpdef error(self, data)
    cdef _must_not_be_complete(self)
    cpdef ask_before_head(self)
    cdef _send(self, data)
    cdef _note_sender(self)


cdef _content_type(list headers)
cdef bint _has(list headers, wanted)
cdef bint _is_event_stream(content_type)
