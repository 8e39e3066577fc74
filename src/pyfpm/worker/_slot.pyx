"""What this worker tells of itself on the scoreboard: csrc/scoreboard.h, the writer's side.

Budget of a request: two looks at the clock, which the caller makes; the texts are copied as they lie in the params. No
system call, no object (but for a user who came with Basic authentication). With the guard and the look for connections
that may move on it is some 1,650 instructions (callgrind), where a small WSGI request on a kept connection took 23,700
before, the kernel's not counted.
"""
from binascii import a2b_base64

from cpython.object cimport PyObject
from libc.errno cimport errno
from libc.stdint cimport uint16_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memchr
from posix.mman cimport MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec
from posix.unistd cimport close


cdef extern from "Python.h":
    PyObject *PyDict_GetItemBorrowed "PyDict_GetItemWithError"(object mapping, object key)
    unsigned int PyUnicode_KIND(PyObject *text) noexcept
    void *PyUnicode_DATA(PyObject *text) noexcept
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject *text) noexcept
    enum:
        PyUnicode_1BYTE_KIND


# A wait that is longer comes from clocks that differ, or was not said by the web server at all.
cdef uint64_t LONGEST_WAIT_US = 3600 * 1000000ull


cdef struct Text:
    const char *start
    size_t length


cdef inline Text text_of(dict params, str name) noexcept:
    """The bytes of a param, which live as long as it does; none if it is not there."""
    cdef Text text
    cdef PyObject *value = PyDict_GetItemBorrowed(params, name)
    text.start = ""
    text.length = 0
    # A value has one character for each byte, so they lie there as they came.
    if value != NULL and PyUnicode_KIND(value) == PyUnicode_1BYTE_KIND:
        text.start = <const char *>PyUnicode_DATA(value)
        text.length = PyUnicode_GET_LENGTH(value)
    return text


cdef uint64_t number_of(Text text) noexcept:
    cdef uint64_t number = 0
    cdef size_t i
    if text.length > 18:
        return 0
    for i in range(text.length):
        if not c"0" <= text.start[i] <= c"9":
            return 0
        number = number * 10 + (text.start[i] - c"0")
    return number


cdef uint64_t microseconds_of(Text text) noexcept:
    """Of "1732500000.123"; 0 if it is anything else."""
    cdef uint64_t us = 0
    cdef int decimals = -1
    cdef size_t i
    if text.length > 17:
        return 0
    for i in range(text.length):
        if text.start[i] == c"." and decimals < 0:
            decimals = 0
        elif c"0" <= text.start[i] <= c"9" and decimals < 6:
            us = us * 10 + (text.start[i] - c"0")
            if decimals >= 0:
                decimals += 1
        else:
            return 0
    while decimals < 6:
        us *= 10
        decimals = 1 if decimals < 0 else decimals + 1
    return us


cdef class Slot:
    def __cinit__(self, fd=None):
        cdef int c_fd
        cdef void *page
        self.between = FPM_STAGE_STARTING
        if fd is None:
            self.page = <fpm_slot *>calloc(1, FPM_SLOT_SIZE)
            if self.page == NULL:
                raise MemoryError
        else:
            c_fd = fd
            page = mmap(NULL, FPM_SLOT_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, c_fd, 0)
            error = errno
            close(c_fd)
            if page == MAP_FAILED:
                raise OSError(error, "cannot map the slot of the scoreboard")
            self.page = <fpm_slot *>page
            self._mapped = True
        self.page.magic = FPM_SLOT_MAGIC

    def __dealloc__(self):
        if self._mapped:
            munmap(self.page, FPM_SLOT_SIZE)
        else:
            free(self.page)

    def is_idle(self):
        self.stage(FPM_STAGE_IDLE)

    cdef void stage(self, fpm_stage stage) noexcept:
        """The stage that the worker has between its requests."""
        self.between = stage
        if self.page.stage != FPM_STAGE_RUNNING and self.page.stage != FPM_STAGE_FINISHING:
            fpm_slot_stage(self.page, stage)

    cdef int begin(self, dict params, uint64_t started_us) except -1:
        cdef fpm_slot *page = self.page
        cdef Text method = text_of(params, "REQUEST_METHOD")
        cdef Text uri = text_of(params, "REQUEST_URI")
        cdef Text query = text_of(params, "QUERY_STRING")
        cdef Text script = text_of(params, "SCRIPT_FILENAME")
        cdef Text user = text_of(params, "REMOTE_USER")
        cdef Text came_in = text_of(params, "REQUEST_MSEC")
        cdef bytes decoded = None
        cdef const char *end
        if uri.length == 0:
            uri = text_of(params, "SCRIPT_NAME")
        # php-fpm shows the path, and the query beside it.
        end = <const char *>memchr(uri.start, c"?", uri.length)
        if end != NULL:
            uri.length = end - uri.start
        if user.length == 0 and "HTTP_AUTHORIZATION" in params:
            decoded = basic_user(params["HTTP_AUTHORIZATION"])
            user.start = decoded
            user.length = len(decoded)
        fpm_slot_change(page)
        page.stage = FPM_STAGE_RUNNING
        page.started_us = started_us
        page.content_length = number_of(text_of(params, "CONTENT_LENGTH"))
        fpm_slot_text(page.method, &page.method_length, sizeof(page.method), method.start, method.length)
        fpm_slot_text(page.uri, &page.uri_length, sizeof(page.uri), uri.start, uri.length)
        fpm_slot_text(page.query, &page.query_length, sizeof(page.query), query.start, query.length)
        fpm_slot_text(page.script, &page.script_length, sizeof(page.script), script.start, script.length)
        fpm_slot_text(page.user, &page.user_length, sizeof(page.user), user.start, user.length)
        fpm_slot_changed(page)
        fpm_slot_add(&page.accepted, 1)
        if came_in.length:
            self._waited(microseconds_of(came_in))
        return 0

    cdef void _waited(self, uint64_t came_in_us) noexcept:
        cdef timespec now
        cdef uint64_t now_us
        if came_in_us == 0:
            return
        clock_gettime(CLOCK_REALTIME, &now)
        now_us = <uint64_t>now.tv_sec * 1000000 + <uint64_t>now.tv_nsec // 1000
        # The web server's clock has milliseconds, so a request may seem to come from the next moment.
        if came_in_us <= now_us + 1000 and now_us - came_in_us + 1000 < LONGEST_WAIT_US:
            fpm_slot_waited(self.page, now_us - came_in_us if now_us > came_in_us else 0)

    cdef void finishing(self) noexcept:
        """The request is answered, and goes on."""
        fpm_slot_stage(self.page, FPM_STAGE_FINISHING)

    cdef void end(self, uint64_t duration_us, uint64_t cpu_us, unsigned status_class, uint64_t bytes_out) noexcept:
        fpm_slot_ended(self.page, self.between, duration_us, cpu_us, status_class, bytes_out)


cdef bytes basic_user(str authorization):
    """The user of Basic authentication, as PHP finds it in the header; b"" if there is none."""
    kind, _, rest = authorization.partition(" ")
    if kind.lower() != "basic":
        return b""
    try:
        user, colon, _ = a2b_base64(rest).partition(b":")
    except ValueError:
        return b""
    return user if colon else b""
