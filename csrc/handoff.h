/* Connections that go from one worker to another, over a SOCK_SEQPACKET socket that all workers of a pool share.
 *
 * One message is one connection between two requests: a letter, and the descriptor. What the web server sends meanwhile
 * stays in the kernel's buffer and goes along. All functions here may be called from a signal handler. */
#ifndef PYFPM_HANDOFF_H
#define PYFPM_HANDOFF_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define FPM_KEPT 'h'  /* at least one request was answered on it */
#define FPM_FRESH 'n' /* accepted, and nothing has come yet */

/* Send connection fd to whoever takes it; both ends are then open, and the caller closes his. Waits at most wait_ms when
 * the socket is full. Returns 0, or -1 with errno set: the connection is still the caller's alone. */
static inline int fpm_give(int give_fd, int fd, char kind, int wait_ms)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec piece = {&kind, 1};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control.room,
                             .msg_controllen = sizeof control.room};
    memset(&control, 0, sizeof control);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    for (;;) {
        if (sendmsg(give_fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
            return 0;
        if (errno == EAGAIN && wait_ms > 0) {
            struct pollfd room = {.fd = give_fd, .events = POLLOUT};
            poll(&room, 1, wait_ms);
            wait_ms = 0;
        } else if (errno != EINTR) {
            return -1;
        }
    }
}

#define FPM_TAKE_END (-2) /* nobody has the other end any more */

/* Take a connection that somebody gave. Returns its descriptor and sets *kind; -1 with errno EAGAIN when there is none,
 * EMFILE when we have no room for it, which leaves it to others, another errno when one could not be received; or
 * FPM_TAKE_END. */
static inline int fpm_take(int take_fd, char *kind)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec piece = {kind, 1};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control.room,
                             .msg_controllen = sizeof control.room};
    ssize_t n;
    int fd = -1;
    /* The kernel would take the message and drop a descriptor that there is no room for, and with it the connection. */
    int room = fcntl(take_fd, F_DUPFD_CLOEXEC, 0);
    if (room < 0)
        return -1;
    close(room);
    do
        n = recvmsg(take_fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -1;
    if (n == 0)
        return FPM_TAKE_END;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header != NULL && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(header), sizeof fd);
    if (fd < 0)
        errno = EBADMSG; /* none was in it, or a thread was faster than we */
    return fd;
}

#endif
