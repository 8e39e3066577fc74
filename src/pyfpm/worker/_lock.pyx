"""The one lock of a worker whose requests run on threads: who has it may touch the connections.

The interpreter's own lock is not enough. Whatever calls into Python on the way, a line for the log or a finalizer, may
let another thread go on in the middle of a change. It is recursive, since such a finalizer may write to an answer itself.

Cost: an uncontended round takes no system call. The interpreter is free while we wait.
"""
cdef extern from "pythread.h" nogil:
    PyThread_type_lock PyThread_allocate_lock()
    void PyThread_free_lock(PyThread_type_lock lock)
    int PyThread_acquire_lock(PyThread_type_lock lock, int wait)
    void PyThread_release_lock(PyThread_type_lock lock)
    enum:
        WAIT_LOCK
        NOWAIT_LOCK


cdef class Lock:
    def __cinit__(self):
        self._lock = PyThread_allocate_lock()
        if self._lock == NULL:
            raise MemoryError

    def __dealloc__(self):
        if self._lock != NULL:
            PyThread_free_lock(self._lock)

    def __enter__(self):
        self.enter()

    def __exit__(self, *exception):
        self.leave()

    cdef void enter(self) noexcept:
        cdef unsigned long me = PyThread_get_thread_ident()
        cdef PyThread_type_lock lock = self._lock
        # Only we can have written our own name there.
        if self._owner == me:
            self._depth += 1
            return
        if not PyThread_acquire_lock(lock, NOWAIT_LOCK):
            with nogil:
                PyThread_acquire_lock(lock, WAIT_LOCK)
        self._owner = me
        self._depth = 1

    cdef void leave(self) noexcept:
        self._depth -= 1
        if self._depth == 0:
            self._owner = 0
            PyThread_release_lock(self._lock)

    cdef int let_go(self) noexcept:
        """For as long as the thread waits for something: returns what ``take_again`` has to be given."""
        cdef int depth = self._depth
        self._depth = 1
        self.leave()
        return depth

    cdef void take_again(self, int depth) noexcept:
        self.enter()
        self._depth = depth
