cimport cython

from pyfpm.sapi.variables cimport Variables


cpdef str decode(str text)
cpdef str as_utf8(str text)

@cython.locals(found=dict, name=str, value=str, pair=str)
cpdef dict flat_query(str text, Py_ssize_t most)

@cython.locals(found=dict, name=str, value=str, pair=str)
cpdef dict flat_cookies(str text, Py_ssize_t most)

@cython.locals(character=cython.Py_UCS4, in_name=bint, begins=bint)
cdef bint _is_flat(str text, cython.Py_UCS4 separator, Py_ssize_t most)

@cython.locals(name=str, value=str, pair=str)
cpdef parse_query(str text, Variables variables)

@cython.locals(name=str, value=str, pair=str)
cpdef parse_form(str text, Variables variables)

@cython.locals(name=str, value=str, pair=str)
cpdef parse_cookies(str text, Variables variables)

cdef str _as_c_string(str text)

@cython.locals(array=dict)
cdef bint _are_flat(tuple arrays)
