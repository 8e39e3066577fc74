"""fastcgi_finish_request and visitors who leave, behind nginx: what they see, and what becomes of the script."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from support.waiting import eventually
from support.web import fetch
from support.webservers import Nginx

KEEP = {"upstream": "keepalive 4;", "location": "fastcgi_keep_conn on;"}
NEW: dict[str, str] = {}

# Goes on until there is the file that the query names; says so with another one.
FINISH = """
import os, time
header("X-Worker: %d" % os.getpid())
echo("answered")
fastcgi_finish_request()
while not os.path.exists("go-" + _GET["a"]):
    time.sleep(0.005)
open("ended-" + _GET["a"], "w").close()
"""
WHO = "import os\necho(os.getpid())"

# While its own visitor is gone it asks the site that it belongs to.
SELF = """
import os, urllib.request
echo("answered")
fastcgi_finish_request()
with urllib.request.urlopen(f"http://127.0.0.1:{_SERVER['SERVER_PORT']}/who.py", timeout=20) as page:
    text = page.read().decode()
with open("self.new", "w") as file:
    file.write(text)
os.rename("self.new", "self")
"""
ENDLESS = """
import os, time
open("begun-" + _GET["a"], "w").close()
register_shutdown_function(lambda: open(f"left-{_GET['a']}-{connection_status()}", "w").close())
while True:
    if _GET["a"].startswith("asks"):
        if connection_aborted(): break
    else:
        echo("x" * 1000); flush()
    time.sleep(0.01)
"""


@pytest.fixture(scope="module")
def scripts(site: Path) -> Path:
    site.chmod(0o777)
    for name, text in {"finish": FINISH, "who": WHO, "self": SELF, "endless": ENDLESS}.items():
        (site / f"{name}.py").write_text(text)
    return site


@pytest.fixture(scope="module", params=[NEW, KEEP], ids=["new", "kept"])
def front(behind, scripts, request):
    return behind(Nginx, "--workers", "2", "--docroot", str(scripts), **request.param)


@pytest.fixture(scope="module", params=[NEW, KEEP], ids=["new", "kept"])
def alone(behind, scripts, request):
    return behind(Nginx, "--workers", "1", "--docroot", str(scripts), **request.param)


@pytest.fixture
def name(request) -> str:
    return request.node.name.replace("[", "-").rstrip("]")


def test_the_visitor_has_the_answer_while_the_script_goes_on_and_others_are_served(front, scripts, name):
    page = fetch(front.port, f"/finish.py?a={name}")
    assert (page.status, page.body) == (200, b"answered")
    assert not (scripts / f"ended-{name}").exists()
    for _ in range(5):  # on the connection that it came by, if nginx keeps it
        assert fetch(front.port, "/who.py").body.decode() != page.headers["x-worker"]
    (scripts / f"go-{name}").touch()
    eventually((scripts / f"ended-{name}").exists)


def test_the_only_worker_finishes_and_then_serves_the_next(alone, scripts, name):
    page = fetch(alone.port, f"/finish.py?a={name}")
    assert page.body == b"answered"
    (scripts / f"go-{name}").touch()
    assert fetch(alone.port, "/who.py").body.decode() == page.headers["x-worker"]
    assert (scripts / f"ended-{name}").exists()


def test_a_script_asks_its_own_site_behind_its_answer(front, scripts):
    """With php-fpm and kept connections it waits for itself (php-src#10335)."""
    assert fetch(front.port, "/self.py").body == b"answered"
    eventually((scripts / "self").exists)
    assert int((scripts / "self").read_text()) in front.pyfpm.workers
    (scripts / "self").unlink()


@pytest.mark.parametrize("how", ["asks", "flushes"])
def test_a_script_hears_that_its_visitor_has_left(front, scripts, name, how):
    what = f"{how}-{name}"
    with socket.create_connection(("127.0.0.1", front.port)) as visitor:
        visitor.sendall(f"GET /endless.py?a={what} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        eventually((scripts / f"begun-{what}").exists)
    eventually((scripts / f"left-{what}-1").exists, "the script was ended", within=10)
    assert fetch(front.port, "/who.py").status == 200
