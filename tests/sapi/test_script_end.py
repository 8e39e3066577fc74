"""What follows a script: its stages, in their order, whatever became of the script."""

from __future__ import annotations

import pytest
from fakes import FakeOutput, Site, process_as_it_was

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


def test_a_cleanup_that_fails_is_logged_and_leaves_the_answer_alone(site):
    source = (
        "from pyfpm.sapi.current import AtEnd, current\n"
        "current().at_end(AtEnd.CLEANUP, (lambda: 1 / 0).__call__)\n"
        "current().at_end(AtEnd.CLEANUP, lambda: 1)\n"
        "echo('good')\n"
    )
    answer = site.run(source)
    assert (answer.status, answer.text) == (200, "good")
    assert "ZeroDivisionError" in answer.log


# -- register_shutdown_function ----------------------------------------------------------------------------------------
# What php-fpm 8.2 answers to the same in PHP.


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("register_shutdown_function(echo, 'a', 'b'); echo('x')", "xab"),
        ("register_shutdown_function(echo, 1); register_shutdown_function(echo, 2); echo(0)", "012"),
        ("def f():\n  echo(1)\n  register_shutdown_function(echo, 3)\nregister_shutdown_function(f)\n"
         "register_shutdown_function(echo, 2)", "123"),
        ("register_shutdown_function(lambda: echo(DATA)); DATA = 'data'", "data"),
        ("register_shutdown_function(echo, 'end'); echo('x'); exit('bye')", "xbyeend"),
        ("register_shutdown_function(echo, 'end'); echo('x'); exit(3)", "xend"),
        ("def f():\n  echo('f')\n  exit()\nregister_shutdown_function(f)\nregister_shutdown_function(echo, 'g')", "f"),
        ("register_shutdown_function(header, 'X-Late: 1'); echo('x')", "x"),
    ],
)  # fmt: skip
def test_shutdown_functions_run_in_order_behind_the_script(site, source, text):
    answer = site.run(source)
    assert (answer.status, answer.text, answer.log) == (200, text, "")
    assert answer.all("X-Late") == (["1"] if "X-Late" in source else [])


def test_the_last_exit_is_the_application_status(site):
    assert site.run("register_shutdown_function(exit, 7); exit(3)").app_status == 7


def test_what_shutdown_functions_print_after_an_exception_is_the_page(site):
    source = "register_shutdown_function(header, 'X-Late: 1')\nregister_shutdown_function(echo, 'sorry')\n"
    answer = site.run(source + "echo('half'); header('X-Half: 1')\n1 / 0")
    assert (answer.status, answer.text, answer.app_status) == (500, "sorry", 255)
    assert answer.all("X-Late") == ["1"] and not answer.all("X-Half")
    assert "ZeroDivisionError" in answer.log


def test_a_shutdown_function_may_have_its_own_status(site):
    source = "def f():\n  http_response_code(503); echo('later')\nregister_shutdown_function(f)\n1 / 0"
    answer = site.run(source)
    assert (answer.status, answer.text) == (503, "later")


def test_without_a_word_from_them_the_page_of_a_failure_is_the_usual_one(site):
    usual = site.run("1 / 0")
    answer = site.run("register_shutdown_function(lambda: header('X: y'))\n1 / 0")
    assert (answer.status, answer.text, answer.all("X")) == (500, usual.text, [])
    answer = site.run("class D:\n def __del__(self): echo('late')\nd = D()\nregister_shutdown_function(echo)\n1 / 0")
    assert answer.text == usual.text


def test_shutdown_functions_go_on_with_what_was_sent_before_an_exception(site):
    answer = site.run("register_shutdown_function(echo, ' end')\necho('begun'); flush()\n1 / 0")
    assert (answer.status, answer.text) == (200, "begun end")


def test_an_exception_in_one_of_them_is_the_end_of_the_others(site):
    source = "register_shutdown_function(lambda: 1 / 0)\nregister_shutdown_function(echo, 'never')\necho('x')"
    answer = site.run(source)
    assert (answer.status, answer.app_status) == (500, 255)
    assert "never" not in answer.text and "ZeroDivisionError" in answer.log


def test_only_what_can_be_called_is_a_shutdown_function(site):
    answer = site.run("register_shutdown_function('nosuch')")
    assert answer.status == 500 and "TypeError: 'nosuch' cannot be called" in answer.log


# -- the visitor leaves ------------------------------------------------------------------------------------------------

TELL = "\nregister_shutdown_function(lambda: error_log_of_the_test.append(connection_status()))\n"


@pytest.fixture
def told(monkeypatch):
    import builtins

    told = []
    monkeypatch.setattr(builtins, "error_log_of_the_test", told, raising=False)
    return told


def test_an_abort_ends_the_script_and_shutdown_functions_run(site, told):
    source = TELL + "register_shutdown_function(lambda: (echo('to nobody'), error_log_of_the_test.append('ran')))\n"
    answer = site.run(
        source + "echo('x'); flush()\nerror_log_of_the_test.append('never')", output=FakeOutput(leaves_after=0)
    )
    assert told == [1, "ran"]
    assert (answer.app_status, answer.log, answer.body) == (1, "", b"")


@pytest.mark.parametrize("how", ["ignore_user_abort(True)", ""])
def test_a_script_that_ignores_aborts_goes_on(tmp_path, told, how):
    with process_as_it_was():
        site = Site(tmp_path, ignore_user_abort=not how)
        source = (
            TELL + how + "\necho('x'); flush(); echo('y'); flush(); error_log('z')\nerror_log_of_the_test.append('on')"
        )
        answer = site.run(source, output=FakeOutput(leaves_after=0))
    assert told == ["on", 1]
    assert (answer.app_status, answer.log) == (0, "")


def test_ignore_user_abort_returns_what_was(site):
    answer = site.run("echo(*map(ignore_user_abort, [None, True, None, False, None]))")
    assert answer.text == "FalseFalseTrueTrueFalse"


def test_an_abort_is_noticed_when_asked_and_ends_the_script_with_its_next_output(site, told):
    output = FakeOutput()
    told.append(output)
    source = (
        "seen = error_log_of_the_test; output = seen.pop()\n"
        "seen += [connection_aborted(), connection_status()]\n"
        "output.left = True\n"
        "seen += [connection_aborted(), connection_status()]\n"
        "echo('x'); seen.append('held back'); flush()\n"
        "seen.append('never')"
    )
    assert site.run(source, output=output).app_status == 1
    assert told == [False, 0, True, 1, "held back"]


# -- fastcgi_finish_request --------------------------------------------------------------------------------------------


def test_what_follows_a_finished_answer_goes_nowhere(site, told):
    source = (
        "http_response_code(201); header('X: y'); echo('a')\n"
        "seen = error_log_of_the_test\n"
        "seen += [fastcgi_finish_request(), fastcgi_finish_request(), headers_sent(), connection_status()]\n"
        "echo('b'); flush(); error_log('c'); seen.append('on')\n"
    )
    answer = site.run(source)
    assert (answer.status, answer.text, answer.all("X"), answer.stderr) == (201, "a", ["y"], "")
    assert told == [True, False, True, 0, "on"]


def test_an_exception_behind_a_finished_answer_is_in_the_log_alone(site):
    answer = site.run("echo('a'); fastcgi_finish_request()\n1 / 0")
    assert (answer.status, answer.text, answer.stderr, answer.app_status) == (200, "a", "", 255)
    assert "ZeroDivisionError" in answer.log


def test_a_shutdown_function_can_finish_the_answer(site, told):
    source = "register_shutdown_function(fastcgi_finish_request)\nregister_shutdown_function(echo, 'b')\necho('a')"
    assert site.run(source + TELL).text == "a"
    assert told == [0]


def test_an_answer_without_a_word_is_finished_with_its_headers(site):
    answer = site.run("fastcgi_finish_request(); echo('late')")
    assert (answer.status, answer.body) == (200, b"") and answer.output.sent


def test_the_page_of_a_failure_is_finished_as_it_is(site):
    answer = site.run("register_shutdown_function(fastcgi_finish_request)\nregister_shutdown_function(echo, 'b')\n1/0")
    assert (answer.status, answer.text) == (500, site.run("1/0").text)


@pytest.mark.parametrize("name", ["fastcgi_finish_request", "connection_aborted", "register_shutdown_function"])
def test_outside_of_a_request_there_is_nothing_to_say(name):
    import pyfpm

    with pytest.raises(RuntimeError, match="there is no request here"):
        getattr(pyfpm, name)(*([print] if name.startswith("register") else []))
