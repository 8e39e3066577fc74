"""The body of a request while it arrives: in memory while it is small, in an unlinked temporary file once it isn't."""

from __future__ import annotations

import io
import tempfile
from typing import BinaryIO, cast


class Body:
    """One request's STDIN (or a filter's DATA).

    Args:
      threshold: bytes that are kept in memory; a larger body goes to a file as a whole.
      directory: where that file is made. It has no name (O_TMPFILE where the file system can), so nothing of it is
        left behind whatever happens to us.
    """

    __slots__ = ("_directory", "_file", "_threshold", "in_file", "size")

    def __init__(self, threshold: int, directory: str | None) -> None:
        self.size = 0
        self.in_file = False
        self._threshold = threshold
        self._directory = directory
        self._file: BinaryIO = io.BytesIO()

    def append(self, data: bytes) -> None:
        """Raises OSError when the file cannot be made or the disk is full; the body is then of no use."""
        self.size += len(data)
        if not self.in_file and self.size > self._threshold:
            memory = cast(io.BytesIO, self._file)
            # Unbuffered: pieces come as large as the web server makes them.
            self._file = cast(BinaryIO, tempfile.TemporaryFile(buffering=0, dir=self._directory))  # noqa: SIM115 (close does)
            self._file.write(memory.getbuffer())
            self.in_file = True
        self._file.write(data)

    def open(self) -> BinaryIO:
        """The complete body as a binary file at its beginning. Closing it frees the space."""
        self._file.seek(0)
        if self.in_file:
            return io.BufferedReader(cast(io.RawIOBase, self._file), 64 * 1024)
        return self._file

    def close(self) -> None:
        self._file.close()
