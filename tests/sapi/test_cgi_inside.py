"""CGI programs in Python, unmodified, in the worker: what they find, what becomes of their output, what they leave."""

from __future__ import annotations

import contextvars
import os
import signal
import sys
import threading
from contextlib import suppress

import pytest
from fakes import Answer, CGISite, FakeOutput, FakeRequest, Site, process_as_it_was

from pyfpm.sapi.cgi.inside import Inside
from pyfpm.sapi.cgi.programs import CGIPrograms
from pyfpm.sapi.script import ScriptAdapter
from pyfpm.sapi.script_file import ScriptFiles
from pyfpm.sapi.settings import SapiSettings
from pyfpm.sapi.timeout import ExecutionTimeout

HEAD = "#!/usr/bin/env python3\nprint('Content-Type: text/plain\\n')\n"


@pytest.fixture
def site(tmp_path):
    with process_as_it_was():
        yield CGISite(tmp_path)


# -- what it finds ----------------------------------------------------------------------------------------------------


def test_it_is_the_main_program_in_its_directory(site):
    page = site.run(HEAD + "import os, sys\nprint(__name__, __file__, os.getcwd(), sys.argv, sys.path[0])")
    path = str(site.root / "x.py")
    assert page.lines == ["Content-Type: text/plain"]
    assert page.text == f"__main__ {path} {site.root} [{path!r}] {site.root}\n"
    assert page.app_status == 0


def test_the_request_is_in_its_environment_and_in_that_of_its_children(site):
    source = HEAD + "import os, subprocess\nprint(os.environ.get('HTTP_X'), os.getenv('HTTP_PROXY'), flush=True)\n"
    source += "subprocess.run('echo $HTTP_X$HTTP_PROXY', shell=True)"
    page = site.run(source, HTTP_X="a", HTTP_PROXY="http://evil/")
    assert page.text == "a None\na\n"
    assert "HTTP_X" not in os.environ


def test_nothing_of_the_environment_is_left_to_the_next(site):
    dump = HEAD + "import os; print(sorted(os.environ.items()))"
    fresh = site.run(dump, QUERY_STRING="").text
    site.run(HEAD + "import os; os.environ['LEFT'] = 'x'; os.putenv('PUT', 'y'); del os.environ['PATH']", HTTP_A="1")
    assert site.run(dump, QUERY_STRING="").text == fresh
    assert "LEFT" not in fresh and "HTTP_A" not in fresh


@pytest.mark.parametrize(("query", "words"), [("a+b%20c", ["a", "b c"]), ("a=b", []), ("", [])])
def test_an_indexed_query_is_its_command_line(site, query, words):
    page = site.run(HEAD + "import sys; print(sys.argv[1:])", QUERY_STRING=query)
    assert page.text == f"{words}\n"


BODY = {
    "text": "import sys; print(sys.stdin.read(), end='')",
    "bytes": "import sys; sys.stdout.flush(); sys.stdout.buffer.write(sys.stdin.buffer.read())",
    "descriptor": "import os, sys; sys.stdout.flush(); os.write(1, os.read(0, 1000))",
    "file": "import sys; print(open(0, encoding='utf-8', closefd=False).read(), end='')",
    "fileno": "import os, sys; print(os.read(sys.stdin.fileno(), 1000).decode(), end='')",
    "child": "import subprocess, sys; sys.stdout.flush(); subprocess.run(['cat'])",
    "system": "import os, sys; sys.stdout.flush(); os.system('cat')",
    "length": "import os, sys; print(sys.stdin.read(int(os.environ['CONTENT_LENGTH']) - 1), end='')",
    "detached": "import io, sys; print(io.TextIOWrapper(sys.stdin.detach(), 'utf-8').read(), end='')",
    "input": "print(input(), end='')",
}


@pytest.mark.parametrize("how", BODY)
@pytest.mark.parametrize("in_file", [False, True])
def test_the_body_can_be_read_in_all_ways(site, how, in_file, tmp_path_factory):
    body = "größer"
    source = HEAD + BODY[how]
    site.write(source)
    data = body.encode()
    if not in_file:
        page = site.run(source, data, REQUEST_METHOD="POST")
    else:
        path = tmp_path_factory.mktemp("spool") / "body"
        path.write_bytes(data)
        with open(path, "rb") as file:
            page = ask_with_file(site, file)
    assert page.text == body


def ask_with_file(site: Site, file) -> Answer:
    """The body as it is when it was spooled."""
    output = FakeOutput()
    request = FakeRequest({"REQUEST_METHOD": "POST", "SCRIPT_FILENAME": str(site.root / "x.py")})
    request.stdin = file
    status = contextvars.copy_context().run(site.adapter, request, output)
    output.ended = True
    return Answer(status, output, [])


def test_without_a_body_standard_input_is_empty(site):
    source = HEAD + "import os, sys; print(repr(sys.stdin.read()), os.read(0, 10), os.environ.get('CONTENT_LENGTH'))"
    assert site.run(source, CONTENT_LENGTH="").text == "'' b'' None\n"


def test_a_body_is_not_left_to_the_next(site):
    site.run(HEAD, b"secret", REQUEST_METHOD="POST")
    assert site.run(HEAD + "import os; print(os.read(0, 100))").text == "b''\n"


# -- what becomes of its output ----------------------------------------------------------------------------------------

OUTPUT = {
    "print": "print('ä', 1)",
    "write": "import sys; sys.stdout.write('ä 1\\n')",
    "bytes": "import sys; sys.stdout.flush(); sys.stdout.buffer.write('ä 1\\n'.encode())",
    "descriptor": "import os, sys; sys.stdout.flush(); os.write(1, 'ä 1\\n'.encode())",
    "opened": "import sys; sys.stdout.flush(); sys.stdout = open(1, 'w', encoding='utf-8', closefd=0); print('ä 1')",
    "closed": "import sys; sys.stdout.flush()\nwith open(1, 'w', encoding='utf-8') as out: print('ä 1', file=out)",
    "wrapped": "import io, sys; sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8'); print('ä 1')",
    "detached": "import codecs, sys; sys.stdout = codecs.getwriter('utf-8')(sys.stdout.detach()); print('ä 1')",
    "latin": "import sys; sys.stdout.reconfigure(encoding='utf-8'); print('ä 1')",
    "original": "import sys; sys.stdout = None; print('ä 1', file=sys.__stdout__)",
    "child": "import subprocess, sys; sys.stdout.flush(); subprocess.run(['printf', 'ä 1\\\\n'])",
    "shell": "import os, sys; sys.stdout.flush(); os.system('echo ä 1 > /dev/stdout')",
    "destructor": "class A:\n    def __del__(self): print('ä 1')\na = A()",
    "atexit": "import atexit; atexit.register(print, 'ä 1')",
    "exit": "import sys; print('ä 1'); sys.exit()",
    "builtin exit": "print('ä 1'); exit()",
    "thread": "import threading; t = threading.Thread(target=print, args=('ä 1',)); t.start(); t.join()",
}


@pytest.mark.parametrize("how", OUTPUT)
def test_output_arrives_however_it_is_made(site, how):
    page = site.run(HEAD + OUTPUT[how])
    assert (page.status, page.text, page.log) == (200, "ä 1\n", "")


def test_what_children_print_is_where_it_belongs(site):
    """As with one descriptor for all: what was flushed comes before, what was held back after."""
    source = HEAD + "import os, sys\nprint('one', flush=True)\nos.system('echo two')\nprint('three', flush=True)\n"
    source += "os.system('echo four')\nprint('five')\n"
    assert site.run(source).text == "one\ntwo\nthree\nfour\nfive\n"


def test_a_child_may_print_the_headers(site):
    source = "#!/usr/bin/env python3\nimport os; os.system(\"printf 'A: 1\\\\n\\\\nbody'\")"
    page = site.run(source)
    assert (page.lines, page.text) == (["A: 1"], "body")


@pytest.mark.parametrize("kilobytes", [1, 100, 3000])
def test_large_output(site, kilobytes):
    source = HEAD + f"import os, sys\nsys.stdout.write('x' * {kilobytes << 10}); sys.stdout.flush()\n"
    source += f"os.system('head -c {kilobytes << 10} /dev/zero')"
    output = FakeOutput(staging=1 << 30)
    assert site.run(source, output=output).body == b"x" * (kilobytes << 10) + bytes(kilobytes << 10)


def test_a_flush_sends_and_the_end_alone_does_not(site):
    assert site.run(HEAD + "print('x')").output.flushes == 0
    output = FakeOutput()
    site.run(HEAD + "import sys\nfor n in range(3): print(n); sys.stdout.flush()", output=output)
    assert output.flushes == 3


def test_an_unbuffered_interpreter_sends_each_piece(site):
    output = FakeOutput()
    page = site.run(HEAD.replace("python3", "-S python3 -u") + "print('x')\nprint('y')", output=output)
    assert page.text == "x\ny\n" and output.flushes >= 2


def test_standard_error_is_the_web_servers_log(site):
    page = site.run(HEAD + "import sys; print('to the log', file=sys.stderr); print(sys.stderr.fileno())")
    assert (page.stderr, page.text) == ("to the log\n", "2\n")


def test_the_end_can_have_a_status_or_a_message(site):
    assert site.run(HEAD + "import sys; sys.exit(3)").app_status == 3
    page = site.run(HEAD + "import sys; sys.exit('no more')")
    assert (page.app_status, page.stderr, page.status) == (1, "no more\n", 200)


REDIRECTS = {
    "print('Location: http://example.com/\\n')": (302, "http://example.com/"),
    "print('Location: /here\\n')": (302, "/here"),
    "print('Status: 303 See Other\\nLocation: /here\\n')": (303, "/here"),
    "print('Status: 301\\r\\nLocation: /here\\r\\n\\r')": (301, "/here"),
}


@pytest.mark.parametrize("source", REDIRECTS)
def test_redirects(site, source):
    page = site.run("#!/usr/bin/python3\n" + source)
    assert (page.status, page.all("Location")[0]) == REDIRECTS[source]


# -- what goes wrong --------------------------------------------------------------------------------------------------

WRONG = {
    "": "it has written nothing",
    "print('hello')": "it ended before the empty line that ends its headers. It begins with 'hello'",
    "print('<html>\\n\\n</html>')": "'<html>' is not of the form Name: value",
    "print('Status: fine\\n')": "no status from 200 to 999",
    "print()": "begins with an empty line",
}


@pytest.mark.parametrize("source", WRONG)
def test_what_is_no_answer_is_500_and_said_in_the_log(site, source):
    page = site.run("#!/usr/bin/python3\n" + source)
    assert page.status == 500
    assert WRONG[source] in page.log and str(site.root / "x.py") in page.log
    assert WRONG[source] in page.stderr
    assert "form" not in page.text and "hello" not in page.text


def test_a_program_with_a_wrong_header_runs_to_its_end(site):
    page = site.run("#!/usr/bin/python3\nprint('hello\\n', flush=True)\nopen('done', 'w').close()\nprint('more')")
    assert page.status == 500 and (site.root / "done").exists()


def test_an_exception_is_500_and_its_traceback_in_the_log(site):
    page = site.run(HEAD + "print('half of a page')\n1 / 0")
    assert page.status == 500 and "ZeroDivisionError" not in page.text and "half" not in page.text
    assert 'x.py", line 4, in <module>\n' in page.log and "ZeroDivisionError" in page.log
    assert "pyfpm" not in page.log.partition("Traceback")[2]


def test_an_exception_after_output_has_left_ends_the_answer(site):
    page = site.run(HEAD + "print('x' * 100, flush=True)\n1 / 0")
    assert page.status == 200 and page.text.startswith("xxx") and page.app_status == 255


def test_a_syntax_error_is_500_with_its_line(site):
    page = site.run(HEAD + "if:\n")
    assert page.status == 500 and "line 3" in page.log and "SyntaxError" in page.log


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_cgitb_has_its_say(site):
    pytest.importorskip("cgitb", reason="Python 3.13 without legacy-cgi")
    page = site.run("#!/usr/bin/python3\nimport cgitb; cgitb.enable()\nprint('Content-Type: text/html\\n')\n1 / 0")
    assert page.status == 200 and "ZeroDivisionError" in page.text and "x.py" in page.text
    assert "inside.py" not in page.text
    hook = sys.excepthook
    assert hook is sys.__excepthook__ or "cgitb" not in repr(hook)


def test_functions_for_the_end_run_after_an_exception_too(site):
    source = "#!/usr/bin/python3\nimport atexit\nfor n in (1, 2): atexit.register(open, f'end{n}', 'w')\n1 / 0"
    site.run(source)
    assert (site.root / "end1").exists() and (site.root / "end2").exists()


def test_a_missing_cgi_module_is_explained(site):
    page = site.run("#!/usr/bin/python3\nraise ModuleNotFoundError(\"No module named 'cgi'\", name='cgi')")
    assert page.status == 500 and "legacy-cgi brings it back" in page.log


def test_a_program_without_its_executable_bit_is_403(site):
    site.write(HEAD).chmod(0o644)
    page = site.ask(str(site.root / "x.py"))
    assert page.status == 403 and "must be executable; chmod +x" in page.log
    site.write(HEAD)
    assert site.ask(str(site.root / "x.py")).status == 200


def test_a_visitor_who_leaves_ends_it(site):
    output = FakeOutput(leaves_after=1)
    source = HEAD + "import sys\ntry:\n    print('x' * 50000, flush=True); print('y', flush=True)\n"
    source += "    open('went on', 'w')\nfinally:\n    open('finally', 'w')\n"
    page = site.run(source, output=output)
    assert page.app_status == 1
    assert (site.root / "finally").exists() and not (site.root / "went on").exists()


# -- what it leaves ---------------------------------------------------------------------------------------------------


def test_a_fresh_namespace_each_time(site):
    source = HEAD + "print('before' in globals()); before = 1"
    assert [site.run(source).text for _ in range(3)] == ["False\n"] * 3


def test_descriptors_streams_and_directory_are_put_back(site):
    def state() -> tuple[object, ...]:
        stats = [os.fstat(fd) for fd in (0, 1, 2)]
        streams = sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__
        same = [(each.st_dev, each.st_ino) for each in stats]
        return same, [id(each) for each in streams], len(os.listdir("/proc/self/fd")), sys.excepthook

    site.run(HEAD)
    before = state()
    for _ in range(50):
        source = HEAD + "import os, sys\nsys.excepthook = None\nos.system('true')\nsys.stdin = sys.stdout = None\n"
        site.run(source + "os.close(0); os.close(1)", b"body", REQUEST_METHOD="POST")
    assert state() == before


def test_a_process_that_is_left_behind_writes_into_nobodys_answer(site):
    source = HEAD + "import subprocess\nsubprocess.Popen('read x < fifo; echo LATE; echo > done', shell=True)"
    os.mkfifo(site.root / "fifo")
    site.run(source)
    output = FakeOutput()
    page = site.run(
        HEAD + "open('fifo', 'w').close()\nwhile not __import__('os').path.exists('done'): pass\nprint(1)",
        output=output,
    )
    assert page.text == "1\n"


def test_a_thread_that_is_left_behind_prints_into_nobodys_answer(site):
    go, done = threading.Event(), threading.Event()
    sys.go_on = go, done  # type: ignore[attr-defined]
    try:
        source = HEAD + "import sys, threading\ngo, done = sys.go_on\n"
        source += (
            "def late(sys=sys, go=go, done=done): go.wait(); print('LATE'); sys.stderr.write('LATE'); done.set()\n"
        )
        site.run(source + "threading.Thread(target=late).start()")
        page = site.run(HEAD + "import sys\ngo, done = sys.go_on\ngo.set(); done.wait(); print('mine')")
        assert (page.text, page.stderr) == ("mine\n", "")
    finally:
        del sys.go_on  # type: ignore[attr-defined]


def test_handlers_of_signals_and_alarms_end_with_it(site):
    before = [signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGCHLD, signal.SIGPIPE)]
    source = HEAD + "import signal\nfor n in (signal.SIGALRM, signal.SIGCHLD, signal.SIGPIPE):\n"
    site.run(
        source + "    signal.signal(n, signal.SIG_DFL if n == signal.SIGPIPE else signal.SIG_IGN)\nsignal.alarm(60)"
    )
    assert signal.alarm(0) == 0
    assert before == [signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGCHLD, signal.SIGPIPE)]


def test_functions_of_a_script_are_not_for_it(site):
    page = site.run(HEAD + "from pyfpm import echo\nprint('echo' in globals(), '_GET' in globals())\necho('x')")
    assert page.status == 500 and "there is no request here" in page.log


# -- among scripts ----------------------------------------------------------------------------------------------------


class Mixed(Site):
    def make_adapter(self, settings: SapiSettings) -> ScriptAdapter:
        files = ScriptFiles((str(self.root),), (".py", ".cgi"), (".cgi",))
        return ScriptAdapter(files, self._log, settings, None, CGIPrograms(self._log, settings))


def test_scripts_and_cgi_programs_take_turns(tmp_path):
    with process_as_it_was():
        site = Mixed(tmp_path)
        site.write(HEAD + "import os; print(os.environ['QUERY_STRING'], '_GET' in globals())", "a.cgi").chmod(0o755)
        site.write("import os; print(_GET['a'], 'QUERY_STRING' in os.environ)", "a.py")
        for _ in range(3):
            assert site.ask(str(tmp_path / "a.cgi"), QUERY_STRING="a=1").text == "a=1 False\n"
            assert site.ask(str(tmp_path / "a.py"), QUERY_STRING="a=1").text == "1 False\n"
        (tmp_path / "a.cgi").chmod(0o644)
        assert site.ask(str(tmp_path / "a.cgi")).status == 403


# -- its time is up ----------------------------------------------------------------------------------------------------


class StrikesIn:
    """Raises ExecutionTimeout at some line of what puts the process back, as the handler of its signal may."""

    def __init__(self, restore, line):
        self._restore = restore
        self._left = line
        self._struck = False

    def __call__(self, inside, *arguments, **named):
        if self._struck:
            return self._restore(inside, *arguments, **named)
        sys.settrace(self._trace)
        try:
            return self._restore(inside, *arguments, **named)
        finally:
            sys.settrace(None)

    def _trace(self, frame, event, argument):
        # Of ours alone: out of an except block of enum, Python 3.11 leaves its exception as one that is being handled.
        if not str(frame.f_globals.get("__name__", "")).startswith("pyfpm."):
            return None
        if event == "line":
            self._left -= 1
            if self._left <= 0:
                self._struck = True
                raise ExecutionTimeout("now")
        return self._trace


def test_nothing_is_left_to_the_next_when_the_time_is_up_behind_the_program(site, monkeypatch):
    """Its body was on descriptor 0 for a next one without a body, and its cookies in the environment."""
    look = HEAD + "import os, sys; print(sorted(os.environ.items()), sys.stdin.read(), os.read(0, 100))"
    fresh = site.run(look, QUERY_STRING="").text
    before = os.dup(1), dict(os.environ)
    descriptors = len(os.listdir("/proc/self/fd"))
    restore = Inside._restore
    for line in range(1, 1000):
        with monkeypatch.context() as patch:
            strikes = StrikesIn(restore, line)
            patch.setattr(
                Inside, "_restore", lambda *arguments, _strikes=strikes, **named: _strikes(*arguments, **named)
            )
            source = HEAD + "import os; os.environ['LEFT'] = 'x'" * (line % 2)
            with suppress(ExecutionTimeout):
                site.run(source, b"a secret body", HTTP_COOKIE="secret")
        assert dict(os.environ) == before[1]
        assert os.path.sameopenfile(1, before[0])
        assert site.run(look, QUERY_STRING="").text == fresh, f"struck at line {line}"
        if not strikes._struck:
            break
    assert line > 20
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 1
    os.close(before[0])
