/* The floor: what one core can do with accept, recv, send and close when nothing is parsed and nothing is run.
 *
 *   floor SOCKET REQUEST_BYTES TEXT [keep]
 *
 * Listens on a unix socket, takes every REQUEST_BYTES bytes (`fcgi_load --print-size`) for a request and answers with
 * the same records: STDOUT with TEXT as the body, an empty STDOUT, END_REQUEST. With "keep" connections stay open, else
 * they are closed after the answer. No server that reads its requests can be faster in the same loop, so a rate in
 * percent of the floor tells what is left to win.
 *
 * It is not a server: a request of another length, or one sent ahead of the answer before it, is not understood.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_FDS 65536
#define MAX_EVENTS 256

static size_t request_bytes;
static int keep;
static char answer[4096];
static size_t answer_length;
static size_t received[MAX_FDS]; /* of the request under way, by descriptor */

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void put_record(int type, const char *content, size_t length) {
    const char header[8] = {1, (char)type, 0, 1, (char)(length >> 8), (char)length, (char)(-length & 7), 0};
    memcpy(answer + answer_length, header, 8);
    memcpy(answer + answer_length + 8, content, length);
    answer_length += 8 + length + (-length & 7);
}

static void build_answer(const char *text) {
    char page[2048];
    int length = snprintf(page, sizeof page, "Content-Type: text/plain\r\n\r\n%s", text);
    if (length >= (int)sizeof page) {
        fputs("floor: TEXT is too long\n", stderr);
        exit(1);
    }
    put_record(6, page, (size_t)length);
    put_record(6, "", 0);
    put_record(3, "\0\0\0\0\0\0\0", 8);
}

/* Read what is there, answer once it is enough. True while the connection is open. */
static int serve(int fd) {
    static char buffer[65536];
    ssize_t n = recv(fd, buffer, sizeof buffer, 0);
    if (n < 0 && errno == EAGAIN)
        return 1;
    if (n > 0) {
        received[fd] += (size_t)n;
        if (received[fd] < request_bytes)
            return 1;
        received[fd] = 0;
        if (send(fd, answer, answer_length, MSG_NOSIGNAL) == (ssize_t)answer_length && keep)
            return 1;
    }
    close(fd);
    return 0;
}

/* Serve a new connection at once if its request has come, which saves the epoll a registration. */
static void accept_all(int listener, int epoll) {
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= MAX_FDS) {
            close(fd);
            continue;
        }
        received[fd] = 0;
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        if (serve(fd) && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
            die("floor: epoll_ctl");
    }
}

int main(int argc, char **argv) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (argc < 4 || strlen(argv[1]) >= sizeof address.sun_path) {
        fputs("usage: floor SOCKET REQUEST_BYTES TEXT [keep]\n", stderr);
        return 2;
    }
    strcpy(address.sun_path, argv[1]);
    request_bytes = strtoul(argv[2], NULL, 10);
    build_answer(argv[3]);
    keep = argc > 4 && strcmp(argv[4], "keep") == 0;

    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 1024) < 0)
        die("floor: cannot listen");
    int epoll = epoll_create1(0);
    struct epoll_event events[MAX_EVENTS] = {{.events = EPOLLIN, .data.fd = listener}};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &events[0]) < 0)
        die("floor: epoll_ctl");
    for (;;) {
        int n = epoll_wait(epoll, events, MAX_EVENTS, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener)
                accept_all(listener, epoll);
            else
                serve(events[i].data.fd);
        }
    }
}
