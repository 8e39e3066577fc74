#define _GNU_SOURCE
#include "answer.h"

#include "request.h"

enum { END_REQUEST = 3, STDOUT = 6, STDERR = 7, REQUEST_COMPLETE = 0, HEADER_LENGTH = 8 };

void answer_reset(struct answer *answer) {
    memset(answer, 0, offsetof(struct answer, kept));
}

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

static const char *header_fault(const uint8_t *header) {
    if (header[0] != 1)
        return "a record's version is not 1";
    if (header[2] != 0 || header[3] != REQUEST_ID)
        return "a record's request id is not ours";
    if (header[1] == END_REQUEST)
        return (header[4] << 8 | header[5]) == 8 ? NULL : "END_REQUEST is not 8 bytes long";
    return header[1] == STDOUT || header[1] == STDERR ? NULL : "a record's type has no place in an answer";
}

static void take_content(struct answer *a, const uint8_t *bytes, size_t length) {
    if (a->header[1] == STDERR) {
        a->stderr_bytes += length;
    } else if (a->header[1] == END_REQUEST) {
        memcpy(a->end + a->end_used, bytes, length);
        a->end_used += (unsigned)length;
    } else {
        if (a->stdout_bytes < ANSWER_KEPT_BYTES)
            memcpy(a->kept + a->stdout_bytes, bytes, smaller(length, ANSWER_KEPT_BYTES - a->stdout_bytes));
        a->stdout_bytes += length;
    }
}

enum answer_progress answer_feed(struct answer *a, const uint8_t *bytes, size_t length) {
    const uint8_t *end = bytes + length;
    while (bytes < end) {
        if (a->header_used == HEADER_LENGTH && a->content_left == 0 && a->padding_left == 0)
            a->header_used = 0; /* the record before is over */
        if (a->header_used < HEADER_LENGTH) {
            size_t part = smaller((size_t)(end - bytes), HEADER_LENGTH - a->header_used);
            memcpy(a->header + a->header_used, bytes, part);
            a->header_used += (unsigned)part;
            bytes += part;
            if (a->header_used < HEADER_LENGTH)
                return ANSWER_MORE;
            a->broken = header_fault(a->header);
            if (a->broken != NULL)
                return ANSWER_BROKEN;
            a->content_left = (size_t)(a->header[4] << 8 | a->header[5]);
            a->padding_left = a->header[6];
        }
        size_t part = smaller((size_t)(end - bytes), a->content_left);
        take_content(a, bytes, part);
        a->content_left -= part;
        bytes += part;
        part = smaller((size_t)(end - bytes), a->padding_left);
        a->padding_left -= part;
        bytes += part;
        if (a->header[1] != END_REQUEST || a->content_left > 0 || a->padding_left > 0)
            continue;
        if (bytes == end)
            return ANSWER_COMPLETE;
        a->broken = "there are bytes after END_REQUEST";
        return ANSWER_BROKEN;
    }
    return ANSWER_MORE;
}

/* Walk the header block line by line. Returns where the body begins, or NULL and a fault. A line may end with LF or
 * CR LF, as CGI allows. */
static const char *skip_headers(const char *at, const char *end, const char **fault) {
    for (;;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        if (newline == NULL) {
            *fault = "the header block has no end";
            return NULL;
        }
        size_t line = (size_t)(newline - at) - (newline > at && newline[-1] == '\r');
        if (line == 0)
            return newline + 1;
        if (line >= 7 && strncasecmp(at, "Status:", 7) == 0) {
            const char *code = at + 7;
            while (code < newline && *code == ' ')
                code++;
            if (newline - code < 3 || memcmp(code, "200", 3) != 0) {
                *fault = "the Status is not 200";
                return NULL;
            }
        }
        at = newline + 1;
    }
}

const char *answer_fault(const struct answer *a, const struct numbered *expected, int contains) {
    if (a->end[4] != REQUEST_COMPLETE)
        return "END_REQUEST is not REQUEST_COMPLETE";
    const char *fault = NULL, *end = a->kept + smaller(a->stdout_bytes, ANSWER_KEPT_BYTES);
    const char *body = skip_headers(a->kept, end, &fault);
    if (body == NULL || expected == NULL)
        return fault;
    size_t length = (size_t)(end - body);
    if (contains)
        return memmem(body, length, expected->bytes, expected->length) ? NULL : "the body lacks the expected text";
    if (a->stdout_bytes > ANSWER_KEPT_BYTES || length != expected->length ||
        memcmp(body, expected->bytes, length) != 0)
        return "the body is not the expected one";
    return NULL;
}
