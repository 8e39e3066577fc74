/* One FastCGI answer: read in pieces of any size, then judged.
 *
 * The reader accepts what real servers do: no empty STDOUT record, STDERR beside it, padding or none. What makes an
 * answer wrong is listed at answer_fault().
 */
#ifndef BENCH_ANSWER_H
#define BENCH_ANSWER_H

#include "numbered.h"

/* So much of STDOUT is kept for the comparison; the rest of a longer answer is read and counted. */
#define ANSWER_KEPT_BYTES 16384

struct answer {
    uint8_t header[8];     /* of the record being read */
    unsigned header_used;  /* bytes of it that have come */
    size_t content_left;   /* of the record, once the header is there */
    size_t padding_left;
    uint8_t end[8];        /* the content of END_REQUEST */
    unsigned end_used;
    size_t stdout_bytes;
    size_t stderr_bytes;
    const char *broken;    /* set with ANSWER_BROKEN: what is wrong with the records */
    char kept[ANSWER_KEPT_BYTES];
};

enum answer_progress { ANSWER_MORE, ANSWER_COMPLETE, ANSWER_BROKEN };

/* Make ready for the next answer. Cheap: what is kept is not cleared. */
void answer_reset(struct answer *answer);

/* True until the first byte of the answer has come. */
static inline int answer_untouched(const struct answer *answer) {
    return answer->header_used == 0;
}

/* Read on. ANSWER_COMPLETE: END_REQUEST with its padding was the end of these bytes. ANSWER_BROKEN: answer->broken says
 * why; the connection is of no further use. */
enum answer_progress answer_feed(struct answer *answer, const uint8_t *bytes, size_t length);

/* What is wrong with a complete answer, or NULL: REQUEST_COMPLETE, a header block, no Status or Status 200, and, unless
 * expected is NULL, a body that is exactly (or, with contains, has in it) the expected bytes. */
const char *answer_fault(const struct answer *answer, const struct numbered *expected, int contains);

#endif
