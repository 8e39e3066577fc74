"""Output buffering. What PHP does was asked of php-fpm 8.2; its answers are the expectations here."""

from __future__ import annotations

import pytest
from fakes import FakeOutput, Site, process_as_it_was

SHOW = (
    "def show(text, phase): return f'[{text}:{int(phase)}]'\ndef angle(text, phase): return f'<{text}:{int(phase)}>'\n"
)


@pytest.fixture
def site(tmp_path):
    with process_as_it_was():
        yield Site(tmp_path)


@pytest.mark.parametrize(
    ("source", "body"),
    [
        ("ob_start(); echo('a'); text = ob_get_clean(); echo('<', text, '>')", "<a>"),
        ("ob_start(); echo('a'); echo('<', ob_get_flush(), '>')", "a<a>"),
        ("ob_start(); echo('a'); echo(ob_get_contents())", "aa"),
        ("ob_start(); echo('a'); ob_clean(); echo('b')", "b"),
        ("ob_start(); echo('a'); ob_flush(); ob_clean(); echo('b')", "ab"),
        ("ob_start(); echo('a'); ob_end_clean(); echo('b', ob_get_level())", "b0"),
        ("ob_start(); echo('ü'); echo(ob_get_length())", "ü2"),
        ("echo(ob_get_level()); ob_start(); ob_start(); echo(ob_get_level())", "02"),
        ("ob_start(); print('p', end=''); import sys; sys.stdout.write('w'); sys.stdout.buffer.write(b'b')", "pwb"),
        ("ob_start(); echo('1'); ob_start(); echo('2'); inner = ob_get_clean(); echo('3', inner)", "132"),
        # At the end of the script, the topmost first.
        (SHOW + "ob_start(show); echo('a'); ob_flush(); echo('b'); ob_clean(); echo('c'); ob_start(angle); echo('d')",
         "[a:5][c<d:9>:8]"),
        (SHOW + "ob_start(show, 4); echo('a'); echo('bcdef'); echo('gh'); echo('longerone')",
         "[abcdef:1][ghlongerone:0][:8]"),
        (SHOW + "ob_start(show); echo('q'); echo(ob_get_flush())", "[q:9]q"),
        ("ob_start(str.upper); echo('a')", "A"),
        ("import html\nob_start(html.escape); echo('\"<')", "&quot;&lt;"),
        ("ob_start(lambda text: False); echo('a'); ob_flush(); echo('b')", "ab"),
        ("ob_start(lambda text: None); echo('a')", ""),
        ("ob_start(lambda text: text.encode('utf-16-le')); echo('a')", "a\0"),
        ("def loud(text):\n  echo('lost'); print('lost')\n  return text.upper()\nob_start(loud); echo('a')", "A"),
        ("ob_start(lambda text: text + suffix); echo('a'); suffix = '!'", "a!"),
        ("ob_start(); echo('a'); exit('b')", "ab"),
        ("echo(ob_list_handlers()); ob_start(); ob_start(str.upper); echo(ob_list_handlers())",
         "[]['DEFAULT OUTPUT HANDLER', 'STR.UPPER']"),
        ("ob_start(); ob_start(); echo('x')\nwhile ob_get_level(): ob_end_clean()\necho('y')", "y"),
        ("ob_start(); ob_start(); echo('x')\nwhile ob_end_clean(): pass\necho('y')", "y"),
    ],
)  # fmt: skip
def test_buffers_do_what_those_of_php_do(site, source, body):
    answer = site.run(source)
    assert (answer.text, answer.app_status, answer.log) == (body, 0, "")
    assert site.run("echo(ob_get_level())").text == "0"


@pytest.mark.parametrize(
    ("end", "phases"), [("ob_end_clean()", [11]), ("ob_get_clean()", [11]), ("ob_clean(); ob_end_flush()", [3, 8])]
)
def test_a_callback_hears_of_what_is_dropped(site, end, phases):
    answer = site.run(
        f"seen = []\ndef keep(text, phase): seen.append(int(phase))\nob_start(keep); echo('a'); {end}; echo(seen)"
    )
    assert answer.text == str(phases)


@pytest.mark.parametrize(
    "call", ["ob_get_contents", "ob_get_clean", "ob_get_flush", "ob_get_length", "ob_clean", "ob_flush", "ob_end_clean",
             "ob_end_flush"],
)  # fmt: skip
def test_without_a_buffer_the_answer_is_false(site, call):
    assert site.run(f"echo({call}())").text == "False"


def test_a_buffer_loses_no_byte(site):
    data = bytes(range(256)) * 2
    answer = site.run("ob_start()\nfor n in bytes(range(256)) * 2: echo(bytes([n]))\necho(ob_get_clean())")
    assert answer.body == data
    answer = site.run("ob_start(lambda text: text, 3)\nfor n in 'ü€'.encode(): echo(bytes([n]))")
    assert answer.text == "ü€"


def test_headers_can_be_set_however_much_is_in_a_buffer(site):
    answer = site.run("ob_start(); echo('x' * 100_000)\nassert not headers_sent()\nheader('X: y')")
    assert answer.all("X") == ["y"] and len(answer.body) == 100_000


def test_flush_sends_what_is_below_the_buffers(site):
    """PHP: flush() does nothing to output buffers; ob_flush() comes before it."""
    output = FakeOutput()
    site.run(
        "echo('a'); ob_start(); echo('b'); flush(); import builtins; builtins.seen = headers_sent()", output=output
    )
    assert output.sent.endswith(b"\r\n\r\nab") and output.flushes == 1


def test_implicit_flush_sends_each_piece(site):
    answer = site.run(
        "ob_implicit_flush()\necho('a')\necho('b'); assert headers_sent()\nob_implicit_flush(False); echo(1)"
    )
    assert (answer.text, answer.output.flushes) == ("ab1", 2)
    answer = site.run(
        "ob_implicit_flush()\nob_start(); echo('a'); echo('b')\nassert not headers_sent()\nob_end_flush()"
    )
    assert (answer.text, answer.output.flushes) == ("ab", 1)


@pytest.mark.parametrize("when", ["ob_end_flush()", "ob_flush()", "pass"])
def test_a_callback_that_raises_is_the_failure_of_the_script(site, when):
    answer = site.run(f"def bad(text): raise KeyError('no')\nob_start(); ob_start(bad); echo('a')\n{when}\necho('b')")
    assert answer.status == 500 and answer.app_status == 255
    assert "KeyError: 'no'" in answer.log and answer.text.count("KeyError") == 0


def test_what_a_failed_callback_was_given_is_not_lost(site):
    answer = site.run(
        "def bad(text): raise KeyError('no')\nob_start(bad); echo('a')\n"
        "try: ob_flush()\nexcept KeyError: echo('caught')\necho('b', ob_get_level())"
    )
    assert answer.text == "acaughtb1"


@pytest.mark.parametrize("call", ["ob_start()", "ob_flush()", "ob_end_clean()", "ob_get_clean()"])
def test_a_callback_cannot_change_the_buffers(site, call):
    answer = site.run(f"def bad(text): {call}\nob_start(bad); echo('a')")
    assert answer.status == 500 and "RuntimeError: output buffering cannot be changed in a callback" in answer.log


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("ob_start('upper')", "TypeError: ob_start() needs something to call, not str"),
        ("ob_start(lambda text: 5); echo('a'); ob_flush()", "must return str, bytes, None or False, not int"),
    ],
)
def test_what_cannot_be_a_callback_is_refused(site, source, message):
    assert message in site.run(source).log


def test_an_exception_drops_what_is_in_the_buffers(site):
    """They are part of the page that did not come to be."""
    answer = site.run("ob_start(); echo('half a page'); 1/0")
    assert answer.status == 500 and "half" not in answer.text


def test_an_exit_in_a_callback_ends_the_script(site):
    answer = site.run("ob_start(lambda text: exit()); echo('a'); ob_flush(); echo('never')")
    assert (answer.text, answer.app_status) == ("a", 0)


def test_head_asks_the_callbacks_and_sends_nothing(site):
    answer = site.run("ob_start(lambda text: header('X: y')); echo('a')", REQUEST_METHOD="HEAD")
    assert answer.all("X") == ["y"] and answer.body == b""


def test_when_the_visitor_is_gone_buffers_are_no_failure(site):
    answer = site.run("ob_start(); echo('x' * 9999)", output=FakeOutput(leaves_after=0))
    assert (answer.app_status, answer.logged) == (1, [])


@pytest.mark.parametrize(
    ("buffering", "sent"), [(0, "True True"), (1, "False False"), (4096, "False True"), (1_000_000, "False False")]
)
def test_output_buffering_says_when_the_headers_leave(tmp_path, buffering, sent):
    with process_as_it_was():
        answer = Site(tmp_path, output_buffering=buffering).run(
            "echo(''); assert not headers_sent()\n"
            "echo('x'); early = headers_sent(); echo('y' * 5000); late = headers_sent(); echo(early, ' ', late)"
        )
    assert answer.text.endswith("y" + sent)
