"""Real applications behind a real nginx: what their users do with them."""

from __future__ import annotations

import hashlib
import http.cookiejar
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from support.server import public_directory
from support.waiting import PATIENCE_S, eventually
from support.web import fetch
from support.webservers import Nginx

APPLICATIONS = Path(__file__).parent / "applications"
BLOCK = os.urandom(300_000)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """The applications, and room for their data beside them."""
    place = public_directory()
    home = place / "applications"
    shutil.copytree(APPLICATIONS, home)
    (home / "block").write_bytes(BLOCK)
    yield home
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="module")
def serving(behind: Callable[..., Any], home: Path) -> Callable[..., Any]:
    """An application, two workers of it, and nginx."""

    def start(application: str) -> Any:
        return behind(Nginx, "--workers", "2", "--chdir", str(home), "-d", "post_max_size=64M", application)

    return start


def run(*command: str, cwd: Path, env: Mapping[str, str] | None = None, text: str = "") -> str:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **(env or {})}, input=text, capture_output=True, text=True,
        timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def multipart(fields: Mapping[str, str], files: Mapping[str, tuple[str, bytes]]) -> tuple[bytes, str]:
    """A form's body, and its Content-Type."""
    boundary = uuid.uuid4().hex
    pieces = []
    for name, value in fields.items():
        pieces.append(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode())
    for name, (filename, content) in files.items():
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n\r\n'
        pieces.append(head.encode() + content + b"\r\n")
    return b"".join(pieces) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


class Visitor:
    """A browser: it keeps cookies, follows redirects, and says where it comes from."""

    def __init__(self, port: int) -> None:
        self.base = f"http://localhost:{port}"
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()), urllib.request.ProxyHandler({})
        )
        self._at = self.base + "/"
        self.status = 0
        self.headers: Any = None

    def visit(
        self, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None, method: str | None = None
    ) -> str:
        request = urllib.request.Request(
            self.base + path, body, {"Referer": self._at, "Origin": self.base, **(headers or {})}, method=method
        )
        try:
            answer = self._opener.open(request, timeout=PATIENCE_S)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            self.status, self.headers, self._at = answer.status, answer.headers, answer.url
            self.body = answer.read()
        return self.body.decode("utf-8", "replace")

    def submit(self, path: str, fields: Mapping[str, str], files: Mapping[str, tuple[str, bytes]] | None = None) -> str:
        if files is None:
            return self.visit(path, urlencode(fields).encode(), {"Content-Type": "application/x-www-form-urlencoded"})
        body, content_type = multipart(fields, files)
        return self.visit(path, body, {"Content-Type": content_type})


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# -- wsgiref.validate --------------------------------------------------------------------------------------------------


def test_nothing_that_wsgiref_validates_is_wrong(serving):
    """It raises AssertionError, which would be a 500, for whatever the server does wrong."""
    front = serving("validated")
    page = fetch(front.port, "/a%C3%A9?b=c")
    assert (page.status, page.body) == (200, b"got ")
    assert page.headers["x-path"].encode("latin-1") == "/aé".encode()
    assert fetch(front.port, "/", method="HEAD").status == 200
    body = b"first line\nsecond line\n" * 10_000
    assert fetch(front.port, "/", body).body == b"got " + body
    assert fetch(front.port, "/", iter([b"x" * 1000] * 50)).body == b"got " + b"x" * 50_000
    assert fetch(front.port, "/write").body == b"written, returned"
    assert fetch(front.port, "/again").status == 404
    assert fetch(front.port, "/empty").status == 204
    assert fetch(front.port, "/fail").status == 500
    log = front.pyfpm.log()
    assert "ValueError: the reason" in log
    assert "AssertionError" not in log
    eventually(lambda: "said to the log" in front.web.log(), "wsgi.errors is in nginx's log")


# -- Django ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def django(serving, home):
    env = {"DJANGO_SETTINGS_MODULE": "djangosite.settings", "PYTHONPATH": str(home), "DJANGO_SUPERUSER_PASSWORD": "pw"}
    manage = (sys.executable, "-m", "django")
    run(*manage, "migrate", "--run-syncdb", "--verbosity=0", cwd=home, env=env)
    run(*manage, "createsuperuser", "--noinput", "--username=admin", "--email=a@example.com", cwd=home, env=env)
    return serving("djangosite.wsgi:application")


def csrf_token(page: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert found, page
    return found[1]


def test_djangos_admin(django):
    visitor = Visitor(django.port)
    token = csrf_token(visitor.visit("/admin/"))
    login = {"csrfmiddlewaretoken": token, "username": "admin", "password": "wrong", "next": "/admin/"}
    assert "Please enter the correct username" in visitor.submit("/admin/login/", login)
    assert "Site administration" in visitor.submit("/admin/login/", {**login, "password": "pw"})

    token = csrf_token(visitor.visit("/admin/documents/document/add/"))
    content = os.urandom(5_000_000)
    said = visitor.submit(
        "/admin/documents/document/add/",
        {"csrfmiddlewaretoken": token, "title": "Übersicht <1>", "_save": "Save"},
        {"file": ("data.bin", content)},
    )
    assert "was added successfully" in said
    assert "Übersicht &lt;1&gt;" in visitor.visit("/admin/documents/document/")
    visitor.visit("/media/documents/data.bin")
    assert digest(visitor.body) == digest(content)
    assert visitor.headers["Content-Length"] == str(len(content))

    assert visitor.submit("/admin/documents/document/add/", {"title": "forged"}).count("CSRF") >= 1
    assert visitor.status == 403


def test_djangos_static_files_go_through_the_file_wrapper(django):
    import django.contrib.admin as admin

    path = Path(admin.__file__).parent / "static" / "admin" / "css" / "base.css"
    page = fetch(django.port, "/static/admin/css/base.css")
    assert page.body == path.read_bytes()
    assert page.headers["content-type"].startswith("text/css")
    again = fetch(
        django.port, "/static/admin/css/base.css", headers={"If-Modified-Since": page.headers["last-modified"]}
    )
    assert again.status == 304
    assert fetch(django.port, "/static/../settings.py").status in (400, 404)


# -- Flask, Bottle -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flask(serving):
    return serving("flask_site:app")


def test_flask(flask):
    visitor = Visitor(flask.port)
    assert visitor.visit("/?name=" + "%C3%A9") == "visit 1 by é"
    assert visitor.visit("/") == "visit 2 by nobody"
    assert Visitor(flask.port).visit("/") == "visit 1 by nobody"
    assert visitor.visit("/away") == "visit 3 by é"
    found = json.loads(visitor.submit("/upload", {"note": "é"}, {"file": ("ü.bin", BLOCK)}))
    assert found == {"name": "ü.bin", "digest": digest(BLOCK), "note": "é", "ip": "127.0.0.1"}
    for method in ("PUT", "PATCH", "DELETE"):
        said = visitor.visit("/json", b'{"a": 1}', {"Content-Type": "application/json"}, method)
        assert json.loads(said) == {"method": method, "data": {"a": 1}}
    assert visitor.visit("/stream") == "".join(f"{number}\n" for number in range(20_000))
    assert (visitor.visit("/nowhere"), visitor.status) == ("no such page", 404)
    visitor.visit("/teapot")
    assert visitor.status == 418
    visitor.visit("/fail")
    assert visitor.status == 500
    # Flask tells it to wsgi.errors, and answers itself.
    eventually(lambda: "ValueError: the reason" in flask.web.log(), "it is in nginx's log")


def test_flask_sends_files_whole_in_parts_and_not_again(flask):
    page = fetch(flask.port, "/file")
    assert page.body == BLOCK
    part = fetch(flask.port, "/file", headers={"Range": "bytes=1000-1999"})
    assert (part.status, part.body) == (206, BLOCK[1000:2000])
    assert fetch(flask.port, "/file", headers={"If-None-Match": page.headers["etag"]}).status == 304
    head = fetch(flask.port, "/file", method="HEAD")
    assert (head.headers["content-length"], head.body) == (str(len(BLOCK)), b"")


def test_bottle(serving):
    front = serving("bottle_site")
    visitor = Visitor(front.port)
    assert visitor.visit("/hello/%3CAda%3E") == "<b>Hello &lt;Ada&gt;</b>"
    assert visitor.visit("/who") == "nobody"
    assert visitor.submit("/form", {"who": "Jürgen"}, {"file": ("x", BLOCK)}) == f"Jürgen: {digest(BLOCK)}"
    assert visitor.visit("/who") == "Jürgen"
    assert json.loads(visitor.visit("/json?a=%C3%A9")) == {
        "query": {"a": "é"},
        "url": f"http://localhost:{front.port}/json?a=%C3%A9",
    }
    visitor.visit("/files/block", headers={"Range": "bytes=-10"})
    assert (visitor.status, visitor.body) == (206, BLOCK[-10:])
    visitor.visit("/files/../bottle_site.py")
    assert visitor.status in (400, 403, 404)
    visitor.visit("/secret")
    assert visitor.status == 401
    visitor.visit("/raw")
    assert (visitor.status, visitor.body) == (202, b"\x00\xff")
    visitor.visit("/fail")
    assert visitor.status == 500
    eventually(lambda: "ValueError: the reason" in front.web.log(), "it is in nginx's log")


# -- Mercurial ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hg(home) -> Callable[..., str]:
    program = Path(sys.executable).parent / "hg"
    env = {"HGRCPATH": "", "HGUSER": "a visitor <v@example.com>", "HGPLAIN": "1", "no_proxy": "*"}

    def hg(*arguments: str, cwd: Path = home) -> str:
        return run(sys.executable, str(program), *arguments, cwd=cwd, env=env)

    return hg


def test_mercurial_clones_pushes_and_pulls(serving, hg, home):
    repository = home / "repository"
    hg("init", str(repository))
    (repository / "readme").write_text("hello\n")
    (repository / "large").write_bytes(os.urandom(3_000_000))
    hg("add", "--quiet", cwd=repository)
    hg("commit", "-m", "the first", cwd=repository)
    front = serving("hgweb_site")
    url = f"http://127.0.0.1:{front.port}/"

    mine, theirs = home / "mine", home / "theirs"
    hg("clone", url, str(mine))
    hg("clone", "--pull", url, str(theirs))
    assert (mine / "large").read_bytes() == (repository / "large").read_bytes()

    (mine / "readme").write_text("hello again\n")
    (mine / "more").write_bytes(os.urandom(2_000_000))
    hg("add", "--quiet", cwd=mine)
    hg("commit", "-m", "the second", cwd=mine)
    # Phases and bookmarks go by other commands of its protocol than changesets.
    hg("bookmark", "here", cwd=mine)
    assert "1 changesets" in hg("push", "-B", "here", cwd=mine)

    hg("pull", "-u", cwd=theirs)
    assert (theirs / "readme").read_text() == "hello again\n"
    assert (theirs / "more").read_bytes() == (mine / "more").read_bytes()
    assert hg("log", "-T", "{desc}|{phase}\n", cwd=theirs) == "the second|public\nthe first|public\n"
    assert "here" in hg("bookmarks", cwd=repository)

    page = Visitor(front.port)
    assert "the second" in page.visit("/")
    assert page.visit("/raw-file/tip/readme") == "hello again\n"
    page.visit("/raw-file/tip/large")
    assert page.body == (repository / "large").read_bytes()
    page.visit("/raw-file/tip/nothing")
    assert page.status == 404
    page.visit("/archive/tip.tar.gz")
    assert page.body[:2] == b"\x1f\x8b"


# -- Radicale ----------------------------------------------------------------------------------------------------------

EVENT = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//test//test//
BEGIN:VEVENT
UID:1
DTSTAMP:20260101T000000Z
DTSTART:20260301T100000Z
DTEND:20260301T110000Z
SUMMARY:Frühstück
END:VEVENT
END:VCALENDAR
""".replace("\n", "\r\n")
CARD = "BEGIN:VCARD\r\nVERSION:3.0\r\nUID:2\r\nFN:Jürgen\r\nN:;Jürgen;;;\r\nEND:VCARD\r\n"

RANGE = """<?xml version="1.0"?>
<C:calendar-query xmlns:D="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav">
<D:prop><D:getetag/><C:calendar-data/></D:prop>
<C:filter><C:comp-filter name="VCALENDAR"><C:comp-filter name="VEVENT">
<C:time-range start="%s" end="%s"/>
</C:comp-filter></C:comp-filter></C:filter></C:calendar-query>"""

PROPERTIES = """<?xml version="1.0"?>
<D:propfind xmlns:D="DAV:"><D:prop><D:resourcetype/><D:displayname/><D:getetag/></D:prop></D:propfind>"""

BOOK = """<?xml version="1.0"?>
<D:mkcol xmlns:D="DAV:" xmlns:R="urn:ietf:params:xml:ns:carddav"><D:set><D:prop>
<D:resourcetype><D:collection/><R:addressbook/></D:resourcetype><D:displayname>Freunde</D:displayname>
</D:prop></D:set></D:mkcol>"""


def test_radicale_keeps_calendars_and_contacts(serving):
    front = serving("radicale_site")
    # visitor:pw. The paths are ASCII, since Radicale takes PATH_INFO for UTF-8, which it is under its own server alone.
    known = {"Authorization": "Basic dmlzaXRvcjpwdw=="}

    def do(method: str, path: str, body: str | None = None, **headers: str) -> Any:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        data = None if body is None else body.encode()
        return fetch(front.port, path, data, method=method, headers={**known, **given})

    assert "calendar-access" in do("OPTIONS", "/").headers["dav"]
    assert do("PROPFIND", "/visitor/", PROPERTIES, Depth="0").status == 207
    assert do("MKCALENDAR", "/visitor/kalender%20a/").status == 201
    made = do("PUT", "/visitor/kalender%20a/1.ics", EVENT, Content_Type="text/calendar; charset=utf-8")
    assert made.status == 201
    kept = do("GET", "/visitor/kalender%20a/1.ics")
    assert "SUMMARY:Frühstück" in kept.body.decode()
    assert do("PUT", "/visitor/kalender%20a/1.ics", EVENT, If_None_Match="*").status == 412

    listed = do("PROPFIND", "/visitor/kalender%20a/", PROPERTIES, Depth="1")
    assert listed.status == 207
    assert "/visitor/kalender%20a/1.ics" in listed.body.decode()
    inside = do("REPORT", "/visitor/kalender%20a/", RANGE % ("20260301T000000Z", "20260302T000000Z"), Depth="1")
    assert "Frühstück" in inside.body.decode()
    outside = do("REPORT", "/visitor/kalender%20a/", RANGE % ("20270301T000000Z", "20270302T000000Z"), Depth="1")
    assert "Frühstück" not in outside.body.decode()

    assert do("MKCOL", "/visitor/freunde/", BOOK).status == 201
    assert do("PUT", "/visitor/freunde/2.vcf", CARD, Content_Type="text/vcard").status == 201
    assert "FN:Jürgen" in do("GET", "/visitor/freunde/").body.decode()

    etag = do("GET", "/visitor/freunde/2.vcf").headers["etag"]
    assert do("DELETE", "/visitor/freunde/2.vcf", If_Match='"another"').status == 412
    assert do("DELETE", "/visitor/freunde/2.vcf", If_Match=etag).status == 200
    assert do("GET", "/visitor/freunde/2.vcf").status == 404
    assert do("PROPFIND", "/somebody/else/", PROPERTIES, Depth="0").status in (403, 404)


# -- Roundup -----------------------------------------------------------------------------------------------------------


def test_roundup_tracks_issues(serving, home):
    tracker = home / "tracker"
    admin = (sys.executable, "-c", "import sys; from roundup.scripts.roundup_admin import run; sys.exit(run())")
    run(*admin, "-i", str(tracker), "install", "classic", "anydbm", cwd=home)
    configure(tracker, "http://localhost/")
    run(*admin, "-i", str(tracker), "initialise", "pw", cwd=home)
    front = serving("roundup_site")
    visitor = Visitor(front.port)
    configure(tracker, visitor.base + "/")

    assert "<title>" in visitor.visit("/")
    page = visitor.submit("/", {**login_fields(visitor.visit("/")), "__login_name": "admin", "__login_password": "pw"})
    assert "Hello, admin" in page.replace("<b>", "").replace("\n", " ").replace("  ", " "), page

    form = visitor.visit("/issue?@template=item")
    fields = {
        "@csrf": csrf_of(form),
        "@action": "new",
        "title": "Grüße <b>",
        "@note": "it does not work",
        "priority": "1",
    }
    page = visitor.submit(
        "/issue", {**fields, ":required": "title,priority", "@template": "item", "@submit_button": "Submit New Entry",
                   "@link@files": "file-1", "file-1@name": "block"},
        {"file-1@content": ("block", BLOCK)},
    )  # fmt: skip
    assert "issue 1 created" in page, page
    assert "Grüße &lt;b&gt;" in visitor.visit("/issue1")
    visitor.visit("/file1/block")
    assert visitor.body == BLOCK

    found = json.loads(visitor.visit("/rest/data/issue/1", headers={"X-Requested-With": "rest"}))
    assert found["data"]["attributes"]["title"] == "Grüße <b>"
    etag = visitor.headers["ETag"]
    changed = visitor.visit(
        "/rest/data/issue/1", b'{"title": "changed"}',
        {"Content-Type": "application/json", "X-Requested-With": "rest", "If-Match": etag}, "PATCH",
    )  # fmt: skip
    assert visitor.status == 200, changed
    assert "changed" in visitor.visit("/issue1")
    visitor.visit("/issue999")
    assert visitor.status == 404


def configure(tracker: Path, url: str) -> None:
    path = tracker / "config.ini"
    text = path.read_text()
    for name, value in {"web": url, "email": "tracker", "domain": "example.com", "host": "localhost"}.items():
        text = re.sub(rf"(?m)^#?{name} = .*$", f"{name} = {value}", text, count=1)
    # Nobody gets mail from a test.
    text = re.sub(r"(?m)^#?mail_debug = .*$|^#?debug = *$", f"debug = {tracker / 'mail'}", text, count=1)
    path.write_text(text)


def csrf_of(page: str) -> str:
    found = re.search(r'name="@csrf"[^>]*value="([^"]+)"|value="([^"]+)"[^>]*name="@csrf"', page)
    assert found, page
    return found[1] or found[2]


def login_fields(page: str) -> dict[str, str]:
    came_from = re.search(r'name="__came_from"[^>]*value="([^"]+)"', page)
    return {"@action": "login", "@csrf": csrf_of(page), "__came_from": came_from[1] if came_from else ""}
