"""Authorizers that real web servers ask, and a filter, which no web server of today asks for: our own client does.

The programs are those of examples/roles.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio

from pyfpm import protocol
from pyfpm.client import FastCGIClient
from support.server import Server, public_directory
from support.waiting import eventually
from support.web import Page, fetch
from support.webservers import Apache, Lighttpd
from support.wire import Wire

EXAMPLES = Path(__file__).parents[2] / "examples" / "roles"
KEY = "only for this test"

SHOW = """#!/bin/sh
cat >/dev/null
echo "Content-Type: text/plain"
echo
echo "user=$REMOTE_USER board=$IS_BOARD"
"""


class AskingLighttpd(Lighttpd):
    """lighttpd that asks an authorizer about everything, and then serves it itself."""

    template: ClassVar[str] = """
server.modules = ("mod_fastcgi", "mod_cgi")
server.document-root = "@root@"
server.bind = "127.0.0.1"
server.port = @port@
server.errorlog = "@directory@/log"
server.upload-dirs = ("@directory@")
mimetype.assign = (".html" => "text/html")
cgi.assign = (".cgi" => "/bin/sh")
fastcgi.server = ("/" => ((@address@, "mode" => "authorizer", "check-local" => "disable", @docroot@)))
"""

    def __init__(self, address: str, root: Path, **options: str) -> None:
        super().__init__(address, root, docroot=f'"docroot" => "{root}"', **options)


class AskingApache(Apache):
    """The same with mod_authnz_fcgi, as in examples/roles/apache.conf."""

    template: ClassVar[str] = (
        Apache.template.replace("@mapping@", "")
        .replace("LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so\n", "")
        .replace("LoadModule proxy_fcgi_module /usr/lib/apache2/modules/mod_proxy_fcgi.so\n", "")
        + """
LoadModule authn_core_module /usr/lib/apache2/modules/mod_authn_core.so
LoadModule authz_user_module /usr/lib/apache2/modules/mod_authz_user.so
LoadModule authnz_fcgi_module /usr/lib/apache2/modules/mod_authnz_fcgi.so
LoadModule cgid_module /usr/lib/apache2/modules/mod_cgid.so
LoadModule mime_module /usr/lib/apache2/modules/mod_mime.so
TypesConfig /dev/null
ScriptSock "@directory@/cgid"
AddHandler cgi-script .cgi
<Directory "@root@">
    Options +ExecCGI
</Directory>
AuthnzFcgiDefineProvider authn tickets fcgi://@address@/
<Location "/">
    AuthType Tickets
    AuthnzFcgiCheckAuthnProvider tickets Authoritative On RequireBasicAuth Off UserExpr "%{reqenv:REMOTE_USER}"
    Require valid-user
</Location>
"""
    )


class Asking:
    """A web server that asks, and the pyfpm that it asks."""

    def __init__(self, name: str, root: Path, *arguments: str) -> None:
        self.name = name
        env = {"TICKET_KEY": KEY}
        self.pyfpm = Server("--listen", "127.0.0.1:0", "--workers", "1", *arguments, env=env)
        self.pyfpm.wait_until_ready()
        kind = {"lighttpd": AskingLighttpd, "apache": AskingApache}[name]
        self.web = kind(self.pyfpm.addresses[0], root)

    def visit(self, path: str, who: str | None = None, **more: Any) -> Page:
        headers = {} if who is None else {"Cookie": f"other=1; ticket={who}"}
        return fetch(self.web.port, path, headers=headers, **more)

    def discard(self) -> None:
        self.web.discard()
        self.pyfpm.discard()


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    place = public_directory()
    root = place / "www"
    (root / "board").mkdir(parents=True)
    (root / "page.html").write_text("secret\n")
    (root / "board" / "page.html").write_text("minutes\n")
    (root / "show.cgi").write_text(SHOW)
    (root / "show.cgi").chmod(0o755)
    # A page that is a script, and would be glad to see anybody.
    (root / "script.py").write_text("echo('welcome')\n")
    shutil.copytree(EXAMPLES, place / "roles")
    yield root
    shutil.rmtree(place)


AS = {
    "wsgi": lambda root: ("--chdir", str(root.parent / "roles"), "authorizer_app:application"),
    "script": lambda root: (
        "--docroot", str(root), "-d", f"authorizer_file={root.parent / 'roles' / 'authorizer.py'}",
        "-d", f"python.path[]={root.parent / 'roles'}",
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=[f"{name}-{kind}" for name in ("lighttpd", "apache") for kind in AS])
def asking(request: pytest.FixtureRequest, root: Path) -> Iterator[Asking]:
    name, _, kind = request.param.partition("-")
    started = Asking(name, root, *AS[kind](root))
    started.kind = kind
    try:
        yield started
    finally:
        started.discard()


@pytest.fixture(scope="module")
def ticket() -> Callable[[str], str]:
    sys.path.insert(0, str(EXAMPLES))
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TICKET_KEY", KEY)
            import tickets

            made = {name: tickets.ticket_for(name) for name in ("alice", "mallory")}
    finally:
        sys.path.remove(str(EXAMPLES))
        sys.modules.pop("tickets", None)
    return made.__getitem__


# -- authorizers -------------------------------------------------------------------------------------------------------


def test_who_has_a_ticket_gets_the_page(asking, ticket):
    page = asking.visit("/page.html", ticket("alice"))
    assert (page.status, page.body) == (200, b"secret\n")
    assert not [name for name in page.headers if name.startswith("variable-")]


@pytest.mark.parametrize("who", [None, "alice.", "alice.0123", "nonsense", "\xe9.\xe9"])
def test_who_has_none_is_refused(asking, who):
    page = asking.visit("/page.html", who)
    assert page.status in (401, 403)
    assert b"secret" not in page.body


def test_the_refusal_is_the_authorizers_own_words(asking):
    page = asking.visit("/page.html")
    if asking.name == "apache":
        # Its own page, with the status that it found right.
        assert page.status in (401, 403)
        return
    assert (page.status, page.headers["content-type"].lower()) == (403, "text/html; charset=utf-8")
    assert b'Please <a href="/login">log in</a>' in page.body


def test_variables_go_to_whoever_serves_the_request(asking, ticket):
    is_board = "1" if asking.kind == "wsgi" else ""
    assert asking.visit("/show.cgi", ticket("alice")).body == f"user=alice board={is_board}\n".encode()


def test_the_path_that_the_visitor_asks_for_counts(asking, ticket):
    assert asking.visit("/board/page.html", ticket("alice")).body == b"minutes\n"
    refused = asking.visit("/board/page.html", ticket("mallory")).status
    # The script lets in whoever has a ticket.
    assert refused in ((401, 403) if asking.kind == "wsgi" else (200,))
    assert asking.visit("/page.html", ticket("mallory")).status == 200


def test_of_head_and_post_the_same_is_asked(asking, ticket):
    assert asking.visit("/page.html", ticket("alice"), method="HEAD").status == 200
    assert asking.visit("/page.html", method="HEAD").status in (401, 403)
    page = fetch(asking.web.port, "/show.cgi", b"x" * 100_000, headers={"Cookie": f"ticket={ticket('alice')}"})
    assert page.body.startswith(b"user=alice ")
    assert fetch(asking.web.port, "/show.cgi", b"x" * 100_000).status in (401, 403)


def test_lighttpd_without_a_docroot_asks_as_well(root, ticket):
    """Then it does not go on to serve the file from anywhere else than before."""
    template = AskingLighttpd.template
    AskingLighttpd.template = template.replace(", @docroot@", "")
    try:
        started = Asking("lighttpd", root, *AS["wsgi"](root))
    finally:
        AskingLighttpd.template = template
    try:
        assert started.visit("/page.html").status == 403
        assert started.visit("/page.html", ticket("alice")).body == b"secret\n"
    finally:
        started.discard()


def test_an_authorizer_that_fails_lets_nobody_in(root, ticket):
    broken = root.parent / "roles" / "broken.py"
    broken.write_text("raise ValueError('the reason')\n")
    started = Asking("lighttpd", root, "--docroot", str(root), "-d", f"authorizer_file={broken}")
    try:
        page = started.visit("/page.html", ticket("alice"))
        assert page.status == 500
        assert b"secret" not in page.body
        assert "the reason" in started.pyfpm.log()
        broken.unlink()
        eventually(lambda: started.visit("/page.html").status == 404, "it is not there")
        assert f"authorizer_file = '{broken}' cannot run: no such file" in started.pyfpm.log()
    finally:
        started.discard()


def test_a_script_is_not_its_own_authorizer(root):
    """SCRIPT_FILENAME is what the visitor asks for; a page of the same pool would let in whoever asks for it."""
    started = Asking("lighttpd", root, "--docroot", str(root))
    try:
        page = started.visit("/script.py")
        assert page.status == 404
        assert "authorizer_file is not set" in started.pyfpm.log()
    finally:
        started.discard()


ASGI = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})
"""


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_an_asgi_application_is_no_authorizer(pyfpm, tmp_path, loop):
    """It knows of no roles: a 200 that it gives for a page let the visitor in."""
    (tmp_path / "nobody.py").write_text(ASGI)
    server = pyfpm("nobody:app", "--chdir", str(tmp_path), "-d", f"app.loop={loop}")
    for role in (protocol.AUTHORIZER, protocol.FILTER):
        with Wire(server.socket) as wire:
            wire.send(wire.begin(role=role))
            answer = wire.answer()
        assert (answer.protocol_status, answer.body) == (protocol.UNKNOWN_ROLE, b"")


# -- filters -----------------------------------------------------------------------------------------------------------

FILE = "one\n<two>\nthree é\n".encode()
NUMBERED = "<ol>\n<li>one</li>\n<li>&lt;two&gt;</li>\n<li>three é</li>\n</ol>\n".encode()


def ask(server: Server, data: bytes, *, role: int = protocol.FILTER, body: bytes = b"", **params: str) -> Any:
    async def main() -> Any:
        async with FastCGIClient(server.socket) as client:
            return await client.request({"REQUEST_METHOD": "GET", **params}, body, role=role, data=data)

    return trio.run(main)


@pytest.fixture(scope="module")
def filters() -> Iterator[dict[str, Server]]:
    servers = {
        "script": Server("--docroot", str(EXAMPLES)),
        "wsgi": Server("--chdir", str(EXAMPLES), "filter_app:application"),
    }
    try:
        for server in servers.values():
            server.wait_until_ready()
        yield servers
    finally:
        for server in servers.values():
            server.discard()


PARAMS = {"SCRIPT_FILENAME": str(EXAMPLES / "filter.py"), "FCGI_DATA_LAST_MOD": "1", "SCRIPT_NAME": "/a.txt"}


@pytest.mark.parametrize("kind", ["script", "wsgi"])
def test_a_filter_gets_the_file(filters, kind):
    answer = ask(filters[kind], FILE, FCGI_DATA_LENGTH=str(len(FILE)), **PARAMS)
    assert (answer.status, answer.body) == (200, NUMBERED)


@pytest.mark.parametrize("kind", ["script", "wsgi"])
def test_an_empty_file_is_empty(filters, kind):
    assert ask(filters[kind], b"", FCGI_DATA_LENGTH="0", **PARAMS).body == b"<ol>\n</ol>\n"


@pytest.mark.parametrize("kind", ["script", "wsgi"])
def test_a_large_file_is_on_disk(filters, kind):
    line = b"x" * 99 + b"\n"
    answer = ask(filters[kind], line * 50_000, FCGI_DATA_LENGTH=str(5_000_000), **PARAMS)
    assert answer.body.count(b"<li>" + line[:-1] + b"</li>") == 50_000


def test_a_script_sees_when_something_is_missing(filters):
    answer = ask(filters["script"], b"ab", FCGI_DATA_LENGTH="3", **PARAMS)
    assert (answer.status, answer.body) == (502, b"Of 3 bytes only 2 have come.\n")


@pytest.mark.parametrize("kind", ["script", "wsgi"])
def test_a_responder_gets_no_file(filters, kind):
    answer = ask(filters[kind], b"", role=protocol.RESPONDER, **PARAMS)
    assert (answer.status, answer.body) == (404, b"This is a filter.\n")
