/* See fcgi.h. Lengths are compared by subtraction ("n > len - used"), never by adding what a peer sent: the sum of two
 * 31-bit lengths is where FastCGI libraries have overflowed (CVE-2025-23016). */
#include "fcgi.h"

#include <string.h>

static uint16_t get16(const uint8_t *p) {
    return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, uint16_t n) {
    p[0] = (uint8_t)(n >> 8);
    p[1] = (uint8_t)n;
}

static uint32_t get32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put32(uint8_t *p, uint32_t n) {
    put16(p, (uint16_t)(n >> 16));
    put16(p + 2, (uint16_t)n);
}

int fcgi_header_decode(const uint8_t *buf, size_t len, struct fcgi_header *out) {
    /* The version is looked at before the length: a peer that speaks something else is told so at its first byte. */
    if (len > 0 && buf[0] != FCGI_VERSION_1)
        return FCGI_E_VERSION;
    if (len < FCGI_HEADER_LEN)
        return 0;
    out->type = buf[1];
    out->request_id = get16(buf + 2);
    out->content_length = get16(buf + 4);
    out->padding_length = buf[6];
    return FCGI_HEADER_LEN;
}

void fcgi_header_encode(uint8_t *buf, uint8_t type, uint16_t request_id, uint16_t content_length,
                        uint8_t padding_length) {
    buf[0] = FCGI_VERSION_1;
    buf[1] = type;
    put16(buf + 2, request_id);
    put16(buf + 4, content_length);
    buf[6] = padding_length;
    buf[7] = 0;
}

/* Take a header from hold and buf together. Returns the bytes of buf used, 0 if that is not enough yet (they are then
 * all in hold), or FCGI_E_VERSION. */
static int read_cut_header(struct fcgi_reader *reader, const uint8_t *buf, size_t len) {
    size_t missing = (size_t)FCGI_HEADER_LEN - reader->held;
    size_t take = len < missing ? len : missing;
    int got;

    memcpy(reader->hold + reader->held, buf, take);
    reader->held = (uint8_t)(reader->held + take);
    got = fcgi_header_decode(reader->hold, reader->held, &reader->header);
    if (got <= 0)
        return got;
    reader->held = 0;
    return (int)take;
}

int fcgi_reader_next(struct fcgi_reader *reader, const uint8_t *buf, size_t len, size_t *used, struct fcgi_span *out) {
    size_t at = 0;

    if (reader->padding_left) {
        at = len < reader->padding_left ? len : reader->padding_left;
        reader->padding_left = (uint8_t)(reader->padding_left - at);
    }
    *used = at;
    if (!reader->in_content) {
        int got;

        if (at == len)
            return 0;
        if (reader->held || len - at < FCGI_HEADER_LEN)
            got = read_cut_header(reader, buf + at, len - at);
        else
            got = fcgi_header_decode(buf + at, len - at, &reader->header);
        if (got < 0)
            return got;
        if (got == 0) {
            *used = len;
            return 0;
        }
        at += (size_t)got;
        *used = at;
        reader->in_content = 1;
        reader->started = 0;
        reader->content_left = reader->header.content_length;
    }
    if (at == len && reader->content_left)
        return 0;

    out->header = reader->header;
    out->content = buf + at;
    out->length = len - at < reader->content_left ? len - at : reader->content_left;
    out->first = !reader->started;
    reader->started = 1;
    reader->content_left -= (uint32_t)out->length;
    out->last = reader->content_left == 0;
    if (out->last) {
        reader->in_content = 0;
        reader->padding_left = reader->header.padding_length;
    }
    *used = at + out->length;
    return 1;
}

/* Read one length of a pair at *at. Returns 0 and sets *need when it is not all there. */
static int get_length(const uint8_t *buf, size_t len, size_t *at, size_t *need, uint32_t *out) {
    if (len - *at < 1) {
        *need = *at + 1;
        return 0;
    }
    if (buf[*at] < 0x80) {
        *out = buf[*at];
        *at += 1;
        return 1;
    }
    if (len - *at < 4) {
        *need = *at + 4;
        return 0;
    }
    *out = get32(buf + *at) & 0x7fffffff;
    *at += 4;
    return 1;
}

int fcgi_pair_decode(const uint8_t *buf, size_t len, size_t max, size_t *used, struct fcgi_pair *out) {
    size_t at = 0;

    if (!get_length(buf, len, &at, used, &out->name_length))
        return 0;
    /* A name alone that is too long is told before its value's length has come. */
    if (out->name_length > max)
        return FCGI_E_LIMIT;
    if (!get_length(buf, len, &at, used, &out->value_length))
        return 0;
    if (out->value_length > max - out->name_length)
        return FCGI_E_LIMIT;
    if (out->name_length > len - at || out->value_length > len - at - out->name_length) {
        /* Both are below 2**31, and at is at most 8: where size_t has 32 bits the caller's max keeps the sum in range,
         * since max cannot be larger than memory. */
        *used = at + out->name_length + out->value_length;
        return 0;
    }
    out->name = buf + at;
    out->value = out->name + out->name_length;
    *used = at + out->name_length + out->value_length;
    return 1;
}

static size_t put_length(uint8_t *buf, uint32_t length) {
    if (length < 0x80) {
        buf[0] = (uint8_t)length;
        return 1;
    }
    put32(buf, length | 0x80000000u);
    return 4;
}

size_t fcgi_pair_size(uint32_t name_length, uint32_t value_length) {
    return (size_t)(name_length < 0x80 ? 1 : 4) + (value_length < 0x80 ? 1 : 4) + name_length + value_length;
}

size_t fcgi_pair_lengths_encode(uint8_t *buf, uint32_t name_length, uint32_t value_length) {
    size_t at = put_length(buf, name_length);

    return at + put_length(buf + at, value_length);
}

void fcgi_begin_request_decode(const uint8_t *buf, struct fcgi_begin_request *out) {
    out->role = get16(buf);
    out->flags = buf[2];
}

void fcgi_begin_request_encode(uint8_t *buf, uint16_t role, uint8_t flags) {
    memset(buf, 0, FCGI_BODY_LEN);
    put16(buf, role);
    buf[2] = flags;
}

void fcgi_end_request_decode(const uint8_t *buf, struct fcgi_end_request *out) {
    out->app_status = get32(buf);
    out->protocol_status = buf[4];
}

void fcgi_end_request_encode(uint8_t *buf, uint32_t app_status, uint8_t protocol_status) {
    memset(buf, 0, FCGI_BODY_LEN);
    put32(buf, app_status);
    buf[4] = protocol_status;
}

void fcgi_unknown_type_encode(uint8_t *buf, uint8_t type) {
    memset(buf, 0, FCGI_BODY_LEN);
    buf[0] = type;
}
