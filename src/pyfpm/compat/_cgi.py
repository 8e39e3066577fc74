"""One request as a plain CGI program gets it (RFC 3875): environment and standard input, answered on standard output.

It looks to an adapter as any other request does.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import BinaryIO

from pyfpm.protocol import RESPONDER
from pyfpm.sapi import pages
from pyfpm.sapi.interface import Output, Request
from pyfpm.worker.body import Body
from pyfpm.worker.inline import Adapter

# Of one read, in bytes; what pipes hold.
READ = 64 * 1024
# Of an answer, before it is sent without having been asked to.
HELD = 32 * 1024


class CGIRequest:
    """The request that this process was started for.

    Args:
      stdin: the body, if there is one; ours to close no more than before.
    """

    role = RESPONDER
    data: BinaryIO | None = None

    def __init__(self, stdin: BinaryIO | None) -> None:
        self.params = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in os.environb.items()
        }  # fmt: skip
        self.non_ascii = not all(map(str.isascii, self.params.values()))
        self.stdin = stdin


class CGIOutput:
    """Standard output, as far as the web server reads it, and standard error.

    Args:
      fd: where the answer goes; the caller's.
    """

    def __init__(self, fd: int) -> None:
        self.started = False
        self._fd = fd
        self._held = bytearray()
        self._gone = False

    def write(self, data: bytes) -> None:
        self._must_be_there()
        self._held += data
        if len(self._held) > HELD:
            self.flush()

    def error(self, data: bytes) -> None:
        self._must_be_there()
        with suppress(OSError):  # it is closed, or nobody reads it: that is no reason to fail
            os.write(2, data)

    def flush(self) -> None:
        self._must_be_there()
        self.started = self.started or bool(self._held)
        left = memoryview(bytes(self._held))
        self._held.clear()
        while left:
            try:
                left = left[os.write(self._fd, left) :]
            except OSError as error:
                self._gone = True
                raise ConnectionAbortedError("the web server does not read the answer") from error

    def sendfile(self, fd: int, offset: int, count: int) -> None:
        while count > 0 and (data := os.pread(fd, min(count, READ), offset)):
            self.write(data)
            offset += len(data)
            count -= len(data)

    def wait(self, descriptors: Sequence[int], timeout_s: float | None) -> list[int]:
        return select.select(descriptors, (), (), timeout_s)[0]

    def discard(self) -> bool:
        if self.started:
            return False
        self._held.clear()
        return True

    def is_given_up(self) -> bool:
        return self._gone

    def finish(self) -> bool:
        """The web server waits for our process, so there is nothing to gain."""
        return False

    def _must_be_there(self) -> None:
        if self._gone:
            raise ConnectionAbortedError("the web server does not read the answer")


def answer_as_cgi(adapter: Adapter, spool_threshold: int) -> None:
    """Run the one request there is.

    Meanwhile what is printed goes to standard error, as it does in FastCGI, and not into the answer.
    """
    sys.stderr.flush()
    answer = os.dup(1)
    try:
        os.dup2(2, 1)
        output = CGIOutput(answer)
        body = Body(spool_threshold, None)
        try:
            _run(adapter, body, output)
        finally:
            body.close()
            with suppress(OSError, ValueError):
                sys.stdout.flush()
    finally:
        os.dup2(answer, 1)
        os.close(answer)


def _run(adapter: Adapter, body: Body, output: CGIOutput) -> None:
    request: Request
    answer: Output = output
    with suppress(ConnectionAbortedError):
        try:
            _read(body)
        except OSError as error:
            output.error(f"cannot store the body: {error.strerror}\n".encode())
            pages.answer(answer, 507)
        else:
            request = CGIRequest(body.open() if body.size else None)
            adapter(request, answer)
        output.flush()


def _read(body: Body) -> None:
    """The body: as many bytes as CONTENT_LENGTH says, since nobody has to end standard input behind them
    (RFC 3875, 4.2). Apache says no length where the client didn't; then there is an end."""
    announced = os.environ.get("CONTENT_LENGTH", "")
    if announced.isascii() and announced.isdecimal():
        left = int(announced)
    else:
        left = sys.maxsize if "chunked" in os.environ.get("HTTP_TRANSFER_ENCODING", "").lower() else 0
    while left and (data := os.read(0, min(left, READ))):
        body.append(data)
        left -= len(data)
