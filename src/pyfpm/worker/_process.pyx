"""What Linux lets a process say about its children and its parent [prctl(2)]."""
import os

from libc.errno cimport errno

cdef extern from "Python.h":
    void PyOS_BeforeFork()
    void PyOS_AfterFork_Parent()
    void PyOS_AfterFork_Child()

cdef extern from "orphan.h" nogil:
    int fpm_fork_orphan()


cdef extern from "<sys/prctl.h>" nogil:
    int prctl(int option, unsigned long value, unsigned long, unsigned long, unsigned long)
    enum:
        PR_SET_CHILD_SUBREAPER
        PR_SET_PDEATHSIG
        PR_SET_DUMPABLE


def adopt_orphans():
    """Descendants that lose their parent become our children, for us to wait for."""
    if prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0:
        raise OSError(errno, "cannot become a child subreaper")


def die_with_parent(int signal):
    """Get this signal when the parent ends, whatever we are doing then."""
    if prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0) < 0:
        raise OSError(errno, "cannot set the parent-death signal")


def set_dumpable(bint dumpable):
    """Whether a crash may leave a core file, and other processes of this user may look into us."""
    if prctl(PR_SET_DUMPABLE, dumpable, 0, 0, 0) < 0:
        raise OSError(errno, "cannot set whether the process is dumpable")


def fork_orphan():
    """As os.fork, but the new process is our subreaper's child, not ours."""
    cdef int pid
    cdef int error
    PyOS_BeforeFork()
    pid = fpm_fork_orphan()
    error = errno
    if pid == 0:
        PyOS_AfterFork_Child()
        return 0
    PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(error, os.strerror(error))
    return pid
