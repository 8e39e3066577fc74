/* Invariant: however a stream of records is cut into pieces, fcgi_reader_next hands out the same records with the same
 * content, points only into the piece it was given, uses at most that piece, always gets on, and finds a lost record
 * border at the same byte.
 *
 * The first byte of the input seeds the cuts; the rest is the stream. It is read once whole and once in pieces, each in
 * a malloc of exactly its size so that AddressSanitizer sees every byte too far. Both readings leave the same trace.
 */
#include "fcgi.h"

#include <stdlib.h>
#include <string.h>

struct trace {
    uint8_t *bytes; /* header fields and content of each record, in order */
    size_t length;
    size_t records_ended;
    int broken;           /* 1: a version byte was wrong */
    size_t used;          /* bytes of the stream read, up to that */
};

static void must(int condition) {
    if (!condition)
        abort();
}

static void note(struct trace *trace, const void *bytes, size_t length) {
    if (length)
        memcpy(trace->bytes + trace->length, bytes, length);
    trace->length += length;
}

static void note_span(struct trace *trace, const struct fcgi_span *span) {
    if (span->first) {
        uint8_t header[FCGI_HEADER_LEN];

        fcgi_header_encode(header, span->header.type, span->header.request_id, span->header.content_length,
                           span->header.padding_length);
        note(trace, header, sizeof header);
    }
    note(trace, span->content, span->length);
    trace->records_ended += span->last;
}

/* Returns 0 when the record borders are lost. */
static int read_piece(struct fcgi_reader *reader, const uint8_t *data, size_t length, struct trace *trace) {
    uint8_t *piece = malloc(length ? length : 1);
    size_t at = 0;
    int got;

    must(piece != NULL);
    if (length)
        memcpy(piece, data, length);
    for (;;) {
        struct fcgi_span span;
        size_t used = (size_t)-1;

        got = fcgi_reader_next(reader, piece + at, length - at, &used, &span);
        must(used <= length - at);
        if (got == 1) {
            must(used > 0);
            must(span.length <= used);
            must(span.length == 0 || (span.content >= piece + at && span.content + span.length == piece + at + used));
            must(span.length > 0 || span.header.content_length == 0);
            note_span(trace, &span);
        }
        at += used;
        if (got != 1)
            break;
    }
    must(got == FCGI_E_VERSION || at == length);
    trace->used += at;
    trace->broken = got < 0;
    free(piece);
    return got == 0;
}

static struct trace read_stream(const uint8_t *data, size_t length, unsigned seed) {
    struct trace trace = {malloc(length + FCGI_HEADER_LEN), 0, 0, 0, 0};
    struct fcgi_reader reader;
    size_t at = 0;

    must(trace.bytes != NULL);
    memset(&reader, 0, sizeof reader);
    while (at < length) {
        size_t step = length - at;

        if (seed) {
            seed = seed * 1103515245u + 12345u;
            if (step > (seed >> 16) % 23)
                step = (seed >> 16) % 23;
        }
        if (!read_piece(&reader, data + at, step, &trace))
            break;
        at += step;
    }
    return trace;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct trace whole;
    struct trace pieces;

    if (size < 2)
        return 0;
    whole = read_stream(data + 1, size - 1, 0);
    pieces = read_stream(data + 1, size - 1, data[0] | 0x100u);
    must(whole.length == pieces.length);
    must(memcmp(whole.bytes, pieces.bytes, whole.length) == 0);
    must(whole.records_ended == pieces.records_ended);
    must(whole.broken == pieces.broken);
    must(whole.broken || (whole.used == size - 1 && pieces.used == size - 1));
    free(whole.bytes);
    free(pieces.bytes);
    return 0;
}
