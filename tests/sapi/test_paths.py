"""What becomes of the parameters where a path goes on behind the script: the answers of php-fpm 8.2."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes import Site, process_as_it_was
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.sapi.paths import asked, beginnings, mend
from pyfpm.sapi.script_file import NotRunnable, ScriptFiles

TOLD = (
    "SCRIPT_FILENAME", "SCRIPT_NAME", "PATH_INFO", "PATH_TRANSLATED", "ORIG_SCRIPT_FILENAME", "ORIG_SCRIPT_NAME",
    "ORIG_PATH_INFO", "ORIG_PATH_TRANSLATED", "PHP_SELF",
)  # fmt: skip

SOURCE = f"import json\necho(json.dumps({{name: _SERVER[name] for name in {TOLD} if name in _SERVER}}))"


@pytest.fixture
def site(tmp_path):
    with process_as_it_was():
        yield filled(Site(tmp_path))


def filled(site: Site) -> Site:
    (site.root / "d.py").mkdir()
    for name in ("x.py", "d.py/y.py", "a b.py", "x.jpg", "ü.py"):
        site.write(SOURCE, name)
    return site


def ask(site: Site, params: dict[str, str]) -> dict[str, Any] | None:
    """What the script found, or None if none has run; ``$`` is the document root."""
    params = {name: value.replace("$", str(site.root)) for name, value in params.items()}
    if "SCRIPT_FILENAME" not in params:
        params["SCRIPT_FILENAME"] = None  # type: ignore[assignment]
    filename = params.pop("SCRIPT_FILENAME")
    answer = site.ask(filename, **params)
    if answer.status == 404:
        return None
    found = json.loads(answer.text)
    return {name: value.replace(str(site.root), "$") for name, value in found.items()}


ROOT = {"DOCUMENT_ROOT": "$"}

# name: (parameters, what the script finds)
CASES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "nginx, all of it in SCRIPT_NAME": (
        {"SCRIPT_FILENAME": "$/x.py/more", "SCRIPT_NAME": "/x.py/more", **ROOT},
        {"SCRIPT_FILENAME": "$/x.py", "SCRIPT_NAME": "/x.py/more", "PATH_TRANSLATED": "$",
         "ORIG_SCRIPT_FILENAME": "$/x.py/more", "PHP_SELF": "/x.py/more"},
    ),
    "nginx, all of it in PATH_INFO": (
        {"SCRIPT_FILENAME": "$/x.py/more", "SCRIPT_NAME": "/x.py/more", "PATH_INFO": "/x.py/more", **ROOT},
        {"SCRIPT_FILENAME": "$/x.py", "SCRIPT_NAME": "/x.py", "PATH_INFO": "/more", "PATH_TRANSLATED": "$/more",
         "ORIG_SCRIPT_FILENAME": "$/x.py/more", "ORIG_SCRIPT_NAME": "/x.py/more", "ORIG_PATH_INFO": "/x.py/more",
         "PHP_SELF": "/x.py/more"},
    ),
    "nginx, fastcgi_split_path_info": (
        {"SCRIPT_FILENAME": "$/x.py", "SCRIPT_NAME": "/x.py", "PATH_INFO": "/more", "PATH_TRANSLATED": "$/more",
         **ROOT},
        {"SCRIPT_FILENAME": "$/x.py", "SCRIPT_NAME": "/x.py", "PATH_INFO": "/more", "PATH_TRANSLATED": "$/more",
         "PHP_SELF": "/x.py/more"},
    ),
    "nginx, a line break that its expression stops at (CVE-2019-11043)": (
        {"SCRIPT_FILENAME": "$/x.py/a\nb", "SCRIPT_NAME": "/x.py/a\nb", "PATH_INFO": "", **ROOT},
        {"SCRIPT_FILENAME": "$/x.py", "SCRIPT_NAME": "/x.py/a\nb", "PATH_INFO": "", "PATH_TRANSLATED": "$",
         "ORIG_SCRIPT_FILENAME": "$/x.py/a\nb", "PHP_SELF": "/x.py/a\nb"},
    ),
    "Apache, SetHandler": (
        {"SCRIPT_FILENAME": "proxy:fcgi://localhost$/x.py", "SCRIPT_NAME": "/x.py", **ROOT},
        {"SCRIPT_FILENAME": "$/x.py", "SCRIPT_NAME": "/x.py", "PHP_SELF": "/x.py"},
    ),
    "Apache, SetHandler and PATH_INFO": (
        {"SCRIPT_FILENAME": "proxy:fcgi://localhost$/x.py", "SCRIPT_NAME": "/x.py", "PATH_INFO": "/more",
         "PATH_TRANSLATED": "$/more", **ROOT},
        {"SCRIPT_FILENAME": "$/x.py", "SCRIPT_NAME": "/x.py", "PATH_INFO": "/more", "PATH_TRANSLATED": "$/more",
         "PHP_SELF": "/x.py/more"},
    ),
    "Apache, ProxyPass": (
        {"SCRIPT_FILENAME": "proxy:fcgi://127.0.0.1:9000$/x.py/more", "SCRIPT_NAME": "/x.py/more", **ROOT},
        {"SCRIPT_FILENAME": "$/x.py", "SCRIPT_NAME": "/x.py", "PATH_INFO": "/more", "PATH_TRANSLATED": "$/more",
         "ORIG_SCRIPT_FILENAME": "$/x.py/more", "ORIG_SCRIPT_NAME": "/x.py/more", "PHP_SELF": "/x.py/more"},
    ),
    "Apache, ProxyPass without DOCUMENT_ROOT": (
        {"SCRIPT_FILENAME": "proxy:fcgi://127.0.0.1:9000$/x.py/more", "SCRIPT_NAME": "/x.py/more"},
        {"SCRIPT_FILENAME": "$/x.py", "SCRIPT_NAME": "/x.py", "PATH_INFO": "/more", "PATH_TRANSLATED": "$/more",
         "ORIG_SCRIPT_FILENAME": "$/x.py/more", "ORIG_SCRIPT_NAME": "/x.py/more", "PHP_SELF": "/x.py/more"},
    ),
    "Apache, a balancer and a query": (
        {"SCRIPT_FILENAME": "proxy:balancer://pool$/x.py/more?a=/b.py", "SCRIPT_NAME": "/x.py/more",
         "DOCUMENT_ROOT": "$/"},
        {"SCRIPT_FILENAME": "$/x.py", "SCRIPT_NAME": "/x.py", "PATH_INFO": "/more", "PATH_TRANSLATED": "$/more",
         "ORIG_SCRIPT_FILENAME": "$/x.py/more", "ORIG_SCRIPT_NAME": "/x.py/more", "PHP_SELF": "/x.py/more"},
    ),
    "Apache, ProxyPass and PATH_INFO by ProxyFCGISetEnvIf": (
        {"SCRIPT_FILENAME": "proxy:fcgi://127.0.0.1:9000$/x.py/more", "SCRIPT_NAME": "/x.py", "PATH_INFO": "/more",
         **ROOT},
        {"SCRIPT_FILENAME": "$/x.py", "SCRIPT_NAME": "/x.py", "PATH_INFO": "/more", "PATH_TRANSLATED": "$/more",
         "ORIG_SCRIPT_FILENAME": "$/x.py/more", "PHP_SELF": "/x.py/more"},
    ),
    "Apache, rewritten": (
        {"SCRIPT_FILENAME": "proxy:fcgi://localhost$/x.py/more", "SCRIPT_NAME": "/x.py", "REDIRECT_URL": "/more",
         **ROOT},
        {"SCRIPT_FILENAME": "$/x.py", "SCRIPT_NAME": "/x.py", "PATH_INFO": "/more", "PATH_TRANSLATED": "$/more",
         "ORIG_SCRIPT_FILENAME": "$/x.py/more", "PHP_SELF": "/x.py/more"},
    ),
    "mod_fcgid, Action": (
        {"SCRIPT_FILENAME": "/cgi-bin/php", "SCRIPT_NAME": "/cgi-bin/php", "PATH_INFO": "/x.py",
         "PATH_TRANSLATED": "$/x.py", "REDIRECT_URL": "/x.py", **ROOT},
        {"SCRIPT_FILENAME": "$/x.py", "SCRIPT_NAME": "/x.py", "ORIG_SCRIPT_FILENAME": "/cgi-bin/php",
         "ORIG_SCRIPT_NAME": "/cgi-bin/php", "ORIG_PATH_INFO": "/x.py", "ORIG_PATH_TRANSLATED": "$/x.py",
         "PHP_SELF": "/x.py"},
    ),
    "mod_fcgid, Action and more": (
        {"SCRIPT_FILENAME": "/cgi-bin/php", "SCRIPT_NAME": "/cgi-bin/php", "PATH_INFO": "/x.py/more",
         "PATH_TRANSLATED": "$/x.py/more", "REDIRECT_URL": "/x.py/more", **ROOT},
        {"SCRIPT_FILENAME": "$/x.py", "SCRIPT_NAME": "/x.py", "PATH_INFO": "/more", "PATH_TRANSLATED": "$/more",
         "ORIG_SCRIPT_FILENAME": "/cgi-bin/php", "ORIG_SCRIPT_NAME": "/cgi-bin/php", "ORIG_PATH_INFO": "/x.py/more",
         "ORIG_PATH_TRANSLATED": "$/x.py/more", "PHP_SELF": "/x.py/more"},
    ),
    "lighttpd": (
        {"SCRIPT_FILENAME": "$/x.py", "SCRIPT_NAME": "/x.py", "PATH_INFO": "/more", "PATH_TRANSLATED": "$/more",
         "DOCUMENT_ROOT": "$/"},
        {"SCRIPT_FILENAME": "$/x.py", "SCRIPT_NAME": "/x.py", "PATH_INFO": "/more", "PATH_TRANSLATED": "$/more",
         "PHP_SELF": "/x.py/more"},
    ),
    "lighttpd, break-scriptfilename-for-php": (
        {"SCRIPT_FILENAME": "$/x.py/more", "SCRIPT_NAME": "/x.py", "PATH_INFO": "/more", **ROOT},
        {"SCRIPT_FILENAME": "$/x.py", "SCRIPT_NAME": "/x.py", "PATH_INFO": "/more", "PATH_TRANSLATED": "$/more",
         "ORIG_SCRIPT_FILENAME": "$/x.py/more", "PHP_SELF": "/x.py/more"},
    ),
    "Caddy": (
        {"SCRIPT_FILENAME": "$/x.py", "SCRIPT_NAME": "/x.py", "PATH_INFO": "/more", "DOCUMENT_URI": "/x.py", **ROOT},
        {"SCRIPT_FILENAME": "$/x.py", "SCRIPT_NAME": "/x.py", "PATH_INFO": "/more", "PHP_SELF": "/x.py/more"},
    ),
    "IIS": (
        {"SCRIPT_FILENAME": "$/x.py", "SCRIPT_NAME": "/x.py", "PATH_INFO": "/x.py/more",
         "SERVER_SOFTWARE": "Microsoft-IIS/10.0"},
        {"SCRIPT_FILENAME": "$/x.py", "SCRIPT_NAME": "/x.py", "PATH_INFO": "/more", "ORIG_PATH_INFO": "/x.py/more",
         "PHP_SELF": "/x.py/more"},
    ),
    "IIS, nothing more": (
        {"SCRIPT_FILENAME": "$/x.py", "SCRIPT_NAME": "/x.py", "PATH_INFO": "/x.py",
         "SERVER_SOFTWARE": "Microsoft-IIS/10.0"},
        {"SCRIPT_FILENAME": "$/x.py", "SCRIPT_NAME": "/x.py", "ORIG_PATH_INFO": "/x.py", "PHP_SELF": "/x.py"},
    ),
    "a slash": (
        {"SCRIPT_FILENAME": "$/x.py/", "SCRIPT_NAME": "/x.py/", **ROOT},
        {"SCRIPT_FILENAME": "$/x.py", "SCRIPT_NAME": "/x.py/", "PATH_TRANSLATED": "$",
         "ORIG_SCRIPT_FILENAME": "$/x.py/", "PHP_SELF": "/x.py/"},
    ),
    "a directory with a script's name": (
        {"SCRIPT_FILENAME": "$/d.py/y.py/more", "SCRIPT_NAME": "/d.py/y.py/more", "PATH_INFO": "/d.py/y.py/more"},
        {"SCRIPT_FILENAME": "$/d.py/y.py", "SCRIPT_NAME": "/d.py/y.py", "PATH_INFO": "/more",
         "ORIG_SCRIPT_FILENAME": "$/d.py/y.py/more", "ORIG_SCRIPT_NAME": "/d.py/y.py/more",
         "ORIG_PATH_INFO": "/d.py/y.py/more", "PHP_SELF": "/d.py/y.py/more"},
    ),
    "no SCRIPT_NAME": (
        {"SCRIPT_FILENAME": "$/x.py/more", "PATH_INFO": "/x.py/more", **ROOT},
        {"SCRIPT_FILENAME": "$/x.py", "SCRIPT_NAME": "/x.py", "PATH_INFO": "/more", "PATH_TRANSLATED": "$/more",
         "ORIG_SCRIPT_FILENAME": "$/x.py/more", "ORIG_PATH_INFO": "/x.py/more", "PHP_SELF": "/x.py/more"},
    ),
    # Here PHP does something else; docs/php-differences.md.
    "PATH_INFO is of another path": (
        {"SCRIPT_FILENAME": "$/x.py/more", "SCRIPT_NAME": "/x.py", "PATH_INFO": "/something/else", **ROOT},
        {"SCRIPT_FILENAME": "$/x.py", "SCRIPT_NAME": "/x.py", "PATH_INFO": "/something/else",
         "PATH_TRANSLATED": "$/something/else", "ORIG_SCRIPT_FILENAME": "$/x.py/more",
         "PHP_SELF": "/x.py/something/else"},
    ),
    "Apache, ProxyPass of an encoded name": (
        {"SCRIPT_FILENAME": "proxy:fcgi://localhost$/a%20b.py/%C3%BC", "SCRIPT_NAME": "/a b.py/ü", **ROOT},
        {"SCRIPT_FILENAME": "$/a b.py", "SCRIPT_NAME": "/a b.py", "PATH_INFO": "/ü", "PATH_TRANSLATED": "$/ü",
         "ORIG_SCRIPT_FILENAME": "$/a%20b.py/%C3%BC", "ORIG_SCRIPT_NAME": "/a b.py/ü", "PHP_SELF": "/a b.py/ü"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_parameters_are_those_that_php_makes_of_them(site, case):
    params, found = CASES[case]
    for _ in range(2):
        assert ask(site, params) == found


def test_without_script_filename_path_translated_names_the_script(tmp_path):
    (tmp_path / "x.py").write_text("")
    server = {"PATH_TRANSLATED": f"{tmp_path}/x.py", "SCRIPT_NAME": "/x.py"}
    assert ScriptFiles((str(tmp_path),)).find(server).path == f"{tmp_path}/x.py"
    assert server["SCRIPT_FILENAME"] == server["PATH_TRANSLATED"]


@pytest.mark.parametrize(
    ("settings", "params", "found"),
    [
        ({}, {"SCRIPT_FILENAME": "$/x.py/more", "SCRIPT_NAME": "/x.py/more"}, None),
        ({}, {"SCRIPT_FILENAME": "$/x.py", "PATH_TRANSLATED": "$/more"}, None),
        (
            {},
            {"SCRIPT_FILENAME": "/cgi-bin/php", "PATH_TRANSLATED": "$/x.py", "PATH_INFO": "/x.py"},
            {"SCRIPT_FILENAME": "/cgi-bin/php", "PATH_TRANSLATED": "$/x.py", "PATH_INFO": "/x.py", "PHP_SELF": "/x.py"},
        ),
        (
            {"cgi_discard_path": True},
            {"SCRIPT_FILENAME": "$/x.py", "PATH_TRANSLATED": "$/more", "PATH_INFO": "/more", "SCRIPT_NAME": "/x.py"},
            {"SCRIPT_FILENAME": "$/x.py", "PATH_TRANSLATED": "$/more", "PATH_INFO": "/more", "SCRIPT_NAME": "/x.py",
             "PHP_SELF": "/more"},
        ),
        (
            {},
            {"SCRIPT_FILENAME": "proxy:fcgi://localhost$/x.py?a", "SCRIPT_NAME": "/x.py"},
            {"SCRIPT_FILENAME": "$/x.py", "SCRIPT_NAME": "/x.py", "PHP_SELF": "/x.py"},
        ),
    ],
)  # fmt: skip
def test_without_fix_pathinfo_the_parameters_stay_as_they_are(tmp_path, settings, params, found):
    with process_as_it_was():
        site = filled(Site(tmp_path, cgi_fix_pathinfo=False, **settings))
        for _ in range(2):
            assert ask(site, params) == found


@pytest.mark.parametrize(
    "path",
    ["/x.jpg/.py", "/x.jpg/x.py", "/x.jpg", "/none.py/x.py", "/none/x.py/x.py", "/d.py", "/d.py/", "/d.py/none/y.py"],
)
def test_nothing_else_is_run_because_of_what_is_behind_it(site, path):
    """cgi.fix_pathinfo made nginx sites run uploaded images: /uploads/x.jpg/.php."""
    assert ask(site, {"SCRIPT_FILENAME": f"${path}", "SCRIPT_NAME": path, "PATH_INFO": path}) is None


def test_what_is_found_through_a_longer_path_follows_the_file(site):
    params = {"SCRIPT_FILENAME": "$/x.py/more", "SCRIPT_NAME": "/x.py", "PATH_INFO": "/more"}
    assert ask(site, params)
    (site.root / "x.py").unlink()
    assert ask(site, params) is None
    (site.root / "x.py").mkdir()
    site.write(SOURCE, "x.py/more")
    assert ask(site, params) is None
    site.write(SOURCE, "x.py/more.py")
    assert ask(site, {**params, "SCRIPT_FILENAME": "$/x.py/more.py/x"})["SCRIPT_FILENAME"] == "$/x.py/more.py"


def test_other_paths_behind_a_script_do_not_fill_the_cache(tmp_path):
    (tmp_path / "x.py").write_text("")
    files = ScriptFiles((str(tmp_path),))
    found = {files.find({"SCRIPT_FILENAME": f"{tmp_path}/x.py/{n}"}).asked for n in range(100)}
    assert found == {f"{tmp_path}/x.py".encode()}


def test_a_path_of_many_scripts_takes_one_attempt(tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(
        "os.open", lambda *arguments: tried.append(arguments) or (_ for _ in ()).throw(FileNotFoundError())
    )
    with pytest.raises(NotRunnable):
        ScriptFiles(()).find({"SCRIPT_FILENAME": "/x.py" * 10_000})
    assert len(tried) == 1


@pytest.mark.parametrize(
    ("path", "extensions", "found"),
    [
        ("/a.py/b/c.py/d", (".py",), ["/a.py", "/a.py/b/c.py"]),
        ("/a.py", (".py",), ["/a.py"]),
        ("/a.py/", (".py",), ["/a.py"]),
        ("/a.PY/b.pyc", (".py",), []),
        ("", (".py",), []),
        ("a.py/b.py", (".py",), ["a.py", "a.py/b.py"]),
        ("/a/b", ("",), ["/a", "/a/b"]),
        ("//.py", (".py",), ["//.py"]),
    ],
)
def test_where_a_scripts_name_may_end(path, extensions, found):
    assert list(beginnings(path, extensions)) == found


TEXT = st.lists(st.sampled_from(["/", "/x.py", "/more", "x", "\n", "\0", "%0a", "..", "/..", "\xff"]), max_size=6).map(
    "".join
)
NAMES = ("SCRIPT_FILENAME", "SCRIPT_NAME", "PATH_INFO", "PATH_TRANSLATED", "DOCUMENT_ROOT", "REDIRECT_URL")


@given(st.dictionaries(st.sampled_from(NAMES), TEXT), st.booleans(), st.data())
def test_whatever_is_sent_nothing_is_made_up(server, by_iis, data):
    """What comes out is the whole or a part of one that went in, or DOCUMENT_ROOT before it."""
    if by_iis:
        server["SERVER_SOFTWARE"] = "Microsoft-IIS"
    if server.get("SCRIPT_FILENAME", "").startswith("/") and data.draw(st.booleans()):
        server["SCRIPT_FILENAME"] = "proxy:fcgi://h" + server["SCRIPT_FILENAME"]
    sent = dict(server)
    what = asked(server, True, False)
    script = data.draw(st.sampled_from([what.path, *beginnings(what.path, (".py",))]))
    mend(server, what, script)
    assert server.get("SCRIPT_FILENAME") == script
    pieces = [*sent.values(), what.path]
    for name in ("SCRIPT_NAME", "PATH_INFO", *[f"ORIG_{name}" for name in NAMES]):
        value = server.get(name, "")
        assert any(value in piece for piece in pieces), name
    root = server.get("DOCUMENT_ROOT", "").removesuffix("/")
    translated = server.get("PATH_TRANSLATED", "")
    rest = translated.removeprefix(root)
    assert any(rest in piece or translated in piece for piece in [*pieces, script + server.get("PATH_INFO", "")])
