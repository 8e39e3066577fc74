"""The raw body, and JSON."""

from __future__ import annotations

import json
import os
import tempfile

import pytest
from fakes import Site, process_as_it_was

from pyfpm.sapi.body import whole
from pyfpm.worker.body import Body

JSON = "application/json"


@pytest.fixture
def site(tmp_path):
    with process_as_it_was():
        yield Site(tmp_path)


# -- input_stream ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [100, 1], ids=["memory", "file"])
def test_the_whole_body_has_a_place_of_its_own(threshold):
    body = Body(threshold, None)
    body.append(b"some\nbytes")
    original = body.open()
    assert original.read(2) == b"so"
    with whole(original) as one, whole(original) as other:
        assert one.read() == b"some\nbytes" and one.read() == b""
        assert other.readline() == b"some\n"
        assert one.seek(-5, os.SEEK_END) == 5 and one.read(2) == b"by"
        assert one.seek(1, os.SEEK_CUR) == 8 and one.read() == b"es"
        assert other.read() == b"bytes"
        with pytest.raises((ValueError, OSError)):
            one.seek(-1)
        assert one.readable() and one.seekable()
    assert original.read() == b"me\nbytes"
    with pytest.raises(ValueError, match="closed"):
        one.read()
    last = whole(original)
    body.close()
    # Whoever kept it has its own, and not what is behind the number of a descriptor now.
    with tempfile.TemporaryFile() as other_file:
        other_file.write(b"somebody else's")
        other_file.flush()
        assert last.read() == b"some\nbytes"
    last.close()
    with pytest.raises(ValueError, match="closed"):
        whole(original)


def test_no_body_is_an_empty_one():
    assert whole(None).read() == b""


@pytest.mark.parametrize("content_type", [JSON, "application/x-www-form-urlencoded", "multipart/form-data; boundary=B"])
def test_the_raw_body_is_there_whatever_was_read_of_it(site, content_type):
    source = """
import sys
sys.stdin.read(3)
_POST
one, other = input_stream(), input_stream()
echo(one.read(), other.read(), sys.stdin.buffer.read() != "", input_stream().read(1))
"""
    answer = site.run(source, b"a=\xff", REQUEST_METHOD="POST", CONTENT_TYPE=content_type)
    assert answer.body == b"a=\xffa=\xffTruea"


def test_without_a_body_the_stream_is_empty(site):
    assert site.run("echo(input_stream().read() == b'')").text == "True"


# -- json_body ---------------------------------------------------------------------------------------------------------


def ask(site: Site, body: bytes | None, content_type: str = JSON, call: str = "json_body()"):
    return site.run(f"import json\necho(json.dumps({call}))", body, REQUEST_METHOD="PUT", CONTENT_TYPE=content_type)


@pytest.mark.parametrize(
    "content_type",
    [JSON, "Application/JSON; charset=utf-8", "application/vnd.api+json", "application/problem+json;x=y"],
)
def test_a_body_of_json_is_what_it_says(site, content_type):
    value = {"a": [1, 2.5, None, True, "ü\0"], "b": {}}
    assert json.loads(ask(site, json.dumps(value).encode(), content_type).text) == value


@pytest.mark.parametrize("body", [b"0", b'"x"', b"null", b" [] ", b"\xef\xbb\xbf1", b"1" * 4000, b'{"a": 1, "a": 2}'])
def test_any_value_may_stand_alone(site, body):
    answer = ask(site, body)
    assert answer.status == 200 and json.loads(answer.text) == json.loads(body.decode("utf-8-sig"))


REFUSED = [
    ("another type", "text/plain", b"1", 415, "Content-Type is 'text/plain'"),
    ("no type", "", b"1", 415, "Content-Type is not set"),
    ("a type that begins like it", "application/jsonp", b"1", 415, "'application/jsonp'"),
    ("a type with line breaks", "text/x\u20ac\r\nX: y", b"1", 415, "'text/x"),
    ("nothing", JSON, None, 400, "empty"),
    ("an empty body", JSON, b"", 400, "empty"),
    ("no JSON", JSON, b'{\n"a": x}', 400, "line 2 column 6"),
    ("something behind it", JSON, b"1 2", 400, "Extra data"),
    ("no UTF-8", JSON, b'"\xff"', 400, "byte 1"),
    ("UTF-16", JSON, "{}".encode("utf-16"), 400, "not JSON in UTF-8"),
    ("UTF-16 without a mark", JSON, "[1]".encode("utf-16-le"), 400, "not JSON"),
    ("NaN", JSON, b"[NaN]", 400, "NaN is not a number"),
    ("infinity", JSON, b"-Infinity", 400, "-Infinity is not a number"),
    ("deep", JSON, b"[" * 200_000, 400, "nested too deeply"),
    ("deep objects", JSON, b'{"a":' * 200_000, 400, "nested too deeply"),
    ("a number of too many digits", JSON, b"1" * 5000, 400, "not JSON"),
]


@pytest.mark.parametrize(
    ("content_type", "body", "status", "reason"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_what_is_no_json_is_answered_with_its_status_and_no_traceback(site, content_type, body, status, reason):
    answer = ask(site, body, content_type)
    assert answer.status == status and answer.app_status == 255
    assert reason in answer.stderr and "Traceback" not in answer.stderr and answer.logged == []
    assert answer.stderr.isprintable() and answer.stderr.isascii()


def test_a_script_may_answer_for_itself(site):
    source = """
from pyfpm import BodyError
try:
    json_body()
except BodyError as error:
    http_response_code(error.status)
    echo(error, isinstance(error, ValueError))
"""
    answer = site.run(source, b"x", REQUEST_METHOD="POST", CONTENT_TYPE=JSON)
    assert answer.status == 400
    assert answer.text == "the body is not JSON: Expecting value: line 1 column 1 (char 0)True"


def test_a_refusal_after_output_ends_the_script_like_any_exception(site):
    answer = site.run("echo('x' * 5000)\nflush()\njson_body()\necho('y')", b"x", CONTENT_TYPE=JSON)
    assert answer.status == 200 and answer.text == "x" * 5000 and answer.app_status == 255


def test_any_type_will_do_when_it_is_asked_for(site):
    assert ask(site, b"[1]", "text/plain", "json_body(any_type=True)").text == "[1]"


def test_a_body_over_the_bound_is_413(site):
    assert ask(site, b"[1]", call="json_body(max_size=3)").text == "[1]"
    answer = ask(site, b"[10]", call="json_body(max_size=3)")
    assert answer.status == 413 and "larger than 3 bytes" in answer.stderr


def test_it_can_be_asked_for_twice_and_the_raw_body_is_still_there(site):
    source = "one, other = json_body(), json_body()\necho(one == other, one is other, input_stream().read())"
    assert site.run(source, b"[1]", REQUEST_METHOD="POST", CONTENT_TYPE=JSON).text == "TrueFalse[1]"
