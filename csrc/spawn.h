/* Start a program for a request, as a CGI server has to: in its directory, with three descriptors and no others, all
 * signals as in a fresh process, in a session of its own, so that it can be ended as a group, and ended by the kernel
 * should we be gone.
 *
 * posix_spawn has no chdir everywhere and no parent-death signal at all. vfork, since a copy of a whole Python's page
 * tables takes as long as a small program runs: the child borrows our memory and stands in our place until it executes
 * the program [vfork(2)], so it calls only what is safe there, and what it writes (error) is ours to read. */
#ifndef PYFPM_SPAWN_H
#define PYFPM_SPAWN_H

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

struct fpm_program {
    const char *path;      /* absolute; what is executed */
    char *const *argv;     /* ends in NULL, as does envp */
    char *const *envp;
    const char *directory; /* that it begins in */
    int descriptors[3];    /* its 0, 1 and 2; none of them is one of these numbers */
};

/* In the child. Returns errno when the program cannot be executed. */
static int fpm_become_program(const struct fpm_program *program, pid_t parent)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t none;
    /* Also what we ignore: that outlives execve, and a program without SIGPIPE writes for ever. Some numbers can't be
     * handled, and say so. */
    for (int number = 1; number < NSIG; number++)
        sigaction(number, &action, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        return ESRCH; /* it was gone before we asked */
    for (int number = 0; number < 3; number++)
        if (dup2(program->descriptors[number], number) < 0)
            return errno;
#ifdef SYS_close_range
    /* Ours are all close-on-exec. This is for those of libraries; a kernel before 5.9 does not know it. */
    syscall(SYS_close_range, 3U, ~0U, 0U);
#endif
    if (chdir(program->directory) < 0)
        return errno;
    execve(program->path, program->argv, program->envp);
    return errno;
}

/* Returns its process id, which is that of its group as well, or -1 with errno set. The caller waits for it. */
static __attribute__((noinline)) pid_t fpm_spawn(const struct fpm_program *program)
{
    volatile int error = 0; /* written by the child */
    pid_t self = getpid();
    sigset_t all, before;
    pid_t pid;
    /* A handler of ours must not run in the child. */
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid = vfork();
    if (pid == 0) {
        error = fpm_become_program(program, self);
        _exit(127);
    }
    if (pid < 0)
        error = errno;
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (error == 0)
        return pid;
    if (pid > 0)
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    errno = error;
    return -1;
}

#endif
