from pyfpm.sapi.response cimport ScriptResponse


cdef class CurrentRequest:
    cdef object _body
    cdef dict _made
    cdef object _text
    cdef public dict ends
    cdef public bint timed_out
    cdef public dict namespace
    cdef readonly object output
    cdef public bint path_is_decoded
    cdef readonly object request
    cdef readonly ScriptResponse response
    cdef readonly dict server
    cdef public object session
    cdef readonly object settings
    cdef public object uploads

    cpdef dict superglobal(self, name)


cpdef CurrentRequest current()
