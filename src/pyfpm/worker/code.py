"""An application whose files have changed: the master is told, and starts a new generation."""

from __future__ import annotations

from dataclasses import dataclass

from pyfpm.sapi.revalidation import ImportedModules
from pyfpm.worker.control import Control


@dataclass(frozen=True, slots=True)
class CodeWatch:
    """``look`` is to be called every ``interval_s`` seconds (python.revalidate), also while nobody asks for anything:
    an application takes its time to load, and the next visitor is to see the new code."""

    modules: ImportedModules
    interval_s: float
    control: Control

    def look(self) -> None:
        """Say what has changed, again and again until we are replaced: it is for the master to know what it tried."""
        change = self.modules.changed()
        if change is not None:
            self.control.send("c", f"{change.newest_ns} {change.path}")
