"""Forms as scripts find them, in _POST and _FILES; and what the operator is told of those that are no good.

What PHP does with the same bodies is asked of php-fpm itself, in tests/interop/test_php_multipart.py.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from fakes import Answer, Site, process_as_it_was
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfpm.sapi import forms, parts
from pyfpm.sapi.parts import MalformedForm, Part, boundary_of, names_in, parts_of
from pyfpm.sapi.settings import SapiSettings
from pyfpm.sapi.variables import Variables

END = b"--B--\r\n"
MULTIPART = "multipart/form-data; boundary=B"
FORM = "application/x-www-form-urlencoded"


def part(options: str, data: bytes = b"1", *headers: str) -> bytes:
    lines = ["--B", f"Content-Disposition: form-data; {options}", *headers, "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + data + b"\r\n"


def field(name: str, data: bytes = b"1") -> bytes:
    return part(f'name="{name}"', data)


def file(name: str = "f", filename: str = "a.txt", data: bytes = b"hello") -> bytes:
    return part(f'name="{name}"; filename="{filename}"', data, "Content-Type: text/plain")


@pytest.fixture
def temporary(tmp_path) -> Path:
    directory = tmp_path / "uploads"
    directory.mkdir()
    return directory


@pytest.fixture
def make_site(tmp_path, temporary):
    with process_as_it_was():
        yield lambda **settings: Site(tmp_path, **{"upload_tmp_dir": str(temporary), **settings})
    assert os.listdir(temporary) == []


@pytest.fixture
def site(make_site):
    return make_site()


def post(site: Site, source: str, body: bytes, content_type: str = MULTIPART, **more: Any) -> Answer:
    return site.run(source, body, REQUEST_METHOD="POST", CONTENT_TYPE=content_type, **more)


SHOW = """
import json
for entry in _FILES.values():
    del entry["tmp_name"]
echo(json.dumps([_POST, _FILES]))
"""


def shown(site: Site, body: bytes, content_type: str = MULTIPART) -> tuple[Any, Any, str]:
    """_POST and _FILES without temporary names, and what the operator was told."""
    answer = post(site, SHOW, body, content_type)
    assert answer.status == 200, answer.log
    found = json.loads(answer.text)
    return found[0], found[1], answer.stderr


GOOD = {"name": "a.txt", "full_path": "a.txt", "type": "text/plain", "error": 0, "size": 5}


def failed(error: int) -> dict[str, Any]:
    return {"name": "a.txt", "full_path": "a.txt", "type": "", "error": error, "size": 0}


# -- what a form is ----------------------------------------------------------------------------------------------------


def test_fields_and_files_are_apart_and_in_their_order(site):
    body = field("x", "ü\0".encode()) + file() + field("list[]") + field("list[]", b"2") + field("x", b"\xff")
    found, files, stderr = shown(site, body + END)
    assert found == {"x": "\udcff", "list": ["1", "2"]}
    assert files == {"f": GOOD}
    assert stderr == ""


def test_several_files_of_a_name_are_arrays_of_each_property(site):
    _, files, _ = shown(site, file("f[]") + file("f[]", "b/c.txt", b"") + file("g[x][y]", "ü.txt") + END)
    assert files["f"] == {
        "name": ["a.txt", "c.txt"],
        "full_path": ["a.txt", "b/c.txt"],
        "type": ["text/plain", "text/plain"],
        "error": [0, 0],
        "size": [5, 0],
    }
    assert files["g"]["name"] == {"x": {"y": "ü.txt"}}


def test_the_properties_are_in_phps_order(site):
    answer = post(site, "echo(' '.join(_FILES['f']))", file() + END)
    assert answer.text == "name full_path type tmp_name error size"


def test_the_content_is_in_a_file_of_its_own_that_nobody_else_can_read(site, temporary):
    source = """
import os
path = _FILES["f"]["tmp_name"]
of_file, of_directory = os.stat(path), os.stat(os.path.dirname(path))
with open(path, "rb") as file:
    echo(file.read())
echo(f" {of_file.st_mode & 0o777:o} {of_directory.st_mode & 0o777:o} ", path)
"""
    content = bytes(range(256)) * 1000
    answer = post(site, source, file(data=content) + END)
    start, _, path = answer.body.rpartition(b" ")
    assert start == content + b" 600 700"
    assert path.decode().startswith(f"{temporary}/")


def test_files_alone_is_enough_to_be_asked_for(site):
    assert post(site, "echo(_FILES['f']['size'])", file() + END).text == "5"


def test_a_module_may_be_the_first_to_ask(site):
    site.write("from pyfpm import _FILES, _POST\ndef size(): return _FILES['f']['size'], _POST['x']\n", "asks.py")
    source = "import sys, asks\nfirst = sys.stdin.buffer.read(3)\necho(asks.size(), first, sys.stdin.buffer.read(3))"
    assert post(site, source, field("x") + file() + END).text == "(5, '1')--B\r\nC"


def test_a_form_is_read_when_it_is_asked_for_and_once(site, monkeypatch):
    opened = []
    monkeypatch.setattr(parts, "PIECE", 10)
    real = parts.parts_of
    monkeypatch.setattr(forms, "parts_of", lambda *arguments: opened.append(1) or real(*arguments))
    assert post(site, "echo('nothing')", file() + END).text == "nothing"
    assert opened == []
    assert post(site, "echo(len(_POST), len(_FILES), len(_REQUEST))", file() + END).text == "010"
    assert opened == [1]


@pytest.mark.parametrize("method", ["PUT", "GET", "PATCH"])
def test_only_what_is_posted_is_a_form(site, method):
    source = "echo(_POST, _FILES)"
    assert site.run(source, field("x") + END, REQUEST_METHOD=method, CONTENT_TYPE=MULTIPART).text == "{}{}"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "POST"])
def test_of_other_methods_a_form_can_be_asked_for(site, method):
    source = """
fields, files = request_parse_body()
echo(fields, files["f"]["size"], is_uploaded_file(files["f"]["tmp_name"]), fields is _POST, len(_POST))
"""
    answer = site.run(source, field("x") + file() + END, REQUEST_METHOD=method, CONTENT_TYPE=MULTIPART)
    assert answer.text == "{'x': '1'}5True" + ("True1" if method == "POST" else "False0"), answer.log
    answer = site.run("echo(request_parse_body())", b"a[]=1", REQUEST_METHOD=method, CONTENT_TYPE=FORM)
    assert answer.text == "({'a': ['1']}, {})"


def test_what_is_no_form_cannot_be_asked_for_as_one(site):
    answer = site.run("request_parse_body()", b"{}", REQUEST_METHOD="PUT", CONTENT_TYPE="application/json")
    assert answer.status == 415 and "'application/json'" in answer.stderr


def test_without_a_body_there_is_an_empty_form(site):
    answer = site.run("echo(_POST, _FILES)", None, REQUEST_METHOD="POST", CONTENT_TYPE=MULTIPART)
    assert answer.text == "{}{}" and "multipart/form-data" in answer.stderr
    answer = site.run("echo(_POST, _FILES)", None, REQUEST_METHOD="POST", CONTENT_TYPE=FORM)
    assert answer.text == "{}{}" and answer.stderr == ""


def test_a_form_whose_body_the_script_has_closed_is_empty(site):
    site.write("from pyfpm import _POST\ndef f(): return dict(_POST)\n", "asks_late.py")
    source = "import sys, asks_late\nsys.stdin.buffer.close()\necho(asks_late.f())"
    for content_type in (FORM, MULTIPART):
        answer = post(site, source, b"a=1", content_type)
        assert answer.text == "{}" and "closed" in answer.stderr, answer.log


# -- limits ------------------------------------------------------------------------------------------------------------

LIMITS: list[tuple[str, dict[str, Any], bytes, Any, Any, str]] = [
    ("a file that is too large", {"upload_max_filesize": 4}, file() + file("g", data=b"1234"),
     {}, {"f": failed(1), "g": GOOD | {"size": 4}}, ""),
    ("a file of any size", {"upload_max_filesize": 0}, file(), {}, {"f": GOOD}, ""),
    ("larger than the form says", {}, field("MAX_FILE_SIZE", b"4") + file(), {"MAX_FILE_SIZE": "4"},
     {"f": failed(2)}, ""),
    ("no file", {}, part('name="f"; filename=""', b""), {},
     {"f": {"name": "", "full_path": "", "type": "", "error": 4, "size": 0}}, ""),
    ("too many files", {"max_file_uploads": 1}, file() + file("g") + field("x"), {"x": "1"}, {"f": GOOD},
     "more files than max_file_uploads = 1"),
    ("no files at all", {"max_file_uploads": 0}, file() + field("x"), {"x": "1"}, {},
     "more files than max_file_uploads = 0"),
    ("uploads are off", {"file_uploads": False}, file() + field("x"), {"x": "1"}, {}, ""),
    ("too many fields", {"max_input_vars": 1}, field("x") + field("y") + field("z") + file(), {"x": "1"}, {"f": GOOD},
     "more fields than max_input_vars = 1"),
    ("too many parts", {"max_multipart_body_parts": 2}, field("x") + file() + field("y"), {"x": "1"}, {"f": GOOD},
     "more parts than max_multipart_body_parts = 2"),
    ("too many parts by default", {"max_input_vars": 1, "max_file_uploads": 1}, field("x") + file() + field("y"),
     {"x": "1"}, {"f": GOOD}, "more parts than max_input_vars and max_file_uploads allow together"),
    ("too many brackets", {"max_input_nesting_level": 1}, field("x[a]") + field("y[a][b]"), {"x": {"a": "1"}}, {},
     "max_input_nesting_level = 1"),
]  # fmt: skip


@pytest.mark.parametrize(("settings_", "body", "fields", "files", "told"), [row[1:] for row in LIMITS],
                         ids=[row[0] for row in LIMITS])  # fmt: skip
def test_what_is_over_a_limit_is_left_out_and_told_once(make_site, settings_, body, fields, files, told):
    found = shown(make_site(**settings_), body + END)
    assert found[:2] == (fields, files)
    assert told in found[2] and found[2].count("Python message") == bool(told)


def test_the_fields_of_a_form_are_bounded_together(site, monkeypatch):
    monkeypatch.setattr(forms, "MAX_FORM_SIZE", 100)
    found, files, told = shown(
        site, field("a", b"x" * 60) + file(data=b"x" * 200) + field("b", b"x" * 60) + field("c") + END
    )
    assert (list(found), files["f"]["size"]) == (["a"], 200)
    assert "its fields are larger than 100 bytes" in told
    found, _, told = shown(site, field("n" * 101) + field("c") + END)
    assert found == {} and "its fields are larger than 100 bytes" in told


def test_an_urlencoded_form_that_is_too_large_is_not_read(site, monkeypatch):
    monkeypatch.setattr(forms, "MAX_FORM_SIZE", 5)
    found, _, told = shown(site, b"a=123", FORM)
    assert found == {"a": "123"} and told == ""
    found, _, told = shown(site, b"a=1234", FORM)
    assert found == {} and "larger than 5 bytes" in told


# -- bodies that are not as they should be -----------------------------------------------------------------------------

MALFORMED = [
    ("no boundary", "multipart/form-data", field("x") + END, {}, {}, "no boundary"),
    ("an empty boundary", "multipart/form-data; boundary=", field("x") + END, {}, {}, "boundary is empty"),
    ("an unclosed boundary", 'multipart/form-data; boundary="B', field("x") + END, {}, {}, "no closing one"),
    ("a boundary that is too long", "multipart/form-data; boundary=" + "B" * 1025, field("x") + END, {}, {}, "longer"),
    ("a boundary that is not text", "multipart/form-data; boundary=ü", field("x") + END, {}, {}, "printable ASCII"),
    ("another boundary", "multipart/form-data; boundary=C", field("x") + END, {}, {}, "Unexpected end"),
    ("an empty body", MULTIPART, b"", {}, {}, "Unexpected end"),
    ("cut in a file", MULTIPART, field("x") + file()[:-5], {"x": "1"}, {"f": failed(3)}, "Unexpected end"),
    ("cut behind a file", MULTIPART, file(), {}, {"f": failed(3)}, "Unexpected end"),
    ("cut in a field", MULTIPART, file() + field("x", b"hello")[:-4], {"x": "hel"}, {"f": GOOD}, "Unexpected end"),
    ("cut in headers", MULTIPART, field("x") + file()[:40], {"x": "1"}, {}, "Unexpected end"),
    ("neither name nor filename", MULTIPART, field("x") + part("y") + field("z") + END, {"x": "1"}, {}, "neither name"),
    ("headers too long", MULTIPART, field("x") + part('name="y"', b"", "X: " + "y" * 9000) + END, {"x": "1"}, {},
     "header length exceeded"),
    ("a header without an end", MULTIPART, field("x") + b"--B\r\n" + b"y" * 200_000, {"x": "1"}, {},
     "header length exceeded"),
    ("too many headers", MULTIPART, field("x") + part('name="y"', b"", *["X: y"] * 20) + END, {"x": "1"}, {},
     "header count exceeded"),
    ("garbage", MULTIPART, bytes(range(256)) * 1000, {}, {}, "Unexpected end"),
    ("garbage in a part", MULTIPART, field("x") + b"--B\r\n" + bytes(range(256)) * 1000, {"x": "1"}, {}, "line break"),
    ("a file's name with an open bracket", MULTIPART, file() + file("g[") + file("h") + field("x") + END, {"x": "1"},
     {"f": GOOD}, "brackets"),
]  # fmt: skip


@pytest.mark.parametrize(("content_type", "body", "fields", "files", "told"), [row[1:] for row in MALFORMED],
                         ids=[row[0] for row in MALFORMED])  # fmt: skip
def test_of_a_malformed_body_there_is_what_came_before_and_one_line_tells_it(
    site, content_type, body, fields, files, told
):
    found = shown(site, body, content_type)
    assert found[:2] == (fields, files)
    assert told in found[2] and found[2].count("Python message") == 1
    assert found[2].isascii() and found[2].isprintable()


@given(st.binary(max_size=300), st.integers(0, 300), st.sampled_from([MULTIPART, FORM]))
@settings(deadline=None, max_examples=200)
def test_no_body_is_an_error_to_the_script(body, cut, content_type):
    whole = field("x") + file() + END
    request = _Request(whole[:cut] + body + whole[cut:], content_type)
    fields, files = forms.read_form(request)  # type: ignore[arg-type]
    assert isinstance(fields, dict) and isinstance(files, dict)


class _Request:
    """As much of a CurrentRequest as a form needs, whose files go nowhere."""

    def __init__(self, body: bytes, content_type: str) -> None:
        self.server = {"REQUEST_METHOD": "POST", "CONTENT_TYPE": content_type}
        self.settings = SapiSettings()
        self.body = body
        self.told: list[str] = []
        self.uploads = self
        self.upload_directory = "/nowhere"

    def open_body(self) -> io.BytesIO:
        return io.BytesIO(self.body)

    def new_upload(self) -> tuple[int, str]:
        return os.open("/dev/null", os.O_WRONLY), "/nowhere/x"

    def discard(self, path: str) -> None:
        pass

    def parsed(self, name: str, parse: Any, text: str) -> dict[str, Any]:
        variables = Variables(self.settings.max_input_vars, self.settings.max_input_nesting_level)
        parse(text, variables)
        return variables.result()

    def tell(self, text: str, *, to_log: bool = False) -> None:
        self.told.append(text)


# -- work and memory ---------------------------------------------------------------------------------------------------

BOMBS = {
    "fields": lambda size: field("x") * (size // 60),
    "empty fields": lambda size: field("x", b"") * (size // 60),
    "files": lambda size: file() * (size // 100),
    "parts of no name": lambda size: b"--B\r\n\r\n\r\n" * (size // 9),
    "a field": lambda size: field("x", b"x" * size),
    "line ends": lambda size: field("x", b"\r\n" * (size // 2)),
    "almost boundaries": lambda size: field("x", b"\r\n--" * (size // 4)),
    "text before": lambda size: b"x" * size,
    "line ends before": lambda size: b"\r\n" * (size // 2),
    "text behind": lambda size: END + b"\r\n--B\r\n" * (size // 7),
    "short headers": lambda size: b"--B\r\n" + b"X: y\r\n" * (size // 6),
    "folded headers": lambda size: b"--B\r\nX: y\r\n" + b" y\r\n" * (size // 4),
    "quotes": lambda size: part('name="x"' + ';a="' * 1900) * (size // 8000),
    "escapes": lambda size: part('name="' + '\\"' * 4000) * (size // 8000),
    "open quotes": lambda size: part("name=x" + "\"'" * 4000) * (size // 8000),
    "equals": lambda size: part("=" * 8000) * (size // 8000),
    "brackets": lambda size: field("x" + "[a]" * 2000) * (size // 6000),
    "brackets of files": lambda size: file("x" + "[a]" * 2000) * (size // 6000),
    "lines of no header": lambda size: b"--B\r\n" + b"x" * size,
}


def lines_run(body: bytes) -> int:
    """Lines of Python that are run to read a body, the library's included."""
    count = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    request = _Request(body, MULTIPART)
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        forms.read_form(request)  # type: ignore[arg-type]
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("bomb", BOMBS)
def test_the_work_grows_with_a_body_and_not_with_its_square(bomb):
    small, large = lines_run(BOMBS[bomb](50_000)), lines_run(BOMBS[bomb](200_000))
    assert large < 4.2 * small + 1000


@pytest.mark.parametrize("bomb", BOMBS)
def test_no_more_of_a_body_is_held_than_a_piece_and_a_delimiter(bomb, monkeypatch):
    """What the parser keeps from one piece to the next is what it would look at again."""
    kept = []

    class Watched(parts._Parser):  # type: ignore[misc]
        def parse(self, chunk):
            kept.append(len(self._buffer))
            return super().parse(chunk)

    monkeypatch.setattr(parts, "_Parser", Watched)
    forms.read_form(_Request(BOMBS[bomb](2_000_000), MULTIPART))  # type: ignore[arg-type]
    # Behind the end it is the first piece, and not looked at.
    assert max(kept) <= (parts.PIECE if bomb == "text behind" else parts.MAX_HEADER_SIZE + parts.MAX_BOUNDARY)


def test_a_large_upload_needs_no_memory_to_speak_of(make_site, tmp_path):
    site = make_site(upload_max_filesize=0)
    body = file(data=b"x" * (30 * 1024 * 1024)) + END
    source = site.write("size = _FILES['f']['size']\necho(size)")
    request = body  # it is in memory here, where a worker has it in a file
    tracemalloc.start()
    try:
        answer = site.ask(str(source), request, REQUEST_METHOD="POST", CONTENT_TYPE=MULTIPART)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.text == str(30 * 1024 * 1024)
    assert peak < 3 * 1024 * 1024


# -- the parts themselves ----------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=40), max_size=5), st.integers(1, 50))
@settings(deadline=None)
def test_parts_come_back_as_they_were_sent_however_they_are_read(values, piece):
    body = b"".join(field(f"n{at}", value) for at, value in enumerate(values)) + END
    if any(b"\r\n--B" in b"\r\n" + value for value in values):
        return
    stream = io.BytesIO(body)
    found: list[tuple[str | None, bytes]] = []
    for event in parts_of("B", lambda _: stream.read(piece)):
        if isinstance(event, Part):
            found.append((event.name, b""))
        elif event is not None:
            found[-1] = (found[-1][0], found[-1][1] + event)
    assert found == [(f"n{at}", value) for at, value in enumerate(values)]


@given(st.text(st.sampled_from("\"'\\;= ab"), max_size=30))
def test_any_disposition_can_be_read(text):
    names_in(text)


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [("boundary=B", "B"), ("x; BOUNDARY=B", "B"), ('x; boundary="a;b"', "a;b"), ("x; boundary=B ; y", "B")],
)
def test_a_boundary_is_what_follows_its_name(content_type, boundary):
    assert boundary_of(content_type) == boundary


def test_a_content_type_of_nothing_but_its_name_is_read_in_one_pass():
    with pytest.raises(MalformedForm, match="no boundary"):
        boundary_of("multipart/form-data; " + "boundary" * 100_000)


# -- the library -------------------------------------------------------------------------------------------------------


def test_another_package_of_this_name_is_not_mistaken_for_the_library(tmp_path, monkeypatch):
    """python-multipart was imported under it until its 0.0.13, and is found first."""
    (tmp_path / "multipart").mkdir()
    (tmp_path / "multipart" / "__init__.py").write_text("def parse_options_header(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "multipart", raising=False)
    importlib.invalidate_caches()
    library = parts._load()
    assert library.__name__ == "pyfpm.sapi._multipart" and hasattr(library, "PushMultipartParser")


def test_without_the_library_it_is_said_what_is_to_be_installed(tmp_path, monkeypatch):
    (tmp_path / "multipart.py").write_text("__version__ = '0.2'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "multipart", raising=False)

    def missing(name):
        raise parts.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(parts.metadata, "distribution", missing)
    importlib.invalidate_caches()
    with pytest.raises(ImportError, match=r"multipart>=2"):
        parts._load()
