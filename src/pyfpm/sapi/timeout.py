"""What ends a request that has run for ``max_execution_time``."""

from __future__ import annotations


class ExecutionTimeout(BaseException):
    """Raised in user code when the time of its request is up.

    Like SystemExit it is no Exception, so that ``except Exception`` lets it pass. ``finally`` blocks run, and whoever
    catches it may go on, until ``request_terminate_timeout`` ends the process.
    """


ExecutionTimeout.__module__ = "pyfpm"


def is_timeout(error: BaseException) -> bool:
    """It is one, or a group of nothing else: what tasks of trio or asyncio were ended by."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(ExecutionTimeout)[1] is None
    return isinstance(error, ExecutionTimeout)
