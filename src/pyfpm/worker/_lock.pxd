cdef extern from "pythread.h" nogil:
    ctypedef void *PyThread_type_lock
    unsigned long PyThread_get_thread_ident()


cdef class Lock:
    cdef PyThread_type_lock _lock
    cdef unsigned long _owner   # the thread that has it; 0: none
    cdef int _depth

    cdef void enter(self) noexcept
    cdef void leave(self) noexcept
    cdef int let_go(self) noexcept
    cdef void take_again(self, int depth) noexcept
