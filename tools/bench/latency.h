/* Latencies in a histogram of fixed size: memory does not grow with the run, and a sample costs one increment.
 *
 * Buckets are log-linear, as in HdrHistogram: each power of two is cut into LATENCY_STEPS parts, so a value is known to
 * better than 1 %. Values are nanoseconds.
 */
#ifndef BENCH_LATENCY_H
#define BENCH_LATENCY_H

#include <stdint.h>

#define LATENCY_STEP_BITS 7
#define LATENCY_STEPS (1 << LATENCY_STEP_BITS)
#define LATENCY_BUCKETS ((64 - LATENCY_STEP_BITS + 1) * LATENCY_STEPS)

/* Zero-fill before use. */
struct latency {
    uint64_t count;
    uint64_t sum_ns;
    uint64_t max_ns;
    uint64_t buckets[LATENCY_BUCKETS];
};

static inline void latency_add(struct latency *l, uint64_t ns) {
    /* The topmost LATENCY_STEP_BITS + 1 bits choose the bucket; below LATENCY_STEPS every value has its own. */
    unsigned shift = ns < LATENCY_STEPS ? 0 : 63 - LATENCY_STEP_BITS - (unsigned)__builtin_clzll(ns);
    l->buckets[shift * LATENCY_STEPS + (ns >> shift)]++;
    l->count++;
    l->sum_ns += ns;
    if (ns > l->max_ns)
        l->max_ns = ns;
}

/* The latency that this percentage (0 to 100) of the requests did not exceed, in ns; 0 without samples. */
static inline uint64_t latency_percentile(const struct latency *l, double percent) {
    uint64_t wanted = (uint64_t)((double)l->count * percent / 100.0 + 0.5), seen = 0;
    if (wanted == 0)
        wanted = 1;
    for (unsigned i = 0; i < LATENCY_BUCKETS; i++) {
        seen += l->buckets[i];
        if (seen >= wanted) {
            unsigned shift = i < 2 * LATENCY_STEPS ? 0 : i / LATENCY_STEPS - 1;
            uint64_t upper = ((uint64_t)(i - shift * LATENCY_STEPS) << shift) + ((uint64_t)1 << shift) - 1;
            return upper < l->max_ns ? upper : l->max_ns;
        }
    }
    return l->max_ns;
}

#endif
