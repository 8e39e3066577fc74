"""send_file()."""

from __future__ import annotations

import os

import pytest
from fakes import Site, process_as_it_was

TIME = 1_700_000_000
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"
BEFORE, AFTER = "Tue, 14 Nov 2023 22:13:19 GMT", "Tue, 14 Nov 2023 22:13:21 GMT"
TAG = f'"{TIME * 10**9:x}-a"'
DATA = b"0123456789"


@pytest.fixture
def site(tmp_path):
    with process_as_it_was():
        path = tmp_path / "file.txt"
        path.write_bytes(DATA)
        os.utime(path, (TIME, TIME))
        (tmp_path / "empty").touch()
        yield Site(tmp_path)


def test_a_file_is_sent_with_what_is_known_of_it(site):
    answer = site.run("send_file('file.txt')")
    assert answer.lines == [
        "Content-Type: text/plain;charset=UTF-8", f"ETag: {TAG}", f"Last-Modified: {DATE}", "Accept-Ranges: bytes",
        "Content-Length: 10",
    ]  # fmt: skip
    assert (answer.body, answer.app_status) == (DATA, 0)


def test_head_has_the_same_headers(site):
    answer = site.run("send_file('file.txt')", REQUEST_METHOD="HEAD")
    assert answer.lines == site.run("send_file('file.txt')").lines and answer.body == b""


@pytest.mark.parametrize(
    ("asked", "status", "body", "content_range"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-99", 206, DATA, "bytes 0-9/10"),
        ("bytes=9-99", 206, b"9", "bytes 9-9/10"),
        ("Bytes = 0-0", 206, b"0", "bytes 0-0/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("bytes=99-100", 416, b"", "bytes */10"),
        ("bytes=-0", 416, b"", "bytes */10"),
        # Not understood, or of several parts: the whole file, which is always right.
        *[(odd, 200, DATA, None) for odd in ("bytes=5-4", "bytes=-", "bytes=a-b", "lines=0-3", "bytes=0-1,3-4", "",
                                             "bytes=0x1-", "bytes=" + "9" * 40 + "-", "bytes=1-2;x")],
    ],
)  # fmt: skip
def test_a_range_is_a_part_of_it(site, asked, status, body, content_range):
    answer = site.run("send_file('file.txt')", HTTP_RANGE=asked)
    assert (answer.status, answer.body) == (status, body)
    assert answer.all("Content-Range") == ([content_range] if content_range else [])
    assert answer.all("Content-Length") == [str(len(body))]
    head = site.run("send_file('file.txt')", HTTP_RANGE=asked, REQUEST_METHOD="HEAD")
    assert head.lines == answer.lines and head.body == b""


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ({"HTTP_IF_NONE_MATCH": TAG}, 304),
        ({"HTTP_IF_NONE_MATCH": f'"a", W/{TAG}'}, 304),
        ({"HTTP_IF_NONE_MATCH": "*"}, 304),
        ({"HTTP_IF_NONE_MATCH": '"a"'}, 200),
        ({"HTTP_IF_NONE_MATCH": '"a"', "HTTP_IF_MODIFIED_SINCE": AFTER}, 200),
        ({"HTTP_IF_MODIFIED_SINCE": DATE}, 304),
        ({"HTTP_IF_MODIFIED_SINCE": AFTER}, 304),
        ({"HTTP_IF_MODIFIED_SINCE": BEFORE}, 200),
        ({"HTTP_IF_MODIFIED_SINCE": "yesterday"}, 200),
        ({"HTTP_IF_MODIFIED_SINCE": "Tue, 14 Nov 99999 22:13:20 GMT"}, 200),
        ({"HTTP_IF_MATCH": TAG}, 200),
        ({"HTTP_IF_MATCH": "*"}, 200),
        ({"HTTP_IF_MATCH": '"a"'}, 412),
        ({"HTTP_IF_MATCH": f"W/{TAG}"}, 412),
        ({"HTTP_IF_UNMODIFIED_SINCE": DATE}, 200),
        ({"HTTP_IF_UNMODIFIED_SINCE": BEFORE}, 412),
        ({"HTTP_RANGE": "bytes=0-0", "HTTP_IF_NONE_MATCH": TAG}, 304),
        ({"HTTP_RANGE": "bytes=0-0", "HTTP_IF_RANGE": TAG}, 206),
        ({"HTTP_RANGE": "bytes=0-0", "HTTP_IF_RANGE": DATE}, 206),
        ({"HTTP_RANGE": "bytes=0-0", "HTTP_IF_RANGE": f"W/{TAG}"}, 200),
        ({"HTTP_RANGE": "bytes=0-0", "HTTP_IF_RANGE": '"a"'}, 200),
        ({"HTTP_RANGE": "bytes=0-0", "HTTP_IF_RANGE": AFTER}, 200),
        ({"HTTP_RANGE": "bytes=0-0", "HTTP_IF_RANGE": "nonsense"}, 200),
        ({"HTTP_IF_NONE_MATCH": TAG, "REQUEST_METHOD": "POST"}, 200),
        ({"HTTP_RANGE": "bytes=0-0", "REQUEST_METHOD": "POST"}, 200),
    ],
)
def test_conditions_are_heeded(site, condition, status):
    answer = site.run("send_file('file.txt')", **condition)
    assert answer.status == status
    assert answer.body == {200: DATA, 206: b"0", 304: b"", 412: b""}[status]
    if status == 304:
        assert answer.all("ETag") == [TAG] and not answer.all("Content-Type") and not answer.all("Content-Length")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.html", "text/html;charset=UTF-8"),
        ("a.png", "image/png"),
        ("a.json", "application/json"),
        ("a.tar.gz", "application/gzip"),
        ("a.svgz", "application/gzip"),
        ("a.unheard-of", "application/octet-stream"),
        ("none", "application/octet-stream"),
    ],
)
def test_the_type_is_guessed_by_the_name(site, name, kind):
    (site.root / name).touch()
    answer = site.run(f"send_file({name!r})")
    assert answer.all("Content-Type") == [kind] and answer.all("Content-Encoding") == []


def test_what_the_script_has_set_stays(site):
    source = "header('Content-Type: a/b'); header('ETag: \"mine\"'); header('Cache-Control: no-store')\n"
    answer = site.run(source + "send_file('file.txt', max_age=60)", HTTP_IF_NONE_MATCH=TAG)
    assert (answer.all("Content-Type"), answer.all("ETag")) == (["a/b"], ['"mine"'])
    assert answer.all("Cache-Control") == ["no-store"] and answer.status == 200
    assert site.run(source + "send_file('file.txt')", HTTP_IF_NONE_MATCH='"mine"').status == 304


def test_with_another_status_it_is_sent_whole(site):
    answer = site.run("http_response_code(404); send_file('file.txt', 'text/css')", HTTP_RANGE="bytes=0-1")
    assert (answer.status, answer.body, answer.all("Content-Type")) == (404, DATA, ["text/css;charset=UTF-8"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("as_attachment=True", 'attachment; filename="file.txt"'),
        ("download_name='a b.txt'", 'inline; filename="a b.txt"'),
        ("as_attachment=True, download_name='Größe 5€.txt'",
         "attachment; filename=\"Gr__e 5_.txt\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe%205%E2%82%AC.txt"),
        ("download_name='50%.txt'", "inline; filename=\"50_.txt\"; filename*=UTF-8''50%25.txt"),
        (r"download_name='a\"b\\c.txt'", "inline; filename=\"a_b_c.txt\"; filename*=UTF-8''a%22b%5Cc.txt"),
        (r"download_name='a\r\nX: y'", 'inline; filename="a__X: y"'),
        (r"download_name='\udcff'", "inline; filename=\"_\"; filename*=UTF-8''%EF%BF%BD"),
    ],
)  # fmt: skip
def test_a_download_has_a_name(site, arguments, expected):
    answer = site.run(f"send_file('file.txt', {arguments})")
    assert answer.all("Content-Disposition") == [expected], answer.log
    assert answer.all("X") == []


def test_max_age_is_for_caches(site):
    assert site.run("send_file('file.txt', max_age=3600)").all("Cache-Control") == ["max-age=3600"]


def test_an_empty_file_is_an_answer(site):
    answer = site.run("send_file('empty')")
    assert (answer.status, answer.body, answer.all("Content-Length")) == (200, b"", ["0"])
    assert site.run("send_file('empty')", HTTP_RANGE="bytes=0-").status == 416


def test_what_was_printed_before_is_no_part_of_it(site):
    answer = site.run("print('debug'); ob_start(); print('more'); send_file('file.txt')")
    assert answer.body == DATA


def test_after_output_has_left_it_is_refused(site):
    answer = site.run("echo('x'); flush()\ntry: send_file('file.txt')\nexcept RuntimeError as error: echo('<', error)")
    assert "<the headers are sent already (output started at " in answer.text


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_nothing_can_follow_it(site, method):
    answer = site.run("send_file('file.txt')\nprint('more')", REQUEST_METHOD=method)
    assert "RuntimeError: nothing can follow a file" in answer.log and b"more" not in answer.output.sent


def test_not_even_a_shutdown_function_after_a_failure(site):
    late = "register_shutdown_function(lambda: echo('late'))\n"
    answer = site.run(late + "send_file('file.txt')\nflush()\n1/0")
    assert answer.body == DATA and "nothing can follow a file" in answer.log
    answer = site.run(late + "send_file('file.txt')\n1/0", REQUEST_METHOD="HEAD")
    assert (answer.status, answer.body) == (500, b"")
    answer = site.run(late + "http_response_code(204); flush()\n1/0")
    assert (answer.status, answer.body) == (204, b"")


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("missing", "FileNotFoundError"),
        (".", "IsADirectoryError: [Errno 21] send_file() sends regular files only: '.'"),
        ("fifo", "OSError: [Errno 22] send_file() sends regular files only: 'fifo'"),
        ("/dev/null", "OSError: [Errno 22] send_file() sends regular files only: '/dev/null'"),
    ],
)
def test_what_is_no_file_is_an_error_that_can_be_caught(site, path, error):
    os.mkfifo(site.root / "fifo")
    answer = site.run(f"send_file({path!r})")
    assert answer.status == 500 and error in answer.log
    answer = site.run(f"try: send_file({path!r})\nexcept OSError: http_response_code(404); echo('none')")
    assert (answer.status, answer.text) == (404, "none") and not answer.all("ETag")
