"""The slow log: php-fpm's block from faulthandler's text, whatever a worker makes of it."""

from __future__ import annotations

import faulthandler
import os
import re
import tempfile
import threading
import time
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

import pyfpm
from pyfpm.observe.slowlog import Frame, Thread, frame_lines, of_application, parse_trace, slow_entry

OURS = os.path.dirname(pyfpm.__file__)
NOW = time.struct_time((2026, 11, 24, 10, 0, 5, 1, 328, 0))
TRIO = os.path.dirname(trio.__file__)
TRACE = f"""\
Thread 0x00007f1f9e5b06c0 [helper [1]] (most recent call first):
  File "/srv/www/other.py", line 3 in fetch
  File "/usr/lib/python3.11/threading.py", line 975 in run

Thread 0x00007f1f9e5b0aaa (most recent call first):
  File "{TRIO}/_core/_thread_cache.py", line 5 in _work

Current thread 0x00007f1f9e86f040 (most recent call first):
  File "/srv/www/db.py", line 31 in query
  File "/srv/www/a "quoted", line 5 in x.py", line 12 in <module>
  File "<frozen importlib._bootstrap>", line 241 in _call_with_frames_removed
  File ???, line ??? in ???
  File "{OURS}/worker/inline.py", line 99 in drain
  File "{TRIO}/_core/_run.py", line 2000 in run
"""


def test_a_trace_is_read_in_its_order():
    helper, cached, current = parse_trace(TRACE)
    assert helper == Thread(
        0x7F1F9E5B06C0,
        "helper [1]",
        False,
        (Frame("fetch", "/srv/www/other.py", 3), Frame("run", "/usr/lib/python3.11/threading.py", 975)),
    )
    assert (cached.address, cached.name, cached.current, len(cached.frames)) == (0x7F1F9E5B0AAA, "", False, 1)
    assert current.current
    assert current.frames[:2] == (
        Frame("query", "/srv/www/db.py", 31),
        Frame("<module>", '/srv/www/a "quoted", line 5 in x.py', 12),
    )
    assert current.frames[3] == Frame("???", "unknown", 0)


def test_frames_of_pyfpm_and_trio_are_left_out():
    helper, current = of_application(parse_trace(TRACE))
    assert [frame.function for frame in helper.frames] == ["fetch", "run"]
    assert [frame.function for frame in current.frames] == ["query", "<module>", "???"]


@pytest.mark.parametrize("which", ["Current thread", "Thread"])
def test_where_nothing_else_is_ours_is_shown(which):
    trace = f'{which} 0x1 (most recent call first):\n  File "{OURS}/worker/serve.py", line 1 in serve\n'
    [thread] = of_application(parse_trace(trace))
    assert thread.frames == (Frame("serve", f"{OURS}/worker/serve.py", 1),)


def test_a_directory_whose_name_begins_like_ours_is_not_ours():
    trace = f'Current thread 0x1 (most recent call first):\n  File "{OURS}_site/a.py", line 1 in f\n'
    trace += f'  File "{OURS}/b.py", line 2 in g\n'
    [thread] = of_application(parse_trace(trace))
    assert [frame.function for frame in thread.frames] == ["f"]


SIMPLE = """\
Current thread 0x00007f1f9e86f040 (most recent call first):
  File "/srv/www/db.py", line 31 in query
  File "/srv/www/report.py", line 7 in <module>
"""


def test_the_block_is_php_fpms():
    assert slow_entry(NOW, "www", 7, "/srv/www/report.py", SIMPLE, 20) == (
        "\n"
        "[24-Nov-2026 10:00:05]  [pool www] pid 7\n"
        "script_filename = /srv/www/report.py\n"
        "[0x00007f1f9e86f040] query() /srv/www/db.py:31\n"
        "[0x00007f1f9e86f040] <module>() /srv/www/report.py:7\n"
    )


def test_of_several_threads_each_is_named():
    lines = slow_entry(NOW, "www", 7, "/a.py", TRACE, 1).splitlines()[3:]
    assert lines == [
        "thread 0x00007f1f9e5b06c0 helper [1]",
        "[0x00007f1f9e5b06c0] fetch() /srv/www/other.py:3",
        "thread 0x00007f1f9e86f040 (current)",
        "[0x00007f1f9e86f040] query() /srv/www/db.py:31",
    ]


@pytest.mark.parametrize(("depth", "shown"), [(0, 50), (1, 1), (20, 20), (50, 50), (1000, 50)])
def test_no_more_frames_than_the_depth(depth, shown):
    frames = "".join(f'  File "/srv/a.py", line {number} in f\n' for number in range(1, 51))
    entry = slow_entry(NOW, "www", 7, "/a.py", "Thread 0x1 (most recent call first):\n" + frames, depth)
    assert entry.count("[0x0000000000000001] f() /srv/a.py:") == shown
    assert "f() /srv/a.py:1\n" in entry, "the most recent is first"


@pytest.mark.parametrize(
    "trace",
    [
        "",
        "\n" * 1000,
        "garbage",
        "Thread 0x1 (most recent call first):\n",
        "Thread 0x1 (most recent call first):\n  <no Python frame>\n",
        "Thread 0x11112222333344445 (most recent call first):\n" + SIMPLE.partition("\n")[2],
        'Thread 0x1 (most recent call first):\n  File "/srv/a.py", line 31',
        'Thread 0x1 (most recent call first):\n  File "/srv/a.py", line 99999999999 in f\n',
        "Thread 0x1 (most recent call first):\r\n",
        '  File "/srv/a.py", line 31 in f\n' * 100,
        "Fatal Python error: Segmentation fault\n\n",
    ],
)
def test_of_what_is_no_trace_it_is_said_that_there_is_none(trace):
    assert slow_entry(NOW, "www", 7, "/a.py", trace, 20).endswith("script_filename = /a.py\n+++ dump failed\n")


def test_a_crash_is_read_past_its_other_words():
    trace = f"Fatal Python error: Segmentation fault\n\n{SIMPLE}  ...\n\nExtension modules: a, b (total: 2)\n"
    [thread] = parse_trace(trace)
    assert len(thread.frames) == 2


def test_a_trace_that_was_cut_gives_what_is_whole():
    for end in range(len(SIMPLE) + 1):
        frames = [frame for thread in parse_trace(SIMPLE[:end]) for frame in thread.frames]
        assert (
            frames == [Frame("query", "/srv/www/db.py", 31), Frame("<module>", "/srv/www/report.py", 7)][: len(frames)]
        )


FORGED = "\n[24-Nov-2026 10:00:05]  [pool www] pid 8\n\x1b[2K\r\u2028"


@pytest.mark.parametrize("field", ["pool", "script", "file", "function", "name"])
def test_no_field_can_begin_a_line_of_its_own(field):
    fields = {"pool": "www", "script": "/a.py", "file": "/b.py", "function": "f", "name": "helper", field: FORGED}
    trace = (
        f"Thread 0x1 [{fields['name']}] (most recent call first):\n"
        f'  File "{fields["file"]}", line 3 in {fields["function"]}\n'
    )
    entry = slow_entry(NOW, fields["pool"], 7, fields["script"], trace * 2, 20)
    assert len(re.findall(r"(?m)^\[\d\d-", entry)) == 1
    assert re.fullmatch(r"[\n -~]*", entry)


@given(
    st.lists(
        st.text(max_size=40)
        | st.sampled_from(["Thread 0x1 (most recent call first):", "Current thread 0x2 [a] (most recent call first):"])
        | st.builds('  File "{}", line {} in {}'.format, st.text(max_size=9), st.integers(), st.text(max_size=9))
    )
)
def test_whatever_a_worker_sends_it_is_a_block(lines):
    entry = slow_entry(NOW, "www", 7, "/a.py", "\n".join(lines), 5)
    head, frames = entry.splitlines()[:3], entry.splitlines()[3:]
    assert head[0] == ""
    assert head[2] == "script_filename = /a.py"
    assert frames == ["+++ dump failed"] or all(
        re.fullmatch(r"\[0x[0-9a-f]{16}\] .*\(\) .*:\d+|thread 0x[0-9a-f]{16}.*", line) for line in frames
    )


@pytest.mark.parametrize(
    "piece", ['  File "', '", line 1 in ', "Thread 0x1 [", "] (most recent call first):", "\n", '"', " "]
)
def test_no_input_takes_more_than_its_length_in_time(piece):
    text = 'Thread 0x1 (most recent call first):\n  File "' + piece * (200_000 // len(piece)) + "\n"
    began = time.process_time()
    slow_entry(NOW, "www", 7, "/a.py", text, 20)
    assert time.process_time() - began < 10


def test_faulthandler_is_understood(tmp_path: Path):
    inside, leave = threading.Event(), threading.Event()

    def waits_here() -> None:
        inside.set()
        leave.wait()

    thread = threading.Thread(target=waits_here)
    thread.start()
    inside.wait()
    try:
        with tempfile.TemporaryFile() as file:
            faulthandler.dump_traceback(file)
            file.seek(0)
            trace = file.read().decode()
    finally:
        leave.set()
        thread.join()
    threads = of_application(parse_trace(trace))
    [current] = [each for each in threads if each.current]
    assert current.frames[0].function == "test_faulthandler_is_understood"
    assert current.frames[0].file == __file__
    assert any(frame.function == "waits_here" for each in threads if not each.current for frame in each.frames)
    assert frame_lines(current, 1)[0].startswith(
        f"[0x{current.address:016x}] test_faulthandler_is_understood() {__file__}:"
    )
