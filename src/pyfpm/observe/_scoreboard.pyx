"""The master's side of csrc/scoreboard.h: makes the page of a worker, and reads it without believing it.

The page is a memfd, sealed against another size: else a worker could cut it short, and the master's next look would be
its end (SIGBUS). What describes the request is copied first and checked in the copy, as the worker may change the page at
any moment, also between a check and the use of what was checked. Counters are loaded once each.
"""
import fcntl
import os

from libc.errno cimport errno
from libc.stddef cimport size_t
from libc.string cimport memcpy, memset
from posix.mman cimport MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport close

from pyfpm.observe.scoreboard import Counters, Histogram, SlotView, Stage

cdef extern from "<stdatomic.h>" nogil:
    enum memory_order:
        memory_order_acquire
    void atomic_thread_fence(memory_order)

cdef extern from "<stddef.h>" nogil:
    # What describes the request ends where the counters begin.
    const size_t DESCRIPTION_SIZE "offsetof(struct fpm_slot, accepted)"

cdef enum:
    # How often a description that changed under our hands is copied anew. A copy takes less than a microsecond, and so
    # does a change; a worker that lost the processor in the middle of one will not be back soon, and a dead one never.
    TRIES = 64

# No honest counter comes near it, and those of a hundred workers still add up to a signed 64-bit number, which is what
# readers of the status page have.
cdef uint64_t LARGEST = <uint64_t> 1 << 56

cdef tuple STAGES = tuple(Stage)


cdef uint64_t number(uint64_t value) noexcept nogil:
    return value if value < LARGEST else LARGEST


cdef str text(const char *start, size_t length, size_t room):
    return start[:length if length < room else room].decode("utf-8", "backslashreplace")


cdef uint64_t now_us() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <uint64_t> now.tv_sec * 1000000 + <uint64_t> now.tv_nsec // 1000


cdef class Slot:
    cdef readonly int fd
    cdef fpm_slot *page
    # The last description that was whole.
    cdef fpm_slot kept

    def __cinit__(self, int fd):
        self.fd = -1
        self.page = NULL
        memset(&self.kept, 0, sizeof(self.kept))
        cdef void *mapped = mmap(NULL, FPM_SLOT_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
        if mapped == MAP_FAILED:
            raise OSError(errno, os.strerror(errno))
        self.page = <fpm_slot *> mapped
        self.page.magic = FPM_SLOT_MAGIC
        self.fd = fd

    def __dealloc__(self):
        self.unmap()
        if self.fd >= 0:
            close(self.fd)

    cdef void unmap(self) noexcept:
        if self.page != NULL:
            munmap(self.page, FPM_SLOT_SIZE)
            self.page = NULL

    def close(self):
        self.unmap()
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    cdef bint look(self) except -1:
        """Copy what describes the request into ``kept``; false when it never held still, and ``kept`` is as it was."""
        cdef fpm_slot copy
        cdef uint32_t before
        if self.page == NULL:
            raise ValueError("this slot is closed")
        # Touches the shared page and our own stack only, and a page that is sealed and mapped cannot go away.
        for _ in range(TRIES):
            before = self.page.seq
            if before & 1:
                continue
            memcpy(&copy, self.page, DESCRIPTION_SIZE)
            atomic_thread_fence(memory_order_acquire)
            if self.page.seq == before:
                memcpy(&self.kept, &copy, DESCRIPTION_SIZE)
                return True
        return False

    def read(self):
        cdef bint whole = self.look()
        cdef fpm_slot *kept = &self.kept
        cdef uint64_t now = now_us()
        cdef uint64_t started = min(kept.started_us, now)
        stage = STAGES[kept.stage if kept.stage <= <uint32_t> FPM_STAGE_RETIRING else <uint32_t> FPM_STAGE_STARTING]
        return SlotView(
            stage=stage,
            whole=whole,
            started_us=started,
            age_us=now - started if kept.started_us else 0,
            # No request has lasted for longer than the machine runs.
            duration_us=min(kept.duration_us, now),
            content_length=number(kept.content_length),
            cpu_us=number(kept.cpu_us),
            method=text(kept.method, kept.method_length, sizeof(kept.method)),
            uri=text(kept.uri, kept.uri_length, sizeof(kept.uri)),
            query=text(kept.query, kept.query_length, sizeof(kept.query)),
            script=text(kept.script, kept.script_length, sizeof(kept.script)),
            user=text(kept.user, kept.user_length, sizeof(kept.user)),
            connections=number(self.page.connections),
            counters=self.counters(),
        )

    def counters(self):
        cdef fpm_slot *page = self.page
        cdef int i
        if page == NULL:
            raise ValueError("this slot is closed")
        return Counters(
            accepted=number(page.accepted),
            requests=number(page.requests),
            refused=number(page.refused),
            aborted=number(page.aborted),
            slow=number(page.slow),
            bytes_out=number(page.bytes_out),
            statuses=tuple([number(page.status[i]) for i in range(FPM_STATUS_CLASSES)]),
            service=Histogram(
                number(page.service_sum_us), tuple([number(page.service[i]) for i in range(FPM_BUCKETS)])
            ),
            wait=Histogram(number(page.wait_sum_us), tuple([number(page.wait[i]) for i in range(FPM_BUCKETS)])),
        )


def create_slot():
    fd = os.memfd_create("pyfpm-slot", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, FPM_SLOT_SIZE)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return Slot(fd)
    except BaseException:
        os.close(fd)
        raise


def bucket_of(uint64_t us):
    return fpm_bucket(us)


SLOT_SIZE = FPM_SLOT_SIZE
SLOT_MAGIC = FPM_SLOT_MAGIC
STRUCT_SIZE = sizeof(fpm_slot)
BUCKETS = FPM_BUCKETS
BUCKET_UNIT_US = FPM_BUCKET_UNIT_US
