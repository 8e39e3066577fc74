"""CGI programs that run as processes: what they are given, what becomes of their output, and how they end."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes import CGISite, FakeOutput, process_as_it_was

from pyfpm.sapi.timeout import ExecutionTimeout
from support import processes
from support.waiting import eventually

# Longer than any test may take; ``late`` makes it pass.
TIMEOUT_S = 500.0

SH = "#!/bin/sh\necho 'Content-Type: text/plain'\necho\n"
# With an option that changes how it runs, it is for a process of its own.
PYTHON = "#!/usr/bin/python3 -I\nimport os, sys, signal\nprint('Content-Type: text/plain\\n', flush=True)\n"


@pytest.fixture
def site(tmp_path):
    with process_as_it_was():
        yield CGISite(tmp_path, cgi_timeout_s=TIMEOUT_S)


@pytest.fixture
def late(site, monkeypatch):
    """The time is up as soon as the program has said that it is where it wants to be, by a file ``pid``."""
    calls = iter(range(1_000_000))

    def now() -> float:
        # The first look is for when it has to end.
        is_late = next(calls) > 0 and (site.root / "pid").exists()
        return time.monotonic() + TIMEOUT_S * is_late

    monkeypatch.setattr("pyfpm.sapi.cgi.process.time", SimpleNamespace(monotonic=now))


class Impatient(FakeOutput):
    """Does not wait for as long as it is told to."""

    def wait(self, descriptors, timeout_s):
        return super().wait(descriptors, min(timeout_s, 0.02))


def test_it_runs_in_its_directory_with_no_arguments(site):
    page = site.run(SH + 'echo "$0 $# $(pwd)"', QUERY_STRING="a+b")
    assert page.text == f"{site.root}/x.py 0 {site.root}\n"
    assert (page.status, page.app_status, page.log) == (200, 0, "")


def test_its_environment_is_the_request_and_what_the_operator_gives(site, monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("GIVEN", "y")
    monkeypatch.setenv("LANG", "C.UTF-8")
    again = CGISite(site.root)
    page = again.run(
        "#!/bin/sh\necho A: 1; echo; exec env", b"12", HTTP_PROXY="http://evil/", HTTP_X="1", LD_PRELOAD="/e"
    )
    found = dict(line.split("=", 1) for line in page.text.splitlines())
    assert found["GIVEN"] == "y" and found["HTTP_X"] == "1" and found["CONTENT_LENGTH"] == "2"
    assert not {"SECRET", "HTTP_PROXY", "LD_PRELOAD"} & found.keys()
    assert found["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize("size", [0, 5, 3_000_000])
def test_its_standard_input_is_the_body(site, size):
    body = os.urandom(size)
    page = site.run(SH + "exec cat", body, FakeOutput(staging=1 << 30), REQUEST_METHOD="POST")
    assert page.body == body


def test_without_a_body_its_standard_input_is_empty(site):
    assert site.run(SH + "cat; readlink /proc/self/fd/0").text == "/dev/null\n"


def test_it_has_three_descriptors_default_signals_and_a_session_of_its_own(site):
    with open("/dev/null") as file:
        os.set_inheritable(file.fileno(), True)
        page = site.run(
            PYTHON
            + "print(sorted(map(int, os.listdir('/proc/self/fd')))[:-1], signal.getsignal(signal.SIGCHLD) == 0)\n"
            "text = open('/proc/self/status').read()\n"
            "print([line.split()[1] for line in text.splitlines() if line[:7] in ('SigBlk:', 'SigIgn:')])\n"
            "print(os.getsid(0) == os.getpid() == os.getpgid(0))\n"
        )
    first, second, third = page.text.splitlines()
    assert first == "[0, 1, 2] True"
    # Python itself ignores SIGPIPE and SIGXFSZ.
    assert second == "['0000000000000000', '0000000001001000']" and third == "True"


def test_its_headers_are_checked_and_its_status_is_the_answers(site):
    page = site.run("#!/bin/sh\nprintf 'Status: 404 Not here\\r\\nContent-Type: text/plain\\r\\n\\r\\nno'")
    assert (page.status, page.lines, page.text) == (404, ["Status: 404 Not here", "Content-Type: text/plain"], "no")
    assert site.run("#!/bin/sh\necho Location: /there; echo").status == 302


def test_its_exit_status_is_the_application_status(site):
    assert site.run(SH + "exit 3").app_status == 3


def test_standard_error_goes_to_the_web_server(site):
    page = site.run(SH + "echo oops >&2; echo fine")
    assert (page.stderr, page.text) == ("oops\n", "fine\n")


def test_much_of_both_does_not_block(site):
    output = FakeOutput(staging=1 << 30)
    page = site.run(SH + "head -c 1000000 /dev/zero >&2; head -c 1000000 /dev/zero", output=output)
    assert (len(page.body), len(output.stderr)) == (1000000, 1000000)


def test_output_is_passed_on_while_it_runs(site):
    """What is there is sent before we wait for more."""
    os.mkfifo(site.root / "go")

    class Output(FakeOutput):
        def flush(self) -> None:
            super().flush()
            if self.sent.endswith(b"first\n"):
                (site.root / "go").open("w").close()

    page = site.run(SH + "echo first; read x < go; echo second", output=Output())
    assert page.text == "first\nsecond\n"


def test_headers_alone_are_not_sent_yet(site, late):
    """It can still be answered with an error."""
    page = site.run(SH + "echo > pid; exec sleep 60", output=Impatient())
    assert page.status == 504 and "cgi.timeout" in page.log


WRONG = {
    "#!/bin/sh\n": "it has written nothing",
    "#!/bin/sh\nexit 3": "it has written nothing; it has to write headers, an empty line and the body; it ended with"
    " status 3",
    "#!/bin/sh\necho hello": "before the empty line",
    "#!/bin/sh\necho reason >&2": "it said: reason",
    "#!/bin/sh\nkill -9 $$": "it was ended by signal 9 (SIGKILL)",
    "#!/usr/bin/env no-such-program\n": "no-such-program",
    "#!/no/such/interpreter -x\n": "the interpreter of its first line, '/no/such/interpreter', is not there",
    "#!/bin/sh\r\necho\r\n": "its first line ends in",
    "echo hello\n": "it is no program for this machine, and has no first line",
    "#!/etc/passwd\n": "the interpreter of its first line, '/etc/passwd', may not be executed",
}


@pytest.mark.parametrize("source", WRONG)
def test_what_goes_wrong_is_500_and_said_in_the_log(site, source):
    site.write(source, "x")
    page = site.ask(str(site.root / "x"))
    assert page.status == 500
    assert WRONG[source] in page.log
    assert "passwd" not in page.text


def test_a_signal_after_the_answer_is_told(site):
    page = site.run(SH + "echo x; kill -SEGV $$")
    assert page.text == "x\n" and "was ended by signal 11 (SIGSEGV)" in page.log


# -- how it ends ------------------------------------------------------------------------------------------------------


def group_of(path: Path) -> int:
    return int(eventually(lambda: path.exists() and path.read_text().strip(), "it runs"))


def is_gone(group: int) -> bool:
    """All of it; the kernel takes a moment to end who is killed."""
    return eventually(lambda: not processes.running_session(group), "the group has ended")


def test_one_that_runs_for_too_long_is_ended_with_all_that_it_started(site, late):
    page = site.run("#!/bin/sh\n(sleep 60 & sleep 60) &\necho $$ > pid\nsleep 60\n", output=Impatient())
    assert page.status == 504 and "it ran for 500 s (cgi.timeout) and is ended" in page.log
    assert is_gone(group_of(site.root / "pid"))


def test_it_may_clean_up_first(site, late):
    site.run("#!/bin/sh\ntrap 'echo > cleaned; exit' TERM\necho > pid\nsleep 60 & wait\n", output=Impatient())
    assert (site.root / "cleaned").exists()


def test_one_that_does_not_want_to_end_is_killed(site, late):
    page = site.run("#!/bin/sh\ntrap '' TERM\necho $$ > pid\nwhile :; do sleep 1; done\n", output=Impatient())
    assert page.status == 504 and is_gone(group_of(site.root / "pid"))


def test_an_endless_answer_ends_in_time(site, late):
    page = site.run(SH + "echo $$ > pid; exec cat /dev/zero", output=Impatient(staging=1 << 40))
    assert page.app_status == 255 and "cgi.timeout" in page.log and is_gone(group_of(site.root / "pid"))


def test_a_visitor_who_leaves_ends_it(site):
    page = site.run(SH + "echo $$ > pid; exec cat /dev/zero", output=FakeOutput(leaves_after=100_000))
    assert page.app_status == 1 and page.log == "" and is_gone(group_of(site.root / "pid"))


def test_an_exception_in_between_ends_it(site):
    """max_execution_time's, say."""

    class Output(FakeOutput):
        def wait(self, descriptors, timeout_s):
            if (site.root / "pid").exists():
                raise KeyboardInterrupt
            return super().wait(descriptors, 0.01)

    with pytest.raises(KeyboardInterrupt):
        site.run("#!/bin/sh\necho $$ > pid\nsleep 60 & sleep 60", output=Output())
    assert is_gone(group_of(site.root / "pid"))


def test_one_that_ran_for_max_execution_time_is_told_of(site, monkeypatch):
    class Late(FakeOutput):
        def wait(self, descriptors, timeout_s):
            raise ExecutionTimeout("Maximum execution time of 1 second exceeded")

    page = site.run(SH + "sleep 1000", output=Late())
    assert page.status == 504
    assert "Maximum execution time of 1 second exceeded (max_execution_time)" in page.log


def test_one_that_has_started_with_the_last_descriptor_does_not_stay(site, monkeypatch):
    started = []

    def none_left(pid: int) -> int:
        started.append(pid)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("os.pidfd_open", none_left)
    assert site.run(SH + "sleep 1000").status == 503
    assert not processes.is_running(started[0])


def test_one_that_goes_on_after_its_answer_is_waited_for_later(site):
    os.mkfifo(site.root / "go")
    page = site.run(SH + "echo $$ > pid; echo done; exec >&- 2>&-; read x < go")
    assert page.text == "done\n" and page.status == 200
    pid = group_of(site.root / "pid")
    assert processes.running_session(pid)
    (site.root / "go").open("w").close()
    eventually(lambda: not processes.running_session(pid), "it has ended")
    site.run(SH)
    assert not os.path.exists(f"/proc/{pid}"), "a zombie is left"


def test_a_background_process_without_our_descriptors_may_stay(site):
    page = site.run(SH + "sleep 60 >/dev/null 2>&1 </dev/null &\necho $! > pid; echo done")
    assert page.text == "done\n"
    pid = group_of(site.root / "pid")
    os.kill(pid, signal.SIGKILL)


def test_the_end_of_the_worker_ends_it(site):
    """The kernel does it, so it need not be a good end."""
    program = (
        "import sys; sys.path[:0] = ['tests/sapi', 'tests']\n"
        "from pathlib import Path\nfrom fakes import CGISite\n"
        f"CGISite(Path({str(site.root)!r})).run('#!/bin/sh\\necho $$ > pid\\nexec sleep 60\\n')\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.DEVNULL)
    pid = group_of(site.root / "pid")
    eventually(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n", "it runs")
    worker.kill()
    worker.wait()
    eventually(lambda: not processes.running_session(pid), "it is gone")


def test_nothing_is_left_of_fifty(site):
    site.run(SH)
    before = os.listdir("/proc/self/fd"), os.getcwd(), dict(os.environ)
    for _ in range(50):
        site.run(SH + "cat", b"body")
    assert (os.listdir("/proc/self/fd"), os.getcwd(), dict(os.environ)) == before
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()
    assert children == ""
