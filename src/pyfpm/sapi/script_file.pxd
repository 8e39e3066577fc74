cimport cython

from pyfpm.sapi cimport paths


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

    @cython.locals(known=Script, script=Script, asked=paths.Asked)
    cpdef Script find(self, dict server)
    @cython.locals(script=Script)
    cdef Script _find_encoded(self, paths.Asked asked)
    cdef bint _is_settled(self, dict server)
    @cython.locals(known=Script)
    cdef Script _look_up(self, str path, str key)
    @cython.locals(known=Script)
    cdef Script _kept(self, name)
    cdef Script _keep(self, str filename, Script script)
    cdef Script _open(self, path, asked)
    cdef bint _is_inside(self, final)
