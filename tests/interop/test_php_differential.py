"""The same requests to php-fpm and to pyfpm: a script finds the same variables, to the byte, in both.

Requests are made from a seed, so that a failure is the same the next time. PYFPM_TEST_FULL=1 makes ten times as many.
What differs on purpose stands in docs/php-differences.md, and is left out here where it says why.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support.php_fpm import Fpm
from support.server import command
from support.webservers import program
from support.wire import Wire

COUNT = 5000 if os.environ.get("PYFPM_TEST_FULL") else 500

GLOBAL = """
[global]
error_log = $DIR/error.log
daemonize = no
"""

EACH = """
[{name}]
user = www-data
listen = $DIR/{name}.sock
pm = static
pm.max_children = 1
security.limit_extensions = .php .py
"""

PHP = """
php_admin_flag[display_errors] = off
php_admin_flag[log_errors] = on
php_admin_value[request_order] = GPC
php_admin_value[upload_tmp_dir] = $DIR
php_admin_value[upload_max_filesize] = 300
"""

PHP_PATHS = """
php_admin_value[cgi.fix_pathinfo] = {fix_pathinfo}
php_admin_value[cgi.discard_path] = {discard_path}
"""

PY = """
request_order = GPC
upload_tmp_dir = $DIR
upload_max_filesize = 300
"""

PY_PATHS = """
cgi.fix_pathinfo = {fix_pathinfo}
cgi.discard_path = {discard_path}
"""

# Each pool: cgi.fix_pathinfo and cgi.discard_path.
POOLS = {"www": (1, 0), "unmended": (0, 0), "discarding": (0, 1)}

# Each array as whether it is a list, and its keys and values in order, all text in hex; of an uploaded file its digest.
DUMP = {
    "php": """<?php
function dump($value) {
    if (is_string($value)) return bin2hex($value);
    if (!is_array($value)) return $value;
    $pairs = [];
    foreach ($value as $key => $inner) $pairs[] = [bin2hex((string)$key), dump($inner)];
    return [array_is_list($value), $pairs];
}
function digest(&$value) {
    if (is_array($value)) { foreach ($value as &$inner) digest($inner); }
    else if ($value !== '') $value = is_uploaded_file($value) ? md5_file($value) : 'no upload';
}
foreach ($_FILES as &$file) if (is_array($file) && isset($file['tmp_name'])) digest($file['tmp_name']);
unset($file);
echo json_encode(array_map('dump', [$_GET, $_POST, $_COOKIE, $_REQUEST, $_FILES, $_SERVER]));
""",
    "py": """
import hashlib, json
def dump(value):
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").hex()
    if isinstance(value, list):
        return [True, [[str(key).encode().hex(), dump(inner)] for key, inner in enumerate(value)]]
    if isinstance(value, dict):
        return [False, [[dump(key), dump(inner)] for key, inner in value.items()]]
    return value
def digest(value):
    if isinstance(value, list):
        return [digest(inner) for inner in value]
    if isinstance(value, dict):
        return {key: digest(inner) for key, inner in value.items()}
    if not value:
        return value
    return hashlib.md5(open(value, "rb").read()).hexdigest() if is_uploaded_file(value) else "no upload"
for file in _FILES.values():
    if isinstance(file, dict) and "tmp_name" in file:
        file["tmp_name"] = digest(file["tmp_name"])
echo(json.dumps([dump(array) for array in (_GET, _POST, _COOKIE, _REQUEST, _FILES, _SERVER)]))
""",
}


def words(text: str) -> list[str]:
    return text.split()


NAMES = ("_GET", "_POST", "_COOKIE", "_REQUEST", "_FILES", "_SERVER")

# What the two are to agree on in _SERVER; the rest is the parameters, which are the web server's.
SERVER = words(
    "SCRIPT_NAME SCRIPT_FILENAME PATH_INFO PATH_TRANSLATED DOCUMENT_ROOT ORIG_SCRIPT_NAME ORIG_SCRIPT_FILENAME"
    " ORIG_PATH_INFO ORIG_PATH_TRANSLATED PHP_SELF PHP_AUTH_USER PHP_AUTH_PW PHP_AUTH_DIGEST argv argc QUERY_STRING"
    " REQUEST_URI REDIRECT_URL HTTP_PROXY HTTP_AUTHORIZATION"
)


@dataclass
class Case:
    """A request. ``$ROOT`` in a parameter is the document root."""

    params: dict[str, bytes] = field(default_factory=dict)
    body: bytes = b""

    def __str__(self) -> str:
        return f"{self.params} {self.body!r}"


class Site:
    """One of the two with its scripts, asked over one connection."""

    def __init__(self, fpm: Fpm) -> None:
        self.fpm = fpm
        self.root = str(fpm.directory / "www")
        self._wires: dict[str, Wire] = {}

    def fill(self) -> None:
        """Files of the same names in both; each runs as what it is, whatever it is called."""
        root = Path(self.root)
        for name in ("x.php", "a b.php", "d.php/y.php", "dir/z.php", "x.jpg", "ü.php", "dir/x.php.php", "100%25.php"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(DUMP[self.fpm.kind])

    def ask(self, case: Case, pool: str) -> dict[str, Any] | None:
        """The arrays; None if no script has run."""
        root = os.fsencode(self.root)
        params = {"SCRIPT_FILENAME": b"$ROOT/x.php", "SCRIPT_NAME": b"/x.php", **case.params}
        if case.body:
            params = {"CONTENT_LENGTH": b"%d" % len(case.body), "REQUEST_METHOD": b"POST", **params}
        sent = {"REQUEST_METHOD": b"GET", "REQUEST_URI": b"/x.php", **params}
        wire = self._wires.get(pool)
        if wire is None:
            wire = self._wires[pool] = Wire(f"{self.fpm.directory}/{pool}.sock")
        wire.send(
            wire.begin(keep=True)
            + wire.client.send_params(1, {name: value.replace(b"$ROOT", root) for name, value in sent.items()})
            + (wire.client.send_stdin(1, case.body) if case.body else b"")
            + wire.client.send_stdin(1, b"")
        )
        answer = wire.answer()
        if answer.status != 200:
            assert answer.status in (403, 404), answer
            return None
        arrays = dict(zip(NAMES, map(self._plain, json.loads(answer.body)), strict=True))
        for array in arrays.values():
            array.kind = None  # our superglobals themselves are dicts
        server = dict(arrays["_SERVER"])
        arrays["_SERVER"] = {name: server[name] for name in SERVER if name in server}
        return arrays

    def _plain(self, value: Any) -> Any:
        if isinstance(value, str):
            return bytes.fromhex(value).decode("latin-1").replace(self.root, "$ROOT")
        if isinstance(value, list):
            return Array([(self._plain(key), self._plain(inner)) for key, inner in value[1]], value[0])
        return value

    def close(self) -> None:
        for wire in self._wires.values():
            wire.socket.close()


class Array(list[tuple[str, Any]]):
    """PHP's: keys and values in order, and whether it is a list."""

    def __init__(self, pairs: list[tuple[str, Any]], kind: bool | None) -> None:
        super().__init__(pairs)
        self.kind = kind

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Array) and self.kind == other.kind and list.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]


def config(values: str, paths: str) -> str:
    pools = []
    for name, (fix_pathinfo, discard_path) in POOLS.items():
        pools.append(
            EACH.format(name=name) + values + paths.format(fix_pathinfo=fix_pathinfo, discard_path=discard_path)
        )
    return GLOBAL + "".join(pools)


@pytest.fixture(scope="module")
def sites() -> Iterator[list[Site]]:
    if os.geteuid():
        pytest.skip("php-fpm's pools are run as another user, for which one has to be root")
    # -n: not what the distribution's php.ini says.
    php = [program("php-fpm8.2", "php8.2-fpm"), "-n"]
    fpms: list[Fpm] = []
    made: list[Site] = []
    try:
        fpms.append(Fpm("php", php, config(PHP, PHP_PATHS), {}))
        fpms.append(Fpm("py", command(), config(PY, PY_PATHS), {}))
        for fpm in fpms:
            made.append(Site(fpm))
            made[-1].fill()
            fpm.wait_until_ready()
        yield made
    finally:
        for site in made:
            site.close()
        for fpm in fpms:
            fpm.discard()


def compare(
    sites: list[Site],
    cases: list[Case],
    but_for: Callable[[Case, Any, Any], bool] | None = None,
    pool: str = "www",
) -> None:
    """Both answer each case with the same."""
    php, py = sites
    wrong = []
    ran = 0
    for case in cases:
        theirs, ours = php.ask(case, pool), py.ask(case, pool)
        ran += theirs is not None
        if theirs != ours and not (but_for is not None and but_for(case, theirs, ours)):
            assert theirs is None or ours is None or theirs.keys() == ours.keys()
            names = NAMES if theirs is None or ours is None else [name for name in NAMES if theirs[name] != ours[name]]
            wrong.append(f"{case}\n" + "\n".join(_difference(name, theirs, ours) for name in names))
    assert ran > len(cases) // 5, "the cases are about scripts that run"
    assert not wrong, f"{len(wrong)} of {len(cases)} differ:\n" + "\n\n".join(wrong[:5])


def _difference(name: str, theirs: dict[str, Any] | None, ours: dict[str, Any] | None) -> str:
    return f"  {name} PHP: {theirs and theirs[name]}\n  {name} ours: {ours and ours[name]}"


# -- variables ---------------------------------------------------------------------------------------------------------

NAME_PIECES = words(
    "a a b c 0 1 -3 08 7 [] [] [a] [b] [0] [1] [-3] [ ] [+] [%0a] [%20x] . + %20 %2e %5B %5D %5b%5d __Host- __Secure-"
    " %00 %09 %FF %C3%BC % %4 9223372036854775807 _ this GLOBALS"
)
VALUE_PIECES = words("x y + %20 %C3%BC %ff %00 % %4g = ; [ ] . , 0")


def a_query(rng: random.Random, separators: str = "&") -> bytes:
    pairs = []
    for _ in range(rng.randint(0, 7)):
        name = "".join(rng.choices(NAME_PIECES, k=rng.randint(0, 5)))
        value = "".join(rng.choices(VALUE_PIECES, k=rng.randint(0, 4)))
        pairs.append(rng.choice([name, f"{name}={value}", f"{name}={value}"]))
    text = rng.choice(separators).join(pairs)
    text += rng.choice(["", "", "", separators[0], separators[0] * 3, "=", "&;&"])
    if rng.random() < 0.1:  # as it is, not encoded
        text += rng.choice(["&\xff=\xfe", "&\xc3\xbc[\xc3\xbc]=\xc3\xbc", ";\xe9=1"])
    return text.replace(" ", "+" if separators == "&" else " ").encode("latin-1")


def cases_of(seed: int, make: Callable[[random.Random], Case], count: int = COUNT) -> list[Case]:
    return [make(random.Random(f"{seed} {number}")) for number in range(count)]


def test_query_strings(sites):
    compare(sites, cases_of(1, lambda rng: Case({"QUERY_STRING": a_query(rng)})))


def test_urlencoded_bodies(sites):
    def make(rng: random.Random) -> Case:
        kind = rng.choice([b"application/x-www-form-urlencoded", b"Application/X-WWW-form-urlencoded; charset=x"])
        return Case({"CONTENT_TYPE": kind, "QUERY_STRING": a_query(rng)}, a_query(rng) or b"a")

    compare(sites, cases_of(2, make))


def test_cookies(sites):
    def make(rng: random.Random) -> Case:
        text = a_query(rng, ";").replace(b";", rng.choice([b"; ", b";", b" ; ", b";\t"]))
        return Case({"HTTP_COOKIE": text, "QUERY_STRING": a_query(rng)})

    compare(sites, cases_of(3, make))


@pytest.mark.parametrize(
    ("where", "count"),
    [
        *[(where, count) for where in ("QUERY_STRING", "HTTP_COOKIE") for count in (999, 1000, 1001, 1500)],
        # Of a form PHP takes one more.
        ("body", 999),
        ("body", 1000),
    ],
)
def test_as_many_variables_as_there_may_be(sites, where, count):
    text = (b"; " if where == "HTTP_COOKIE" else b"&").join(b"v%d=1" % number for number in range(count))
    if where == "body":
        compare(sites, [Case({"CONTENT_TYPE": b"application/x-www-form-urlencoded"}, text)])
    else:
        compare(sites, [Case({where: text})])


@pytest.mark.parametrize("depth", [63, 64, 65, 1000])
def test_as_many_brackets_as_there_may_be(sites, depth):
    compare(sites, [Case({"QUERY_STRING": b"a=1&a[b]=2&a%s=3&c=4" % (b"[x]" * depth)})])


# -- files -------------------------------------------------------------------------------------------------------------

FIELDS = [
    *words("a a b[] b[] b[x] b[x][y] b[][z] f f[] f[x] f[] MAX_FILE_SIZE c.d c[ [x] x] __Host-x 0 -"),
    "",
    " g",
]
FILENAMES = [
    "f.txt",
    "",
    "C:\\dir\\f.txt",
    "/etc/passwd",
    "../up",
    "a;b.txt",
    "\xc3\xbc.txt",
    "\xff",
    'a\\"b',
    "x" * 300,
]


def a_multipart(rng: random.Random) -> Case:
    boundary = rng.choice([b"b", b"--------------------------x7", b"'b(c)+_,-./:=?"])
    parts = []
    for _ in range(rng.randint(0, 5)):
        name = rng.choice(FIELDS)
        content = rng.choice(
            ["", "1", "200", "value", "\r\n", "\r\n--", "--b", "x" * 299, "x" * 301, "\0\xff\xfe", "a=b&c"]
        )
        quote = rng.choice(['"', '"', '"', "'"])
        head = f"Content-Disposition: form-data; name={quote}{name}{quote}"
        if rng.random() < 0.5:
            head += f'; filename="{rng.choice(FILENAMES)}"'
            head += rng.choice(["", "\r\nContent-Type: text/plain", "\r\ncontent-type:  image/png; x=y"])
        parts.append(f"{head}\r\n\r\n{content}".encode("latin-1"))
    body = b"".join(b"--%s\r\n%s\r\n" % (boundary, part) for part in parts)
    body = rng.choice([b"", b"", b"", b"preamble\r\n"]) + body
    body += rng.choice([b"--%s--\r\n", b"--%s--\r\n", b"--%s--", b"--%s--\r\nepilogue"]) % boundary
    quoted = rng.choice([b"%s", b'"%s"']) if not set(b"(),/:=?") & set(boundary) else b'"%s"'
    kind = b"multipart/form-data; boundary=" + quoted % boundary
    return Case({"CONTENT_TYPE": kind, "QUERY_STRING": a_query(rng)}, body)


def is_too_large_twice(case: Case, theirs: Any, ours: Any) -> bool:
    """docs/php-differences.md, "Uploads": a file over both limits."""

    def alike(value: Any) -> Any:
        if isinstance(value, Array):
            return Array([(key, alike(inner)) for key, inner in value], value.kind)
        return 1 if value == 2 else value

    return (
        b"x" * 301 in case.body and b"MAX_FILE_SIZE" in case.body and alike(theirs["_FILES"]) == alike(ours["_FILES"])
    )


def test_multipart_bodies(sites):
    compare(sites, cases_of(4, a_multipart), is_too_large_twice)


# -- paths -------------------------------------------------------------------------------------------------------------

SCRIPTS = [
    *words("/x.php /x.php /a%20b.php /d.php/y.php /dir/z.php /dir/x.php.php /dir /d.php /x.jpg /none.php /100%25.php"),
    "/a b.php",
    "/\xc3\xbc.php",
    "",
]
RESTS = [*words("/ /more /more/ /more/still /y.php /x.php // /.php /%2f%20 /\xff /more.jpg"), "", "", "/a\nb"]


def a_path(rng: random.Random) -> Case:
    script, rest = rng.choice(SCRIPTS), rng.choice(RESTS)
    whole = script + rest
    params = {
        "SCRIPT_FILENAME": "$ROOT" + rng.choice([whole, whole, script]),
        "SCRIPT_NAME": rng.choice([whole, script]),
        "REQUEST_URI": whole,
    }
    prefix = rng.choice(["", "", "", "proxy:fcgi://127.0.0.1:9000", "proxy:balancer://pool", "PROXY:fcgi://localhost"])
    if prefix:
        params["SCRIPT_FILENAME"] = prefix + params["SCRIPT_FILENAME"] + rng.choice(["", "", "?a=b/c.php"])
    if rng.random() < 0.6:
        params["PATH_INFO"] = rng.choice([rest, rest, whole, "", "/other", "/very/long/other" + rest])
    if rng.random() < 0.3:
        params["PATH_TRANSLATED"] = "$ROOT" + rng.choice([rest, whole, script, "/other"])
    if rng.random() < 0.6:
        params["DOCUMENT_ROOT"] = rng.choice(["$ROOT", "$ROOT/", "/other", "", "/"])
    if rng.random() < 0.15:
        params["REDIRECT_URL"] = rng.choice([whole, script, "/rewritten"])
    if rng.random() < 0.1:
        params["SERVER_SOFTWARE"] = rng.choice(["Microsoft-IIS/10.0", "nginx/1.22"])
        params["PATH_INFO"] = params["SCRIPT_NAME"] + rng.choice([rest, ""])
    for name in ("SCRIPT_FILENAME", "SCRIPT_NAME"):
        if rng.random() < 0.05:
            params[name] = ""
    return Case({name: value.encode("latin-1") for name, value in params.items()})


def is_mended_otherwise(case: Case, theirs: Any, ours: Any) -> bool:
    """docs/php-differences.md, "Paths"."""
    filename = case.params["SCRIPT_FILENAME"].decode("latin-1")
    if theirs is None:
        is_encoded = filename.lower().startswith("proxy:") and "%" in filename
        return is_encoded or (ours["_SERVER"]["SCRIPT_FILENAME"] == filename and "REDIRECT_URL" in case.params)
    if ours is None:
        return False
    php, py = theirs["_SERVER"], ours["_SERVER"]
    asked = case.params.get("PATH_TRANSLATED", b"").decode("latin-1")
    if not asked or asked == filename or "REDIRECT_URL" not in php or filename.lower().startswith("proxy:"):
        asked = filename[filename.index("$") :].partition("?")[0] if "proxy:" in filename.lower() else filename
    rest = asked.removeprefix(php["SCRIPT_FILENAME"])
    if not php.get("ORIG_PATH_INFO", rest).endswith(rest):
        return True
    differing = {name for name in SERVER if php.get(name) != py.get(name)}
    return differing <= {"PATH_TRANSLATED", "ORIG_PATH_TRANSLATED"} and "DOCUMENT_ROOT" not in php


def test_paths(sites):
    compare(sites, cases_of(5, a_path, 2 * COUNT), is_mended_otherwise)


@pytest.mark.parametrize("pool", ["unmended", "discarding"])
def test_paths_without_fix_pathinfo(sites, pool):
    compare(sites, cases_of(7, a_path, COUNT // 2), is_mended_otherwise, pool)


# -- who it is ---------------------------------------------------------------------------------------------------------


def test_authorization(sites):
    def make(rng: random.Random) -> Case:
        scheme = rng.choice(["Basic ", "basic ", "Basic  ", "Digest ", "DIGEST ", "Bearer ", "Basic", ""])
        rest = rng.choice(["am9lOnNlY3JldA==", "am9lOnh5", "w7w6w7w=", 'username="\xfc"'])
        at = rng.randint(0, len(rest))
        rest = rest[:at] + rng.choice(["", "", "=", "!", "A", "\xff"]) + rest[at + rng.randint(0, 1) :]
        return Case({"HTTP_AUTHORIZATION": (scheme + rest).encode("latin-1"), "HTTP_PROXY": b"x"})

    compare(sites, cases_of(6, make, COUNT // 5))
