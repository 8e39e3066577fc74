/* The request that the load generator sends: what nginx with its fastcgi.conf makes of a browser's GET or POST.
 *
 * It is encoded once: BEGIN_REQUEST, all parameters in one PARAMS record padded to eight bytes, the empty PARAMS
 * record, the body in STDIN records of at most 32 KiB, the empty STDIN record. Only the digits of its number change
 * (numbered.h).
 */
#ifndef BENCH_REQUEST_H
#define BENCH_REQUEST_H

#include "numbered.h"

#define REQUEST_ID 1
#define REQUEST_MAX_OWN_PARAMS 64

struct request_options {
    const char *docroot;    /* DOCUMENT_ROOT */
    const char *script;     /* SCRIPT_NAME and so on; begins with a slash */
    const char *query;      /* QUERY_STRING, usually with a NUMBERED_MARK */
    size_t body_bytes;      /* 0: a GET; else a POST with a body of this size */
    int keep_conn;          /* set FCGI_KEEP_CONN */
    const char *own_params[REQUEST_MAX_OWN_PARAMS]; /* "NAME=VALUE": replaces a usual parameter or is added */
    int own_param_count;
};

/* Encode the request. The bytes belong to *out and live as long as the program. Returns 0, or -1 when the parameters do
 * not fit in one record. */
int request_encode(const struct request_options *options, struct numbered *out);

#endif
