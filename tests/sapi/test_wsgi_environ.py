"""environ: what web servers send, and what WSGI promises an application."""

from __future__ import annotations

import io
from typing import Any

import pytest

from pyfpm.sapi.wsgi import WSGIAdapter
from pyfpm.worker.body import Body
from support.wsgi import GET, FakeRequest, Ran, answering, run

Environ = dict[str, Any]


def environ_of(params: dict[str, str], body: bytes = b"", **more: Any) -> Environ:
    """The environ of a request with only these parameters. The body is read before the request ends."""
    seen: list[Environ] = []

    def application(environ: Environ, start_response: Any) -> list[bytes]:
        seen.append({**environ, "body": environ["wsgi.input"].read()})
        start_response("200 OK", [])
        return []

    nothing = dict.fromkeys(GET, "")
    ran = run(application, {**nothing, **params}, body, **more)
    assert not ran.log, ran.log
    return seen[0]


# -- the path ---------------------------------------------------------------------------------------------------------

# What each web server sends for a request of /app/page with the application at the root, or at /app; facts that our
# interoperability tests have from the real ones.
PATHS = {
    "nginx": ({"SCRIPT_NAME": "/app/page", "DOCUMENT_URI": "/app/page"}, "", "/app/page"),
    "nginx, the root": ({"SCRIPT_NAME": "/", "DOCUMENT_URI": "/"}, "", "/"),
    "nginx, PATH_INFO without a split": (
        {"SCRIPT_NAME": "/app/page", "PATH_INFO": "", "DOCUMENT_URI": "/app/page"}, "", "/app/page"),
    "nginx, split": ({"SCRIPT_NAME": "/app", "PATH_INFO": "/page", "DOCUMENT_URI": "/app/page"}, "/app", "/page"),
    "nginx, split, the mount itself": (
        {"SCRIPT_NAME": "/app", "PATH_INFO": "/", "DOCUMENT_URI": "/app/"}, "/app", "/"),
    "nginx, split behind the slash": (
        {"SCRIPT_NAME": "/app/", "PATH_INFO": "page", "DOCUMENT_URI": "/app/page"}, "/app", "/page"),
    "nginx, split at the root": (
        {"SCRIPT_NAME": "/", "PATH_INFO": "app/page", "DOCUMENT_URI": "/app/page"}, "", "/app/page"),
    "nginx, PATH_INFO by hand": ({"SCRIPT_NAME": "", "PATH_INFO": "/app/page"}, "", "/app/page"),
    "Apache": ({"SCRIPT_NAME": "/app/page"}, "", "/app/page"),
    "Apache, the root": ({"SCRIPT_NAME": "/"}, "", "/"),
    "Apache, path info": ({"SCRIPT_NAME": "/app", "PATH_INFO": "/page"}, "/app", "/page"),
    "lighttpd": ({"SCRIPT_NAME": "/app/page"}, "", "/app/page"),
    "lighttpd, fix-root-scriptname": ({"SCRIPT_NAME": "", "PATH_INFO": "/app/page"}, "", "/app/page"),
    "lighttpd, mounted": ({"SCRIPT_NAME": "/app", "PATH_INFO": "/page"}, "/app", "/page"),
    "Caddy": ({"SCRIPT_NAME": "/app/page", "PATH_INFO": "", "DOCUMENT_URI": "/app/page"}, "", "/app/page"),
    "Caddy, split": ({"SCRIPT_NAME": "/app", "PATH_INFO": "/page", "DOCUMENT_URI": "/app"}, "/app", "/page"),
    "HAProxy": ({"SCRIPT_NAME": "/app/page"}, "", "/app/page"),
    "HAProxy, path-info": ({"SCRIPT_NAME": "/app", "PATH_INFO": "/page"}, "/app", "/page"),
    "h2o": ({"SCRIPT_NAME": "", "PATH_INFO": "/app/page"}, "", "/app/page"),
    "h2o, mounted": ({"SCRIPT_NAME": "/app", "PATH_INFO": "/page"}, "/app", "/page"),
    "h2o, mounted, the mount itself": ({"SCRIPT_NAME": "/app", "PATH_INFO": ""}, "/app", ""),
    "both empty": ({"SCRIPT_NAME": "", "PATH_INFO": ""}, "", "/"),
    "neither": ({}, "", "/"),
}  # fmt: skip


@pytest.mark.parametrize("server", PATHS)
def test_the_path_is_split_as_the_application_expects(server):
    params, script_name, path_info = PATHS[server]
    environ = environ_of_only(params)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script_name, path_info)


def environ_of_only(params: dict[str, str]) -> Environ:
    request = FakeRequest(dict(params))
    WSGIAdapter(answering([]), lambda level, text: None)(request, Ran())
    return request.params


def test_a_path_is_latin_1_of_its_bytes():
    path = "/caf\xc3\xa9"  # what /caf%C3%A9 is, each byte a character
    environ = environ_of({"SCRIPT_NAME": path})
    assert environ["PATH_INFO"] == path
    assert environ["PATH_INFO"].encode("latin-1").decode() == "/caf\u00e9"


# -- what must be there -----------------------------------------------------------------------------------------------


def test_a_request_of_nothing_has_what_wsgi_promises():
    environ = environ_of_only({})
    assert environ["REQUEST_METHOD"] == "GET"
    assert environ["SERVER_NAME"] == "localhost"
    assert environ["SERVER_PORT"] == "80"
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.0"
    assert environ["wsgi.version"] == (1, 0)
    assert environ["wsgi.run_once"] is False
    assert environ["wsgi.multithread"] is False, "a worker runs one request at a time"
    assert type(environ) is dict


@pytest.mark.parametrize(("scheme", "port"), [("http", "80"), ("https", "443")])
def test_an_empty_server_name_or_port_is_made_up_for(scheme, port):
    """nginx sends them empty with ``server_name ""`` and when it listens on a unix socket; PEP 3333 forbids that."""
    environ = environ_of({"SERVER_NAME": "", "SERVER_PORT": "", "REQUEST_SCHEME": scheme})
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("localhost", port)


@pytest.mark.parametrize(
    ("params", "scheme"),
    [
        ({}, "http"),
        ({"HTTPS": "on"}, "https"),
        ({"HTTPS": "1"}, "https"),
        ({"HTTPS": ""}, "http"),
        ({"HTTPS": "off"}, "http"),
        ({"HTTPS": "OFF"}, "http"),
        ({"REQUEST_SCHEME": "https"}, "https"),
        ({"REQUEST_SCHEME": "http"}, "http"),
        ({"REQUEST_SCHEME": "http", "HTTPS": "on"}, "https"),
        ({"REQUEST_SCHEME": "https", "HTTPS": ""}, "https"),
        ({"HTTP_X_FORWARDED_PROTO": "https"}, "http"),
    ],
    ids=str,
)
def test_the_scheme_is_what_the_web_server_says_and_not_its_client(params, scheme):
    assert environ_of(params)["wsgi.url_scheme"] == scheme


@pytest.mark.parametrize("multiprocess", [True, False])
def test_multiprocess_is_true_where_there_are_several(multiprocess):
    assert environ_of({}, multiprocess=multiprocess)["wsgi.multiprocess"] is multiprocess


def test_the_proxy_header_of_a_client_does_not_get_through():
    """httpoxy, CVE-2016-5385: many HTTP clients take HTTP_PROXY for a setting."""
    environ = environ_of({"HTTP_PROXY": "evil.example:80", "HTTP_PROXY_CONNECTION": "keep-alive"})
    assert "HTTP_PROXY" not in environ
    assert environ["HTTP_PROXY_CONNECTION"] == "keep-alive"


def test_content_type_and_length_are_there_once():
    environ = environ_of({"CONTENT_TYPE": "a/b", "HTTP_CONTENT_TYPE": "a/b", "HTTP_CONTENT_LENGTH": "2"}, b"ab")
    assert environ["CONTENT_TYPE"] == "a/b"
    assert not {"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"} & set(environ)


# -- the body ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("announced", "came", "length"),
    [("4", b"body", "4"), ("2", b"body", "4"), ("9", b"body", "4"), ("", b"body", "4"), ("-1", b"body", "4"),
     (None, b"body", "4"), ("9", b"", "0"), ("0", b"", "0"), ("", b"", ""), (None, b"", None)],
    ids=repr,
)  # fmt: skip
def test_content_length_is_what_came(announced, came, length):
    environ = environ_of({} if announced is None else {"CONTENT_LENGTH": announced}, came)
    assert environ.get("CONTENT_LENGTH") == length
    assert environ["body"] == came
    assert environ["wsgi.input_terminated"] is True


LINES = b"first line\nsecond\n\nlast, without an end"


@pytest.mark.parametrize("threshold", [1024, 4], ids=["in memory", "in a file"])
@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda f: f.read(), LINES),
        (lambda f: f.read(-1), LINES),
        (lambda f: f.read(5), b"first"),
        (lambda f: f.read(0), b""),
        (lambda f: f.read(1000), LINES),
        (lambda f: f.read() + f.read(), LINES),
        (lambda f: [f.read(9), f.read(9), f.read(99), f.read(1)], [LINES[:9], LINES[9:18], LINES[18:], b""]),
        (lambda f: f.readline(), b"first line\n"),
        (lambda f: f.readline(5), b"first"),
        (lambda f: [f.readline() for _ in range(5)], [*LINES.splitlines(True), b""]),
        (lambda f: f.readlines(), LINES.splitlines(True)),
        (lambda f: f.readlines(12), LINES.splitlines(True)[:2]),
        (lambda f: list(f), LINES.splitlines(True)),
        (lambda f: [f.readline(), f.read(3), next(f)], [b"first line\n", b"sec", b"ond\n"]),
        (lambda f: f.seek(6) and f.readline(), b"line\n"),
    ],
    ids=["read", "read -1", "read 5", "read 0", "read more", "read twice", "read on", "readline", "readline 5",
         "readline on", "readlines", "readlines hint", "iteration", "mixed", "seek"],
)  # fmt: skip
def test_wsgi_input_is_read_in_every_way_there_is(read, expected, threshold, tmp_path):
    body = Body(threshold, str(tmp_path))
    for at in range(0, len(LINES), 7):
        body.append(LINES[at : at + 7])
    assert body.in_file == (threshold == 4)
    seen: list[Any] = []

    def application(environ: Environ, start_response: Any) -> list[bytes]:
        seen.append(read(environ["wsgi.input"]))
        start_response("200 OK", [])
        return []

    with body.open() as stdin:
        ran = run(application, {"REQUEST_METHOD": "POST"}, stdin=stdin)
    assert not ran.log, ran.log
    assert seen == [expected]


def test_wsgi_input_without_a_body_is_empty():
    assert environ_of({})["body"] == b""
    assert isinstance(environ_of({})["wsgi.input"], io.BytesIO)
