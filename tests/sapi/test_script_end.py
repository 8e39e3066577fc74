"""What follows a script: its stages, in their order, whatever became of the script."""

from __future__ import annotations

import pytest
from fakes import Site, process_as_it_was

REGISTER = """
from pyfpm.sapi.current import AtEnd, current

def say(stage, done):
    return lambda current=current: done.append((stage.name, current().response.head_sent))

done = []
for stage in reversed(AtEnd):
    current().at_end(stage, say(stage, done))
import kept_by_the_test
kept_by_the_test.done = done
"""


@pytest.fixture
def site(tmp_path):
    with process_as_it_was():
        yield Site(tmp_path)


@pytest.fixture
def kept(monkeypatch):
    import sys
    from types import ModuleType

    module = ModuleType("kept_by_the_test")
    monkeypatch.setitem(sys.modules, "kept_by_the_test", module)
    return module


@pytest.mark.parametrize("ends", ["", "exit()", "1 / 0"])
def test_the_stages_follow_in_their_order_whatever_became_of_the_script(site, kept, ends):
    site.run(REGISTER + ends)
    assert [name for name, _ in kept.done] == ["SHUTDOWN", "OUTPUT", "SESSION", "CLEANUP"]


def test_the_answer_ends_between_the_session_and_the_cleanup(site, kept):
    site.run(REGISTER)
    assert kept.done == [("SHUTDOWN", False), ("OUTPUT", False), ("SESSION", False), ("CLEANUP", True)]


def test_a_callback_that_fails_is_reported_and_the_others_are_called(site):
    source = (
        "from pyfpm.sapi.current import AtEnd, current\n"
        "current().at_end(AtEnd.OUTPUT, lambda: 1 / 0)\n"
        "current().at_end(AtEnd.OUTPUT, lambda: error_log('cleaned'))\n"
    )
    answer = site.run(source)
    assert (answer.status, answer.app_status) == (500, 255)
    assert "ZeroDivisionError" in answer.log
    assert "cleaned" in answer.stderr


def test_a_callback_may_add_others(site):
    source = (
        "from pyfpm.sapi.current import AtEnd, current\n"
        "def first():\n"
        "    current().at_end(AtEnd.OUTPUT, lambda: echo('3'))\n"
        "    current().at_end(AtEnd.SHUTDOWN, lambda: echo('2'))\n"
        "    echo('1')\n"
        "current().at_end(AtEnd.SHUTDOWN, first)\n"
    )
    assert site.run(source).text == "123"
