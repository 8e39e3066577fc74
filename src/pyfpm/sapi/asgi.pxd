cimport cython

from pyfpm.sapi.headers cimport check_value, prefix_of
from pyfpm.sapi.mount cimport mount_of

cdef dict _headers_of_params
cdef dict _prefixes
cdef dict _status_lines
cdef dict _versions

cdef bytes header_of_param(str name)
@cython.locals(name=str, value=str, header=bytes, found=list)
cdef list headers_of(dict params)
cdef str text_of_path(str path)
cdef tuple address_of(str host, str port)
cdef str version_of(str protocol)
@cython.locals(
    script_name=str, path_info=str, https=str, scheme=str, protocol=str, version=str, uri=str, end=cython.Py_ssize_t,
    raw_path=bytes, query=str, method=str)
cpdef dict scope_of(dict params)
cdef str status_line(status)
cdef str prefix_of_bytes(name)


cdef class Exchange:
    cdef object _live
    cdef object _make_event
    cdef bint _is_head
    cdef bint _bodiless
    cdef str _head
    cdef bint _length
    cdef bint _input_over

    @cython.locals(block=str, prefix=str, text=str, length=cython.Py_ssize_t, without_length=bint)
    cdef str _block(self, status, headers)
    @cython.locals(head=str)
    cdef _add(self, body, bint more)
    @cython.locals(head=str)
    cdef _add_file(self, file, offset, count, bint more)
    cdef _end(self, int status)
    cdef str _uri(self)
