"""Where the answer to one request goes; see ``pyfpm.sapi.interface.Output`` for an adapter's view of it."""

from collections.abc import Sequence
from typing import final

@final
class Staging:
    """The buffer that the answers of one executor are put together in, one after the other. Owns its memory.

    Raises:
      MemoryError: there is none.
    """

@final
class Output:
    """The STDOUT and STDERR streams of one request. Made by the connection, never by itself.

    Methods raise ConnectionAbortedError once the web server is gone, and ValueError once the request has ended; nothing
    has been added then.
    """

    @property
    def started(self) -> bool:
        """Something may have been sent: nothing can be taken back any more."""

    def work_with(self, staging: Staging, /) -> None:
        """From now on the answer is put together there. For a thread that begins to run the request; others do not
        write in it."""

    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        """Add bytes to the answer.

        Collected up to 32 KiB. From 16 KiB on they are not copied (if they are a bytes object, which is kept until it
        is sent), and are sent at the latest when 256 KiB are queued; then this waits, as ``flush`` does.

        Raises:
          TypeError: not bytes, nor a buffer of them.
        """

    def error(self, data: bytes, /) -> None:
        """Add bytes to the STDERR stream: the web server's error log. Sent when 32 KiB have come together, with the
        next flush, or at the end; in records of at most 2000 bytes, since nginx logs a record as one line of 2 KiB."""

    def flush(self) -> None:
        """Send what there is. With more than ``max_queued`` bytes waiting, wait until the web server has taken enough,
        but no longer than ``send_timeout`` without progress; then the web server counts as gone."""

    def sendfile(self, fd: int, offset: int, count: int) -> None:
        """Add ``count`` bytes of a regular file from ``offset`` on; nothing if that is 0 or less.

        The descriptor is duplicated: the caller may close his. A file that gets shorter meanwhile ends the connection,
        since the length of the record was promised.

        Raises:
          OSError: the descriptor cannot be duplicated; nothing of the file is added.
        """

    def wait(self, descriptors: Sequence[int], timeout_s: float | None) -> list[int]:
        """Wait until one of these (at most 8) can be read or is at its end; return those.

        Args:
          timeout_s: None waits for ever. When it is up the result is empty; a signal, or a web server that takes some
            of what is queued, makes that sooner.

        Raises:
          ConnectionAbortedError: the web server has hung up.
          ValueError: the request is over.
        """

    def is_given_up(self) -> bool:
        """Has the web server hung up, or said that it wants no answer (ABORT_REQUEST)? Costs a system call.

        Also looked at with each ``flush``. Then methods raise ConnectionAbortedError, from the next call on. On TCP a
        web server that has closed its sending side alone looks as one that has hung up, and is believed only when asked
        like this; on a unix socket the two differ.
        """

    def finish(self) -> bool:
        """The answer is complete, and the request goes on: wait until the web server has taken all of it (as ``flush``
        waits), and let go of the connection. Not kept, it ends; kept, another worker goes on with it, or we do when the
        request has ended.

        False, and nothing is done, if the answer is complete already, or has not begun.
        """

    def discard(self) -> bool:
        """Take back everything that was written; False, and nothing is done, if ``started``. STDERR stays."""

def forks_are_the_users() -> None:
    """From now on a fork is user code's: what the child writes to an Output raises ConnectionAbortedError, and nothing
    of it is sent. Workers call it once, when they are what they are."""
