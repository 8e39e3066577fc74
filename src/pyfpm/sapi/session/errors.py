"""What goes wrong with sessions."""

from __future__ import annotations


class SessionError(RuntimeError):
    """A session cannot be had, changed or kept; the message says why. What was kept before is still there."""


SessionError.__module__ = "pyfpm"
