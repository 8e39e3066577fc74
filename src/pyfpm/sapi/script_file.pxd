cdef class Script:
    cdef readonly bytes asked
    cdef readonly object code
    cdef readonly str directory
    cdef readonly object identity
    cdef readonly str path
    cdef readonly bint settled
    cdef readonly bint is_cgi
    cdef public bint is_decoded
    cdef readonly tuple superglobals
    cdef readonly bint unbuffered
    cdef readonly dict functions


cdef class ScriptFiles:
    cdef tuple _given
    cdef tuple _roots
    cdef tuple _extensions
    cdef tuple _cgi
    cdef dict _cache
    cdef bint _fix_pathinfo
    cdef bint _discard_path

    cpdef Script find(self, dict server)
    cdef Script _find_encoded(self, asked)
    cdef bint _is_settled(self, dict server)
    cdef Script _look_up(self, path, key)
    cdef Script _keep(self, filename, Script script)
    cdef Script _open(self, path, asked)
    cdef bint _is_inside(self, final)
