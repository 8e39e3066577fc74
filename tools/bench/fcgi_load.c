/* A load generator that speaks FastCGI: N connections, each with one request at a time, every answer checked.
 *
 * It behaves as nginx does towards its upstream: a new connection for each request, closed by us as soon as
 * END_REQUEST is there, or kept connections with FCGI_KEEP_CONN. All is one thread around poll(). Why not epoll: it
 * would register and forget each new connection for the sake of one event. Measured against the floor, poll was 20 %
 * faster with 64 new connections at a time, and as fast with 1000 kept ones.
 *
 * All requests are the same bytes but for their number. So there is one copy of them, and the number is written into it
 * before each send, also when the rest of a half-sent request goes out.
 *
 * What is counted:
 *   requests   right answers
 *   wrong      answers that came and were not right, see answer_fault()
 *   missing    connection closed, or nothing heard for --timeout, before the answer was complete
 *   retries    connect() to a unix socket whose backlog was full (EAGAIN), tried again
 *   not_kept   a connection we meant to keep was closed between two requests; the request goes to a new one, as a web
 *              server does it
 *
 * A latency begins before connect() and ends when END_REQUEST has been read; retries are inside. "load_cpu" is our own
 * share of a core. Near 1 the rate may be ours and not the server's, but need not: with time to spare we merely wake
 * more often, for fewer answers each time. Whether the server was busy must be asked of the server.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "answer.h"
#include "latency.h"
#include "request.h"

#define NS_PER_SECOND 1000000000ull
#define FAULTS_SHOWN 3 /* enough to see what is wrong; the rest is only counted */
#define BACKLOG_RETRY_MS 1
#define TIMEOUT_SWEEP_MS 250

static struct {
    struct sockaddr_storage address;
    socklen_t address_length;
    unsigned connections;
    uint64_t max_requests; /* UINT64_MAX: only the time ends the run */
    double seconds;        /* 0: only the count ends the run */
    double timeout;
    const char *expect;
    int contains;
    const char *percentiles;
    int print_size;
    struct request_options request;
} options = {
    .connections = 8,
    .max_requests = UINT64_MAX,
    .timeout = 10,
    .percentiles = "50,90,99",
    .request = {.docroot = "/var/www", .script = "/hello", .query = "name=n" NUMBERED_MARK},
};

struct connection {
    struct pollfd *poll;  /* our place in load.polled; its fd is -1 when not connected, which poll() skips */
    int busy;             /* a request is under way; if not connected, it waits for room in the server's backlog */
    unsigned answered;    /* requests this connection has carried */
    uint32_t number;      /* of the request under way */
    size_t sent;          /* bytes of it that are out */
    uint64_t started_ns;
    struct answer answer;
};

static struct {
    struct connection *connections;
    struct pollfd *polled; /* one for each connection, in the same order */
    unsigned busy;
    unsigned backlogged; /* busy and not connected */
    struct numbered wire;
    struct numbered expected;
    uint64_t deadline_ns;
    uint64_t begun, right, wrong, missing, retries, not_kept, stdout_bytes, stderr_bytes;
    struct latency latency;
} load;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_SECOND + (uint64_t)t.tv_nsec;
}

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("fcgi_load: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static void show_fault(const struct connection *c, const char *what) {
    if (load.wrong + load.missing > FAULTS_SHOWN)
        return;
    size_t got = c->answer.stdout_bytes < 300 ? c->answer.stdout_bytes : 300;
    fprintf(stderr, "fcgi_load: request %u: %s; %zu bytes of STDOUT: %.*s\n", c->number, what, c->answer.stdout_bytes,
            (int)got, c->answer.kept);
}

/* -- one connection ---------------------------------------------------------------------------------------------- */

static int connected(const struct connection *c) {
    return c->poll->fd >= 0;
}

static void disconnect(struct connection *c) {
    close(c->poll->fd);
    c->poll->fd = -1;
    c->answered = 0;
}

/* Send what is left of the request. A failed send is not a fault yet: the server may have answered without reading all,
 * or have closed a kept connection. Either way the next recv tells. */
static void send_request(struct connection *c) {
    numbered_set(&load.wire, c->number);
    c->poll->events = POLLIN;
    while (c->sent < load.wire.length) {
        ssize_t n = send(c->poll->fd, load.wire.bytes + c->sent, load.wire.length - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            c->poll->events |= errno == EAGAIN ? POLLOUT : 0;
            return;
        }
        c->sent += (size_t)n;
    }
}

static void connect_and_send(struct connection *c) {
    int family = options.address.ss_family, one = 1;
    int fd = c->poll->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket: %m");
    if (family != AF_UNIX) {
        /* Close with a reset: we close first, and TIME_WAIT would use up the local ports within seconds. */
        struct linger reset = {.l_onoff = 1, .l_linger = 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    /* EINPROGRESS (TCP) needs no state of its own: send says EAGAIN until the connection is there. */
    if (connect(fd, (struct sockaddr *)&options.address, options.address_length) == 0 || errno == EINPROGRESS) {
        send_request(c);
    } else if (errno == EAGAIN) {
        disconnect(c);
        load.retries++;
        load.backlogged++;
    } else {
        die("connect: %m");
    }
}

static void next_request(struct connection *c, uint64_t now) {
    if (load.begun >= options.max_requests || now >= load.deadline_ns) {
        if (connected(c))
            disconnect(c);
        load.busy -= (unsigned)c->busy;
        c->busy = 0;
        return;
    }
    load.busy += !c->busy;
    c->busy = 1;
    c->number = (uint32_t)(load.begun++ % NUMBERED_WRAPS_AT);
    c->sent = 0;
    c->started_ns = now;
    answer_reset(&c->answer);
    if (connected(c))
        send_request(c);
    else if (load.backlogged > 0)
        load.backlogged++; /* others wait for room already: queue up behind them */
    else
        connect_and_send(c);
}

/* Count a fault and go on with a new connection. */
static void give_up(struct connection *c, uint64_t *counter, const char *what) {
    ++*counter;
    show_fault(c, what);
    if (connected(c))
        disconnect(c);
    else
        load.backlogged--;
    next_request(c, now_ns());
}

static void lost(struct connection *c, const char *what) {
    if (c->answered == 0 || !answer_untouched(&c->answer)) {
        give_up(c, &load.missing, what);
        return;
    }
    load.not_kept++;
    disconnect(c);
    c->sent = 0;
    connect_and_send(c);
}

static void answered(struct connection *c) {
    numbered_set(&load.expected, c->number);
    const char *fault = answer_fault(&c->answer, options.expect ? &load.expected : NULL, options.contains);
    load.stderr_bytes += c->answer.stderr_bytes;
    if (fault != NULL) {
        give_up(c, &load.wrong, fault);
        return;
    }
    uint64_t now = now_ns();
    load.right++;
    load.stdout_bytes += c->answer.stdout_bytes;
    latency_add(&load.latency, now - c->started_ns);
    c->answered++;
    if (!options.request.keep_conn || c->sent < load.wire.length)
        disconnect(c); /* a request that was answered before it was sent cannot be followed by another */
    next_request(c, now);
}

static void receive(struct connection *c) {
    static uint8_t buffer[65536];
    ssize_t n = recv(c->poll->fd, buffer, sizeof buffer, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        lost(c, n < 0 ? strerror(errno) : "closed before END_REQUEST");
        return;
    }
    switch (answer_feed(&c->answer, buffer, (size_t)n)) {
    case ANSWER_MORE:
        return;
    case ANSWER_COMPLETE:
        answered(c);
        return;
    case ANSWER_BROKEN:
        give_up(c, &load.wrong, c->answer.broken);
        return;
    }
}

/* -- the run ----------------------------------------------------------------------------------------------------- */

/* Connect those that wait for room in the server's backlog, until it is full again. The next pass goes on where this
 * one stopped, so that each has its turn. */
static void retry_backlogged(void) {
    static unsigned at;
    for (unsigned tried = 0; tried < options.connections && load.backlogged > 0; tried++) {
        struct connection *c = &load.connections[at];
        if (c->busy && !connected(c)) {
            load.backlogged--;
            connect_and_send(c);
            if (!connected(c))
                return;
        }
        at = (at + 1) % options.connections;
    }
}

static void sweep_timeouts(uint64_t now) {
    for (unsigned i = 0; i < options.connections; i++) {
        struct connection *c = &load.connections[i];
        if (c->busy && (double)(now - c->started_ns) > options.timeout * (double)NS_PER_SECOND)
            give_up(c, &load.missing, "timeout");
    }
}

/* Keep all connections busy until the count or the time is over, then wait for the answers that are still due: an
 * abandoned request would be an error in the server's eyes. */
static void run(void) {
    uint64_t start = now_ns(), next_sweep = start;
    load.deadline_ns = options.seconds > 0 ? start + (uint64_t)(options.seconds * (double)NS_PER_SECOND) : UINT64_MAX;
    for (unsigned i = 0; i < options.connections; i++)
        next_request(&load.connections[i], start);
    while (load.busy > 0) {
        int ready = poll(load.polled, options.connections, load.backlogged ? BACKLOG_RETRY_MS : TIMEOUT_SWEEP_MS);
        if (ready < 0 && errno != EINTR)
            die("poll: %m");
        for (unsigned i = 0; i < options.connections && ready > 0; i++) {
            short events = load.polled[i].revents;
            ready -= events != 0;
            if (events & POLLOUT)
                send_request(&load.connections[i]);
            if (events & ~POLLOUT)
                receive(&load.connections[i]);
        }
        if (load.backlogged > 0)
            retry_backlogged();
        uint64_t now = now_ns();
        if (now >= next_sweep) {
            sweep_timeouts(now);
            next_sweep = now + TIMEOUT_SWEEP_MS * (NS_PER_SECOND / 1000);
        }
    }
}

static double cpu_seconds(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

/* One line of JSON on stdout; a machine reads it, and a person can. */
static void report(double seconds, double cpu) {
    printf("{\"requests\": %lu, \"wrong\": %lu, \"missing\": %lu, \"retries\": %lu, \"not_kept\": %lu, ", load.right,
           load.wrong, load.missing, load.retries, load.not_kept);
    printf("\"stdout_bytes\": %lu, \"stderr_bytes\": %lu, ", load.stdout_bytes, load.stderr_bytes);
    printf("\"seconds\": %.6f, \"per_second\": %.1f, \"load_cpu\": %.2f, ", seconds, (double)load.right / seconds,
           cpu / seconds);
    const struct latency *l = &load.latency;
    printf("\"latency_us\": {\"mean\": %.1f", l->count ? (double)l->sum_ns / (double)l->count / 1e3 : 0.0);
    char *list = strdup(options.percentiles), *rest = list, *percent;
    while (list != NULL && (percent = strsep(&rest, ",")) != NULL)
        printf(", \"p%s\": %.1f", percent, (double)latency_percentile(l, atof(percent)) / 1e3);
    printf(", \"max\": %.1f}}\n", (double)l->max_ns / 1e3);
    free(list);
}

/* -- the command line -------------------------------------------------------------------------------------------- */

static const char usage[] =
    "usage: fcgi_load [options] ADDRESS\n"
    "ADDRESS is the path of a unix socket (it has a slash) or HOST:PORT. " NUMBERED_MARK " in a query, parameter or\n"
    "expected text stands for the request's number. Prints one line of JSON; the exit status is 1 if any answer was\n"
    "wrong or missing.\n"
    "  --connections N       connections at a time (8)\n"
    "  --keep-alive          keep them (FCGI_KEEP_CONN); otherwise a new one for each request\n"
    "  --requests N          stop after N requests (1000, unless --seconds is given)\n"
    "  --seconds S           stop after S seconds\n"
    "  --timeout S           an answer that takes longer is missing (10)\n"
    "  --docroot DIR         DOCUMENT_ROOT (/var/www)\n"
    "  --script PATH         SCRIPT_NAME (/hello)\n"
    "  --query TEXT          QUERY_STRING (name=n" NUMBERED_MARK ")\n"
    "  --param NAME=VALUE    replace or add a parameter; may be repeated\n"
    "  --body BYTES          POST a body of this size\n"
    "  --expect TEXT         the body of each answer must be exactly this\n"
    "  --expect-part TEXT    the body of each answer must have this in it\n"
    "  --percentiles LIST    latencies to report (50,90,99)\n"
    "  --print-size          print the size of the request in bytes, and send nothing\n";

static double number(const char *option, const char *value, double least) {
    char *end;
    double parsed = strtod(value, &end);
    if (end == value || *end != '\0' || !(parsed >= least) || parsed > 1e12)
        die("--%s: %s is not a number of at least %g", option, value, least);
    return parsed;
}

static void set_address(const char *text) {
    struct sockaddr_un *un = (struct sockaddr_un *)&options.address;
    if (strchr(text, '/') != NULL) {
        if (strlen(text) >= sizeof un->sun_path)
            die("%s: too long for a unix socket", text);
        un->sun_family = AF_UNIX;
        strcpy(un->sun_path, text);
        options.address_length = sizeof *un;
        return;
    }
    const char *colon = strrchr(text, ':');
    if (colon == NULL)
        die("%s: neither a path with a slash nor HOST:PORT", text);
    char *host = strndup(text, (size_t)(colon - text));
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    int error = getaddrinfo(host, colon + 1, &hints, &found);
    if (error != 0)
        die("%s: %s", text, gai_strerror(error));
    memcpy(&options.address, found->ai_addr, found->ai_addrlen);
    options.address_length = found->ai_addrlen;
    freeaddrinfo(found);
    free(host);
}

static void parse(int argc, char **argv) {
    enum { CONNECTIONS, KEEP_ALIVE, REQUESTS, SECONDS, TIMEOUT, DOCROOT, SCRIPT, QUERY, PARAM, BODY, EXPECT,
           EXPECT_PART, PERCENTILES, PRINT_SIZE };
    static const struct option known[] = {
        {"connections", required_argument, NULL, CONNECTIONS}, {"keep-alive", no_argument, NULL, KEEP_ALIVE},
        {"requests", required_argument, NULL, REQUESTS},       {"seconds", required_argument, NULL, SECONDS},
        {"timeout", required_argument, NULL, TIMEOUT},         {"docroot", required_argument, NULL, DOCROOT},
        {"script", required_argument, NULL, SCRIPT},           {"query", required_argument, NULL, QUERY},
        {"param", required_argument, NULL, PARAM},             {"body", required_argument, NULL, BODY},
        {"expect", required_argument, NULL, EXPECT},           {"expect-part", required_argument, NULL, EXPECT_PART},
        {"percentiles", required_argument, NULL, PERCENTILES}, {"print-size", no_argument, NULL, PRINT_SIZE},
        {NULL, 0, NULL, 0},
    };
    struct request_options *request = &options.request;
    int chosen, index = 0;
    while ((chosen = getopt_long(argc, argv, "", known, &index)) != -1) {
        const char *name = known[index].name;
        switch (chosen) {
        case CONNECTIONS: options.connections = (unsigned)number(name, optarg, 1); break;
        case KEEP_ALIVE: request->keep_conn = 1; break;
        case REQUESTS: options.max_requests = (uint64_t)number(name, optarg, 1); break;
        case SECONDS: options.seconds = number(name, optarg, 0.001); break;
        case TIMEOUT: options.timeout = number(name, optarg, 0.001); break;
        case DOCROOT: request->docroot = optarg; break;
        case SCRIPT: request->script = optarg; break;
        case QUERY: request->query = optarg; break;
        case PARAM:
            if (request->own_param_count == REQUEST_MAX_OWN_PARAMS)
                die("more than %d times --param", REQUEST_MAX_OWN_PARAMS);
            request->own_params[request->own_param_count++] = optarg;
            break;
        case BODY: request->body_bytes = (size_t)number(name, optarg, 0); break;
        case EXPECT: options.expect = optarg; options.contains = 0; break;
        case EXPECT_PART: options.expect = optarg; options.contains = 1; break;
        case PERCENTILES: options.percentiles = optarg; break;
        case PRINT_SIZE: options.print_size = 1; break;
        default: fputs(usage, stderr); exit(2);
        }
    }
    if (options.seconds == 0 && options.max_requests == UINT64_MAX)
        options.max_requests = 1000; /* a run is always bounded */
    if (optind + !options.print_size != argc) {
        fputs(usage, stderr);
        exit(2);
    }
    if (!options.print_size)
        set_address(argv[optind]);
}

int main(int argc, char **argv) {
    parse(argc, argv);
    if (request_encode(&options.request, &load.wire) < 0)
        die("the parameters do not fit in one record");
    if (options.print_size) {
        printf("%zu\n", load.wire.length);
        return 0;
    }
    if (options.expect != NULL)
        numbered_init(&load.expected, strdup(options.expect), strlen(options.expect));
    load.connections = calloc(options.connections, sizeof *load.connections);
    load.polled = calloc(options.connections, sizeof *load.polled);
    if (load.connections == NULL || load.polled == NULL)
        die("no memory for %u connections", options.connections);
    for (unsigned i = 0; i < options.connections; i++) {
        load.connections[i].poll = &load.polled[i];
        load.polled[i].fd = -1;
    }

    uint64_t start = now_ns();
    double cpu = cpu_seconds();
    run();
    report((double)(now_ns() - start) / (double)NS_PER_SECOND, cpu_seconds() - cpu);
    return load.wrong + load.missing > 0;
}
