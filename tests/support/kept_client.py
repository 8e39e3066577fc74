"""A client that outlives whoever serves it, and knows who that was."""

from __future__ import annotations

import threading

from support.wire import Wire


class Client:
    """One connection that is kept, until the worker on it dies. Remembers who had it when it failed."""

    def __init__(self, address: str, script: str, stop: threading.Event) -> None:
        self.answered = 0
        self.failed_on: list[int] = []
        self.wrong: list[bytes] = []
        self._address = address
        self._script = script
        self._stop = stop
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._one_connection()

    def _one_connection(self) -> None:
        worker = 0  # nobody has answered on this connection yet
        try:
            with Wire(self._address) as wire:
                while not self._stop.is_set():
                    answer = wire.ask(self._script, keep=True)
                    if answer.status != 200 or not answer.body.isdigit():
                        # A crash is answered as well, if the worker still can.
                        if answer.status not in (500, 502):
                            self.wrong.append(answer.stdout)
                        self.failed_on.append(worker)
                        return
                    worker = int(answer.body)
                    self.answered += 1
        except (AssertionError, OSError):
            self.failed_on.append(worker)
