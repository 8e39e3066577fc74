/* What stays awake while user code has the worker: a thread that needs no GIL, and handlers for signals that end us.
 *
 * The guard is what they and the main thread have in common: which request runs, where its answer goes and how much of
 * that is on the wire. Its state says who may write to that connection:
 *
 *     IDLE -> RUNNING            the main thread begins a request; its connection is left alone while user code runs
 *     RUNNING <-> WRITING        the main thread is at the connection
 *     RUNNING, WRITING -> IDLE   the request is over
 *     RUNNING -> TAKEN           a watchdog or a crash handler ends the request in the main thread's place
 *     WRITING -> TAKEN           the main thread hangs at the connection: that one is lost, and the main thread must not
 *                                come back from it while the others are given away
 *
 * Whoever takes the connection finds what it needs in plain fields, which the main thread writes before it goes to RUNNING.
 * A main thread that finds TAKEN waits there: the process is about to end.
 *
 * A request may be finished while it still runs (fastcgi_finish_request): its answer has ended, and the connection is
 * somebody else's, or will be served behind it. Then nobody writes to it in the request's name any more.
 *
 * Cost of a request that nobody watches: three locked instructions, no system call. The thread sleeps on a futex while the
 * worker is idle, and is woken once when it no longer is.
 *
 * All times are CLOCK_MONOTONIC in microseconds; a limit of 0 is none. */
#ifndef PYFPM_WATCHDOG_H
#define PYFPM_WATCHDOG_H

#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "scoreboard.h"

enum fpm_guard_state {
    FPM_GUARD_IDLE = 0,
    FPM_GUARD_RUNNING = 1,
    FPM_GUARD_WRITING = 2,
    FPM_GUARD_TAKEN = 3,
};

/* Of a connection, by its descriptor: may somebody else go on with it? */
enum fpm_clean {
    FPM_NOT_CLEAN = 0,
    FPM_CLEAN_KEPT = 1,  /* between two requests, nothing read, nothing to write */
    FPM_CLEAN_FRESH = 2, /* new, nothing read */
    FPM_GIVEN = 3,       /* somebody else does; what is left here is a descriptor that leads nowhere */
};

#define FPM_MOST_LISTENERS 64

struct fpm_guard {
    _Atomic uint32_t state;  /* enum fpm_guard_state */
    _Atomic uint32_t asleep; /* 1: the thread waits here for the next request */
    _Atomic uint64_t seq;    /* of the request; changes with each */
    _Atomic uint64_t started_us;

    /* The request, and its connection as it is while the state is RUNNING. */
    int fd;
    uint16_t request_id;
    uint8_t alone;       /* keep-conn, nothing else lives on the connection, and nothing more of it was read */
    uint8_t intact;      /* the wire is at the border of a record, and nothing waits that belongs before our end */
    uint8_t begun;       /* some of its STDOUT is on the wire */
    uint8_t stderr_used; /* and so is some of its STDERR */

    /* The connections. The array only grows, by being replaced; old ones stay where they are. */
    _Atomic(uint8_t *) clean;
    _Atomic uint32_t clean_size; /* written after clean, and to be read before it */
    int give_fd; /* of the handoff socket, -1: none */
    int epoll_fd; /* that watches the connections, -1: none */
    int nowhere_fd; /* what takes the place of a connection that was given away */
    _Atomic uint32_t moving; /* connections are being given away; the request that runs must not end meanwhile */
    uint32_t given; /* how many were, in this request */

    int listeners[FPM_MOST_LISTENERS + 1]; /* and where connections of other workers come from */
    _Atomic uint32_t listener_count; /* 0 as well once we accept no more */

    _Atomic uint32_t finished; /* the request runs, but its answer has ended */

    uint64_t soft_us;               /* max_execution_time of each request */
    uint64_t soft_now_us;           /* that of this one, which may have changed it */
    _Atomic uint64_t soft_at_us;    /* when its time is up, 0: never */
    _Atomic uint64_t soft_fired_us; /* the last such moment that has come; told to the main thread by FPM_SOFT_SIGNAL */

    struct fpm_slot *slot; /* counts slow requests; NULL: nobody does */
};

struct fpm_watchdog_options {
    int control_fd;     /* to the master; -1: nobody is told */
    uint64_t slow_us;   /* request_slowlog_timeout; a finished request is not slow */
    uint64_t soft_us;   /* max_execution_time, as in the guard */
    uint64_t hard_us;   /* request_terminate_timeout */
    int track_finished; /* which is for finished requests as well */
    int move_ready;     /* let other workers have connections that are ready while we are busy */
    int tell_queue;     /* say when the listen queue is not empty while we are busy */
};

#define FPM_DUMP_SIGNAL SIGRTMAX
#define FPM_SOFT_SIGNAL (SIGRTMAX - 1)

/* Longest traceback that is told, in bytes. */
#define FPM_LONGEST_TRACE 60000

/* Install the handlers for the signals that say that we crashed. Before faulthandler, which goes first and then calls
 * what it found. Call once in a process, from its main thread; the guard must stay. trace_fd: the file that faulthandler
 * writes to, empty and in append mode; control_fd as above. Returns 0, or -1 with errno set. */
int fpm_crash_install(struct fpm_guard *guard, int control_fd, int trace_fd);

/* Take over FPM_DUMP_SIGNAL, which faulthandler must have registered, and give the main thread a stack for the handlers
 * of signals. After the above. */
int fpm_dump_install(void);

/* Start the thread. After both. The caller is the main thread. Returns 0, or -1 with errno set. */
int fpm_watchdog_start(const struct fpm_watchdog_options *options);

/* -- the main thread's side ---------------------------------------------------------------------------------------- */

static inline uint64_t fpm_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static inline long fpm_futex(_Atomic uint32_t *word, int op, uint32_t value, const struct timespec *timeout)
{
    return syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, timeout, NULL, 0);
}

static inline void fpm_guard_wake(struct fpm_guard *guard)
{
    atomic_store(&guard->asleep, 0);
    fpm_futex(&guard->asleep, FUTEX_WAKE, 1, NULL);
}

/* Wait while somebody else has our connection, which is normally for ever. */
static inline void fpm_guard_halt(struct fpm_guard *guard)
{
    struct timespec moment = {0, 1000000};
    while (atomic_load(&guard->state) == FPM_GUARD_TAKEN)
        nanosleep(&moment, NULL);
}

/* A request begins. fd, request_id and alone are set. */
static inline void fpm_guard_begin(struct fpm_guard *guard, uint64_t started_us)
{
    atomic_store_explicit(&guard->started_us, started_us, memory_order_relaxed);
    atomic_store_explicit(&guard->finished, 0, memory_order_relaxed);
    guard->soft_now_us = guard->soft_us;
    atomic_store_explicit(&guard->soft_at_us, guard->soft_us ? started_us + guard->soft_us : 0, memory_order_relaxed);
    atomic_store_explicit(&guard->seq, atomic_load_explicit(&guard->seq, memory_order_relaxed) + 1,
                          memory_order_release);
    /* In order with the look at asleep, as the thread has its own two: one of us sees the other. That takes the strongest
     * order for all four. */
    atomic_store(&guard->state, FPM_GUARD_RUNNING);
    if (atomic_load(&guard->asleep))
        fpm_guard_wake(guard);
}

/* The main thread goes to the connection. Returns 1 if user code runs, and fpm_guard_leave is due; 0 if not: there is no
 * request, or we are there already (a handler of a signal wrote something). */
static inline int fpm_guard_enter(struct fpm_guard *guard)
{
    for (;;) {
        uint32_t state = FPM_GUARD_RUNNING;
        if (atomic_compare_exchange_strong(&guard->state, &state, FPM_GUARD_WRITING))
            return 1;
        if (state != FPM_GUARD_TAKEN)
            return 0;
        fpm_guard_halt(guard);
    }
}

/* Go from WRITING to another state, unless somebody has given us up meanwhile. */
static inline void fpm_guard_return(struct fpm_guard *guard, uint32_t to)
{
    for (;;) {
        uint32_t state = FPM_GUARD_WRITING;
        if (atomic_compare_exchange_strong(&guard->state, &state, to) || state != FPM_GUARD_TAKEN)
            return;
        fpm_guard_halt(guard);
    }
}

/* And back into user code; begun, intact and stderr_used are as they are now. */
static inline void fpm_guard_leave(struct fpm_guard *guard)
{
    fpm_guard_return(guard, FPM_GUARD_RUNNING);
}

/* The request is over, and everything that was to be done with its connection has been. */
static inline void fpm_guard_end(struct fpm_guard *guard)
{
    struct timespec moment = {0, 20000};
    fpm_guard_enter(guard);
    fpm_guard_return(guard, FPM_GUARD_IDLE);
    /* In order with the watchdog, which says that it moves something before it looks whether a request runs. From here on
     * the connections are ours alone. */
    while (atomic_load(&guard->moving))
        nanosleep(&moment, NULL);
}

static inline uint64_t fpm_guard_seq(struct fpm_guard *guard)
{
    /* What is read behind it, started_us, is of this request or a later one. */
    return atomic_load_explicit(&guard->seq, memory_order_acquire);
}

/* The request's answer has ended, and everything that its connection needs for that is done. Between enter and leave. */
static inline void fpm_guard_finish(struct fpm_guard *guard)
{
    atomic_store(&guard->finished, 1);
}

/* From now on the request may take limit_us; 0: as long as it likes. */
static inline void fpm_guard_limit(struct fpm_guard *guard, uint64_t limit_us)
{
    guard->soft_now_us = limit_us;
    atomic_store(&guard->soft_at_us, limit_us ? fpm_now_us() + limit_us : 0);
}

/* May the handler of FPM_SOFT_SIGNAL raise? Only while the request it was sent for is in user code, once, and not if that
 * has got more time since. */
static inline int fpm_guard_soft_is_due(struct fpm_guard *guard)
{
    uint64_t at_us = atomic_load(&guard->soft_at_us);
    if (at_us == 0 || atomic_load(&guard->state) != FPM_GUARD_RUNNING || atomic_load(&guard->soft_fired_us) != at_us)
        return 0;
    atomic_store(&guard->soft_at_us, 0);
    return 1;
}

/* Do not tell the master any more that somebody waits in the listen queue. */
static inline void fpm_guard_listen(struct fpm_guard *guard, uint32_t count)
{
    atomic_store(&guard->listener_count, count);
}

#endif
