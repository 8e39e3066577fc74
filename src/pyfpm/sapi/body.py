"""The raw body of a request as a file with a place of its own, beside those who read it elsewhere."""

from __future__ import annotations

import io
import os
from typing import Any, BinaryIO

# Bytes that are read ahead.
BUFFER = 64 * 1024


def whole(body: BinaryIO | None) -> BinaryIO:
    """A binary file of the same bytes, at their beginning. Neither reading nor closing the one does anything to the
    other; the body's room on disk is free again when both are closed.

    Args:
      body: one in memory or in a file; None for no body.

    Raises:
      ValueError: it is closed already.
    """
    if body is None:
        return io.BytesIO()
    if isinstance(body, io.BytesIO):
        # They share the memory.
        return io.BytesIO(body.getvalue())
    return io.BufferedReader(_Again(os.dup(body.fileno())), BUFFER)


class _Again(io.RawIOBase):
    """A file by its descriptor, whose own place is not moved."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._must_be_open()
        count = os.preadv(self._fd, [buffer], self._at)
        self._at += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._must_be_open()
        beginning = {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence)
        if beginning is None:
            beginning = os.fstat(self._fd).st_size
        if beginning + offset < 0:
            raise ValueError(f"negative seek position {beginning + offset}")
        self._at = beginning + offset
        return self._at

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._fd)

    def _must_be_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")
