/* See watchdog.h. Everything here runs without the GIL, allocates nothing, and what a handler calls is safe in one
 * [signal-safety(7)]: this is what works when nothing else does. */
#define _GNU_SOURCE
#include "watchdog.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fcgi.h"
#include "handoff.h"

#define SHORTEST_TICK_US 5000  /* while we look for others that wait */
#define LONGEST_TICK_US 50000  /* while we only watch over limits, which are of seconds */
#define AWAKE_US 100000        /* without a request, before the thread goes to sleep */
#define BUSY_US 10000          /* after which somebody in the listen queue has waited for long */
#define TELL_QUEUE_US 100000   /* the master hears of it at most so often */
#define TRACE_WAIT_MS 500      /* for the main thread to tell where it is */
#define WRITING_WAIT_MS 1000   /* for the main thread to come back from the connection */
#define ANSWER_WAIT_MS 1000    /* for a web server to take our last words */
#define LINGER_MS 500          /* and to hang up */
#define MOST_MOVED 64          /* connections of one look */
#define GIVE_WAIT_MS 100       /* for another worker to take our connections, in all */
#define TAKEN_WAIT_US 3000000  /* for the thread to end us: all of the above */

/* What goes before a traceback in a message: a letter, digits, a line end. */
#define HEAD_ROOM 32

static struct {
    struct fpm_guard *guard;
    struct fpm_watchdog_options options;
    pid_t pid; /* a fork has a copy of all this, and must leave the connections alone */
    pthread_t main_thread;
    int trace_fd;
    void (*dump)(int); /* faulthandler's */

    /* One traceback at a time; several threads may get the signal. */
    atomic_int dumping;
    _Atomic uint32_t wanted;   /* letter of the message that the next traceback is for; 0: asked for from outside */
    _Atomic uint64_t wanted_seq;
    _Atomic uint32_t dumped;   /* futex: a traceback that the thread asked for is complete */
    size_t trace_length;       /* of one that is kept for the thread to send */
    char message[HEAD_ROOM + FPM_LONGEST_TRACE];
    atomic_int crashing;
} the;

static char stack_for_handlers[128 * 1024];

static void sleep_us(uint64_t us)
{
    struct timespec time = {(time_t)(us / 1000000), (long)(us % 1000000 * 1000)};
    nanosleep(&time, NULL);
}

/* -- to the master ------------------------------------------------------------------------------------------------- */

/* Send the traceback that lies in the.message behind HEAD_ROOM, after a letter and a number (none if below 0). Waits up
 * to wait_ms for room; a master that reads nothing misses it. */
static void tell(char letter, int64_t number, size_t length, int wait_ms)
{
    char *at = the.message + HEAD_ROOM;
    if (the.options.control_fd < 0)
        return;
    *--at = '\n';
    if (number >= 0) {
        do
            *--at = (char)('0' + number % 10);
        while (number /= 10);
    }
    *--at = letter;
    length += (size_t)(the.message + HEAD_ROOM - at);
    while (send(the.options.control_fd, at, length, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        struct pollfd room = {.fd = the.options.control_fd, .events = POLLOUT};
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN || poll(&room, 1, wait_ms) <= 0)
            return;
        wait_ms = 0;
    }
}

/* -- the connections -----------------------------------------------------------------------------------------------*/

static void give_idle(struct fpm_guard *guard)
{
    uint32_t size = atomic_load(&guard->clean_size); /* first: the array that we find is then at least so large */
    uint8_t *clean = atomic_load(&guard->clean);
    int wait_ms = GIVE_WAIT_MS;
    if (guard->give_fd < 0)
        return;
    for (uint32_t fd = 0; fd < size; fd++) {
        if (clean[fd] != FPM_CLEAN_KEPT && clean[fd] != FPM_CLEAN_FRESH)
            continue;
        if (fpm_give(guard->give_fd, (int)fd, clean[fd] == FPM_CLEAN_KEPT ? FPM_KEPT : FPM_FRESH, wait_ms) == 0)
            clean[fd] = FPM_NOT_CLEAN;
        else if (errno == EAGAIN)
            wait_ms = 0; /* the rest is lost unless there is room at once */
    }
}

/* Give one away that is ready while we are busy. It leaves epoll first: the other worker will close it, and only the last
 * descriptor of a connection ends it. The number stays taken, by something else, until the main thread hears of it. */
static int move(struct fpm_guard *guard, int fd, uint8_t kind)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(guard->epoll_fd, EPOLL_CTL_DEL, fd, &event);
    if (fpm_give(guard->give_fd, fd, kind == FPM_CLEAN_KEPT ? FPM_KEPT : FPM_FRESH, 0) == 0) {
        dup3(guard->nowhere_fd, fd, O_CLOEXEC);
        return 0;
    }
    /* There is no room in the socket: it stays ours, and is looked at again. A clean connection is watched for input. */
    epoll_ctl(guard->epoll_fd, EPOLL_CTL_ADD, fd, &event);
    return -1;
}

/* A request has run for long: let other workers have the connections that something has come on. */
static void move_ready(struct fpm_guard *guard, uint64_t seq)
{
    struct epoll_event ready[MOST_MOVED];
    if (guard->give_fd < 0 || guard->epoll_fd < 0)
        return;
    atomic_store(&guard->moving, 1);
    if (atomic_load(&guard->state) != FPM_GUARD_IDLE && fpm_guard_seq(guard) == seq) {
        uint32_t size = atomic_load(&guard->clean_size);
        uint8_t *clean = atomic_load(&guard->clean);
        int count = epoll_wait(guard->epoll_fd, ready, MOST_MOVED, 0);
        for (int i = 0; i < count; i++) {
            int fd = ready[i].data.fd;
            if (fd < 0 || (uint32_t)fd >= size || !(ready[i].events & EPOLLIN) || (ready[i].events & EPOLLHUP) ||
                (clean[fd] != FPM_CLEAN_KEPT && clean[fd] != FPM_CLEAN_FRESH))
                continue;
            uint8_t kind = clean[fd];
            clean[fd] = FPM_GIVEN; /* a crash meanwhile must not give it to somebody else as well */
            if (move(guard, fd, kind) < 0) {
                clean[fd] = kind;
                break;
            }
            guard->given++;
        }
    }
    atomic_store(&guard->moving, 0);
}

static int send_all(int fd, const uint8_t *data, size_t length)
{
    int wait_ms = ANSWER_WAIT_MS;
    while (length) {
        ssize_t sent = send(fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0) {
            data += sent;
            length -= (size_t)sent;
        } else if (errno == EAGAIN && wait_ms > 0) {
            struct pollfd room = {.fd = fd, .events = POLLOUT};
            poll(&room, 1, wait_ms);
            wait_ms = 0;
        } else if (errno != EINTR) {
            return -1;
        }
    }
    return 0;
}

/* End the request whose connection we have taken. page: the CGI answer, if nothing of another one is out. Returns 1 if
 * the connection is clean afterwards, 0 if it must be closed, -1 if the answer is cut. */
static int answer(struct fpm_guard *guard, const char *page)
{
    uint8_t wire[1024];
    uint8_t *at = wire;
    size_t length = strlen(page);
    if (!guard->intact || atomic_load(&guard->finished))
        return -1;
    if (guard->stderr_used) {
        fcgi_header_encode(at, FCGI_STDERR, guard->request_id, 0, 0);
        at += FCGI_HEADER_LEN;
    }
    if (!guard->begun) {
        uint8_t padding = fcgi_padding(length);
        fcgi_header_encode(at, FCGI_STDOUT, guard->request_id, (uint16_t)length, padding);
        at += FCGI_HEADER_LEN;
        memcpy(at, page, length);
        memset(at + length, 0, padding);
        at += length + padding;
    }
    fcgi_header_encode(at, FCGI_STDOUT, guard->request_id, 0, 0);
    at += FCGI_HEADER_LEN;
    fcgi_header_encode(at, FCGI_END_REQUEST, guard->request_id, FCGI_BODY_LEN, 0);
    at += FCGI_HEADER_LEN;
    fcgi_end_request_encode(at, 1, FCGI_REQUEST_COMPLETE);
    at += FCGI_BODY_LEN;
    if (send_all(guard->fd, wire, (size_t)(at - wire)) < 0)
        return -1;
    return guard->alone;
}

/* Hang up so that what was sent arrives: a socket that is closed with unread bytes in it is reset. */
static void hang_up(int fd)
{
    char unwanted[4096];
    uint64_t until = fpm_now_us() + LINGER_MS * 1000;
    shutdown(fd, SHUT_WR);
    for (;;) {
        ssize_t n = recv(fd, unwanted, sizeof unwanted, MSG_DONTWAIT);
        if (n > 0 || (n < 0 && errno == EINTR))
            continue;
        uint64_t now = fpm_now_us();
        struct pollfd more = {.fd = fd, .events = POLLIN};
        if (n == 0 || errno != EAGAIN || now >= until || poll(&more, 1, (int)((until - now) / 1000) + 1) <= 0)
            return;
    }
}

/* Answer in the request's name, then let go of all connections that another worker can go on with. The state is TAKEN. */
static int let_go(struct fpm_guard *guard, const char *page)
{
    int after = answer(guard, page);
    if (after == 1 && guard->give_fd >= 0 && fpm_give(guard->give_fd, guard->fd, FPM_KEPT, GIVE_WAIT_MS) == 0)
        after = 2; /* it goes on elsewhere */
    give_idle(guard);
    return after;
}

/* -- tracebacks ---------------------------------------------------------------------------------------------------- */

static size_t read_trace(void)
{
    ssize_t n = pread(the.trace_fd, the.message + HEAD_ROOM, FPM_LONGEST_TRACE, 0);
    return n > 0 ? (size_t)n : 0;
}

static void on_dump(int signo)
{
    int saved = errno;
    struct fpm_guard *guard = the.guard;
    if (getpid() != the.pid)
        return; /* our file is the parent's */
    /* Another thread may be at it; that takes no longer than a write. */
    for (int tries = 0; atomic_exchange(&the.dumping, 1); tries++) {
        if (tries == 100)
            return;
        sleep_us(1000);
    }
    uint32_t wanted = atomic_exchange(&the.wanted, 0);
    if (wanted && (atomic_load(&the.wanted_seq) != fpm_guard_seq(guard) || atomic_load(&guard->state) == FPM_GUARD_IDLE))
        wanted = '-'; /* that request is over, and this one has done nothing */
    if (wanted != '-' && ftruncate(the.trace_fd, 0) == 0) {
        the.dump(signo);
        size_t length = read_trace();
        /* An empty file is how the handler of a crash finds its own. */
        if (ftruncate(the.trace_fd, 0) < 0)
            length = 0;
        if (wanted == 'T')
            the.trace_length = length;
        else if (wanted == 'L')
            tell('L', (int64_t)(fpm_now_us() - atomic_load(&guard->started_us)), length, 0);
        else
            tell('D', -1, length, 0);
    }
    atomic_store(&the.dumping, 0);
    if (wanted) {
        atomic_store(&the.dumped, 1);
        fpm_futex(&the.dumped, FUTEX_WAKE, 1, NULL);
    }
    errno = saved;
}

/* Have the main thread tell where it is in request seq. It can't while it has the signal blocked, so not for ever. */
static void ask_for_trace(char letter, uint64_t seq)
{
    struct timespec most = {0, TRACE_WAIT_MS * 1000000L};
    the.trace_length = 0;
    atomic_store(&the.dumped, 0);
    atomic_store(&the.wanted_seq, seq);
    atomic_store(&the.wanted, (uint32_t)letter);
    if (pthread_kill(the.main_thread, FPM_DUMP_SIGNAL) != 0)
        return;
    while (atomic_load(&the.dumped) == 0 && fpm_futex(&the.dumped, FUTEX_WAIT, 0, &most) < 0 && errno == EINTR)
        ;
    atomic_store(&the.wanted, 0);
}

/* -- crashes ------------------------------------------------------------------------------------------------------- */

static const char PAGE_502[] =
    "Status: 502 Bad Gateway\r\nContent-Type: text/html; charset=UTF-8\r\nContent-Length: 68\r\n\r\n"
    "<!DOCTYPE html>\n<title>502 Bad Gateway</title>\n<h1>Bad Gateway</h1>\n";

static const char PAGE_504[] =
    "Status: 504 Gateway Timeout\r\nContent-Type: text/html; charset=UTF-8\r\nContent-Length: 76\r\n\r\n"
    "<!DOCTYPE html>\n<title>504 Gateway Timeout</title>\n<h1>Gateway Timeout</h1>\n";

static void end_by(int signo)
{
    sigset_t set;
    signal(signo, SIG_DFL);
    sigemptyset(&set);
    sigaddset(&set, signo);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    raise(signo);
    _exit(128 + signo); /* it was sent to a container's process 1, say */
}

static void on_crash(int signo)
{
    struct fpm_guard *guard = the.guard;
    size_t length = read_trace();
    if (getpid() != the.pid) {
        /* A process that user code forked. Its connections are its parent's, and nobody reads what it would tell. */
        if (write(2, the.message + HEAD_ROOM, length) < 0 || ftruncate(the.trace_fd, 0) < 0)
            end_by(signo);
        end_by(signo);
    }
    if (atomic_exchange(&the.crashing, 1))
        end_by(signo); /* in here, or in two threads at once */
    uint32_t state = FPM_GUARD_RUNNING;
    int after = 0;
    if (atomic_load(&guard->state) == FPM_GUARD_TAKEN && pthread_equal(pthread_self(), the.main_thread)) {
        /* The thread is at it, with the same connections and the same message, and will end us; or it hangs. */
        sleep_us(TAKEN_WAIT_US);
        end_by(signo);
    }
    /* Crashed at the connection, or without one: then there is nothing that we could say on it. */
    int taken = atomic_compare_exchange_strong(&guard->state, &state, FPM_GUARD_TAKEN);
    if (taken)
        after = let_go(guard, PAGE_502);
    else
        give_idle(guard);
    tell('C', signo, length, GIVE_WAIT_MS);
    if (taken && (after == 0 || after == 1))
        hang_up(guard->fd);
    end_by(signo);
}

int fpm_crash_install(struct fpm_guard *guard, int control_fd, int trace_fd)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE};
    struct sigaction action = {.sa_handler = on_crash, .sa_flags = SA_ONSTACK | SA_NODEFER};
    the.guard = guard;
    the.pid = getpid();
    the.trace_fd = trace_fd;
    the.options.control_fd = control_fd;
    the.main_thread = pthread_self();
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        if (sigaction(signals[i], &action, NULL) < 0)
            return -1;
    return 0;
}

int fpm_dump_install(void)
{
    struct sigaction action;
    /* faulthandler's own is enough for its handler, but ours is called on top of that. */
    stack_t stack = {.ss_sp = stack_for_handlers, .ss_size = sizeof stack_for_handlers};
    if (sigaltstack(&stack, NULL) < 0 || sigaction(FPM_DUMP_SIGNAL, NULL, &action) < 0)
        return -1;
    the.dump = action.sa_handler;
    action.sa_handler = on_dump;
    action.sa_flags = SA_RESTART | SA_ONSTACK; /* who sleeps in C code should not notice */
    return sigaction(FPM_DUMP_SIGNAL, &action, NULL);
}

/* -- the thread ---------------------------------------------------------------------------------------------------- */

/* 1: the request is ours; -1: it is, but its connection cannot be used; 0: it is over. */
static int take(struct fpm_guard *guard, uint64_t seq)
{
    for (int waited_ms = 0;; waited_ms++) {
        uint32_t state = FPM_GUARD_RUNNING;
        if (atomic_compare_exchange_strong(&guard->state, &state, FPM_GUARD_TAKEN)) {
            if (fpm_guard_seq(guard) == seq)
                return 1;
            atomic_store(&guard->state, FPM_GUARD_RUNNING); /* the next one; ours has just ended */
            return 0;
        }
        if (state == FPM_GUARD_IDLE || fpm_guard_seq(guard) != seq)
            return 0;
        if (waited_ms >= WRITING_WAIT_MS &&
            atomic_compare_exchange_strong(&guard->state, &state, FPM_GUARD_TAKEN)) {
            if (fpm_guard_seq(guard) == seq)
                return -1;
            atomic_store(&guard->state, FPM_GUARD_WRITING);
            return 0;
        }
        sleep_us(1000);
    }
}

static void terminate(struct fpm_guard *guard, uint64_t seq)
{
    uint64_t age;
    int after = -1;
    int taken;
    taken = take(guard, seq);
    if (taken == 0)
        return;
    if (atomic_load(&guard->finished) && !the.options.track_finished) {
        atomic_store(&guard->state, taken > 0 ? FPM_GUARD_RUNNING : FPM_GUARD_WRITING); /* only just */
        return;
    }
    /* Only now: the signal ends a system call that C code waits in, and the request might end with it. */
    age = fpm_now_us() - atomic_load(&guard->started_us);
    ask_for_trace('T', seq);
    if (taken > 0)
        after = let_go(guard, PAGE_504);
    else
        give_idle(guard); /* it hangs at the connection: that one is lost */
    tell('T', (int64_t)age, the.trace_length, GIVE_WAIT_MS);
    if (after == 0 || after == 1)
        hang_up(guard->fd);
    end_by(SIGTERM);
}

static int somebody_waits(struct fpm_guard *guard)
{
    struct pollfd queues[FPM_MOST_LISTENERS + 1];
    uint32_t count = atomic_load(&guard->listener_count);
    for (uint32_t i = 0; i < count; i++)
        queues[i] = (struct pollfd){.fd = guard->listeners[i], .events = POLLIN};
    return count && poll(queues, count, 0) > 0;
}

static void sleep_while_idle(struct fpm_guard *guard)
{
    atomic_store(&guard->asleep, 1);
    while (atomic_load(&guard->asleep) && atomic_load(&guard->state) == FPM_GUARD_IDLE)
        fpm_futex(&guard->asleep, FUTEX_WAIT, 1, NULL);
    atomic_store(&guard->asleep, 0);
}

static void *watch(void *nothing)
{
    struct fpm_guard *guard = the.guard;
    const struct fpm_watchdog_options *options = &the.options;
    uint64_t tick_us = LONGEST_TICK_US;
    uint64_t slow_seq = 0; /* the last request that was too slow */
    uint64_t last_seq = 0, idle_us = 0, busy_us = 0, told_us = 0;
    const uint64_t limits[] = {options->slow_us, options->soft_us, options->hard_us};
    for (int i = 0; i < 3; i++)
        if (limits[i] && limits[i] / 20 < tick_us)
            tick_us = limits[i] / 20;
    if (options->tell_queue || options->move_ready || tick_us < SHORTEST_TICK_US)
        tick_us = SHORTEST_TICK_US;
    prctl(PR_SET_NAME, "watchdog");
    for (;;) {
        uint64_t seq = fpm_guard_seq(guard);
        int runs = atomic_load(&guard->state) != FPM_GUARD_IDLE;
        uint64_t now = fpm_now_us();
        /* Read after seq: of this request or a later one, so none is thought older than it is. */
        uint64_t started_us = atomic_load(&guard->started_us);
        uint64_t age = now > started_us ? now - started_us : 0;
        uint64_t soft_at_us = atomic_load(&guard->soft_at_us);
        uint32_t finished = atomic_load(&guard->finished);
        int active = runs || seq != last_seq;
        idle_us = active ? 0 : idle_us + tick_us;
        busy_us = active ? busy_us + tick_us : 0;
        last_seq = seq;
        if (runs && options->slow_us && age >= options->slow_us && slow_seq != seq && !finished) {
            slow_seq = seq;
            if (guard->slot)
                atomic_fetch_add(&guard->slot->slow, 1);
            ask_for_trace('L', seq);
        }
        if (runs && soft_at_us && now >= soft_at_us && atomic_load(&guard->soft_fired_us) != soft_at_us) {
            atomic_store(&guard->soft_fired_us, soft_at_us);
            pthread_kill(the.main_thread, FPM_SOFT_SIGNAL);
        }
        if (runs && options->hard_us && age >= options->hard_us && (!finished || options->track_finished))
            terminate(guard, seq);
        if (options->tell_queue && busy_us > BUSY_US && now - told_us >= TELL_QUEUE_US && somebody_waits(guard)) {
            told_us = now;
            send(options->control_fd, "q", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        }
        if (runs && options->move_ready && age >= BUSY_US)
            move_ready(guard, seq);
        if (idle_us >= AWAKE_US) {
            sleep_while_idle(guard);
            idle_us = busy_us = 0;
        }
        sleep_us(tick_us);
    }
    return nothing;
}

int fpm_watchdog_start(const struct fpm_watchdog_options *options)
{
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    int error;
    the.options = *options;
    sigfillset(&all);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 256 * 1024);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&thread, &attributes, watch, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    errno = error;
    return error ? -1 : 0;
}
