"""php-fpm, or pyfpm in its place: the same pool file, the same requests."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping

from support.server import public_directory
from support.waiting import PATIENCE_S, eventually
from support.wire import Answer, ask


class Fpm:
    """One of the two, in the foreground, with its log on a file of ours.

    Args:
      kind: "php" or "py", which is also what its scripts' names end in.
      program: the command.
      config: its configuration; ``$DIR`` in it is the directory that everything is in.
      scripts: text by name.
      arguments: of the command, in place of those that start it.
    """

    def __init__(self, kind: str, program: list[str], config: str, scripts: Mapping[str, str], *arguments: str) -> None:
        self.kind = kind
        self.directory = public_directory()
        os.chmod(self.directory, 0o777)
        self._command = program
        self.configure(config)
        for name, text in scripts.items():
            (self.directory / f"{name}.{kind}").write_text(text)
        with open(self.directory / "out", "wb") as out:
            self.process = subprocess.Popen(
                [*program, "-y", str(self.directory / "fpm.conf"), *(arguments or ("-F", "-O", "-R"))],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip

    def configure(self, config: str) -> None:
        (self.directory / "fpm.conf").write_text(config.replace("$DIR", str(self.directory)))

    def wait_until_ready(self) -> None:
        eventually(lambda: "ready to handle" in self.log() or self.process.poll() is not None, "it is ready")

    def log(self) -> str:
        return (self.directory / "out").read_text("utf-8", "replace")

    @property
    def socket(self) -> str:
        return f"{self.directory}/fpm.sock"

    def ask(self, name: str, **params: str) -> Answer:
        """A script by its name, or a page by its path."""
        path, _, query = name.partition("?")
        script = f"{self.directory}/{'hello' if name.startswith('/') else path}.{self.kind}"
        uri = path if name.startswith("/") else f"/{path}"
        more = {"SCRIPT_NAME": uri, "REQUEST_URI": f"{uri}?{query}" if query else uri, "QUERY_STRING": query}
        return ask(
            self.socket, script, **{"REMOTE_ADDR": "192.0.2.1", "DOCUMENT_ROOT": str(self.directory), **more, **params}
        )

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def discard(self) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def said(self) -> list[str]:
        """Lines of the log, without what differs in each run and the two programs' names."""
        # A line of Debian's php-fpm, which is built with systemd.
        lines = [line for line in self.log().splitlines() if line and "systemd monitor" not in line]
        return [plain(line, self) for line in lines]


def plain(line: str, fpm: Fpm) -> str:
    line = re.sub(r"^\[\d\d-\w{3}-\d{4} \d\d:\d\d:\d\d\] ", "", line.replace(str(fpm.directory), "$DIR"))
    line = re.sub(r"(pid |child |fd=)\d+", r"\1N", line)
    line = re.sub(r"reloading: .*", "reloading: ...", line)
    # The message is one of several bytes more or less, so a line that is full has fewer of what it is about.
    return re.sub(r"a{50,}", "a...", line.replace("PHP message", "Python message")).replace(".php", ".py")
