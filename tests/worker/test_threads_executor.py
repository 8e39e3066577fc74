"""The executor of threads where the machine has none to give."""

from __future__ import annotations

import threading

import pytest

from pyfpm.worker._watchdog import Guard
from pyfpm.worker.pages import ServerPages
from pyfpm.worker.threads import ThreadsExecutor


class FakeLive:
    """As much of a request as the queue looks at."""

    over = gone = False
    request = output = None
    age_s = 0.0

    def __init__(self) -> None:
        self.ended = 0

    def end(self, app_status: int = 0) -> None:
        self.ended += 1

    def close_streams(self) -> None:
        pass


class NoPages(ServerPages):
    def answer(self, request, output):
        return False


def test_a_request_without_a_thread_to_be_had_is_turned_away(monkeypatch):
    refused = []

    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    executor = ThreadsExecutor(
        lambda request, output: pytest.fail("it ran"),
        lambda level, text: None,
        4,
        lambda request, status, reason, output: refused.append((status, reason)),
        NoPages(None, None, "", lambda query: None),
        Guard(),
    )
    for _ in range(3):
        live = FakeLive()
        executor.begin(live)
        assert live.ended == 1
    assert refused == [(503, "there is no thread for it: can't start new thread")] * 3
    assert not executor.waiting
