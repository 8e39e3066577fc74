"""What the doctor found at a step."""

from __future__ import annotations

from dataclasses import dataclass

# A note is nothing to do about, or nothing that we can be sure of.
OK, PROBLEM, NOTE = "ok", "PROBLEM", "note"


@dataclass(frozen=True)
class Finding:
    """``step`` is a short name, ``text`` what was found and what to do; it may have several lines."""

    step: str
    verdict: str
    text: str
