cimport cython


cdef class _Array:
    cdef dict home
    cdef bint is_list
    cdef dict items
    cdef str key
    cdef object next

    cdef put(self, str key, value)
    cdef str next_key(self)


cdef class Variables:
    cdef list _arrays
    cdef Py_ssize_t _count
    cdef bint _first_counts
    cdef dict _items
    cdef Py_ssize_t _max_depth
    cdef readonly Py_ssize_t max_vars
    cdef public bint overflowed
    cdef readonly bint too_deep

    cpdef add(self, str name, value)
    @cython.locals(array=_Array, root=_Array, key=str, top=str, bracket=Py_ssize_t, behind=Py_ssize_t, depth=Py_ssize_t, end=Py_ssize_t, start=Py_ssize_t)
    cdef _add_nested(self, str name, value)
    @cython.locals(inner=_Array)
    cdef _Array _array_in(self, _Array array, str key)
    @cython.locals(array=_Array)
    cpdef dict result(self)


@cython.locals(character=cython.Py_UCS4)
cpdef bint is_plain(str name)

cdef str _mangled(str name)
cdef bint _is_forbidden(str key, str name)
cdef _integer(str key)
