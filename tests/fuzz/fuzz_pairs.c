/* Invariant: fcgi_pair_decode reads only what it was given. It takes a pair, or names a length beyond what is there that
 * is worth waiting for, or calls the pair too long; a pair points into the buffer, takes exactly the bytes it says,
 * needs every one of them, and decodes to itself after it was encoded anew.
 *
 * The first two bytes of the input are the limit; the rest is decoded pair by pair, in a malloc of exactly its size.
 */
#include "fcgi.h"

#include <stdlib.h>
#include <string.h>

static void must(int condition) {
    if (!condition)
        abort();
}

static void expect_round_trip(const struct fcgi_pair *pair) {
    size_t length = fcgi_pair_size(pair->name_length, pair->value_length);
    uint8_t *wire = malloc(length);
    struct fcgi_pair again;
    size_t used;
    size_t at;

    must(wire != NULL);
    at = fcgi_pair_lengths_encode(wire, pair->name_length, pair->value_length);
    must(at + pair->name_length + pair->value_length == length);
    memcpy(wire + at, pair->name, pair->name_length);
    memcpy(wire + at + pair->name_length, pair->value, pair->value_length);
    must(fcgi_pair_decode(wire, length, length, &used, &again) == 1);
    must(used == length);
    must(again.name_length == pair->name_length && again.value_length == pair->value_length);
    must(memcmp(again.name, pair->name, pair->name_length) == 0);
    must(memcmp(again.value, pair->value, pair->value_length) == 0);
    free(wire);
}

/* One byte less is not enough, in a buffer that ends there. */
static void expect_all_needed(const uint8_t *buf, size_t length, size_t max) {
    uint8_t *cut = malloc(length - 1 ? length - 1 : 1);
    struct fcgi_pair pair;
    size_t used;

    must(cut != NULL);
    memcpy(cut, buf, length - 1);
    must(fcgi_pair_decode(cut, length - 1, max, &used, &pair) == 0);
    must(used > length - 1 && used <= length);
    free(cut);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *buf;
    size_t max;
    size_t at = 0;

    if (size < 3)
        return 0;
    max = (size_t)data[0] << 8 | data[1];
    if (max == 0xffff)
        max = (size_t)-1;
    size -= 2;
    buf = malloc(size);
    must(buf != NULL);
    memcpy(buf, data + 2, size);
    for (;;) {
        struct fcgi_pair pair;
        size_t used = 0;
        int got = fcgi_pair_decode(buf + at, size - at, max, &used, &pair);

        if (got != 1) {
            must(got == FCGI_E_LIMIT || (got == 0 && used > size - at));
            break;
        }
        must(used >= 2 && used <= size - at);
        must(pair.name_length <= max && pair.value_length <= max - pair.name_length);
        must(pair.name > buf + at && pair.value == pair.name + pair.name_length);
        must(pair.value + pair.value_length == buf + at + used);
        expect_round_trip(&pair);
        expect_all_needed(buf + at, used, max);
        at += used;
    }
    free(buf);
    return 0;
}
