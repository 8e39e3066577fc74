"""Scripts that fail: the visitor learns that, the operator learns why."""

from __future__ import annotations

import pytest
from fakes import FakeOutput, Site, process_as_it_was


@pytest.fixture
def site(tmp_path):
    with process_as_it_was():
        yield Site(tmp_path)


def is_500_without_details(answer):
    assert answer.status == 500, answer.log
    assert b"Traceback" not in answer.body and b"x.py" not in answer.body
    assert answer.app_status == 255
    return True


def test_an_exception_is_a_500_and_its_traceback_has_the_users_frames_alone(site):
    answer = site.run("echo('half'); header('X: y')\ndef f():\n    1/0\nf()", REQUEST_URI="/u?a")
    assert is_500_without_details(answer)
    assert "half" not in answer.text and answer.all("X") == []
    for told in (answer.stderr, answer.log):
        assert told.count("  File ") == 2 and "x.py" in told and "ZeroDivisionError: division by zero" in told
    assert answer.log.startswith("uncaught exception in request /u?a\nTraceback (most recent call last):\n")


@pytest.mark.parametrize("source", ["if", "\n\nx = = 1", b"\xff", b"# coding: nowhere\n", b"x = 1\0"])
def test_a_script_that_is_no_python_names_its_file_and_nothing_of_ours(site, source):
    """pyfpm's own frame was shown, and without that nothing told the file of NUL bytes."""
    answer = site.run(source)
    assert is_500_without_details(answer)
    assert "SyntaxError" in answer.stderr and "x.py" in answer.stderr
    assert "Traceback" not in answer.stderr and "script_file" not in answer.stderr


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    header('no colon')\nf()",
        "try: header('no colon')\nexcept ValueError: int('a')",
        "try: header('no colon')\nexcept ValueError as error: raise KeyError('a') from error",
        "try: header('no colon')\nexcept ValueError as error: raise ExceptionGroup('g', [error])",
        "echo('x' * 5000)\nheader('X: y')",
    ],
)
def test_our_own_frames_are_left_out_wherever_they_are(site, source):
    """They were at the end of a traceback, and in the middle of chains."""
    answer = site.run(source)
    for told in (answer.stderr, answer.log):
        assert "x.py" in told
        assert "pyfpm/" not in told


def test_an_exception_cannot_forge_or_colour_the_log(site):
    """It may repeat what a visitor sent; nginx writes what it is told as it is."""
    uri = "/a\n[now] NOTICE: \x1b"
    answer = site.run("raise ValueError(_GET['a'])", QUERY_STRING="a=%1B[31m%C2%9B", REQUEST_URI=uri)
    assert answer.log.startswith("uncaught exception in request /a\\n[now] NOTICE: \\x1b\n")
    for told in (answer.stderr, answer.log):
        assert "ValueError: \\x1b[31m\\x9b\n" in told
        assert "\x1b" not in told and "\x9b" not in told


def test_nothing_follows_the_page_of_a_failure(site):
    """What a destructor says afterwards was added to it."""
    answer = site.run("class Late:\n def __del__(self): echo('late')\nlate = Late()\n1 / 0")
    assert is_500_without_details(answer)
    assert "late" not in answer.text


def test_a_destructor_finds_what_is_older_than_its_object(site):
    """The name before it was gone already."""
    assert site.run("class Last:\n def __del__(self): said('late')\nsaid = echo\nlast = Last()").text == "late"


def test_tasks_that_write_when_the_visitor_has_left_are_no_failure(site):
    source = "import trio\nasync def main():\n async with trio.open_nursery() as nursery:\n  nursery.start_soon(task)\n"
    answer = site.run(source + "async def task(): flush()\ntrio.run(main)", output=FakeOutput(leaves_after=0))
    assert (answer.app_status, answer.logged) == (1, [])


def test_too_much_python_is_an_error_of_this_request_alone(site):
    assert is_500_without_details(site.run("x = " + "-" * 100_000 + "1"))
    assert site.run("echo('good')").text == "good"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("class E(Exception):\n  def __str__(self): 1/0\nraise E", "E"),
        ("def f(): f()\nf()", "RecursionError"),
        ("raise MemoryError", "MemoryError"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("raise ExceptionGroup('g', [ValueError('inner')])", "inner"),
        ("raise ConnectionAbortedError('of a socket of its own')", "ConnectionAbortedError"),
        ("e = SyntaxError('odd', ('f', 1, 'not a number', 5)); raise e", "SyntaxError"),
        ("raise ValueError('\\udcff \\ud800')", "ValueError"),
        ("echo('\\ud800')", "UnicodeEncodeError"),
        ("import sys\nsys.stdout.write(b'bytes')", "TypeError"),
    ],
)
def test_whatever_is_raised_is_reported_and_the_next_request_runs(site, source, name):
    answer = site.run(source)
    assert is_500_without_details(answer)
    assert name in answer.log and name in answer.stderr
    assert site.run("echo('good')").text == "good"


def test_an_exception_after_output_has_left_leaves_what_was_sent(site):
    answer = site.run("echo('begun'); flush()\n1/0")
    assert (answer.status, answer.text, answer.app_status) == (200, "begun", 255)
    assert "ZeroDivisionError" in answer.stderr


def test_an_exception_before_anything_was_sent_takes_a_large_page_back(site):
    assert is_500_without_details(site.run("echo('x' * 9000)\n1/0"))


def test_display_errors_shows_the_traceback_escaped(tmp_path):
    with process_as_it_was():
        answer = Site(tmp_path, display_errors=True).run("raise ValueError('<script>\\ud800')")
    assert answer.status == 500
    assert "ValueError: &lt;script&gt;" in answer.text and "<script>" not in answer.text and "x.py" in answer.text


def test_a_failure_that_nobody_waits_for_is_in_the_log(site):
    answer = site.run("1/0", output=FakeOutput(leaves_after=0))
    assert "ZeroDivisionError" in answer.log and answer.output.sent == b""


def test_a_destructor_that_makes_more_of_its_kind_does_not_hold_the_worker(site):
    """Letting go of the namespace went on until it was empty."""
    assert (
        site.run("class D:\n  def __del__(self, D=None): globals()['d'] = type(self)()\nd = D()\necho(1)").text == "1"
    )
