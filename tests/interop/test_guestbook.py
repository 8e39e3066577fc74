"""examples/guestbook as it is shipped, with its configuration of pyfpm and of nginx, and visitors of all kinds."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import urlencode

import pytest

from support.server import Server, public_directory
from support.waiting import PATIENCE_S
from support.webservers import Nginx

EXAMPLES = Path(__file__).parents[2] / "examples"
GUESTBOOK = EXAMPLES / "guestbook"

PASSWORD = "correct horse"
PNG = b"\x89PNG\r\n\x1a\n" + b"picture" * 1000
BOUNDARY = "------------------------guestbook"


class Site:
    """The guest book behind an nginx of its own."""

    def __init__(self) -> None:
        self.place = place = public_directory()
        shutil.copytree(GUESTBOOK, place / "guestbook")
        (place / "data").mkdir()
        (place / "data" / "sessions").mkdir(mode=0o700)
        self.data = place / "data"
        text = (GUESTBOOK / "pyfpm.conf").read_text()
        text = text.replace("/srv/guestbook", f"{place}/guestbook").replace("/var/lib/guestbook", f"{place}/data")
        text = text.replace("/run/pyfpm/guestbook.sock", f"{place}/guestbook.sock")
        text = text.replace("user = guestbook", "user = www-data")
        if os.geteuid() == 0:
            shutil.chown(place / "data", "www-data")
            shutil.chown(place / "data" / "sessions", "www-data")
        sys.path.insert(0, str(GUESTBOOK / "lib"))
        try:
            from guestbook.password import hashed
        finally:
            sys.path.pop(0)
        self.pyfpm = Server.of_config(f"{text}\nenv[GUESTBOOK_ADMIN] = 00ff:{hashed(PASSWORD, '00ff')}\n")
        self.pyfpm.wait_until_ready()
        self.nginx = GuestbookNginx(f"{place}/guestbook.sock", place)
        self.port = self.nginx.port

    def discard(self) -> None:
        self.nginx.discard()
        self.pyfpm.discard()
        shutil.rmtree(self.place, ignore_errors=True)


class GuestbookNginx(Nginx):
    """With the example's own server block."""

    template = (
        Nginx.template.partition("    upstream pool")[0]
        + "    include /etc/nginx/mime.types;\n"
        + (GUESTBOOK / "nginx.conf").read_text()
        + "}\n"
    )

    def __init__(self, address: str, place: Path) -> None:
        self.template = (
            self.template.replace("listen [::]:80;", "")
            .replace("listen 80;", "listen 127.0.0.1:@port@;")
            .replace("/srv/guestbook", f"{place}/guestbook")
            .replace("/run/pyfpm/guestbook.sock", address)
            .replace("include pyfpm_params;", f"include {EXAMPLES}/nginx/pyfpm_params;")
        )
        super().__init__(address, place)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    started = Site()
    yield started
    started.discard()


class Visitor:
    """A browser: it keeps cookies, and sends back the hidden fields of the page that it has."""

    def __init__(self, site: Site) -> None:
        self._port = site.port
        self.cookies: dict[str, str] = {}
        self.headers: dict[str, str] = {}
        self.status = 0
        self.body = b""

    @property
    def text(self) -> str:
        return self.body.decode()

    def get(self, path: str) -> Visitor:
        return self._ask("GET", path)

    def post(self, path: str, fields: dict[str, str], picture: tuple[str, bytes] | None = None) -> Visitor:
        """Send the form of the page at ``path``, with its token."""
        self.get(path)
        found = re.search(r'name=token value="([^"]*)"', self.text)
        return self.send(path, {"token": found[1] if found else "", **fields}, picture)

    def send(self, path: str, fields: dict[str, str], picture: tuple[str, bytes] | None = None) -> Visitor:
        if picture is None:
            kind, body = "application/x-www-form-urlencoded", urlencode(fields).encode()
        else:
            kind, body = f"multipart/form-data; boundary={BOUNDARY}", multipart(fields, *picture)
        return self._ask("POST", path, body, {"Content-Type": kind})

    def _ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Visitor:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)
        try:
            cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            own = {"Host": "localhost", **({"Cookie": cookie} if cookie else {}), **(headers or {})}
            connection.request(method, path, body, own)
            response = connection.getresponse()
            self.body = response.read()
            self.status = response.status
            self.headers = {name.lower(): value for name, value in response.getheaders()}
            for set_cookie in response.headers.get_all("Set-Cookie", []):
                name, _, value = set_cookie.partition(";")[0].partition("=")
                self.cookies[name] = value
        finally:
            connection.close()
        if self.status == 303:
            return self.get("/" + self.headers["location"])
        return self


def multipart(fields: dict[str, str], filename: str, content: bytes) -> bytes:
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    head = f'Content-Disposition: form-data; name="picture"; filename="{filename}"\r\nContent-Type: image/png\r\n\r\n'
    parts.append(head.encode() + content)
    between = f"--{BOUNDARY}\r\n".encode()
    return b"".join(between + part + b"\r\n" for part in parts) + f"--{BOUNDARY}--\r\n".encode()


@pytest.fixture
def visitor(site) -> Visitor:
    # The limits count by address, and all visitors here come from one.
    (site.data / "guestbook.sqlite3").unlink(missing_ok=True)
    return Visitor(site)


def entry(message: str = "Hello", name: str = "Ada") -> dict[str, str]:
    return {"name": name, "message": message}


def test_who_reads_has_no_cookie(visitor):
    assert visitor.get("/").status == 200 and "Be the first!" in visitor.text
    assert visitor.cookies == {} and "default-src 'none'" in visitor.headers["content-security-policy"]


def test_an_entry_is_written_and_read(visitor, site):
    assert visitor.post("/write.py", entry("Grüße,\nand <b>tags</b> & \U0001f600", "Ada <3")).status == 200
    assert "Thank you!" in visitor.text
    reader = Visitor(site).get("/")
    assert "Grüße,\nand &lt;b&gt;tags&lt;/b&gt; &amp; \U0001f600" in reader.text and "Ada &lt;3" in reader.text


def test_a_picture_is_kept_out_of_reach_and_sent_as_what_it_is(visitor, site):
    visitor.post("/write.py", entry(), ("../../public/evil.py", PNG))
    assert visitor.status == 200, visitor.text
    (source,) = re.findall(r'img src="([^"]*)"', visitor.text)
    picture = Visitor(site).get("/" + unescape(source))
    assert picture.body == PNG and picture.headers["content-type"] == "image/png"
    assert (
        picture.headers["x-content-type-options"] == "nosniff"
        and "sandbox" in picture.headers["content-security-policy"]
    )
    (kept,) = (site.data / "pictures").iterdir()
    assert re.fullmatch(r"[0-9a-f]{32}\.png", kept.name)
    assert not list((site.place / "guestbook" / "public").glob("evil*"))
    kept.unlink()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"echo('run me')", "Please send a JPEG, PNG, GIF or WebP picture."),
        (b"", "Please send a JPEG, PNG, GIF or WebP picture."),
        (PNG + bytes(5 * 1024**2), "The picture is too large."),
    ],
    ids=["a script", "nothing", "too large"],
)
def test_what_is_no_picture_is_refused_with_the_reason_and_the_text_stays(visitor, site, content, why):
    visitor.post("/write.py", entry("my long text"), ("picture.png", content))
    assert visitor.status == 422 and why in visitor.text and "my long text</textarea>" in visitor.text
    assert "Be the first!" in Visitor(site).get("/").text
    assert not (site.data / "pictures").exists() or not list((site.data / "pictures").iterdir())


def test_more_than_all_that_is_allowed_is_a_413(visitor):
    assert visitor.post("/write.py", entry(), ("picture.png", bytes(7 * 1024**2))).status == 413


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        (entry(""), "Please fill this in."),
        (entry(" ", " "), "Please fill this in."),
        (entry("x" * 2001), "At most 2000 characters, please."),
        ({**entry(), "website": "http://spam"}, "That did not look like a person."),
        ({**entry(), "token": "forged"}, "This form has expired. Please send it again."),
    ],
)
def test_a_form_with_a_mistake_comes_back_with_the_reason(visitor, site, fields, why):
    assert visitor.post("/write.py", fields).status == 422 and why in visitor.text
    assert "Be the first!" in Visitor(site).get("/").text


def test_a_form_that_another_site_makes_a_browser_send_is_refused(visitor, site):
    """It has the visitor's cookie, and cannot know the token."""
    visitor.get("/write.py")
    assert visitor.send("/write.py", entry()).status == 422
    assert "Be the first!" in Visitor(site).get("/").text


def test_there_is_an_end_to_what_one_address_writes(visitor):
    for _ in range(5):
        assert visitor.post("/write.py", entry()).status == 200
    assert visitor.post("/write.py", entry()).status == 422 and "That was a lot at once." in visitor.text


def test_older_entries_are_on_the_next_page(visitor, site):
    visitor.get("/")
    import sqlite3

    with sqlite3.connect(site.data / "guestbook.sqlite3") as connection:
        rows = [("Ada", f"number {n}.", None, n) for n in range(45)]
        connection.executemany("INSERT INTO entry (name, message, picture, written_at) VALUES (?, ?, ?, ?)", rows)
    connection.close()
    seen = []
    path: str | None = "/"
    while path is not None:
        page = visitor.get(path).text
        seen += [int(number) for number in re.findall(r"number (\d+)\.", page)]
        older = re.search(r'href="(\?before=\d+)"', page)
        path = f"/index.py{older[1]}" if older else None
    assert seen == list(range(44, -1, -1))


def test_the_administrator_removes_an_entry_with_its_picture(visitor, site):
    visitor.post("/write.py", entry("to be removed"), ("a.gif", b"GIF89a" + bytes(100)))
    admin = Visitor(site)
    admin.get("/admin.py")
    before = admin.cookies["guestbook"]
    assert admin.post("/admin.py", {"action": "log in", "password": PASSWORD}).status == 200
    assert "to be removed" in admin.text and admin.cookies["guestbook"] != before
    # The id from before the login is worth nothing.
    planted = Visitor(site)
    planted.cookies["guestbook"] = before
    assert "type=password" in planted.get("/admin.py").text

    (number,) = re.findall(r"name=entry value=\"?(\d+)", admin.text)
    admin.post("/admin.py", {"action": "remove", "entry": number})
    assert "There is nothing to remove." in admin.text and not list((site.data / "pictures").iterdir())
    assert "Be the first!" in Visitor(site).get("/").text

    known = admin.cookies["guestbook"]
    admin.post("/admin.py", {"action": "log out"})
    again = Visitor(site)
    again.cookies["guestbook"] = known
    assert "type=password" in again.get("/admin.py").text


def test_nobody_else_removes_anything(visitor, site):
    visitor.post("/write.py", entry("stays"))
    assert visitor.post("/admin.py", {"action": "remove", "entry": "1"}).status == 403
    assert visitor.post("/admin.py", {"action": "log in", "password": "wrong"}).status == 403
    assert "stays" in Visitor(site).get("/").text


def test_passwords_cannot_be_tried_for_ever(visitor):
    for _ in range(10):
        assert visitor.post("/admin.py", {"action": "log in", "password": "wrong"}).status == 403
    visitor.post("/admin.py", {"action": "log in", "password": PASSWORD})
    assert visitor.status == 403 and "Too many attempts." in visitor.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/lib/guestbook/password.py", 404),
        ("/guestbook/password.py", 404),
        ("/pyfpm.conf", 404),
        ("/index.py~", 404),
        ("/nothing.py", 404),
        ("/picture.py?of=1", 404),
        ("/picture.py?of=../../etc/passwd", 404),
        ("/picture.py?of[]=1", 404),
        ("/?before=" + "9" * 5000, 200),
        ("/?before=x", 200),
        ("/style.css", 200),
    ],
)
def test_no_address_leads_to_what_is_not_a_page(visitor, path, status):
    assert visitor.get(path).status == status


@pytest.mark.parametrize("path", ["/write.py", "/admin.py", "/index.py"])
def test_another_method_is_refused(visitor, path):
    assert visitor._ask("DELETE", path).status == 405 and "GET" in visitor.headers["allow"]


def test_many_visitors_at_once_lose_nothing(visitor, site):
    visitor.get("/")

    def write(number: int) -> None:
        own = Visitor(site)
        own.post("/write.py", entry(f"from {number}."))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sorted(re.findall(r"from (\d)\.", visitor.get("/").text)) == list("01234")
    assert "Traceback" not in site.pyfpm.log()
