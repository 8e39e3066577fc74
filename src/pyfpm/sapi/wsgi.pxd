cimport cython

from pyfpm.sapi.headers cimport check_value, prefix_of

cdef dict _status_lines

cdef class ErrorStream:
    cdef object _output


cdef class Response:
    cdef object _output
    cdef bint _bodiless
    cdef str _head
    cdef bint _has_length
    cdef readonly bint head_sent

    cpdef write(self, data)
    cdef write_whole(self, data)
    cpdef finish_head(self, more=*)
    @cython.locals(block=str, prefix=str)
    cdef str _block(self, status, headers)
    cdef send_file(self, wrapper)


cdef class WSGIAdapter:
    cdef object _application
    cdef object _log
    cdef bint _display_errors
    cdef dict _constant

    cdef _send(self, result, Response response)
    @cython.locals(environ=dict)
    cdef dict _environ(self, request, output)
    cdef _fix_path(self, dict environ)


cdef str status_line(status)
