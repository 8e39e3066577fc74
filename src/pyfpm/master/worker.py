"""The master's side of one worker process: its slot of the scoreboard, its control channel, its output."""

from __future__ import annotations

import json
import math
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import trio

from pyfpm.observe._scoreboard import Slot, create_slot
from pyfpm.observe.log import Log
from pyfpm.observe.output import WorkerOutput
from pyfpm.observe.scoreboard import SlotView

# What a worker says in one message is at most so long; it is somebody else's code that says it.
LONGEST_MESSAGE = 64 * 1024

# So many messages of one worker a second are heard; the rest waits in its socket, and in the end the worker itself.
# An honest one has a few, unless many ask it for the status page, which costs the master half a millisecond.
MOST_MESSAGES_S = 1000

# Bytes of one read of a worker's output.
READ = 64 * 1024
# What a pipe holds, in the smallest reads; a worker that goes on writing does not keep us.
MOST_READS = 16

# How long a line of a worker's output may be unfinished before it is shown as it is.
UNFINISHED_S = 0.1

# Messages by which a worker tells of a request that went wrong, with a traceback.
SLOW, TERMINATED, CRASHED, DUMPED = b"L", b"T", b"C", b"D"

# What it says with its readiness if its requests do not keep it from hearing.
ASYNCHRONOUS = b"async"

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Ends:
    """Both ends of what connects a new worker with us; ``theirs`` go to the zygote and are closed then.

    Args:
      catch: its output comes to us (True), goes nowhere (False), or where ours goes (None).

    Raises:
      OSError: we are out of descriptors, say. Nothing is left open.
    """

    def __init__(self, catch: bool | None) -> None:
        self.theirs: dict[str, int] = {}
        self.outputs: dict[str, int] = {}
        self.slot: Slot = create_slot()
        try:
            self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:
            self.slot.close()
            raise
        self.theirs["control"] = theirs.detach()
        try:
            self._connect(catch)
        except OSError:
            self.close()
            raise

    def _connect(self, catch: bool | None) -> None:
        self.theirs["slot"] = os.dup(self.slot.fd)
        if catch is not None:
            for name in ("stdout", "stderr"):
                if catch:
                    self.outputs[name], self.theirs[name] = os.pipe2(os.O_CLOEXEC)
                else:
                    self.theirs[name] = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)

    def close_theirs(self) -> None:
        for fd in self.theirs.values():
            os.close(fd)
        self.theirs = {}

    def close(self) -> None:
        """Nothing has come of it."""
        self.close_theirs()
        self.ours.close()
        self.slot.close()
        for fd in self.outputs.values():
            os.close(fd)


class Worker:
    """A worker process, from its fork to its end.

    Args:
      pid: its process id; ours to wait for.
      generation: the number of the generation whose code it runs.
      ends: what connects us; taken over.
    """

    def __init__(self, pid: int, generation: int, ends: Ends) -> None:
        self.pid = pid
        self.generation = generation
        self.started = trio.current_time()
        self.started_unix = time.time()
        # Set when it serves, and when it never will: ``is_ready`` tells which.
        self.ready = trio.Event()
        self.is_ready = False
        self.has_served = False
        # That it has to retire; and whether it can say so while requests run.
        self.has_heard = False
        self.hears_always = False
        # Why it does not want to serve, in its own words.
        self.failure = ""
        self.ended = trio.Event()
        # It takes no new requests, by our order or its own.
        self.retiring = False
        # The first of a new generation, which does not count before it has shown that it serves.
        self.on_trial = False
        # We have let it go since there were too many; nobody has to take its place.
        self.surplus = False
        self.slot = ends.slot
        self.seen: SlotView = ends.slot.read()
        self._control = ends.ours
        self._control.setblocking(False)
        self._outputs = ends.outputs
        self._said: list[Said] = []
        self._dumps: list[trio.Event] = []
        self.dump = ""

    @property
    def age_s(self) -> float:
        return trio.current_time() - self.started

    def look(self) -> SlotView:
        """What its slot says now; kept as ``seen``, which is its last word once it has ended."""
        if self.slot.fd >= 0:
            self.seen = self.slot.read()
        return self.seen

    def memory(self) -> int:
        """Its resident memory in bytes; 0 when it cannot be known."""
        try:
            with open(f"/proc/{self.pid}/statm", "rb") as file:
                return int(file.read(200).split()[1]) * _PAGE
        except (OSError, IndexError, ValueError):
            return 0

    async def hear(self, handle: Callable[[Worker, bytes, bytes], None]) -> None:
        """Pass on what it says, message by message as (letter, rest), until it has closed the channel."""
        heard, until = 0, trio.current_time() + 1
        while True:
            heard += 1
            if (now := trio.current_time()) >= until:
                heard, until = 0, now + 1
            elif heard > MOST_MESSAGES_S:
                await trio.sleep_until(until)
            try:
                await trio.lowlevel.wait_readable(self._control)
                message = self._control.recv(LONGEST_MESSAGE)
            except (OSError, trio.ClosedResourceError):
                return
            if not message:
                return
            kind, rest = message[:1], message[1:]
            if kind == b"r":
                self.is_ready = True
                self.hears_always = rest == ASYNCHRONOUS
                self.ready.set()
            if kind == b"h":
                self.has_heard = True
            if kind == b"f":
                self.failure = rest.decode("utf-8", "replace")
            if kind == DUMPED:
                self.dump = rest.partition(b"\n")[2].decode("utf-8", "replace")
                for each in self._dumps:
                    each.set()
                self._dumps.clear()
            handle(self, kind, rest)

    async def next_dump(self) -> str:
        """The traceback that it sends when it is asked to by signal."""
        event = trio.Event()
        self._dumps.append(event)
        await event.wait()
        return self.dump

    def say(self, message: bytes, descriptors: Sequence[int] = ()) -> None:
        """Tell it something. If it does not listen, it has reasons of its own, or is gone."""
        with suppress(OSError):
            socket.send_fds(self._control, [message], list(descriptors))

    def reopen(self, names: Sequence[str], descriptors: Sequence[int]) -> None:
        """Have it write to these log files instead of those of that name."""
        self.say(b"l" + json.dumps(list(names)).encode(), descriptors)

    async def read_output(self, pool: str, decorate: bool, log: Log) -> None:
        """Log what it writes to its stdout and stderr, until it has closed both."""
        self._said = [
            Said(fd, WorkerOutput(pool, self.pid, stream, decorate, log), self._requests)
            for stream, fd in self._outputs.items()
        ]
        async with trio.open_nursery() as nursery:
            for each in self._said:
                nursery.start_soon(each.follow)

    def hear_out(self) -> None:
        """Log all that it has said until now."""
        over = not self.look().busy
        for each in self._said:
            each.hear_out(over)

    def _requests(self) -> int:
        return self.look().counters.accepted

    def close(self) -> None:
        """It has ended, and was heard out."""
        trio.lowlevel.notify_closing(self._control)
        self._control.close()
        self.slot.close()


async def log_output(fd: int, output: WorkerOutput) -> None:
    """Log what comes out of a pipe, which is closed at its end."""
    await Said(fd, output).follow()


class Said:
    """What comes out of a pipe, on its way into the log.

    A line without a newline ends with the request that has said it. php-fpm's children write a mark at the end of each
    request; we look at the worker's slot instead, which costs the worker nothing, and which whoever writes to the pipe
    cannot forge. So what two requests have said before we could look in between is one line. A line also ends when
    nothing is added to it for ``UNFINISHED_S``.

    Args:
      fd: our end; closed by ``follow``.
      requests: how many the worker has begun; None: there are none, as in a zygote.
    """

    def __init__(self, fd: int, output: WorkerOutput, requests: Callable[[], int] | None = None) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._output = output
        self._requests = requests
        self._begun = 0
        self._ended = False

    async def follow(self) -> None:
        """Until the other end is closed."""
        try:
            while not self._ended:
                # What is said without a newline is shown after a while, and not when the worker ends.
                with trio.move_on_after(UNFINISHED_S if self._output.waits else math.inf) as patience:
                    await trio.lowlevel.wait_readable(self._fd)
                if patience.cancelled_caught:
                    self._output.flush()
                else:
                    self._read()
        finally:
            self._ended = True
            trio.lowlevel.notify_closing(self._fd)
            os.close(self._fd)
            self._output.close()

    def hear_out(self, over: bool) -> None:
        """Log what is there now, before we say something ourselves. over: a line that has begun is not continued."""
        for _ in range(MOST_READS):
            if self._ended or not self._read():
                break
        if over and not self._ended and self._output.waits:
            self._output.flush()

    def _read(self) -> bool:
        """False: there is nothing, or nothing more."""
        # Looked at before the read: what we get is of this request, or of one before it.
        begun = self._requests() if self._requests is not None else 0
        try:
            data = os.read(self._fd, READ)
        except BlockingIOError:
            return False
        if begun != self._begun and self._output.waits:
            self._output.flush()
        self._begun = begun
        self._ended = not data
        self._output.feed(data)
        return not self._ended
