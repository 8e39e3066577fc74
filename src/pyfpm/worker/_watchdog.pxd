from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from pyfpm.worker._slot cimport Slot, fpm_slot


cdef extern from "watchdog.h" nogil:
    enum:
        FPM_GUARD_IDLE
        FPM_NOT_CLEAN
        FPM_CLEAN_KEPT
        FPM_CLEAN_FRESH
        FPM_GIVEN
        FPM_MOST_LISTENERS
        FPM_LONGEST_TRACE

    # Atomic in C: written here as a whole, by one thread.
    ctypedef uint32_t fpm_word "_Atomic uint32_t"
    ctypedef uint8_t *fpm_bytes "_Atomic(uint8_t *)"

    struct fpm_guard:
        fpm_bytes clean
        fpm_word clean_size
        int fd
        uint16_t request_id
        uint8_t alone
        uint8_t intact
        uint8_t begun
        uint8_t stderr_used
        int give_fd
        int epoll_fd
        int nowhere_fd
        uint32_t given
        int listeners[65]
        uint64_t soft_us
        uint64_t soft_now_us
        fpm_slot *slot

    struct fpm_watchdog_options:
        int control_fd
        uint64_t slow_us
        uint64_t soft_us
        uint64_t hard_us
        int track_finished
        int move_ready
        int tell_queue

    uint64_t fpm_now_us() noexcept
    void fpm_guard_begin(fpm_guard *guard, uint64_t started_us) noexcept
    bint fpm_guard_enter(fpm_guard *guard) noexcept
    void fpm_guard_leave(fpm_guard *guard) noexcept
    void fpm_guard_end(fpm_guard *guard) noexcept
    void fpm_guard_finish(fpm_guard *guard) noexcept
    void fpm_guard_limit(fpm_guard *guard, uint64_t limit_us) noexcept
    bint fpm_guard_soft_is_due(fpm_guard *guard) noexcept
    void fpm_guard_listen(fpm_guard *guard, uint32_t count) noexcept


cdef extern from "handoff.h" nogil:
    enum:
        FPM_KEPT
        FPM_FRESH
        FPM_TAKE_END
    int fpm_give(int give_fd, int fd, char kind, int wait_ms) noexcept
    int fpm_take(int take_fd, char *kind) noexcept


cdef class Guard:
    cdef fpm_guard *state
    cdef bint _watched          # a thread or a handler has a pointer to it, for as long as the process lives


cdef class Watchdog:
    cdef readonly Guard guard
    cdef fpm_watchdog_options _options
    cdef bint _has_thread

    cdef int _start_thread(self) except -1
