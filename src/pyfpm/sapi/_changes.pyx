"""What user code changes of the process, noticed when it does so instead of looked for before every request.

CPython tells audit hooks of each chdir and of each change to the environment (PEP 578). A hook in C costs a comparison
or two where an event is raised, and nothing elsewhere. Code that goes around Python (a C library that calls chdir) goes
around this as well.
"""
from cpython.object cimport PyObject
from libc.string cimport strcmp


cdef extern from "Python.h":
    ctypedef int (*Py_AuditHookFunction)(const char *event, PyObject *args, void *data) noexcept
    int PySys_AddAuditHook(Py_AuditHookFunction hook, void *data) except -1


cdef extern from "<stdlib.h>":
    int clearenv()
    int setenv(const char *name, const char *value, int overwrite)
    int unsetenv(const char *name)


# Set by the hook in whatever thread raises the event, under the GIL; never reset by it.
cdef bint directory_changed = True
cdef bint environment_changed = False
cdef bint watching = False


cdef int hook(const char *event, PyObject *args, void *data) noexcept:
    global directory_changed, environment_changed
    if event[0] == b"o" and event[1] == b"s":
        if strcmp(event, "os.chdir") == 0:
            directory_changed = True
        elif strcmp(event, "os.putenv") == 0 or strcmp(event, "os.unsetenv") == 0:
            environment_changed = True
    return 0


def watch():
    """Begin to notice. A hook cannot be removed again, so only the first call does anything."""
    global watching
    if not watching:
        watching = True
        PySys_AddAuditHook(hook, NULL)


def take_directory_changed():
    """True if the working directory may have been changed since the last call."""
    global directory_changed
    changed = directory_changed
    directory_changed = False
    return changed


def take_environment_changed():
    """True if a variable of the environment was set or deleted since the last call."""
    global environment_changed
    changed = environment_changed
    environment_changed = False
    return changed


def clear_environment():
    """Take every variable from what C code and child processes see; os.environ is not told."""
    clearenv()


def lend(environ, dict variables not None):
    """Add variables (of bytes) that ``environ`` does not have to it, to what C code and child processes see, and to no
    one's notice.

    ``os.environ`` would encode each, tell the audit hooks and make two calls of it: three times the price, for 30 of
    them. It keeps its bytes in ``_data``, and has since there is such a class; a test watches over it.
    """
    cdef bytes name
    cdef bytes value
    environ._data.update(variables)
    for name, value in variables.items():
        if setenv(name, value, 1) < 0:
            raise MemoryError


def take_back(environ, dict variables not None):
    """The opposite of ``lend``, for variables that nobody has changed."""
    cdef bytes name
    cdef dict data = environ._data
    for name in variables:
        data.pop(name, None)
        unsetenv(name)
