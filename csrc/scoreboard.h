/* The scoreboard: what a worker tells of itself in shared memory, one page per worker.
 *
 * The worker writes, the master reads. The master must not believe what it reads: a worker runs other people's code, and
 * a scoreboard that was trusted is how php-fpm's workers became root (CVE-2021-21703). So there is no offset, index or
 * pointer in it; texts have fixed places and lengths that the reader clamps; and each worker maps its own page only.
 *
 * `seq` makes a snapshot consistent: odd while the worker changes what describes the current request. A reader that finds
 * it odd, or changed behind it, looks again, a bounded number of times: a worker may be killed in the middle. Counters are
 * written after it and may be read at any time; each is one aligned word.
 *
 * Plain C11, included by the Cython modules of both sides. Times are CLOCK_MONOTONIC in microseconds.
 */
#ifndef PYFPM_SCOREBOARD_H
#define PYFPM_SCOREBOARD_H

#include <stdatomic.h>
#include <stdint.h>

#define FPM_SLOT_SIZE 4096
#define FPM_SLOT_MAGIC 0x70796670u /* "pyfp" */

/* php-fpm's stages of a request, as the status page shows them. */
enum fpm_stage {
    FPM_STAGE_STARTING = 0, /* forked, not yet accepting */
    FPM_STAGE_IDLE = 1,
    FPM_STAGE_RUNNING = 2,
    FPM_STAGE_FINISHING = 3, /* answered, and still at work (fastcgi_finish_request) */
    FPM_STAGE_RETIRING = 4,  /* accepts nothing more */
};

/* Histogram buckets: b holds values below 2^b * 64 microseconds and not below the bucket before it; the last holds the
 * rest. 64 us to 134 s. */
#define FPM_BUCKETS 22
#define FPM_BUCKET_UNIT_US 64

/* Answers by the first digit of their status; 0 for those that have none of 1 to 5. */
#define FPM_STATUS_CLASSES 6

struct fpm_slot {
    uint32_t magic;
    _Atomic uint32_t seq;

    /* What describes the current request, or the last one; consistent when seq is even and unchanged. */
    uint32_t stage;         /* enum fpm_stage */
    uint32_t reserved;
    uint64_t started_us;    /* when the request began */
    uint64_t duration_us;   /* of the last request; not used while one runs */
    uint64_t content_length;
    uint64_t cpu_us;        /* processor time of the last request; 0 for one too short to be measured */
    uint16_t method_length;
    uint16_t uri_length;
    uint16_t query_length;
    uint16_t script_length;
    uint16_t user_length;
    uint16_t reserved16[3];
    char method[16];
    char uri[1024];
    char query[512];
    char script[1024];
    char user[64];

    /* Counters since the worker began. */
    _Atomic uint64_t accepted;   /* requests that were begun */
    _Atomic uint64_t requests;   /* requests that were ended */
    _Atomic uint64_t refused;    /* answered without being run (413, 431, 503 ...) */
    _Atomic uint64_t aborted;    /* given up by the web server before they ran */
    _Atomic uint64_t slow;       /* over request_slowlog_timeout */
    _Atomic uint64_t connections;/* open now */
    _Atomic uint64_t bytes_out;  /* content of STDOUT */
    _Atomic uint64_t status[FPM_STATUS_CLASSES];
    _Atomic uint64_t service_sum_us;
    _Atomic uint64_t service[FPM_BUCKETS];
    _Atomic uint64_t wait_sum_us;
    _Atomic uint64_t wait[FPM_BUCKETS];  /* only of requests that say when they came in */
};

_Static_assert(sizeof(struct fpm_slot) <= FPM_SLOT_SIZE, "a slot is one page");

/* The bucket of a duration. */
static inline int fpm_bucket(uint64_t us)
{
    int bucket = us < FPM_BUCKET_UNIT_US ? 0 : 64 - __builtin_clzll(us / FPM_BUCKET_UNIT_US);
    return bucket < FPM_BUCKETS ? bucket : FPM_BUCKETS - 1;
}

#endif
