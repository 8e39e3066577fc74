"""Descriptors 0 and 1 of a worker while a CGI program runs in it.

Python's own streams do not need them, but programs do: ``os.write(1, ...)``, ``open(0, "rb")``, and above all the
processes that they start, which inherit both (``os.system("df -h")`` in the middle of a page). So 0 is the body, as a
file, and 1 a file in memory of which everything that appears in it is taken over into the answer.

A file and no pipe: nobody could read a pipe while the program waits for its child. And each request has a new one: a
process that is still there when its request is over keeps the old one, and writes into nobody's answer.
"""

from __future__ import annotations

import fcntl
import io
import os
from typing import BinaryIO

from pyfpm.sapi.cgi.answer import CGIAnswer

# Taken over by sendfile from so many bytes on.
LARGE = 64 * 1024

# Descriptors of ours that programs do not step on when they dup2 onto small numbers.
FIRST = 20


class Descriptors:
    def __init__(self) -> None:
        # Opened in the worker: the zygote that made us has another standard output.
        self._null = -1
        self._stdout = -1
        self._printed = -1
        self._taken = 0

    def install(self, body: BinaryIO | None) -> None:
        """Raises OSError when there are too many files open; what was before stays."""
        if self._null < 0:
            self._keep()
        self._printed = os.memfd_create("stdout of a CGI program", os.MFD_CLOEXEC)
        self._taken = 0
        # For whoever opens it once more (/dev/stdout).
        fcntl.fcntl(self._printed, fcntl.F_SETFL, os.O_APPEND)
        os.dup2(self._printed, 1)
        if body is not None:
            _put_on_stdin(body)

    def _keep(self) -> None:
        try:
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:  # in a chroot
            null = os.memfd_create("null", os.MFD_CLOEXEC)
        try:
            self._stdout = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, FIRST)
            self._null = fcntl.fcntl(null, fcntl.F_DUPFD_CLOEXEC, FIRST)
        finally:
            os.close(null)
        os.dup2(self._null, 0)

    def take_over(self, answer: CGIAnswer) -> None:
        """Add what has appeared on descriptor 1 to the answer."""
        size = os.fstat(self._printed).st_size
        if size < self._taken:
            self._taken = 0  # Somebody has opened it as a file and begun anew.
        while self._taken < size:
            count = size - self._taken
            if count >= LARGE and answer.has_head:
                answer.sendfile(self._printed, self._taken, count)
                self._taken = size
            else:
                data = os.pread(self._printed, min(count, LARGE), self._taken)
                if not data:
                    return
                self._taken += len(data)
                answer.write(data)

    def restore(self) -> None:
        if self._printed < 0:
            return
        os.dup2(self._stdout, 1)
        os.dup2(self._null, 0)
        # In this order it can be done again where it was interrupted.
        printed, self._printed = self._printed, -1
        os.close(printed)


def size_of(body: BinaryIO) -> int:
    return len(body.getbuffer()) if isinstance(body, io.BytesIO) else os.fstat(body.fileno()).st_size


def as_file(body: BinaryIO) -> int:
    """A descriptor to read the body from its beginning; for the caller to close."""
    if not isinstance(body, io.BytesIO):
        fd = os.dup(body.fileno())
        os.lseek(fd, 0, os.SEEK_SET)
        return fd
    fd = os.memfd_create("body of a request", os.MFD_CLOEXEC)
    try:
        with body.getbuffer() as data:
            # A memfd takes all of it; only a full memory would keep it from that.
            if os.write(fd, data) != len(data):
                raise OSError("not all of the body fits into memory")
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _put_on_stdin(body: BinaryIO) -> None:
    fd = as_file(body)
    os.dup2(fd, 0)
    os.close(fd)
