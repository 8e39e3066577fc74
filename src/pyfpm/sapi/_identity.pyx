"""The identity of a file, and whether a path still leads to it: one stat, and no Python objects [stat(2)]."""
from libc.stdint cimport int64_t, uint64_t


cdef extern from "<sys/stat.h>" nogil:
    struct timespec:
        int64_t tv_sec
        int64_t tv_nsec
    struct stat_t "stat":
        uint64_t st_dev
        uint64_t st_ino
        int64_t st_size
        timespec st_mtim
        timespec st_ctim
    int c_stat "stat"(const char *path, stat_t *found)
    int c_fstat "fstat"(int fd, stat_t *found)


cdef class FileIdentity:
    cdef stat_t _seen

    def __init__(self, int fd):
        if c_fstat(fd, &self._seen) < 0:
            raise OSError("cannot look at an open file")

    def is_at(self, bytes path not None):
        cdef stat_t now
        return (
            c_stat(path, &now) == 0
            and now.st_ino == self._seen.st_ino
            and now.st_dev == self._seen.st_dev
            and now.st_size == self._seen.st_size
            and now.st_mtim.tv_sec == self._seen.st_mtim.tv_sec
            and now.st_mtim.tv_nsec == self._seen.st_mtim.tv_nsec
            and now.st_ctim.tv_sec == self._seen.st_ctim.tv_sec
            and now.st_ctim.tv_nsec == self._seen.st_ctim.tv_nsec
        )
