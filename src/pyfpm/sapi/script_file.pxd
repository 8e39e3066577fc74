cdef class Script:
    cdef readonly bytes asked
    cdef readonly object code
    cdef readonly str directory
    cdef readonly object identity
    cdef readonly str path
    cdef readonly bint settled
    cdef readonly bint is_rewritten
    cdef readonly tuple superglobals
    cdef readonly dict functions


cdef class ScriptFiles:
    cdef tuple _given
    cdef tuple _roots
    cdef tuple _extensions
    cdef dict _cache

    cpdef Script find(self, server)
    cdef Script _find_for_apache(self, filename)
    cdef Script _keep(self, filename, Script script)
    cdef Script _open(self, path)
    cdef bint _is_inside(self, final)
