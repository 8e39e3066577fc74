cdef class Asked:
    cdef readonly bint by_apache
    cdef public str path
    cdef readonly str script_name


cpdef Asked asked(dict server, bint fix_pathinfo, bint discard_path)
cpdef bint is_iis(dict server)
cdef _mend_iis(dict server)
cpdef mend(dict server, Asked asked, str script)
cdef _split(dict server, Asked asked, str script, str rest)
cdef _set(dict server, str name, str value, bint always=*)
cpdef str script_path(str filename)
