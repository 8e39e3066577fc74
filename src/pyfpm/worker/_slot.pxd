from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "slot.h" nogil:
    enum:
        FPM_SLOT_SIZE
        FPM_SLOT_MAGIC

    enum fpm_stage:
        FPM_STAGE_STARTING
        FPM_STAGE_IDLE
        FPM_STAGE_RUNNING
        FPM_STAGE_FINISHING
        FPM_STAGE_RETIRING

    # Counters are atomic in C and only touched by the functions below.
    ctypedef uint64_t fpm_counter "_Atomic uint64_t"

    struct fpm_slot:
        uint32_t magic
        uint32_t stage
        uint64_t started_us
        uint64_t content_length
        uint16_t method_length
        uint16_t uri_length
        uint16_t query_length
        uint16_t script_length
        uint16_t user_length
        char method[16]
        char uri[1024]
        char query[512]
        char script[1024]
        char user[64]
        fpm_counter accepted
        fpm_counter refused
        fpm_counter aborted
        fpm_counter slow
        fpm_counter connections

    void fpm_slot_change(fpm_slot *slot) noexcept
    void fpm_slot_changed(fpm_slot *slot) noexcept
    void fpm_slot_text(char *to, uint16_t *to_length, size_t room, const void *text, size_t length) noexcept
    void fpm_slot_add(fpm_counter *counter, uint64_t amount) noexcept
    void fpm_slot_set(fpm_counter *counter, uint64_t value) noexcept
    void fpm_slot_stage(fpm_slot *slot, fpm_stage stage) noexcept
    void fpm_slot_ended(fpm_slot *slot, fpm_stage stage, uint64_t duration_us, uint64_t cpu_us, unsigned status_class,
                        uint64_t bytes_out) noexcept
    void fpm_slot_waited(fpm_slot *slot, uint64_t wait_us) noexcept


cdef class Slot:
    cdef fpm_slot *page
    cdef bint _mapped
    cdef fpm_stage between      # the stage between two requests

    cdef int begin(self, dict params, uint64_t started_us) except -1
    cdef void end(self, uint64_t duration_us, uint64_t cpu_us, unsigned status_class, uint64_t bytes_out) noexcept
    cdef void finishing(self) noexcept
    cdef void stage(self, fpm_stage stage) noexcept
    cdef void _waited(self, uint64_t came_in_us) noexcept
