#define _GNU_SOURCE
#include "request.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { BEGIN_REQUEST = 1, PARAMS = 4, STDIN = 5, RESPONDER = 1, KEEP_CONN = 1, HEADER_LENGTH = 8 };

#define MAX_CONTENT 65535
#define MAX_PARAMS 128
#define STDIN_CHUNK 32768 /* where nginx cuts a body */

struct param {
    const char *name;
    size_t name_length;
    const char *value;
};

struct params {
    struct param list[MAX_PARAMS];
    int count;
};

static void *must(void *memory) {
    if (memory == NULL)
        abort();
    return memory;
}

/* printf to memory that is never freed: the request lives as long as the program. */
__attribute__((format(printf, 1, 2))) static char *text(const char *format, ...) {
    char *out;
    va_list args;
    va_start(args, format);
    int length = vasprintf(&out, format, args);
    va_end(args);
    return must(length < 0 ? NULL : out);
}

/* Set a parameter; one of that name that is there already keeps its place. */
static void set(struct params *params, const char *name, size_t name_length, const char *value) {
    int i = 0;
    while (i < params->count &&
           (params->list[i].name_length != name_length || memcmp(params->list[i].name, name, name_length) != 0))
        i++;
    params->list[i] = (struct param){name, name_length, value};
    if (i == params->count)
        params->count++;
}

/* The order is that of nginx: fastcgi.conf first, then the browser's headers. An unset CONTENT_TYPE and CONTENT_LENGTH
 * come as empty values, which is what nginx sends with a GET. */
static void usual_params(struct params *params, const struct request_options *o) {
    const char *usual[][2] = {
        {"SCRIPT_FILENAME", text("%s%s", o->docroot, o->script)},
        {"QUERY_STRING", o->query},
        {"REQUEST_METHOD", o->body_bytes ? "POST" : "GET"},
        {"CONTENT_TYPE", o->body_bytes ? "application/octet-stream" : ""},
        {"CONTENT_LENGTH", o->body_bytes ? text("%zu", o->body_bytes) : ""},
        {"SCRIPT_NAME", o->script},
        {"REQUEST_URI", text("%s%s%s", o->script, *o->query ? "?" : "", o->query)},
        {"DOCUMENT_URI", o->script},
        {"DOCUMENT_ROOT", o->docroot},
        {"SERVER_PROTOCOL", "HTTP/1.1"},
        {"REQUEST_SCHEME", "http"},
        {"GATEWAY_INTERFACE", "CGI/1.1"},
        {"SERVER_SOFTWARE", "nginx/1.22.1"},
        {"REMOTE_ADDR", "192.0.2.17"},
        {"REMOTE_PORT", "51234"},
        {"SERVER_ADDR", "192.0.2.1"},
        {"SERVER_PORT", "80"},
        {"SERVER_NAME", "www.example.org"},
        {"REDIRECT_STATUS", "200"},
        {"PATH_INFO", ""},
        {"HTTP_HOST", "www.example.org"},
        {"HTTP_USER_AGENT", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"},
        {"HTTP_ACCEPT", "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8"},
        {"HTTP_ACCEPT_LANGUAGE", "de,en-US;q=0.7,en;q=0.3"},
        {"HTTP_ACCEPT_ENCODING", "gzip, deflate, br"},
        {"HTTP_COOKIE", "session=4f2d8c1b9a7e4d6f8b3c5a1e2d4f6b8a; theme=light"},
    };
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
        set(params, usual[i][0], strlen(usual[i][0]), usual[i][1]);
}

static char *put_header(char *to, int type, size_t content_length, size_t padding_length) {
    const char header[HEADER_LENGTH] = {1, (char)type, 0, REQUEST_ID, (char)(content_length >> 8), (char)content_length,
                                        (char)padding_length, 0};
    return (char *)mempcpy(to, header, HEADER_LENGTH);
}

/* One byte for a length up to 127, four with the top bit set for more. Source: FastCGI 1.0, 3.4. */
static char *put_length(char *to, size_t length) {
    if (length > 127) {
        *to++ = (char)(length >> 24 | 0x80);
        *to++ = (char)(length >> 16);
        *to++ = (char)(length >> 8);
    }
    *to++ = (char)length;
    return to;
}

static size_t params_size(const struct params *params) {
    size_t size = 0;
    for (int i = 0; i < params->count; i++) {
        size_t name_length = params->list[i].name_length, value_length = strlen(params->list[i].value);
        size += (name_length > 127 ? 4u : 1u) + (value_length > 127 ? 4u : 1u) + name_length + value_length;
    }
    return size;
}

static char *put_params(char *to, const struct params *params, size_t size) {
    size_t padding = -size & 7;
    to = put_header(to, PARAMS, size, padding);
    for (int i = 0; i < params->count; i++) {
        const struct param *param = &params->list[i];
        to = put_length(to, param->name_length);
        to = put_length(to, strlen(param->value));
        to = (char *)mempcpy(to, param->name, param->name_length);
        to = (char *)mempcpy(to, param->value, strlen(param->value));
    }
    to = (char *)memset(to, 0, padding) + padding;
    return put_header(to, PARAMS, 0, 0);
}

static char *put_body(char *to, size_t body_bytes) {
    while (body_bytes > 0) {
        size_t chunk = body_bytes < STDIN_CHUNK ? body_bytes : STDIN_CHUNK, padding = -chunk & 7;
        to = put_header(to, STDIN, chunk, padding);
        to = (char *)memset(to, 'x', chunk) + chunk;
        to = (char *)memset(to, 0, padding) + padding;
        body_bytes -= chunk;
    }
    return put_header(to, STDIN, 0, 0);
}

int request_encode(const struct request_options *options, struct numbered *out) {
    struct params params = {.count = 0};
    usual_params(&params, options);
    for (int i = 0; i < options->own_param_count; i++) {
        const char *own = options->own_params[i];
        size_t name_length = strcspn(own, "=");
        set(&params, own, name_length, own[name_length] == '=' ? own + name_length + 1 : "");
    }
    size_t size = params_size(&params);
    if (size > MAX_CONTENT)
        return -1;

    size_t stdin_bytes = options->body_bytes + (options->body_bytes / STDIN_CHUNK + 2) * (HEADER_LENGTH + 7);
    char *bytes = must(malloc(4 * HEADER_LENGTH + size + 7 + stdin_bytes));
    const char begin[8] = {0, RESPONDER, options->keep_conn ? KEEP_CONN : 0};
    char *end = put_header(bytes, BEGIN_REQUEST, sizeof begin, 0);
    end = (char *)mempcpy(end, begin, sizeof begin);
    end = put_params(end, &params, size);
    end = put_body(end, options->body_bytes);
    numbered_init(out, bytes, (size_t)(end - bytes));
    return 0;
}
