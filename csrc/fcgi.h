/* The FastCGI 1.0 wire format: records and name-value pairs.
 *
 * This library owns nothing. It takes a pointer and a length, points back into the caller's buffer, and tells by its
 * return value how many bytes it used, that it needs more, or what is broken. It never allocates, never does I/O and
 * never reads past buf + len. Its only state is struct fcgi_reader, which the caller zero-fills.
 *
 * Names are those of the specification ("FastCGI Specification", version 1.0, 29 April 1996; sections in brackets).
 */
#ifndef PYFPM_FCGI_H
#define PYFPM_FCGI_H

#include <stddef.h>
#include <stdint.h>

#define FCGI_VERSION_1 1
#define FCGI_HEADER_LEN 8
#define FCGI_MAX_LENGTH 0xffff /* the largest content of one record [3.3] */
#define FCGI_NULL_REQUEST_ID 0

/* Stream content is cut here when we write: the largest multiple of 8 that fits, so full records need no padding. */
#define FCGI_STREAM_CHUNK 65528

enum fcgi_type { /* [8] */
    FCGI_BEGIN_REQUEST = 1,
    FCGI_ABORT_REQUEST = 2,
    FCGI_END_REQUEST = 3,
    FCGI_PARAMS = 4,
    FCGI_STDIN = 5,
    FCGI_STDOUT = 6,
    FCGI_STDERR = 7,
    FCGI_DATA = 8,
    FCGI_GET_VALUES = 9,
    FCGI_GET_VALUES_RESULT = 10,
    FCGI_UNKNOWN_TYPE = 11,
    FCGI_MAXTYPE = FCGI_UNKNOWN_TYPE
};

enum fcgi_role { FCGI_RESPONDER = 1, FCGI_AUTHORIZER = 2, FCGI_FILTER = 3 }; /* [5.1] */

#define FCGI_KEEP_CONN 1 /* the only flag of BEGIN_REQUEST [5.1] */

enum fcgi_protocol_status { /* [5.5] */
    FCGI_REQUEST_COMPLETE = 0,
    FCGI_CANT_MPX_CONN = 1,
    FCGI_OVERLOADED = 2,
    FCGI_UNKNOWN_ROLE = 3
};

/* What a function could not do. All negative, so that "< 0" finds them. */
enum fcgi_error {
    FCGI_E_VERSION = -1, /* version byte is not 1 */
    FCGI_E_LIMIT = -2    /* a name-value pair is longer than the caller allows */
};

/* One record header [3.3]. */
struct fcgi_header {
    uint8_t type;            /* an fcgi_type, or anything else a peer invents */
    uint8_t padding_length;  /* bytes after the content, to be skipped */
    uint16_t request_id;     /* 0 for management records */
    uint16_t content_length; /* bytes of content */
};

/* Decode one record header from buf. Returns FCGI_HEADER_LEN when *out is filled, 0 when len is short (nothing is
 * consumed), or FCGI_E_VERSION. [3.3] */
int fcgi_header_decode(const uint8_t *buf, size_t len, struct fcgi_header *out);

/* Write the FCGI_HEADER_LEN bytes of a record header to buf. [3.3] */
void fcgi_header_encode(uint8_t *buf, uint8_t type, uint16_t request_id, uint16_t content_length,
                        uint8_t padding_length);

/* Padding that brings content of this length to a multiple of eight bytes, as [3.3] recommends: 0 to 7. */
static inline uint8_t fcgi_padding(size_t content_length) {
    return (uint8_t)(-content_length & 7);
}

/* A part of one record's content as it lies in the caller's buffer. */
struct fcgi_span {
    struct fcgi_header header; /* of the record the span belongs to */
    const uint8_t *content;    /* into the caller's buffer; unspecified when length is 0 */
    size_t length;             /* bytes at content; 0 only for a record without content */
    uint8_t first;             /* 1: the record's content begins here */
    uint8_t last;              /* 1: the record's content ends here */
};

/* Reads records from a stream that arrives in any pieces. Zero-fill it before the first call. Content is never copied:
 * a record that is cut by the end of the buffer comes as several spans. Only a cut header is kept here. */
struct fcgi_reader {
    struct fcgi_header header; /* of the record being read */
    uint32_t content_left;     /* content bytes not yet handed out */
    uint8_t padding_left;      /* padding bytes not yet skipped */
    uint8_t in_content;        /* 1: header is valid and the record's last span is not yet out */
    uint8_t started;           /* 1: a span of this record is out */
    uint8_t held;              /* bytes of a cut header in hold */
    uint8_t hold[FCGI_HEADER_LEN];
};

/* Read on from buf. Sets *used to the bytes consumed, which may be more than 0 even if no span came of them. Returns 1
 * when *out is filled, 0 when all of buf is used and more is needed, or FCGI_E_VERSION: the stream has lost its
 * record borders, and the reader must not be used again. [3.3] */
int fcgi_reader_next(struct fcgi_reader *reader, const uint8_t *buf, size_t len, size_t *used, struct fcgi_span *out);

/* True between two records: nothing of a record has been read that has not been handed out whole. */
static inline int fcgi_reader_idle(const struct fcgi_reader *reader) {
    return !reader->in_content && reader->padding_left == 0 && reader->held == 0;
}

/* A name-value pair as it lies in the caller's buffer [3.4]. */
struct fcgi_pair {
    const uint8_t *name;
    const uint8_t *value;
    uint32_t name_length;  /* at most 2**31 - 1 */
    uint32_t value_length; /* at most 2**31 - 1 */
};

/* Decode one name-value pair from buf [3.4]. Returns 1 and sets *used when *out is filled; 0 when len is short (nothing
 * is consumed; *used is then the length at which it is worth calling again); or FCGI_E_LIMIT when name and value
 * together are longer than max bytes, which is told as soon as the lengths are there. */
int fcgi_pair_decode(const uint8_t *buf, size_t len, size_t max, size_t *used, struct fcgi_pair *out);

/* Bytes that a pair of these lengths takes on the wire [3.4]; lengths are at most 2**31 - 1. */
size_t fcgi_pair_size(uint32_t name_length, uint32_t value_length);

/* Write the lengths of a pair, 2 to 8 bytes, to buf; name and value follow them [3.4]. Returns the bytes written. */
size_t fcgi_pair_lengths_encode(uint8_t *buf, uint32_t name_length, uint32_t value_length);

/* The eight-byte bodies of three discrete records. */
#define FCGI_BODY_LEN 8

struct fcgi_begin_request { /* [5.1] */
    uint16_t role;          /* an fcgi_role, or anything else */
    uint8_t flags;          /* FCGI_KEEP_CONN */
};

struct fcgi_end_request { /* [5.5] */
    uint32_t app_status;
    uint8_t protocol_status;
};

/* Each reads or writes exactly FCGI_BODY_LEN bytes. */
void fcgi_begin_request_decode(const uint8_t *buf, struct fcgi_begin_request *out);
void fcgi_begin_request_encode(uint8_t *buf, uint16_t role, uint8_t flags);
void fcgi_end_request_decode(const uint8_t *buf, struct fcgi_end_request *out);
void fcgi_end_request_encode(uint8_t *buf, uint32_t app_status, uint8_t protocol_status);
void fcgi_unknown_type_encode(uint8_t *buf, uint8_t type); /* [4.2] */

#endif
