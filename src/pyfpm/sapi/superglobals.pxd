cimport cython


cpdef str decode(str text)

@cython.locals(found=dict)
cpdef dict parse_pairs(str text)

@cython.locals(found=dict)
cpdef dict parse_cookies(str text)
