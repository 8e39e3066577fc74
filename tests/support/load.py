"""Load from the benchmark's generator, which checks every answer; and orders over the control socket."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from support.waiting import PATIENCE_S

SOURCES = Path(__file__).parents[2] / "tools" / "bench"


@cache
def generator() -> Path:
    """``tools/bench/fcgi_load``, compiled once a run."""
    program = Path(tempfile.mkdtemp(prefix="pyfpm-load-")) / "fcgi_load"
    sources = [str(SOURCES / name) for name in ("fcgi_load.c", "request.c", "answer.c")]
    subprocess.run(["cc", "-O2", "-std=gnu11", "-o", str(program), *sources], check=True)
    return program


class Load:
    """Clients that ask again and again, each with one request at a time, until they have enough or are told to end.

    Args:
      script: its path; ``expect``: what the body of each answer must have in it, with ######## for its number.
      keep: on connections that are kept.
    """

    def __init__(
        self,
        address: str,
        script: Path,
        expect: str,
        *,
        connections: int,
        keep: bool,
        requests: int | None = None,
        timeout_s: float = PATIENCE_S,
    ) -> None:
        limit = ["--requests", str(requests)] if requests else ["--seconds", "600"]
        self.process = subprocess.Popen(
            [
                *(str(generator()), "--connections", str(connections), "--timeout", str(timeout_s)),
                *("--docroot", str(script.parent), "--script", "/" + script.name, "--expect-part", expect),
                *(["--keep-alive"] if keep else []),
                *limit,
                address,
            ],
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def result(self) -> dict[str, Any]:
        """What it has counted, once it has ended: requests, wrong, missing, retries, not_kept."""
        out, _ = self.process.communicate(timeout=600)
        found: dict[str, Any] = json.loads(out)
        return found

    def discard(self) -> None:
        if self.is_running:
            self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


def order(path: str, **command: object) -> dict[str, Any]:
    """One command to a control socket, and its answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE_S)
        connection.connect(path)
        connection.sendall(json.dumps(command).encode() + b"\n")
        answer = b""
        while piece := connection.recv(1 << 20):
            answer += piece
    found: dict[str, Any] = json.loads(answer)
    return found


def amount(short: int, full: int) -> int:
    """How much of something: ``full`` with PYFPM_TEST_FULL=1, as before a release, else ``short``."""
    return full if os.environ.get("PYFPM_TEST_FULL") == "1" else short
