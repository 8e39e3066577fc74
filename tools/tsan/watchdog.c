/* Connections that the watchdog gives away while a request runs, under ThreadSanitizer: each request is answered once, by
 * the busy worker or by another, and the end of a connection that went on is seen at once. See run. */
#define _GNU_SOURCE
#include "../../csrc/watchdog.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "../../csrc/handoff.h"

enum { CONNECTIONS = 64, SHORTEST_US = 8000, LONGEST_US = 20000, MOST_FDS = 1024, PATIENCE_MS = 10000 };

static struct fpm_guard guard;
static uint8_t clean[MOST_FDS];
static int take_fd;
static int clients[CONNECTIONS];
static atomic_int others; /* requests that the other worker answered */

static void must(int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "watchdog: %s\n", what);
    exit(1);
}

/* Takes what is given, answers and hangs up. */
static void *other_worker(void *nothing)
{
    for (;;) {
        struct pollfd given = {.fd = take_fd, .events = POLLIN};
        char kind, byte;
        poll(&given, 1, -1);
        int fd = fpm_take(take_fd, &kind);
        if (fd == FPM_TAKE_END)
            return nothing;
        if (fd < 0)
            continue;
        must(kind == FPM_KEPT, "a connection came as another kind");
        must(recv(fd, &byte, 1, 0) == 1, "a connection was given away without a request");
        must(send(fd, "o", 1, MSG_NOSIGNAL) == 1, "the other worker cannot answer");
        atomic_fetch_add(&others, 1);
        close(fd);
    }
}

/* Asks once on each, and wants one answer and, from the other worker, the end. */
static void *web_server(void *nothing)
{
    unsigned seed = 1;
    for (int i = 0; i < CONNECTIONS; i++) {
        /* They come at any moment of a request: also as it ends. */
        usleep((useconds_t)rand_r(&seed) % 2000);
        must(send(clients[i], "r", 1, MSG_NOSIGNAL) == 1, "cannot ask");
    }
    for (int i = 0; i < CONNECTIONS; i++) {
        struct pollfd answer = {.fd = clients[i], .events = POLLIN};
        char byte;
        must(poll(&answer, 1, PATIENCE_MS) == 1 && recv(clients[i], &byte, 1, 0) == 1, "no answer");
        if (byte == 'o')
            must(poll(&answer, 1, PATIENCE_MS) == 1 && recv(clients[i], &byte, 1, 0) == 0, "the end is not seen");
    }
    return nothing;
}

static int serve(int fd)
{
    static unsigned seed = 2;
    char byte;
    clean[fd] = FPM_NOT_CLEAN;
    must(recv(fd, &byte, 1, MSG_DONTWAIT) == 1, "an event without a request");
    guard.fd = fd;
    fpm_guard_begin(&guard, fpm_now_us());
    usleep(SHORTEST_US + (useconds_t)rand_r(&seed) % (LONGEST_US - SHORTEST_US));
    must(send(fd, "m", 1, MSG_NOSIGNAL) == 1, "cannot answer");
    fpm_guard_end(&guard);
    clean[fd] = FPM_CLEAN_KEPT;
    return 1;
}

static void one_round(void)
{
    pthread_t client;
    int ours[CONNECTIONS], answered = 0, given = 0, before = atomic_load(&others);
    for (int i = 0; i < CONNECTIONS; i++) {
        int pair[2];
        must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0 && pair[0] < MOST_FDS, "no socket pair");
        struct epoll_event event = {.events = EPOLLIN, .data.fd = pair[0]};
        ours[i] = pair[0];
        clients[i] = pair[1];
        clean[pair[0]] = FPM_CLEAN_KEPT;
        must(epoll_ctl(guard.epoll_fd, EPOLL_CTL_ADD, pair[0], &event) == 0, "epoll does not take it");
    }
    must(pthread_create(&client, NULL, web_server, NULL) == 0, "no thread");
    while (answered + given < CONNECTIONS) {
        struct epoll_event event;
        if (epoll_wait(guard.epoll_fd, &event, 1, PATIENCE_MS) != 1)
            must(0, "a request is lost");
        answered += serve(event.data.fd);
        given += (int)guard.given;
        guard.given = 0;
    }
    pthread_join(client, NULL);
    must(atomic_load(&others) - before == given, "given and taken differ");
    for (int i = 0; i < CONNECTIONS; i++) {
        clean[ours[i]] = FPM_NOT_CLEAN;
        close(ours[i]);
        close(clients[i]);
    }
    printf("%d answered here, %d elsewhere\n", answered, given);
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 20;
    int pair[2];
    pthread_t other;
    struct fpm_watchdog_options options = {.control_fd = -1, .move_ready = 1};
    must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0, "no handoff socket");
    guard.give_fd = pair[0];
    take_fd = pair[1];
    guard.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    guard.nowhere_fd = eventfd(0, EFD_CLOEXEC);
    atomic_store(&guard.clean, clean);
    atomic_store(&guard.clean_size, MOST_FDS);
    must(fpm_crash_install(&guard, -1, -1) == 0, "no handlers");
    must(fpm_watchdog_start(&options) == 0, "no watchdog");
    must(pthread_create(&other, NULL, other_worker, NULL) == 0, "no thread");
    for (int i = 0; i < rounds; i++)
        one_round();
    must(atomic_load(&others) > 0, "nothing was given away");
    return 0;
}
