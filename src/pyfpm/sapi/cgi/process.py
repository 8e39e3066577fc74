"""A CGI program that runs as a process of its own: any that ``kind`` does not keep in the worker.

It is started, given the body as a file on its standard input, and read from until it closes its standard output; then
the answer is complete. What it says on its standard error goes to the web server's log. The worker waits meanwhile, as
for a script. What the web server does not take holds the program up (a pipe's worth); nothing is collected in between.

A deadline (``cgi.timeout``), a visitor who leaves, and whatever ends the request otherwise, ends the program as a
group: with TERM, so that it can clean up, and after a moment with KILL. The end of the worker ends it by a signal of
the kernel's.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pyfpm.sapi import pages
from pyfpm.sapi.cgi import variables
from pyfpm.sapi.cgi._spawn import spawn
from pyfpm.sapi.cgi.answer import BadAnswer, CGIAnswer
from pyfpm.sapi.cgi.descriptors import as_file, size_of
from pyfpm.sapi.cgi.kind import LONGEST_LINE
from pyfpm.sapi.failure import Log
from pyfpm.sapi.interface import Output, Request
from pyfpm.sapi.printable import printable
from pyfpm.sapi.script import _ProcessState
from pyfpm.sapi.script_file import Script
from pyfpm.sapi.settings import SapiSettings
from pyfpm.sapi.timeout import ExecutionTimeout

# Read at once; as much as a pipe holds.
PIECE = 64 * 1024

# A program that is told to end has so long to do it.
GRACE_S = 2.0

# One that has closed its output has so long to end, too, before we go on without its status.
LEAVING_S = 0.5

# Of what it says on standard error, so many bytes of the end are shown where the answer is found to be wrong.
LAST_WORDS = 500

# What keeps a process from being started and is not about the program.
NOT_THE_PROGRAM = frozenset({errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class Process:
    """Runs CGI programs as processes.

    Args:
      env_names: what ``env[]`` sets; it is passed on, unlike the rest of the environment.
    """

    def __init__(self, log: Log, settings: SapiSettings, env_names: tuple[str, ...] = ()) -> None:
        self._log = log
        self._timeout_s = settings.cgi_timeout_s
        self._env_names = env_names
        # They have answered and go on. With the next program we look whether they have ended.
        self._left: list[int] = []

    def __call__(self, script: Script, request: Request, output: Output, process: _ProcessState) -> int:
        self._left = [pid for pid in self._left if _status_of(pid, os.WNOHANG) is None]
        params, body = request.params, request.stdin
        try:
            process.restore(script)
            ours = variables.of_the_process(os.environ, self._env_names)
            of_request = variables.of_the_request(params, ours, None if body is None else size_of(body))
            stdin = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC) if body is None else as_file(body)
            try:
                child = _Child(script, _encoded(ours) | of_request, stdin)
            finally:
                os.close(stdin)
        except OSError as error:
            status = 503 if error.errno in NOT_THE_PROGRAM else 500
            return self._failed(script, _why(script, error), output, status)
        with child.until_over(self._left):
            return self._serve(script, child, output, params.get("REQUEST_METHOD") == "HEAD")

    def _serve(self, script: Script, child: _Child, output: Output, bodiless: bool) -> int:
        answer = CGIAnswer(output, bodiless)
        deadline = time.monotonic() + self._timeout_s if self._timeout_s else None
        try:
            child.relay(answer, output, deadline)
            status = child.wait_for_end(output)
            child.ended_well = True
            answer.end()
        except ConnectionAbortedError:
            return 1  # Nobody waits for it any more.
        except TimeoutError:
            reason = f"it ran for {self._timeout_s:g} s (cgi.timeout) and is ended"
            return self._failed(script, reason + child.last_words(), output, 504)
        except BadAnswer as error:
            return self._failed(script, str(error) + child.last_words(), output, 500)
        except ExecutionTimeout as error:
            return self._failed(script, f"{error} (max_execution_time), it is ended" + child.last_words(), output, 504)
        if status < 0:
            self._log("WARNING", f"CGI program {script.path}: it was ended by {_name_of(-status)}")
        return status & 0xFF

    def _failed(self, script: Script, reason: str, output: Output, status: int) -> int:
        self._log("ERROR", f"CGI program {script.path}: {reason}")
        with suppress(ConnectionAbortedError):
            output.error(f"CGI program: {reason}\n".encode("utf-8", "backslashreplace"))
            if output.discard():
                pages.answer(output, status)
        return 255


def _encoded(variables: dict[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(value) for name, value in variables.items()}


class _Child:
    """A program that runs. Raises OSError when it cannot be started."""

    def __init__(self, script: Script, environment: dict[bytes, bytes], stdin: int) -> None:
        self._status: int | None = None
        self._said = b""
        # It may go on if it wants to; otherwise it does not outlive its request.
        self.ended_well = False
        self._stdout, out = os.pipe2(os.O_CLOEXEC)
        try:
            self._stderr, err = os.pipe2(os.O_CLOEXEC)
        except OSError:
            os.close(self._stdout)
            os.close(out)
            raise
        self._pidfd = -1
        self.pid = 0
        try:
            self.pid = spawn(script.path, [script.path], environment, script.directory, stdin, out, err)
            self._pidfd = os.pidfd_open(self.pid)
        except BaseException:
            # The last descriptor was that of its output; or the request's time is up.
            if self.pid:
                _signal(self.pid, signal.SIGKILL)
                _status_of(self.pid)
            self._close()
            raise
        finally:
            os.close(out)
            os.close(err)

    def relay(self, answer: CGIAnswer, output: Output, deadline: float | None) -> None:
        """Pass on what it says until it closes its standard output.

        Raises:
          TimeoutError: it does not in time.
          BadAnswer: it has, but what it said was no answer.
          ConnectionAbortedError: the web server is gone.
        """
        reading = [self._stdout, self._stderr]
        bad = None
        while self._stdout in reading:
            ready = output.wait(reading, 0)
            if not ready:
                # It works on something: what it has said so far should not wait for that.
                answer.flush()
                ready = output.wait(reading, None if deadline is None else max(0.0, deadline - time.monotonic()))
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError
            for fd in ready:
                data = os.read(fd, PIECE)
                if not data:
                    reading.remove(fd)
                elif fd == self._stderr:
                    self._says(data, output)
                elif bad is None:
                    try:
                        answer.write(data)
                    except BadAnswer as error:
                        bad = error  # It may have other things to do than to answer, and does them to the end.
        if bad is not None:
            raise bad

    def _says(self, data: bytes, output: Output) -> None:
        self._said = (self._said + data)[-LAST_WORDS:]
        output.error(data)

    def wait_for_end(self, output: Output) -> int:
        """Its exit status, negative for a signal; 0 if it goes on."""
        reading = [self._pidfd, self._stderr]
        until = time.monotonic() + LEAVING_S
        while (left := until - time.monotonic()) > 0:
            ready = output.wait(reading, left)
            if self._stderr in ready:
                data = os.read(self._stderr, PIECE)
                if data:
                    self._says(data, output)
                else:
                    reading.remove(self._stderr)
            elif self._pidfd in ready:
                self._status = _status_of(self.pid)
                break
        return self._status or 0

    def last_words(self) -> str:
        said = printable(self._said.decode("utf-8", "replace")).strip()
        status, ended = self._status or 0, ""
        if status:
            ended = f"; it was ended by {_name_of(-status)}" if status < 0 else f"; it ended with status {status}"
        return ended + (f"; it said: {said}" if said else "")

    @contextmanager
    def until_over(self, left: list[int]) -> Iterator[None]:
        try:
            yield
        finally:
            try:
                if not self.ended_well:
                    self._end()
                elif self._status is None:
                    left.append(self.pid)
            finally:
                self._close()

    def _end(self) -> None:
        """End it, and all that it has started and that has not left its group."""
        _signal(self.pid, signal.SIGTERM)
        waiting = select.poll()
        waiting.register(self._pidfd, select.POLLIN)
        # Its children may live longer; where nobody can write any more, nobody is left.
        waiting.register(self._stdout, 0)
        until = time.monotonic() + GRACE_S
        left = 2
        while left and (wait_s := until - time.monotonic()) > 0:
            for fd, _ in waiting.poll(wait_s * 1000):
                waiting.unregister(fd)
                left -= 1
        # As long as nobody has waited for it, the number is its own.
        _signal(self.pid, signal.SIGKILL)
        if self._status is None:
            self._status = _status_of(self.pid)

    def _close(self) -> None:
        for fd in (self._stdout, self._stderr, self._pidfd):
            if fd >= 0:
                os.close(fd)


def _signal(group: int, number: signal.Signals) -> None:
    # Whose members may be another user's by now (a set-user-ID program).
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _status_of(pid: int, options: int = 0) -> int | None:
    """Its exit status, negative for a signal; None if it runs."""
    try:
        found, status = os.waitpid(pid, options)
    except ChildProcessError:
        return 0  # Code in this process has SIGCHLD ignored, or waits for all there is.
    return os.waitstatus_to_exitcode(status) if found else None


def _name_of(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def _why(script: Script, error: OSError) -> str:
    """What the kernel's word means for a program that is there and has its executable bit."""
    with suppress(OSError), open(script.path, "rb") as file:
        first = file.readline(LONGEST_LINE)
        if error.errno == errno.ENOEXEC:
            return "it is no program for this machine, and has no first line like #!/usr/bin/perl"
        if first.startswith(b"#!") and error.errno in (errno.ENOENT, errno.EACCES):
            interpreter = os.fsdecode(first[2:].strip().partition(b" ")[0])
            if first.endswith(b"\r\n"):
                return r"its first line ends in \r\n, which is taken for a part of the interpreter's name"
            what = "is not there" if error.errno == errno.ENOENT else "may not be executed"
            return f"the interpreter of its first line, {interpreter!r}, {what}"
    return f"it cannot be started: {error.strerror}"
