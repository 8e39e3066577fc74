"""A process for a CGI program; csrc/spawn.h tells how and why."""
from libc.errno cimport errno
from libc.stdlib cimport calloc, free

import os


cdef extern from "spawn.h" nogil:
    struct fpm_program:
        const char *path
        char **argv
        char **envp
        const char *directory
        int descriptors[3]
    int fpm_spawn(const fpm_program *program)


cdef char **pointers(list strings) except NULL:
    """Into bytes that the caller keeps."""
    cdef char **array = <char **>calloc(len(strings) + 1, sizeof(char *))
    cdef Py_ssize_t at
    if array == NULL:
        raise MemoryError
    for at in range(len(strings)):
        array[at] = <char *><bytes>strings[at]
    return array


def spawn(path, arguments, environment, directory, int stdin, int stdout, int stderr):
    cdef fpm_program program
    cdef bytes c_path = os.fsencode(path)
    cdef bytes c_directory = os.fsencode(directory)
    cdef list c_arguments = [os.fsencode(each) for each in arguments]
    cdef list c_environment = [name + b"=" + value for name, value in environment.items()]
    cdef int pid
    cdef int error
    program.argv = NULL
    program.envp = NULL
    program.path = c_path
    program.directory = c_directory
    program.descriptors[0] = stdin
    program.descriptors[1] = stdout
    program.descriptors[2] = stderr
    try:
        program.argv = pointers(c_arguments)
        program.envp = pointers(c_environment)
        # With the GIL: nothing here waits but for the program to be found, and no other thread shall fork meanwhile.
        pid = fpm_spawn(&program)
        error = errno
    finally:
        free(<void *>program.argv)
        free(<void *>program.envp)
    if pid < 0:
        raise OSError(error, os.strerror(error))
    return pid
