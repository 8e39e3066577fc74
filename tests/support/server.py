"""A real ``pyfpm`` process."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from support import processes
from support.waiting import PATIENCE_S, eventually

READY = "ready to handle connections"

# Said by whatever should not be possible. No test may pass while it is in the log.
BUG = "please report"


def public_directory() -> Path:
    """A new directory that a web server under another user can enter, with a path short enough for a socket."""
    path = Path(tempfile.mkdtemp(prefix="pyfpm-test-"))
    path.chmod(0o755)
    return path


def command(*arguments: str, python: str = sys.executable) -> list[str]:
    return [python, "-m", "pyfpm", *arguments]


class CommandFailed(Exception):
    """The control socket's answer was no; with the reason."""


def configure(directory: Path, text: str) -> None:
    (directory / "pyfpm.conf").write_text(text.replace("$DIR", str(directory)))


def limiter(limits: Mapping[int, int]) -> Callable[[], None]:
    def limit() -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        for which, most in limits.items():
            resource.setrlimit(which, (most, most))

    return limit


def run_pyfpm(*arguments: str, cwd: Path | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command line that ends by itself."""
    return subprocess.run(
        command(*arguments), cwd=cwd, capture_output=True, text=True, timeout=PATIENCE_S, stdin=subprocess.DEVNULL,
        **options,
    )  # fmt: skip


class Server:
    """A pyfpm that was started, and will be stopped.

    Args:
      arguments: of the command line. Without ``--socket`` or ``--listen`` it listens on ``socket``, alone.
      cwd: where it is started.
      limits: resource limits of it and all its processes; without them, as many descriptors as we may have.
    """

    def __init__(
        self,
        *arguments: str,
        cwd: Path | None = None,
        limits: Mapping[int, int] | None = None,
        env: Mapping[str, str] | None = None,
        python: str = sys.executable,
        directory: Path | None = None,
    ) -> None:
        self.directory = directory or public_directory()
        self.socket = str(self.directory / "fpm.sock")
        self._log_path = self.directory / "log"
        if not {"--socket", "--listen", "-y"} & set(arguments):
            arguments = ("--socket", self.socket, *arguments)
        if os.geteuid() == 0 and not {"--user", "-R", "-y"} & set(arguments):
            arguments = ("-R", *arguments)
        with open(self._log_path, "wb") as log:
            self.process = subprocess.Popen(
                command(*arguments, python=python),
                cwd=cwd,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Whoever we start is found by it.
                start_new_session=True,
                preexec_fn=limiter(limits or {}),
            )

    @classmethod
    def of_config(cls, text: str, *arguments: str, root: bool = True, **options: Any) -> Server:
        """One that is started from a configuration file, ``pyfpm.conf`` in its directory.

        Args:
          text: of the file; ``$DIR`` in it is the directory. A pool www with ``listen = $DIR/fpm.sock`` is found by
            ``socket`` and ``workers``.
          root: pools may run as root.
        """
        directory = public_directory()
        configure(directory, text)
        root_switch = ("-R",) if root and os.geteuid() == 0 else ()
        return cls(*root_switch, "-F", "-y", f"{directory}/pyfpm.conf", *arguments, directory=directory, **options)

    def configure(self, text: str) -> None:
        """Another text for the configuration file; it is read at the next reload."""
        configure(self.directory, text)

    def control(self, do: str, **order: object) -> Any:
        """What a command over the control socket results in. CommandFailed when the answer is no."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE_S)
            connection.connect(self.control_socket)
            connection.sendall(json.dumps({"do": do, **order}).encode() + b"\n")
            with connection.makefile("rb") as file:
                answer = json.loads(file.read())
        if not answer["ok"]:
            raise CommandFailed(answer["error"])
        return answer["result"]

    @property
    def control_socket(self) -> str:
        return f"{self.directory}/fpm.sock.ctl"

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_until_ready(self) -> None:
        eventually(lambda: READY in self.log() or self.process.poll() is not None, "pyfpm is ready")
        assert READY in self.log(), f"pyfpm did not start:\n{self.log()}"

    def log(self) -> str:
        return self._log_path.read_text("utf-8", "replace")

    def logged(self, text: str) -> int:
        """How many lines of the log have this text."""
        return sum(text in line for line in self.log().splitlines())

    @property
    def addresses(self) -> list[str]:
        return re.findall(r"listening on (\S+)", self.log())

    @property
    def zygote(self) -> int:
        (pid,) = [pid for pid in processes.children(self.pid) if processes.title(pid).endswith(" zygote")]
        return pid

    @property
    def workers(self) -> list[int]:
        return self.workers_of("www")

    def workers_of(self, pool: str) -> list[int]:
        return [pid for pid in processes.children(self.pid) if processes.title(pid) == f"pyfpm: pool {pool}"]

    @property
    def worker(self) -> int:
        (pid,) = self.workers
        return pid

    def kill_worker(self, victim: int) -> None:
        """Kill one, and wait until there is another in its place."""
        count = len(self.workers)
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: len(now := self.workers) == count and victim not in now, "there is a new worker")

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def wait(self, within: float = PATIENCE_S) -> int:
        """The exit status, once it has ended."""
        return self.process.wait(within)

    def stop(self) -> int:
        self.signal()
        return self.wait()

    def is_gone(self) -> None:
        """Wait until no process is left of all that came from it."""
        eventually(lambda: not processes.running_session(self.pid), "all processes have ended", within=20)

    def discard(self) -> None:
        """End whatever is left, and say so if it was more than it should be."""
        stuck = False
        if self.process.poll() is None:
            self.signal()
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                stuck = True
                self.process.kill()
                self.process.wait()
        try:
            self.is_gone()
        except AssertionError:
            left = {pid: processes.title(pid) for pid in processes.running_session(self.pid)}
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"processes are left: {left}\n{self.log()}") from None
        log = self.log()
        shutil.rmtree(self.directory, ignore_errors=True)
        assert not stuck, f"pyfpm could not be stopped\n{log}"
        assert BUG not in log, log
