"""A program that serves by itself, as those do that used flup: started, found ready, and ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from support import processes
from support.waiting import PATIENCE_S, eventually

SOURCES = os.pathsep.join(path for path in sys.path if path)


def write_program(path: Path, text: str) -> Path:
    """An executable file that runs under this Python and finds what we find.

    Web servers start it in an environment of their own, so it must not depend on ours.
    """
    setup = f"import sys; sys.path[:0] = {[each for each in sys.path if each]!r}"
    path.write_text(f"#!{sys.executable}\n{setup}\n{text}")
    path.chmod(0o755)
    return path


class Program:
    """One that runs.

    Args:
      command: what is executed.
      stdin: its descriptor 0, the caller's; None for /dev/null.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdin: int | socket.socket | None = None,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        self._stderr = tempfile.TemporaryFile()
        self._stdout = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=self._stdout,
            stderr=self._stderr,
            env={**os.environ, **(env or {})},
            start_new_session=True,
            **options,
        )

    def stderr(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read().decode("utf-8", "replace")

    def stdout(self) -> str:
        self._stdout.seek(0)
        return self._stdout.read().decode("utf-8", "replace")

    def wait_until_it_listens(self, address: str | tuple[str, int]) -> None:
        def answers() -> bool:
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.stderr()}"
            family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
            with socket.socket(family) as probe:
                return probe.connect_ex(address) == 0

        eventually(answers, f"it listens on {address!r}")

    def kill(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(PATIENCE_S)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.kill(number)
        return self.wait()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in processes.running_session(self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._stderr.close()
        self._stdout.close()
