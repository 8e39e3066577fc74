"""An application whose files have changed: the master is told, and starts a new generation."""

from __future__ import annotations

from dataclasses import dataclass

import trio

from pyfpm.sapi.revalidation import ImportedModules
from pyfpm.worker.control import Control


@dataclass(frozen=True, slots=True)
class CodeWatch:
    """Looks every ``interval_s`` seconds (python.revalidate), also while nobody asks for anything: an application takes
    its time to load, and the next visitor is to see the new code."""

    modules: ImportedModules
    interval_s: float
    control: Control

    async def run(self) -> None:
        while True:
            await trio.sleep(self.interval_s)
            self.look()

    def look(self) -> None:
        """Say what has changed, again and again until we are replaced: it is for the master to know what it tried."""
        change = self.modules.changed()
        if change is not None:
            self.control.send("c", f"{change.newest_ns} {change.path}")
