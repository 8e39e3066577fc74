"""The same bodies to php-fpm and to pyfpm: _POST and _FILES are the same, or the difference is named here.

PHP's own reading of a body is looser than the format, and ours as strict as the library's. DIFFERENT has the bodies
where that shows; each is one that no browser sends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.server import Server, public_directory
from support.waiting import PATIENCE_S, eventually
from support.webservers import program
from support.wire import ask

LIMITS = {
    "upload_max_filesize": "100",
    "max_file_uploads": "3",
    "max_input_vars": "10",
    "post_max_size": "1M",
}

PHP = """<?php
header('Content-Type: application/json');
function strip(&$array) {
    foreach ($array as &$value) {
        if (is_array($value)) strip($value);
        elseif (is_string($value) && is_uploaded_file($value))
            $value = filesize($value) . ' bytes, ' . decoct(fileperms($value) & 0777);
    }
}
$files = $_FILES;
strip($files);
echo json_encode([$_POST, $files], JSON_INVALID_UTF8_SUBSTITUTE);
"""

PYTHON = """
import json, os
header("Content-Type: application/json")
def strip(value):
    if isinstance(value, dict):
        return {key: strip(of) for key, of in value.items()}
    if isinstance(value, list):
        return [strip(of) for of in value]
    if isinstance(value, str) and is_uploaded_file(value):
        found = os.stat(value)
        return f"{found.st_size} bytes, {found.st_mode & 0o777:o}"
    return value
def text(value):
    # PHP's JSON has one replacement character for each byte that is no UTF-8.
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
echo(text([_POST, strip(_FILES)]))
"""


class Php:
    """A php-fpm of one child."""

    def __init__(self, directory: Path) -> None:
        os.chmod(directory, 0o755)
        uploads = directory / "uploads"
        uploads.mkdir()
        uploads.chmod(0o777)
        (directory / "x.php").write_text(PHP)
        values = "".join(f"php_admin_value[{name}] = {value}\n" for name, value in LIMITS.items())
        (directory / "php.conf").write_text(
            f"[global]\nerror_log = {directory}/error.log\ndaemonize = no\n[www]\nuser = www-data\n"
            f"listen = {directory}/php.sock\npm = static\npm.max_children = 1\n"
            f"php_admin_value[upload_tmp_dir] = {uploads}\n{values}"
        )
        with open(directory / "out", "wb") as out:
            self.process = subprocess.Popen(
                [program("php-fpm8.2", "php8.2-fpm"), "-y", f"{directory}/php.conf", "-F", "-O", "-R"],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip
        eventually(lambda: "ready to handle" in (directory / "out").read_text(), "php-fpm is ready")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE_S)


class Both:
    def __init__(self) -> None:
        self.directory = public_directory()
        self.php = Php(self.directory)
        (self.directory / "x.py").write_text(PYTHON)
        settings = "".join(f"{name} = {value}\n" for name, value in LIMITS.items())
        self.pyfpm = Server.of_config(
            f"[www]\nlisten = $DIR/fpm.sock\npm = static\npm.max_children = 1\n"
            f"upload_tmp_dir = {self.directory}/uploads\n{settings}"
        )
        self.pyfpm.wait_until_ready()

    def ask(self, body: bytes, content_type: str, method: str = "POST") -> tuple[Any, Any]:
        """_POST and _FILES of each, with all arrays as dicts."""
        found = []
        for socket, script in ((f"{self.directory}/php.sock", "x.php"), (self.pyfpm.socket, "x.py")):
            answer = ask(socket, f"{self.directory}/{script}", body, method=method, CONTENT_TYPE=content_type)
            assert answer.status == 200, answer
            found.append(as_dicts(json.loads(answer.body)))
        # php-fpm removes its own behind the answer.
        eventually(lambda: os.listdir(self.directory / "uploads") == [], "no upload is left")
        return found[0], found[1]

    def discard(self) -> None:
        self.php.stop()
        self.pyfpm.discard()
        subprocess.run(["rm", "-r", str(self.directory)], check=True)


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    if os.geteuid():
        pytest.skip("php-fpm's pools are run as another user, for which one has to be root")
    pair = Both()
    yield pair
    pair.discard()


def as_dicts(value: Any) -> Any:
    if isinstance(value, list):
        value = {str(index): each for index, each in enumerate(value)}
    return {key: as_dicts(each) for key, each in value.items()} if isinstance(value, dict) else value


# -- bodies ------------------------------------------------------------------------------------------------------------

END = "--B--\r\n"


def raw(*lines: str, data: str = "1") -> str:
    return "\r\n".join(["--B", *lines, "", data, ""])


def part(options: str, data: str = "1", *more: str) -> str:
    return raw(f"Content-Disposition: form-data; {options}", *more, data=data)


def field(name: str, data: str = "1") -> str:
    return part(f'name="{name}"', data)


def file(name: str = "f", filename: str = "a.txt", data: str = "hello") -> str:
    return part(f'name="{name}"; filename="{filename}"', data, "Content-Type: text/plain")


NAMES = [
    r"C:\\x\\y.txt", r"C:\x\y.txt", "a/b/c.txt", "../../etc/passwd", r"a\"b.txt", "a%22b.txt", r"a\\b", "dir/", "/",
    ".", "..", "a\\", r"..\..\x", r"a/b\c/d", "a\x01b", "ü.txt", "a;b.txt", "a=b.txt", " a ", r"C:\x\"y", r"\n\t",
    "a'b", "x/\\", "//", "\\", "a\0b.txt", "\udcff\udcfe.txt",
]  # fmt: skip

DISPOSITIONS = [
    "name=f; filename=a.txt", "name=f;filename=a b.txt", "name='f'; filename='a b.txt'", 'NAME="f"; FileName="a"',
    """name="f"; filename*=UTF-8''%e2%82%ac.txt""", """name="f"; filename="a.txt"; filename*=UTF-8''%e2%82%ac.txt""",
    """name*=UTF-8''g; filename="a\"""", 'name="f"; filename="a";', 'filename="a"; name="f"',
    'name="f"; filename="a"; name="g"', 'name="f"; filename="a"; filename="b"', 'name = "f"; filename = "a"',
    'name="f" ; filename="a"', 'name="f"filename="a"', 'name="f"x; filename="a"', 'name="f; filename="a"', 'name="f',
    'name="f"; filename', 'name="f"; filename=', 'name=; filename="a"', 'name=""; filename="a"',
    'name="f"; filename="a" ; x', r'name=f\"g; filename="a"', r'name="f\\g"; filename="a\\"',
    r'name="f"; filename=a\b.txt', r'name="f"; filename=a\\b\c.txt', r"name='f\'g'; filename='a\'b'", 'name="a\'b"',
    'name="a&b=c"', 'name="a%20b"', 'name="a+b"', 'name=" a"', 'name="a "', 'name="a.b"', 'name="a]b[c"', 'name="a[b"',
    'name="a[b]c"', 'name="a[b]c[d]"', 'name="a[[b]]"', 'name=""', 'name="[]"', 'name="f";; filename="a"',
    ';name="f"; filename="a"', 'x;name="f"; filename="a"', 'x=y;name=="f"; filename=="a"', 'filename="a"', "x",
    'name="f\0g"; filename="a"', 'name="f\0g"', 'name="\udcff"', "name=\tf; filename=\t'a'",
]  # fmt: skip

BODIES = {
    "a field and a file": file() + field("x"),
    "a list of files": file("f[]") + file("f[]", "b"),
    "files of nested names": file("f[a][b]") + file("f[a][c]") + file("f[x][]"),
    "two files of a name": file("f", "a") + file("f", "b"),
    "a file, then a list": file("f", "a") + file("f[]", "b"),
    "a list, then a file": file("f[]", "a") + file("f", "b"),
    "a list, then deeper": file("f[x]", "a") + file("f[x][y]", "b") + file("f[]", "c"),
    "indices": file("f[5]") + file("f[]") + file("f[-3]"),
    "indices from 0": file("f[0]") + file("f[1]"),
    "indices the other way round": file("f[1]") + file("f[0]"),
    "fields with the name of a file": file() + field("f") + field("f[tmp_name]") + field("f[name]"),
    "a file with the name of a field": field("f") + file(),
    "dots and spaces": file("a.b c") + file("a.b[x.y z]"),
    "names like those inside": file("name") + file("tmp_name[tmp_name]"),
    "names like superglobals": file("GLOBALS") + file("_SERVER[x]") + field("GLOBALS") + field("this"),
    "an unclosed bracket": file("f[") + file("g") + field("x"),
    "a bracket that was not opened": file("f]"),
    "something behind a bracket": file("f[a]b"),
    "brackets in brackets": file("f[[a]]"),
    "nothing before a bracket": file("[a]"),
    "a blank first": file(" f"),
    "no file": part('name="f"; filename=""', "") + part('name="g[]"; filename=""', ""),
    "no file, but something in it": part('name="f"; filename=""', "hello") + field("z"),
    "an empty file": file("f", "a", ""),
    "too large": file("f", "a", "x" * 101) + file("g", "b", "x" * 100),
    "much too large": file("f", "a", "x" * 20000) + file("g", "b", "x") + field("z"),
    "larger than the form allows": field("MAX_FILE_SIZE", "4") + file("f", "a", "12345") + file("g", "a", "1234"),
    "a limit behind a file": file("f", "a", "12345") + field("max_file_size", " +4x") + file("g", "a", "12345"),
    "a limit below nothing": field("MAX_FILE_SIZE", "-4") + file("f", "a", "1") + file("g", "a", ""),
    "a limit of nothing": field("MAX_FILE_SIZE", "0") + file(),
    "a limit that is no number": field("MAX_FILE_SIZE", "0x10") + file(),
    "a limit that is too large a number": field("MAX_FILE_SIZE", "9" * 30) + file(),
    "two limits": field("MAX_FILE_SIZE", "3") + file("f") + field("MAX_FILE_SIZE", "0") + file("g"),
    "a limit in a list": field("MAX_FILE_SIZE[]", "3") + file(),
    "too many files": file("a") + file("b") + file("c") + file("d") + file("e") + field("z"),
    "places for files that are empty": part('name="a"; filename=""') + part('name="b"; filename=""')
    + file("c") + file("d") + file("e") + part('name="f"; filename=""'),
    "too many fields": "".join(field(f"a{n}") for n in range(12)) + file(),
    "too many parts": "".join(field(f"a{n}") for n in range(9)) + part('name="f"; filename=""') * 6 + field("z"),
    "too many brackets": field("a" + "[a]" * 64) + field("b" + "[a]" * 65) + file("f" + "[a]" * 62)
    + file("g" + "[a]" * 64),
    "files without a name": part('filename="a"') + part('filename="b"'),
    "neither name nor file name": field("a") + part('x="y"') + field("b"),
    "no disposition": field("a") + raw("Content-Type: text/plain") + field("b"),
    "no headers": field("a") + raw() + field("b"),
    "another disposition": raw('Content-Disposition: attachment; name="a"'),
    "headers in other cases": raw('content-disposition:form-data;name="f";filename="a"', "CONTENT-TYPE:text/x; a=b"),
    "tabs": raw('Content-Disposition: \t form-data; name="f"; filename="a"', "Content-Type:\ttext/x ; a=b"),
    "a folded header": raw("Content-Disposition: form-data;", ' name="f";', '\tfilename="a"'),
    "two dispositions": raw('Content-Disposition: x; name="a"', 'Content-Disposition: x; name="b"'),
    "an empty type": part('name="g"; filename="b"', "1", "Content-Type:   "),
    "its length": part('name="a"', "1", "Content-Length: 1"),
    "an encoding": part('name="a"', "YQ==", "Content-Transfer-Encoding: base64"),
    "values of any bytes": field("a", "x\0y\udcff") + field("b", "\r") + field("c", "\r\n") + field("d", "\n"),
    "a file of a line end": file("f", "a", "\r\n"),
    "an empty field": field("a", ""),
    "a multipart in a part": part('name="a"', '--C\r\nContent-Disposition: x; name="y"\r\n\r\n1\r\n--C--',
                                  "Content-Type: multipart/mixed; boundary=C") + field("b"),
    "nothing in it": "",
    "a boundary in the middle of a line": field("a", "x--B--y\r\n-B--"),
}  # fmt: skip

WHOLE = {
    "text before it": "hello\r\nthere\r\n" + field("a") + END,
    "an empty line before it": "\r\n" + field("a") + END,
    "text before it, in the same line": "hello" + field("a") + END,
    "text after it": field("a") + END + "foo\r\n--x",
    "no line end at the end": field("a") + "--B--",
    "just the end": END,
    "an empty body": "",
    "cut in a file": (field("x") + file())[:-4],
    "cut behind a file": file()[:-2],
    "cut behind the line end of a file": file(),
    "cut behind an empty file": file("f", "a", "")[:-2],
    "cut in the last boundary": file() + "-",
    "cut in a field": field("x", "hello")[:-4],
    "cut in a header": field("x") + file()[:40],
    "all kinds of bytes": "".join(map(chr, range(256))) * 100,
    "all kinds of bytes in a part": field("a") + "--B\r\n" + "".join(map(chr, range(256))) * 100 + END,
}

TYPES = [
    "multipart/form-data", "multipart/form-data; boundary", "multipart/form-data; boundary=",
    'multipart/form-data; boundary=""', 'multipart/form-data; boundary="B"', 'multipart/form-data; boundary="B',
    "multipart/form-data; BOUNDARY=B", "multipart/form-data;boundary=B;charset=utf-8",
    "multipart/form-data; charset=utf-8; boundary=B", "multipart/form-data; boundary=B,x",
    "multipart/form-data; boundary=C", "Multipart/Form-Data; boundary=B", "multipart/form-data ; boundary=B",
    "multipart/form-data, boundary=B", "multipart/form-datax; boundary=B", "multipart/mixed; boundary=B",
    "multipart/form-data; boundary= B", "multipart/form-data; boundary =B", " multipart/form-data; boundary=B",
    "multipart/form-data; x=boundary; boundary=B", "multipart/form-data; boundary='B'",
    'multipart/form-data; boundary="B"x', 'multipart/form-data; x="boundary=C"; boundary=B',
    "multipart/form-data; boundary=B; boundary=C", "multipart/form-data; boundary=" + "B" * 6000,
]  # fmt: skip

MULTIPART = "multipart/form-data; boundary=B"

# Body -> what PHP has, and what we have.
DIFFERENT = {
    "LF for line ends": (field("a").replace("\r", "") + "--B--\n", {"a": "1"}, {}),
    "text at the boundary": (field("a") + "--Bx\r\n" + field("b") + END, {"a": "1", "b": "1"}, {"a": "1"}),
    "a blank at the boundary": (field("a") + "--B \r\n" + field("b") + END, {"a": "1", "b": "1"}, {"a": "1"}),
    "a boundary's beginning in a field": (field("a", "1\r\n--Bx") + field("b") + END, {"a": "1", "b": "1"}, {"a": "1"}),
    "a boundary behind LF": (field("a", "1\n--B\n2") + END, {"a": "1"}, {"a": "1\n--B\n2"}),
    "parts behind the end": (field("a") + END + field("b") + END, {"a": "1", "b": "1"}, {"a": "1"}),
    "a header without a colon": (field("a") + raw("x", "Content-Disposition: x; name=b"), {"a": "1", "b": "1"},
                                 {"a": "1"}),
    "a header with a strange name": (field("a") + raw("X (y): z", "Content-Disposition: x; name=b"),
                                     {"a": "1", "b": "1"}, {"a": "1"}),
    "a blank before the colon": (raw("Content-Disposition : x; name=b") + END, {}, {"b": "1"}),
    "a line that is too long": (field("a") + raw("X: " + "y" * 9000, "Content-Disposition: x; name=b") + END,
                                {"a": "1", "b": "1"}, {"a": "1"}),
    "too many headers": (field("a") + raw(*["X: y"] * 16, "Content-Disposition: x; name=b") + END,
                         {"a": "1", "b": "1"}, {"a": "1"}),
    "a wrong length": (field("a") + part('name="b"', "1", "Content-Length: 7") + END, {"a": "1", "b": "1"},
                       {"a": "1", "b": "1"}),
}  # fmt: skip


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("name", NAMES)
def test_a_file_name_is_read_in_the_same_way(both, name):
    php, ours = both.ask(encoded(file("f", name) + field("g") + END), MULTIPART)
    assert ours == php


@pytest.mark.parametrize("options", DISPOSITIONS)
def test_a_disposition_is_read_in_the_same_way(both, options):
    php, ours = both.ask(encoded(part(options) + field("g") + END), MULTIPART)
    assert ours == php


@pytest.mark.parametrize("case", BODIES)
def test_a_body_is_read_in_the_same_way(both, case):
    php, ours = both.ask(encoded(BODIES[case] + END), MULTIPART)
    assert ours == php


@pytest.mark.parametrize("case", WHOLE)
def test_a_body_that_is_not_whole_or_has_more_is_read_in_the_same_way(both, case):
    php, ours = both.ask(encoded(WHOLE[case]), MULTIPART)
    assert ours == php


@pytest.mark.parametrize("content_type", TYPES)
def test_a_content_type_is_read_in_the_same_way(both, content_type):
    php, ours = both.ask(encoded(field("a") + file() + END), content_type)
    assert ours == php


@pytest.mark.parametrize("method", ["PUT", "GET", "PATCH", "post", "DELETE"])
def test_of_another_method_there_is_no_form(both, method):
    for body, content_type in ((field("a") + END, MULTIPART), ("a=1", "application/x-www-form-urlencoded")):
        php, ours = both.ask(encoded(body), content_type, method)
        assert ours == php == {"0": {}, "1": {}}


@pytest.mark.parametrize("case", DIFFERENT)
def test_what_is_different_is_this(both, case):
    body, of_php, of_ours = DIFFERENT[case]
    php, ours = both.ask(encoded(body), MULTIPART)
    assert php["0"] == of_php
    assert ours["0"] == of_ours


def test_a_body_that_ends_in_half_an_end_is_whole_to_php_and_not_to_us(both):
    php, ours = both.ask(encoded(field("x") + file() + "--B"), MULTIPART)
    assert (php["0"], php["1"]["f"]["error"]) == ({"x": "1"}, 0)
    assert (ours["0"], ours["1"]["f"]["error"]) == ({"x": "1"}, 3)
