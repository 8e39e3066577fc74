/* Text with a place for the request's number, so that an answer can be proven to belong to its request.
 *
 * Every run of NUMBERED_MARK in a text stands for eight decimal digits. The request has it in its query string, the
 * expected answer where the page prints that back. The length never changes, so a request is encoded only once.
 */
#ifndef BENCH_NUMBERED_H
#define BENCH_NUMBERED_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define NUMBERED_MARK "########"
#define NUMBERED_DIGITS 8
#define NUMBERED_WRAPS_AT 100000000u /* numbers are taken modulo this */
#define NUMBERED_MAX_MARKS 16        /* further marks stay as they are */

struct numbered {
    char *bytes; /* owned by the caller; may hold zero bytes */
    size_t length;
    size_t marks[NUMBERED_MAX_MARKS]; /* where the digits go */
    int mark_count;
};

/* Take over these bytes and find the marks in them. */
static inline void numbered_init(struct numbered *text, char *bytes, size_t length) {
    *text = (struct numbered){.bytes = bytes, .length = length};
    size_t from = 0;
    while (text->mark_count < NUMBERED_MAX_MARKS) {
        char *mark = memmem(bytes + from, length - from, NUMBERED_MARK, NUMBERED_DIGITS);
        if (mark == NULL)
            return;
        text->marks[text->mark_count++] = (size_t)(mark - bytes);
        from = (size_t)(mark - bytes) + NUMBERED_DIGITS;
    }
}

/* Write this number in all places. */
static inline void numbered_set(struct numbered *text, uint32_t number) {
    char digits[NUMBERED_DIGITS];
    for (int i = NUMBERED_DIGITS - 1; i >= 0; i--, number /= 10)
        digits[i] = (char)('0' + number % 10);
    for (int i = 0; i < text->mark_count; i++)
        memcpy(text->bytes + text->marks[i], digits, NUMBERED_DIGITS);
}

#endif
