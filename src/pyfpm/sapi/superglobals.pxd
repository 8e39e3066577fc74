cimport cython


cpdef str decode(str text)

cdef str _as_utf8(str text)

@cython.locals(found=dict)
cpdef dict parse_pairs(str text)

@cython.locals(found=dict)
cpdef dict parse_cookies(str text)
