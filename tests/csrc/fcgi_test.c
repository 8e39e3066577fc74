/* The wire format against its promises in csrc/fcgi.h.
 *
 * Every input lies right before a page that may not be touched (and once right behind one), so that reading a single
 * byte past buf + len ends the program even without a sanitizer. Expected bytes are written out by hand from the
 * specification. A check that fails says where and aborts. test_fcgi.py builds this file and runs it.
 */
#define _DEFAULT_SOURCE
#include "fcgi.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CHECK(condition)                                                                                              \
    ((condition) ? (void)0 : (fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition), abort()))

#define ROOM (1u << 18) /* bytes between the two guard pages; a multiple of every page size */

static uint8_t *room; /* ROOM bytes; the page before and the page behind are PROT_NONE */

static void build_room(void) {
    size_t page = 1u << 16;
    uint8_t *all = mmap(NULL, ROOM + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(all != MAP_FAILED);
    room = all + page;
    CHECK(mprotect(room, ROOM, PROT_READ | PROT_WRITE) == 0);
}

/* A copy of the bytes that ends where the guard page begins. */
static uint8_t *at_the_edge(const void *bytes, size_t length) {
    CHECK(length <= ROOM);
    return memcpy(room + ROOM - length, bytes, length);
}

/* A copy of the bytes that begins where the guard page ends. */
static uint8_t *behind_the_edge(const void *bytes, size_t length) {
    CHECK(length <= ROOM);
    return memcpy(room, bytes, length);
}

/* -- records ------------------------------------------------------------------------------------------------------ */

static void a_header_is_eight_bytes_in_network_order(void) {
    const uint8_t wire[] = {1, 4, 0x12, 0x34, 0xab, 0xcd, 0xfe, 0};
    uint8_t written[sizeof wire];
    struct fcgi_header header;

    CHECK(fcgi_header_decode(at_the_edge(wire, 8), 8, &header) == FCGI_HEADER_LEN);
    CHECK(header.type == FCGI_PARAMS && header.request_id == 0x1234);
    CHECK(header.content_length == 0xabcd && header.padding_length == 0xfe);
    fcgi_header_encode(written, FCGI_PARAMS, 0x1234, 0xabcd, 0xfe);
    CHECK(memcmp(written, wire, 8) == 0);
}

static void a_short_header_needs_more(void) {
    const uint8_t wire[] = {1, 4, 0, 1, 0, 0, 0, 0};
    struct fcgi_header header;

    for (size_t length = 0; length < 8; length++)
        CHECK(fcgi_header_decode(at_the_edge(wire, length), length, &header) == 0);
}

static void a_wrong_version_is_told_at_its_first_byte(void) {
    struct fcgi_header header;

    for (unsigned version = 0; version < 256; version++) {
        uint8_t byte = (uint8_t)version;
        CHECK(fcgi_header_decode(at_the_edge(&byte, 1), 1, &header) == (version == 1 ? 0 : FCGI_E_VERSION));
    }
}

static void the_reserved_byte_of_a_header_is_not_looked_at(void) {
    const uint8_t wire[] = {1, 5, 0, 1, 0, 0, 0, 0xff};
    struct fcgi_header header;

    CHECK(fcgi_header_decode(at_the_edge(wire, 8), 8, &header) == FCGI_HEADER_LEN);
}

static void padding_brings_content_to_a_multiple_of_eight(void) {
    for (size_t length = 0; length <= FCGI_MAX_LENGTH; length++) {
        CHECK(fcgi_padding(length) < 8);
        CHECK((length + fcgi_padding(length)) % 8 == 0);
    }
    CHECK(fcgi_padding(FCGI_STREAM_CHUNK) == 0 && FCGI_STREAM_CHUNK + 8 > FCGI_MAX_LENGTH);
}

/* -- the reader --------------------------------------------------------------------------------------------------- */

struct record {
    uint8_t type;
    uint16_t id;
    uint16_t length;
    uint8_t padding;
};

/* Content is a pattern of the record's own, so that a byte from elsewhere is noticed; padding is 0xff. */
static uint8_t pattern(const struct record *record, size_t at) {
    return (uint8_t)(record->id * 31u + at * 7u);
}

static size_t write_stream(uint8_t *to, const struct record *records, size_t count) {
    uint8_t *start = to;

    for (size_t i = 0; i < count; i++) {
        fcgi_header_encode(to, records[i].type, records[i].id, records[i].length, records[i].padding);
        to += FCGI_HEADER_LEN;
        for (size_t at = 0; at < records[i].length; at++)
            *to++ = pattern(&records[i], at);
        memset(to, 0xff, records[i].padding);
        to += records[i].padding;
    }
    return (size_t)(to - start);
}

/* Where the expected records are checked off. */
struct progress {
    const struct record *records;
    size_t count;
    size_t current;  /* record whose content is being read */
    size_t seen;     /* bytes of it that have come */
    size_t started;  /* 1: a span of it has come */
};

static void check_span(struct progress *p, const struct fcgi_span *span, const uint8_t *buf, size_t len) {
    const struct record *record = &p->records[p->current];

    CHECK(p->current < p->count);
    CHECK(span->header.type == record->type && span->header.request_id == record->id);
    CHECK(span->header.content_length == record->length && span->header.padding_length == record->padding);
    CHECK(span->first == !p->started);
    /* Nothing is copied: the content lies in the buffer that was given. */
    if (span->length) {
        CHECK(span->content >= buf && span->length <= len);
        CHECK((size_t)(span->content - buf) <= len - span->length);
    } else {
        CHECK(record->length == 0);
    }
    CHECK(span->length <= record->length - p->seen);
    for (size_t i = 0; i < span->length; i++)
        CHECK(span->content[i] == pattern(record, p->seen + i));
    p->seen += span->length;
    p->started = 1;
    CHECK(span->last == (p->seen == record->length));
    if (span->last) {
        p->current++;
        p->seen = 0;
        p->started = 0;
    }
}

/* Give the reader one piece, which lies at an edge of the room, and take all spans from it. */
static void read_piece(struct fcgi_reader *reader, struct progress *p, const uint8_t *piece, size_t length, int edge) {
    uint8_t *buf = edge ? at_the_edge(piece, length) : behind_the_edge(piece, length);
    size_t at = 0;
    size_t used;
    struct fcgi_span span;
    int got;

    while ((got = fcgi_reader_next(reader, buf + at, length - at, &used, &span)) == 1) {
        CHECK(used <= length - at);
        CHECK(used > 0);
        check_span(p, &span, buf + at, length - at);
        at += used;
    }
    CHECK(got == 0 && used == length - at);
}

static void expect_stream(const struct record *records, size_t count, size_t step) {
    static uint8_t stream[ROOM];
    size_t length = write_stream(stream, records, count);

    for (int edge = 0; edge < 2; edge++) {
        struct fcgi_reader reader;
        struct progress p = {records, count, 0, 0, 0};

        memset(&reader, 0, sizeof reader);
        CHECK(fcgi_reader_idle(&reader));
        for (size_t at = 0; at < length; at += step)
            read_piece(&reader, &p, stream + at, length - at < step ? length - at : step, edge);
        CHECK(p.current == count);
        CHECK(fcgi_reader_idle(&reader));
    }
}

static void records_are_the_same_however_they_arrive(void) {
    const struct record records[] = {
        {FCGI_BEGIN_REQUEST, 1, 8, 0}, {FCGI_PARAMS, 1, 300, 4}, {FCGI_PARAMS, 1, 0, 0},  {FCGI_STDIN, 1, 1, 7},
        {FCGI_STDIN, 65535, 17, 255},  {FCGI_STDIN, 1, 0, 8},    {200, 0, 3, 1},          {FCGI_ABORT_REQUEST, 2, 0, 255},
        {FCGI_STDIN, 1, 256, 0},
    };

    for (size_t step = 1; step <= 64; step++)
        expect_stream(records, sizeof records / sizeof *records, step);
    expect_stream(records, sizeof records / sizeof *records, ROOM);
}

static void padding_may_be_anything_from_0_to_255(void) {
    for (unsigned padding = 0; padding < 256; padding++) {
        const struct record records[] = {{FCGI_STDIN, 7, 5, (uint8_t)padding}, {FCGI_STDIN, 9, 0, (uint8_t)padding}};
        const size_t steps[] = {1, 7, 8, 13, ROOM};

        for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
            expect_stream(records, 2, steps[i]);
    }
}

static void the_largest_record_fits(void) {
    const struct record records[] = {{FCGI_STDIN, 1, 65535, 255}, {FCGI_STDIN, 1, 65535, 1}};

    expect_stream(records, 2, ROOM);
    expect_stream(records, 2, 65535);
    expect_stream(records, 2, 4096);
}

static void a_lost_record_border_is_told_at_its_first_byte(void) {
    const struct record good = {FCGI_STDIN, 1, 3, 5};
    uint8_t stream[64];
    size_t length = write_stream(stream, &good, 1);

    stream[length] = 2;
    for (size_t cut = 1; cut <= length; cut++) {
        struct fcgi_reader reader;
        struct progress p = {&good, 1, 0, 0, 0};
        struct fcgi_span span;
        size_t used;

        memset(&reader, 0, sizeof reader);
        read_piece(&reader, &p, stream, cut, 1);
        read_piece(&reader, &p, stream + cut, length - cut, 1);
        CHECK(fcgi_reader_next(&reader, at_the_edge(stream + length, 1), 1, &used, &span) == FCGI_E_VERSION);
    }
}

static void the_reader_is_idle_between_records_only(void) {
    const struct record record = {FCGI_STDIN, 1, 3, 5};
    uint8_t stream[64];
    size_t length = write_stream(stream, &record, 1);

    for (size_t cut = 0; cut <= length; cut++) {
        struct fcgi_reader reader;
        struct progress p = {&record, 1, 0, 0, 0};

        memset(&reader, 0, sizeof reader);
        read_piece(&reader, &p, stream, cut, 1);
        CHECK(fcgi_reader_idle(&reader) == (cut == 0 || cut == length));
    }
}

/* -- name-value pairs --------------------------------------------------------------------------------------------- */

/* Every prefix of the pair needs more, tells how much to come back with, and is not read past its end. */
static void expect_pair(const uint8_t *wire, size_t length, size_t name_at, uint32_t name_length,
                        uint32_t value_length) {
    struct fcgi_pair pair;
    size_t used;

    for (size_t cut = 0; cut < length; cut++) {
        CHECK(fcgi_pair_decode(at_the_edge(wire, cut), cut, ROOM, &used, &pair) == 0);
        CHECK(used > cut && used <= length);
    }
    for (size_t tail = 0; tail < 3; tail++) {
        uint8_t *buf = at_the_edge(wire, length + tail);

        CHECK(fcgi_pair_decode(buf, length + tail, (size_t)name_length + value_length, &used, &pair) == 1);
        CHECK(used == length);
        CHECK(pair.name_length == name_length && pair.value_length == value_length);
        CHECK(pair.name == buf + name_at && pair.value == buf + name_at + name_length);
        if (name_length + value_length)
            CHECK(fcgi_pair_decode(buf, length + tail, (size_t)name_length + value_length - 1, &used, &pair) ==
                  FCGI_E_LIMIT);
    }
}

static void pairs_have_four_forms(void) {
    static const uint8_t short_short[] = "\x01\x02" "abb" "tail";
    static const uint8_t short_long[] = "\x01\x80\x00\x00\x02" "abb" "tail";
    static const uint8_t long_short[] = "\x80\x00\x00\x01\x02" "abb" "tail";
    static const uint8_t long_long[] = "\x80\x00\x00\x01\x80\x00\x00\x02" "abb" "tail";
    static const uint8_t nothing[] = "\x00\x00" "tail";
    static const uint8_t no_value[] = "\x04\x00" "NAME" "tail";

    expect_pair(short_short, 5, 2, 1, 2);
    expect_pair(short_long, 8, 5, 1, 2);
    expect_pair(long_short, 8, 5, 1, 2);
    expect_pair(long_long, 11, 8, 1, 2);
    expect_pair(nothing, 2, 2, 0, 0);
    expect_pair(no_value, 6, 2, 4, 0);
}

static void lengths_change_their_form_at_128(void) {
    const uint32_t lengths[] = {0, 1, 127, 128, 255, 256, 65535, 65536, 100000};
    const size_t count = sizeof lengths / sizeof *lengths;
    static uint8_t wire[ROOM];

    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < count; j++) {
            size_t head = fcgi_pair_lengths_encode(wire, lengths[i], lengths[j]);
            size_t size = fcgi_pair_size(lengths[i], lengths[j]);
            struct fcgi_pair pair;
            size_t used;

            CHECK(head == (size_t)(lengths[i] < 128 ? 1 : 4) + (lengths[j] < 128 ? 1 : 4));
            CHECK(size == head + lengths[i] + lengths[j]);
            CHECK(fcgi_pair_decode(at_the_edge(wire, size), size, size, &used, &pair) == 1);
            CHECK(used == size && pair.name_length == lengths[i] && pair.value_length == lengths[j]);
        }
}

/* CVE-2025-23016: libfcgi added the two lengths in 32 bits, allocated the small sum and wrote past it. */
static void lengths_whose_sum_overflows_are_over_the_limit(void) {
    static const uint8_t hostile[][8] = {
        {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, /* 2**31 - 1 twice: + 2 is 2**32 */
        {0xff, 0xff, 0xff, 0xff, 0x80, 0x00, 0x00, 0x01}, /* the sum is 2**31 */
        {0x80, 0x00, 0x00, 0x01, 0xff, 0xff, 0xff, 0xff},
        {0xff, 0xff, 0xff, 0xff, 0x80, 0x00, 0x00, 0x00},
    };
    const size_t limits[] = {0, 1, 8, 65535, 262144, 0x7ffffffe};
    struct fcgi_pair pair;
    size_t used;

    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++)
        for (size_t j = 0; j < sizeof limits / sizeof *limits; j++) {
            uint8_t *buf = at_the_edge(hostile[i], 8);
            CHECK(fcgi_pair_decode(buf, 8, limits[j], &used, &pair) == FCGI_E_LIMIT);
        }
    /* A name that is too long is told when its own length is there. */
    CHECK(fcgi_pair_decode(at_the_edge(hostile[0], 4), 4, 262144, &used, &pair) == FCGI_E_LIMIT);
    /* Without a limit they are just not there yet, and the length to wait for has not wrapped around. */
    if (sizeof(size_t) > 4) {
        CHECK(fcgi_pair_decode(at_the_edge(hostile[0], 8), 8, SIZE_MAX, &used, &pair) == 0);
        CHECK(used == (size_t)8 + 0x7fffffffu + 0x7fffffffu);
    }
}

static void the_size_of_the_longest_pair_does_not_wrap_around(void) {
    if (sizeof(size_t) > 4)
        CHECK(fcgi_pair_size(0x7fffffffu, 0x7fffffffu) == (size_t)8 + 0x7fffffffu + 0x7fffffffu);
}

/* -- bodies of discrete records ----------------------------------------------------------------------------------- */

static void bodies_are_those_of_the_specification(void) {
    const uint8_t begin[] = {0, FCGI_FILTER, FCGI_KEEP_CONN, 0, 0, 0, 0, 0};
    const uint8_t end[] = {0xde, 0xad, 0xbe, 0xef, FCGI_UNKNOWN_ROLE, 0, 0, 0};
    const uint8_t unknown[] = {77, 0, 0, 0, 0, 0, 0, 0};
    uint8_t *written = room + ROOM - FCGI_BODY_LEN;
    struct fcgi_begin_request begin_request;
    struct fcgi_end_request end_request;

    fcgi_begin_request_decode(at_the_edge(begin, 8), &begin_request);
    CHECK(begin_request.role == FCGI_FILTER && begin_request.flags == FCGI_KEEP_CONN);
    fcgi_begin_request_encode(written, FCGI_FILTER, FCGI_KEEP_CONN);
    CHECK(memcmp(written, begin, 8) == 0);

    fcgi_end_request_decode(at_the_edge(end, 8), &end_request);
    CHECK(end_request.app_status == 0xdeadbeef && end_request.protocol_status == FCGI_UNKNOWN_ROLE);
    fcgi_end_request_encode(written, 0xdeadbeef, FCGI_UNKNOWN_ROLE);
    CHECK(memcmp(written, end, 8) == 0);

    fcgi_unknown_type_encode(written, 77);
    CHECK(memcmp(written, unknown, 8) == 0);
}

int main(void) {
    build_room();
    a_header_is_eight_bytes_in_network_order();
    a_short_header_needs_more();
    a_wrong_version_is_told_at_its_first_byte();
    the_reserved_byte_of_a_header_is_not_looked_at();
    padding_brings_content_to_a_multiple_of_eight();
    records_are_the_same_however_they_arrive();
    padding_may_be_anything_from_0_to_255();
    the_largest_record_fits();
    a_lost_record_border_is_told_at_its_first_byte();
    the_reader_is_idle_between_records_only();
    pairs_have_four_forms();
    lengths_change_their_form_at_128();
    lengths_whose_sum_overflows_are_over_the_limit();
    the_size_of_the_longest_pair_does_not_wrap_around();
    bodies_are_those_of_the_specification();
    puts("ok");
    return 0;
}
