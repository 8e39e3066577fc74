cimport cython

from pyfpm.sapi.headers cimport check_value, prefix_of
from pyfpm.sapi.mount cimport mount_of, mount_of_authorizer

cdef dict _status_lines

cdef class ErrorStream:
    cdef object _output


cdef class Response:
    cdef object _output
    cdef bint _is_head
    cdef bint _bodiless
    cdef bytes _head
    cdef str _length
    cdef readonly bint head_sent

    cpdef write(self, data)
    cdef write_whole(self, data)
    @cython.locals(length=cython.Py_ssize_t)
    cdef finish_head(self, length=*)
    @cython.locals(block=str, prefix=str, length=cython.Py_ssize_t, without_length=bint, unbuffered=bint)
    cdef bytes _block(self, status, headers)
    cpdef bint takes_a_message(self)
    cdef send_file(self, wrapper)


cdef class WSGIAdapter:
    cdef object _application
    cdef object _log
    cdef object _settings
    cdef dict _constant
    cdef str _program

    cdef _send(self, result, Response response)
    @cython.locals(environ=dict)
    cdef dict _environ(self, request, output)
    cdef _add_role(self, dict environ, request)


cdef str status_line(status)
cdef str _plain(what, text)
cdef bytes _latin1(str block)
