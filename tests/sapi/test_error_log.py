"""error_log(), and the directives error_log and log_errors."""

from __future__ import annotations

import os
import re

import pytest
from fakes import Site, process_as_it_was

from pyfpm.sapi import services

STAMP = r"\[\d\d-[A-Z][a-z]{2}-\d{4} \d\d:\d\d:\d\d UTC\] "


@pytest.fixture
def said(monkeypatch):
    """What came to pyfpm's own log."""
    lines: list[str] = []

    def error_log(message: str) -> bytes:
        lines.append(message)
        return f"Python message: {message}".encode()

    monkeypatch.setattr(services, "_services", services.Services(error_log=error_log))
    return lines


@pytest.fixture
def site(tmp_path, said):
    with process_as_it_was():
        yield Site(tmp_path)


@pytest.fixture
def logging(tmp_path, said):
    """A site with an error_log."""
    with process_as_it_was():
        site = Site(tmp_path, error_log=str(tmp_path / "errors"))
        site.errors = tmp_path / "errors"
        yield site


def test_without_a_file_a_message_goes_to_the_log_and_to_the_web_server(site, said):
    answer = site.run("error_log('one'); error_log('two', 4); error_log(3)")
    assert said == ["one", "two", "3"]
    assert answer.stderr == "Python message: one; Python message: two; Python message: 3"


def test_with_a_file_it_goes_there_as_php_writes_it(logging, said):
    """Not to the web server as well: PHP does not, either."""
    answer = logging.run("error_log('one\\ntwo'); error_log('three')")
    assert re.fullmatch(f"{STAMP}one\ntwo\n{STAMP}three\n", logging.errors.read_text())
    assert (answer.stderr, said) == ("", [])


def test_type_4_passes_the_file_by(logging, said):
    assert logging.run("error_log('x', 4)").stderr == "Python message: x"
    assert said == ["x"] and not logging.errors.exists()


def test_the_file_is_opened_for_each_message_so_it_may_be_moved_away(logging):
    logging.run("error_log('one')")
    os.rename(logging.errors, logging.root / "errors.1")
    logging.run("error_log('two')")
    assert logging.errors.read_text().endswith("two\n") and "one" not in logging.errors.read_text()


def test_the_time_is_not_in_the_language_or_the_zone_of_a_script(logging):
    logging.run("import os, time\nos.environ['TZ'] = 'Asia/Tokyo'; time.tzset()\nerror_log('x')")
    assert re.fullmatch(f"{STAMP}x\n", logging.errors.read_text())


def test_a_message_cannot_act_on_a_terminal(logging):
    logging.run(r"error_log('\x1b[31m\0\udcff')")
    assert logging.errors.read_text().endswith("\\x1b[31m\\x00\\udcff\n")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/nonexistent/x", path)])
def test_a_file_that_cannot_be_written_is_no_reason_to_lose_a_message(logging, said, make):
    make(logging.errors)
    answer = logging.run("error_log('x')")
    assert (answer.stderr, said) == ("Python message: x", ["x"])
    answer = logging.run("1/0")
    assert answer.status == 500 and "ZeroDivisionError" in answer.stderr and "ZeroDivisionError" in answer.log


def test_an_uncaught_exception_goes_to_the_file(logging):
    answer = logging.run("1/0", REQUEST_URI="/x?a")
    assert (answer.status, answer.stderr, answer.log) == (500, "", "")
    assert re.fullmatch(
        f"{STAMP}Python Fatal error:  uncaught exception in request /x\\?a\nTraceback .*ZeroDivisionError: .*\n\n",
        logging.errors.read_text(),
        re.DOTALL,
    )


def test_log_errors_off_says_nothing_of_exceptions(tmp_path, said):
    """error_log() is not concerned, as in PHP."""
    with process_as_it_was():
        site = Site(tmp_path, log_errors=False, error_log=str(tmp_path / "errors"))
        answer = site.run("error_log('told'); 1/0")
    assert (answer.status, answer.stderr, answer.log) == (500, "", "")
    assert (tmp_path / "errors").read_text().endswith("told\n")


def test_type_3_adds_to_a_file_as_it_is(site, said):
    site.run("error_log('one', 3, 'here')\nerror_log('two\\udcff\\n', 3, 'here')")
    assert (site.root / "here").read_bytes() == b"onetwo\xff\n"
    assert said == []


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("error_log('x', 1, 'a@example.com')", "ValueError: error_log() sends no mail (message_type 1)"),
        ("error_log('x', 2)", "ValueError: error_log() has no message_type 2; there are 0, 3 (a file) and 4"),
        ("error_log('x', 3)", "ValueError: error_log() with message_type 3 needs a destination"),
        ("error_log('x', 3, '/nonexistent/x')", "FileNotFoundError"),
    ],
)
def test_what_cannot_be_is_an_error(site, call, error):
    assert error in site.run(call).log
