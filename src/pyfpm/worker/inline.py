"""The inline executor: one request at a time, here and now, on the trio thread."""

from __future__ import annotations

import contextvars
import os
from collections.abc import Callable
from contextlib import suppress

from pyfpm.sapi import pages
from pyfpm.sapi.interface import Output, Request
from pyfpm.sapi.timeout import ExecutionTimeout

Adapter = Callable[[Request, Output], int]


class InlineExecutor:
    """Calls the adapter, each time in a context of its own: what a request sets in a contextvar ends with it."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter
        self._context = contextvars.copy_context()
        self._forked = False
        os.register_at_fork(after_in_child=self._note_fork)

    def _note_fork(self) -> None:
        self._forked = True

    def __call__(self, request: Request, output: Output) -> int:
        try:
            status = self._context.copy().run(self._adapter, request, output)
        except ExecutionTimeout:
            # The time was up while the adapter had the word, before or behind the user's code.
            status = 255
            with suppress(ConnectionAbortedError):
                if output.discard():
                    pages.answer(output, 504)
        if self._forked:
            # User code forked, and the child has come back to us. It must not serve, or answer, what its parent does.
            os._exit(status & 0xFF)
        return status
