/* Fork a process whose parent is not us but our subreaper: a worker, forked by the zygote, which the master waits for.
 *
 * The usual way is to fork twice and to end the process in between. That copies the page tables of a whole Python twice,
 * and tears one copy down again, which takes longer than everything else about a new worker; and the worker has no parent
 * that counts before that is done. So the process in between is made by vfork: it borrows our memory while we stand
 * still, forks, and ends, with nothing to copy and nothing to tear down. */
#ifndef PYFPM_ORPHAN_H
#define PYFPM_ORPHAN_H

#include <errno.h>
#include <sched.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

/* Returns 0 in the new process, whose parent is the right one by then, its id in ours, and -1 with errno set if there is none. To be called with one thread only
 * in use. Not inlined: in the new process the caller's frame must be as it was here. */
static __attribute__((noinline)) pid_t fpm_fork_orphan(void)
{
    /* Written to by the process in between, which has our memory. */
    volatile pid_t orphan = -1;
    volatile int error = 0;
    pid_t between = vfork();
    if (between == 0) {
        pid_t self = getpid();
        pid_t pid = fork();
        if (pid == 0) {
            /* On a copy of the stack from here on: nobody else uses this frame. */
            while (getppid() == self)
                sched_yield();
            return 0;
        }
        orphan = pid;
        error = errno;
        _exit(0);
    }
    if (between < 0)
        return -1;
    while (waitpid(between, NULL, 0) < 0 && errno == EINTR)
        ;
    errno = error;
    return orphan;
}

#endif
