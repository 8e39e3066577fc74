"""The live table."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console

from pyfpm.ctl import top
from support.master import Ctl, FakeMaster, pool, process, status
from support.waiting import PATIENCE_S, eventually


def lines_of(
    sample: top.Sample, before: top.Sample | None = None, rows: int | None = None, width: int = 80
) -> list[str]:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(top.view(sample, before, rows))
    return [line.rstrip() for line in capture.get().splitlines()]


BUSY = {"state": "Running", "request uri": "/slow.py?" + "x" * 200}


def test_workers_are_under_their_pool_and_the_longest_request_is_first() -> None:
    one = pool(
        "www", process(900001), process(900002, **{**BUSY, "request duration": 2_500_000}),
        process(900003, **{**BUSY, "request duration": 400_000_000}), **{"listen queue": 5, "max children reached": 2},
    )  # fmt: skip
    lines = lines_of(top.Sample(status(one, pool("api")), 0))
    assert lines[0].split() == ["PID", "STATE", "AGE", "REQ/S", "REQS", "MEM", "REQUEST"]
    assert lines[1].split(None, 2) == ["2.0", "7400", "[www] 2/3 busy, queue 5, full 2x"]
    assert [line.split()[:3] for line in lines[2:4]] == [["900003", "Running", "6m40s"], ["900002", "Running", "2.5s"]]
    assert lines[2].split()[3:7] == ["0.5", "50", "1.9M", "GET"]
    assert lines[4].split() == ["900001", "Idle", "0.5", "50", "1.9M", "GET", "/page900001.py?a=b"]
    assert lines[5].endswith("[api] 0/0 busy, queue 0")


def test_it_fits_into_80_columns() -> None:
    lines = lines_of(top.Sample(status(pool("www", process(4194304, **BUSY))), 0))
    assert max(map(len, lines)) <= 80
    assert lines[2].endswith("…")
    assert "GET /slow.py?" in lines[2]


def test_it_fits_into_the_screen_and_says_what_it_left_out() -> None:
    many = [process(900_000 + number) for number in range(100)]
    lines = lines_of(top.Sample(status(pool("www", *many), pool("api", *many)), 0), rows=24)
    assert len(lines) <= 24
    assert [line.strip() for line in lines if "more" in line] == ["... and 91 more"] * 2


def test_rates_are_those_between_two_samples() -> None:
    def at(seconds: float, accepted: int, requests: int, start: int = 1) -> top.Sample:
        worker = process(900001, requests=requests, **{"start time": start})
        return top.Sample(status(pool("www", worker, **{"accepted conn": accepted})), seconds)

    lines = lines_of(at(12, 1500, 80), at(10, 1000, 60))
    assert lines[1].split()[0] == "250.0"
    assert lines[2].split()[2] == "10.0"
    # Another worker with that pid, and a pool that was started again: since their start.
    lines = lines_of(at(12, 370, 20, start=2), at(10, 1000, 10))
    assert lines[1].split()[0] == "0.1"
    assert lines[2].split()[2] == "0.2"


def test_memory_is_what_the_process_has() -> None:
    assert (top.resident(os.getpid()) or 0) > 1024**2
    assert top.resident(2**31 - 1) is None


def test_once_and_without_a_terminal_it_prints_once(ctl: Ctl, master: FakeMaster) -> None:
    for more in ([], ["--once"]):
        done = ctl("--control", master.path, "top", *more)
        assert done.status == 0
        assert done.out.startswith("pyfpm 0.1.0, pid 77")
        assert "[www] 1/2 busy" in done.out
    assert ctl("--control", master.path, "top", "--json").json == master.results["status"]


class Terminal:
    """A terminal of 80 x 24 with ``pyfpmctl top`` in it."""

    def __init__(self, path: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pyfpm.ctl", "--control", path, "top"],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env={**os.environ, "TERM": "xterm"},
            # Whoever runs the tests in the background has it ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        os.set_blocking(self.master, False)
        self.seen = b""

    def shows(self, text: bytes) -> None:
        def there() -> bool:
            try:
                self.seen += os.read(self.master, 1 << 16)
            except BlockingIOError:
                pass
            return text in self.seen

        eventually(there, f"the terminal shows {text!r}")

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.slave)
        os.close(self.master)


@pytest.fixture
def terminal(master: FakeMaster) -> Iterator[Terminal]:
    opened = Terminal(master.path)
    yield opened
    opened.end()


@pytest.mark.parametrize(
    "end",
    [
        lambda terminal: os.write(terminal.master, b"q"),
        lambda terminal: terminal.process.send_signal(signal.SIGINT),
    ],
    ids=["q", "Ctrl-C"],
)
def test_it_is_live_until_it_is_ended_and_leaves_the_terminal_as_it_was(
    terminal: Terminal, master: FakeMaster, end: Callable[[Terminal], None]
) -> None:
    terminal.shows(b"[www] 1/2 busy")
    master.results["status"] = status(pool("www", process(101)))
    terminal.shows(b"[www] 0/1 busy")
    end(terminal)
    assert terminal.process.wait(PATIENCE_S) == 0
    assert termios.tcgetattr(terminal.slave) == terminal.before
    terminal.shows(b"\x1b[?1049l")


def test_it_ends_when_the_master_does(terminal: Terminal, master: FakeMaster) -> None:
    terminal.shows(b"[www] 1/2 busy")
    master.results["status"] = b""
    terminal.shows(b"without an answer")
    assert terminal.process.wait(PATIENCE_S) == 2
