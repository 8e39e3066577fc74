"""What must be the same behind every web server, in each way it can be connected."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from support import processes
from support.waiting import eventually
from support.web import fetch
from support.webservers import Apache, Caddy, HAProxy, Lighttpd, Nginx

ALL_BYTES = bytes(range(256))

KEEP = {"upstream": "keepalive 4;", "location": "fastcgi_keep_conn on;"}
UNBUFFERED = {"location": "fastcgi_request_buffering off; fastcgi_buffering off;"}

APACHE_UNIX = 'ProxyPass "/" "unix:@address@|fcgi://localhost@root@/"'
APACHE_TCP = 'ProxyPass "/" "fcgi://@address@@root@/"'
APACHE_REUSE = 'ProxyPass "/" "fcgi://@address@@root@/" enablereuse=on max=10'
APACHE_HANDLER = '<FilesMatch "\\.py$">\nSetHandler "proxy:unix:@address@|fcgi://localhost/"\n</FilesMatch>'
APACHE_HANDLER_TCP = '<FilesMatch "\\.py$">\nSetHandler "proxy:fcgi://@address@"\n</FilesMatch>'

# kind of web server, over TCP, options of its configuration
WAYS = {
    "nginx-unix": (Nginx, False, {}),
    "nginx-tcp": (Nginx, True, {}),
    "nginx-keepalive": (Nginx, False, KEEP),
    "nginx-keepalive-tcp": (Nginx, True, KEEP),
    "nginx-unbuffered": (Nginx, False, UNBUFFERED),
    "apache-unix": (Apache, False, {"mapping": APACHE_UNIX}),
    "apache-tcp": (Apache, True, {"mapping": APACHE_TCP}),
    "apache-reuse": (Apache, True, {"mapping": APACHE_REUSE}),
    "apache-handler": (Apache, False, {"mapping": APACHE_HANDLER}),
    "apache-handler-tcp": (Apache, True, {"mapping": APACHE_HANDLER_TCP}),
    "lighttpd-unix": (Lighttpd, False, {}),
    "lighttpd-tcp": (Lighttpd, True, {}),
    "lighttpd-streaming": (Lighttpd, False, {"more": "server.stream-response-body = 2"}),
    "caddy-unix": (Caddy, False, {}),
    "caddy-tcp": (Caddy, True, {}),
    "haproxy-unix": (HAProxy, False, {}),
    "haproxy-tcp": (HAProxy, True, {}),
    "haproxy-close": (HAProxy, False, {"app": "no option keep-conn"}),
    "haproxy-get-values": (HAProxy, False, {"app": "option get-values"}),
    "haproxy-mpxs": (HAProxy, False, {"app": "option mpxs-conns\n    option get-values\n    option max-reqs 64"}),
    "haproxy-buffered": (HAProxy, False, {"backend": "option http-buffer-request"}),
}

# Those that use a connection again, and so must show the same socket after many requests.
REUSING = ("nginx-keepalive", "nginx-keepalive-tcp", "apache-reuse", "haproxy-unix", "haproxy-tcp", "haproxy-mpxs",
           "haproxy-get-values")  # fmt: skip


@pytest.fixture(scope="module", params=WAYS)
def front(request, behind, site):
    kind, tcp, options = WAYS[request.param]
    return behind(
        kind,
        "--workers",
        "2",
        "--docroot",
        str(site),
        "-d",
        "post_max_size=20M",
        tcp=tcp,
        label=request.param,
        **options,
    )


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_get_with_a_query(front):
    page = fetch(front.port, "/get.py?name=J%C3%BCrgen&x=1+2")
    assert (page.status, page.body.decode()) == (200, "name=Jürgen\nx=1 2\n")
    assert page.headers["content-type"] == "text/plain; charset=utf-8"
    assert page.headers["x-method"] == "GET"


def test_post_of_a_form(front):
    page = fetch(
        front.port, "/form.py", b"a=1&b=%C3%A9+%26", headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert (page.status, page.body.decode()) == (200, "a=1\nb=é &\n")


def test_bytes_go_through_as_they_are(front):
    body = ALL_BYTES + os.urandom(1_000_000) + ALL_BYTES[::-1]
    page = fetch(front.port, "/mirror.py", body)
    assert page.status == 200
    assert page.body == body


def test_a_post_without_a_body(front):
    assert fetch(front.port, "/digest.py", b"").body.startswith(b"0 ")


@pytest.mark.parametrize("pieces", [[b"x" * 100] * 3, [os.urandom(10_000)] * 30], ids=["small", "large"])
def test_a_body_of_unknown_length_arrives_whole_or_is_refused_by_the_web_server(front, pieces):
    """FastCGI needs no length, but some web servers want to tell one."""
    whole = b"".join(pieces)
    before = front.pyfpm.log()
    page = fetch(front.port, "/digest.py", iter(pieces))
    if front.software == "haproxy" and len(whole) > 16_384:
        # It waits for the whole body, to tell its length, and refuses what does not fit into its buffer.
        assert page.status in (400, 0)
        assert front.pyfpm.log() == before, "nothing of it reached us"
        return
    assert page.status == 200
    assert page.body.decode().startswith(f"{len(whole)} {digest(whole)} ")


def test_head_has_the_headers_of_get_and_no_body(front):
    page = fetch(front.port, "/get.py?a=1", method="HEAD")
    assert (page.status, page.size) == (200, 0)
    assert page.headers["x-method"] == "HEAD"
    assert page.headers["content-type"] == "text/plain; charset=utf-8"


def test_a_script_that_is_not_there_is_404(front):
    assert fetch(front.port, "/nothing-here.py").status == 404


def test_a_page_that_says_404_has_its_own_words(front):
    page = fetch(front.port, "/missing.py")
    assert (page.status, page.body) == (404, b"no such article")


def test_an_exception_is_500_and_told_to_the_log_alone(front):
    page = fetch(front.port, "/fail.py")
    assert page.status == 500
    assert b"the reason" not in page.body
    assert "the reason is for the log" in front.pyfpm.log()
    eventually(lambda: "the reason is for the log" in front.web.log() or front.software == "caddy", "it is in its log")


def test_a_large_answer_is_whole(front):
    page = fetch(front.port, "/download.py?blocks=16", keep_body=False)
    block = (front.web.root / "block").read_bytes()
    assert (page.status, page.size, page.digest) == (200, 16 * len(block), digest(block * 16))


def test_a_large_upload_is_whole(front):
    body = os.urandom(8_000_000)
    page = fetch(front.port, "/digest.py", body)
    size, received, _ = page.body.decode().split()
    assert (int(size), received) == (len(body), digest(body))


def test_a_body_that_is_too_large_is_413_soon(front):
    """Some stop sending the body when the answer comes, some read no answer before all of it is sent."""
    for _ in range(2):
        assert fetch(front.port, "/digest.py", b"x" * 24_000_000).status == 413
        assert fetch(front.port, "/get.py?a=1").body == b"a=1\n"


def test_the_script_sees_what_it_needs_to_know(front):
    page = fetch(front.port, "/params.py?a=b", headers={"X-Custom": "value", "Cookie": "a=1; b=2"})
    params = json.loads(page.body)
    assert params["REQUEST_METHOD"] == "GET"
    assert params["QUERY_STRING"] == "a=b"
    assert params["REQUEST_URI"] == "/params.py?a=b"
    assert params["HTTP_X_CUSTOM"] == "value"
    assert params["HTTP_COOKIE"] == "a=1; b=2"
    assert params["SCRIPT_NAME"].endswith("/params.py")
    assert "HTTP_PROXY" not in json.loads(fetch(front.port, "/params.py", headers={"Proxy": "http://evil/"}).body)


def test_many_headers_and_long_ones(front):
    # Within what every one of them lets through by default.
    headers = {f"X-Header-{number}": "v" * 100 for number in range(40)}
    params = json.loads(fetch(front.port, "/params.py", headers=headers).body)
    assert all(params[f"HTTP_X_HEADER_{number}"] == "v" * 100 for number in range(40))


def test_many_at_once(front):
    def visit(number: int) -> bool:
        return fetch(front.port, f"/get.py?n={number}").body == b"n=%d\n" % number

    with ThreadPoolExecutor(32) as visitors:
        assert all(visitors.map(visit, range(400)))


def test_requests_after_one_that_failed_are_served(front):
    for path in ("/fail.py", "/nothing-here.py", "/get.py?a=1"):
        for _ in range(3):
            page = fetch(front.port, path)
    assert page.body == b"a=1\n"


def test_connections_are_used_again(front):
    if front.label not in REUSING:
        pytest.skip(f"{front.label} opens a connection for each request")
    workers = front.pyfpm.workers

    def connections() -> set[str]:
        """Of the workers, with what else they have of sockets, which does not change."""
        return set().union(*(processes.sockets(worker) for worker in workers))

    before = connections()
    seen = set()
    visitor = http.client.HTTPConnection("127.0.0.1", front.port, timeout=60)
    for number in range(50):
        visitor.request("GET", f"/get.py?n={number}")
        assert visitor.getresponse().read() == b"n=%d\n" % number
        seen |= connections()
    visitor.close()
    # One would do; HAProxy has them for each of its threads, Apache as well.
    assert len(seen) >= 1 and len(seen - before) <= 5


def test_a_worker_that_dies_in_a_request_is_an_error_of_that_request_alone(front):
    # Each in its own words: 502 nginx, Caddy and HAProxy, 503 Apache, 500 lighttpd.
    assert fetch(front.port, "/leave.py").status in (500, 502, 503)
    for _ in range(4):
        assert fetch(front.port, "/get.py?a=1").body == b"a=1\n"
    eventually(lambda: len(front.pyfpm.workers) == 2, "there is a new worker")
