# csrc/scoreboard.h, for both sides. Only C in here: to cimport it imports no module, so that a worker has nothing of the
# master's in it.
from libc.stdint cimport uint16_t, uint32_t, uint64_t


cdef extern from "scoreboard.h" nogil:
    const int FPM_SLOT_SIZE
    const uint32_t FPM_SLOT_MAGIC
    enum:
        FPM_STAGE_STARTING
        FPM_STAGE_IDLE
        FPM_STAGE_RUNNING
        FPM_STAGE_FINISHING
        FPM_STAGE_RETIRING
    enum:
        FPM_BUCKETS
        FPM_BUCKET_UNIT_US
        FPM_STATUS_CLASSES

    # Where the header says _Atomic, C makes each use of the field an atomic one.
    struct fpm_slot:
        uint32_t magic
        uint32_t seq
        uint32_t stage
        uint64_t started_us
        uint64_t duration_us
        uint64_t content_length
        uint64_t cpu_us
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
        uint64_t accepted
        uint64_t requests
        uint64_t refused
        uint64_t aborted
        uint64_t slow
        uint64_t connections
        uint64_t bytes_out
        uint64_t status[6]
        uint64_t service_sum_us
        uint64_t service[22]
        uint64_t wait_sum_us
        uint64_t wait[22]

    int fpm_bucket(uint64_t us)
