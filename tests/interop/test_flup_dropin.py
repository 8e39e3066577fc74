"""Programs with one changed line, started by real web servers: with the listening socket on descriptor 0, or as CGI.

The three sites are what people had under flup: a bare application, Flask and Django. Their files differ from what they
were in the line that imports WSGIServer.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest

from support import processes
from support.program import write_program
from support.waiting import eventually
from support.web import Page, fetch
from support.webservers import Apache, Lighttpd

BARE = """
import json
import os
import time
from pyfpm.compat.flup import WSGIServer

def application(environ, start_response):
    query = environ.get("QUERY_STRING", "")
    if query == "fail":
        raise ValueError("the reason")
    if query == "leave":
        os._exit(1)
    if query == "nap":
        time.sleep(0.3)
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "application/json")])
    shown = {name: value for name, value in environ.items() if isinstance(value, (str, bool))}
    yield json.dumps({**shown, "body": len(body), "pid": os.getpid()}).encode()

if __name__ == "__main__":
    WSGIServer(application).run()
"""

FLASK = """
from flask import Flask, request
from pyfpm.compat.flup import WSGIServer

app = Flask(__name__)

@app.route("/")
def index():
    return "index"

@app.route("/hello/<name>", methods=["GET", "POST"])
def hello(name):
    return f"hello {name} {request.form.get('a', '')}"

if __name__ == "__main__":
    WSGIServer(app).run()
"""

DJANGO = """
import sys
from django.conf import settings
from django.http import HttpResponse
from django.urls import path

settings.configure(DEBUG=False, ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="x")

def index(request):
    return HttpResponse("index " + request.path)

urlpatterns = [path("", index), path("entry/<int:number>/", lambda request, number: HttpResponse(f"entry {number}"))]

from django.core.wsgi import get_wsgi_application
from pyfpm.compat.flup import WSGIServer
WSGIServer(get_wsgi_application()).run()
"""

MODULES = "/usr/lib/apache2/modules"


class Fcgid(Apache):
    """Apache with mod_fcgid, or mod_cgid: it starts what it finds."""

    template: ClassVar[str] = """
ServerRoot "@directory@"
ServerName localhost
PidFile "@directory@/pid"
DefaultRuntimeDir "@directory@"
ErrorLog "@directory@/log"
LogLevel warn
Listen 127.0.0.1:@port@
User @user@
Group @group@
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule mime_module /usr/lib/apache2/modules/mod_mime.so
LoadModule alias_module /usr/lib/apache2/modules/mod_alias.so
TypesConfig /dev/null
StartServers 1
DocumentRoot "@root@"
<Directory "@root@">
    Options +ExecCGI
    Require all granted
</Directory>
@how@
"""
    mod_fcgid: ClassVar[str] = """
LoadModule fcgid_module /usr/lib/apache2/modules/mod_fcgid.so
AddHandler fcgid-script .fcgi
FcgidIPCDir "@root@/../ipc"
FcgidProcessTableFile "@directory@/shm"
FcgidMaxRequestLen 10000000
FcgidMinProcessesPerClass 0
FcgidMaxProcesses 4
ScriptAlias /flask "@root@/flask.fcgi"
"""
    mod_cgid: ClassVar[str] = """
LoadModule cgid_module /usr/lib/apache2/modules/mod_cgid.so
ScriptSock "@directory@/cgid"
AddHandler cgi-script .fcgi
ScriptAlias /flask "@root@/flask.fcgi"
"""

    def __init__(self, root: Path, how: str) -> None:
        if not os.path.exists(f"{MODULES}/mod_fcgid.so"):
            message = "mod_fcgid is not installed (Debian package libapache2-mod-fcgid)"
            if os.environ.get("PYFPM_TEST_REQUIRE_SERVERS") == "1":
                pytest.fail(message)
            pytest.skip(message)
        super().__init__("", root, how=how)


class Starting(Lighttpd):
    """lighttpd that starts the programs itself."""

    template: ClassVar[str] = """
server.modules = ("mod_alias", "mod_fastcgi", "mod_cgi")
server.document-root = "@root@"
server.bind = "127.0.0.1"
server.port = @port@
server.errorlog = "@directory@/log"
server.breakagelog = "@directory@/stderr"
server.upload-dirs = ("@directory@")
@how@
"""
    bin_path: ClassVar[str] = "fastcgi.server = (" + ",".join(
        f'"/{name}.fcgi" => (("socket" => "@directory@/{name}", "bin-path" => "@root@/{name}.fcgi",'
        ' "max-procs" => 2, "check-local" => "disable"))'
        for name in ("bare", "flask", "django")
    ) + ")"  # fmt: skip
    mod_cgi: ClassVar[str] = 'cgi.assign = (".fcgi" => "")'

    def __init__(self, root: Path, how: str) -> None:
        super().__init__("", root, how=how)

    @staticmethod
    def target(address: str) -> str:
        return address


WAYS: dict[str, Callable[[Path], Any]] = {
    "apache-mod_fcgid": lambda root: Fcgid(root, Fcgid.mod_fcgid),
    "apache-mod_cgid": lambda root: Fcgid(root, Fcgid.mod_cgid),
    "lighttpd-bin-path": lambda root: Starting(root, Starting.bin_path),
    "lighttpd-mod_cgi": lambda root: Starting(root, Starting.mod_cgi),
}
CGI = ("apache-mod_cgid", "lighttpd-mod_cgi")


@pytest.fixture(scope="module")
def programs(site: Path) -> Path:
    for name, text in (("bare", BARE), ("flask", FLASK), ("django", DJANGO)):
        write_program(site / f"{name}.fcgi", text)
    # mod_fcgid makes its sockets as the user that Apache serves as.
    (site.parent / "ipc").mkdir(exist_ok=True)
    (site.parent / "ipc").chmod(0o777)
    return site


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest, programs: Path) -> Iterator[tuple[str, Any]]:
    web = WAYS[request.param](programs)
    try:
        yield request.param, web
    finally:
        web.discard()


def ask(way: tuple[str, Any], path: str, body: bytes | None = None, **more: Any) -> Page:
    page = fetch(way[1].port, path, body, **more)
    assert page.status != 503, way[1].log()
    return page


def test_it_is_started_and_answers(way):
    page = ask(way, "/bare.fcgi/a/b?c=d")
    environ = json.loads(page.body)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/bare.fcgi", "/a/b")
    assert environ["QUERY_STRING"] == "c=d"
    assert (environ["wsgi.run_once"], environ["wsgi.multiprocess"]) == (way[0] in CGI, True)


def test_without_anything_behind_it_the_path_is_empty(way):
    environ = json.loads(ask(way, "/bare.fcgi").body)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/bare.fcgi", "")


def test_a_body_arrives_whole(way):
    assert json.loads(ask(way, "/bare.fcgi", b"x" * 3_000_000).body)["body"] == 3_000_000


def test_a_chunked_body_arrives_whole(way):
    assert json.loads(ask(way, "/bare.fcgi", iter([b"x" * 1000] * 30)).body)["body"] == 30_000


def test_an_exception_is_500_and_in_the_web_servers_log(way):
    page = ask(way, "/bare.fcgi?fail")
    assert page.status == 500
    assert b"the reason" not in page.body

    def said() -> str:
        stderr = way[1].directory / "stderr"
        return way[1].log() + (stderr.read_text("utf-8", "replace") if stderr.exists() else "")

    eventually(lambda: "ValueError: the reason" in said(), "it is in the log")


def test_flask(way):
    assert ask(way, "/flask.fcgi/").body == b"index"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert ask(way, "/flask.fcgi/hello/you", b"a=1", headers=form).body == b"hello you 1"
    assert ask(way, "/flask.fcgi/nowhere").status == 404


def test_flask_below_an_alias(way):
    if not way[0].startswith("apache"):
        pytest.skip("ScriptAlias is Apache's")
    assert ask(way, "/flask/hello/you").body == b"hello you "


def test_django(way):
    assert ask(way, "/django.fcgi/entry/7/").body == b"entry 7"
    assert ask(way, "/django.fcgi/").body == b"index /django.fcgi/"


def test_requests_at_once_are_served_by_several_processes(way):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: json.loads(ask(way, "/bare.fcgi?nap").body)["pid"], range(8)))
    assert len(set(found)) > 1


def test_one_that_dies_is_started_again(way):
    if way[0] in CGI:
        pytest.skip("a CGI program ends with each request")
    assert fetch(way[1].port, "/bare.fcgi?leave").status in (500, 502, 503)
    eventually(lambda: fetch(way[1].port, "/bare.fcgi").status == 200, "there is another")


def test_they_end_with_the_web_server(programs):
    for name in ("apache-mod_fcgid", "lighttpd-bin-path"):
        web = WAYS[name](programs)
        try:
            pid = json.loads(fetch(web.port, "/bare.fcgi").body)["pid"]
            web.process.send_signal(signal.SIGTERM)
            web.process.wait(60)
            eventually(lambda pid=pid: not processes.is_running(pid), "it has ended with it")
        finally:
            web.discard()
