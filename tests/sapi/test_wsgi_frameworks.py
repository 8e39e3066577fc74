"""Flask and Django find their routes, forms and redirects, at a root location and below one."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from support.server import Server
from support.wire import Answer, ask

HERE = str(Path(__file__).parent)


@pytest.fixture(scope="module", params=["flask", "django"])
def framework(request: pytest.FixtureRequest) -> Iterator[Server]:
    if find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    server = Server("--chdir", HERE, f"wsgi_{request.param}")
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.discard()


def at_root(path: str) -> dict[str, str]:
    """nginx's fastcgi_params."""
    return {"SCRIPT_NAME": path, "DOCUMENT_URI": path}


def below_app(path: str) -> dict[str, str]:
    """nginx with fastcgi_split_path_info ^(/app)(.*)$."""
    return {"SCRIPT_NAME": "/app", "PATH_INFO": path, "DOCUMENT_URI": "/app" + path}


PLACES = pytest.mark.parametrize(("place", "prefix"), [(at_root, ""), (below_app, "/app")], ids=["root", "app"])


def get(server: Server, params: dict[str, str], body: bytes = b"", **more: str) -> Answer:
    nginx = {"SERVER_NAME": "site.example", "SERVER_PORT": "80", "HTTP_HOST": "site.example", "REQUEST_SCHEME": "http"}
    if body:
        nginx |= {"CONTENT_TYPE": "application/x-www-form-urlencoded", "HTTP_CONTENT_LENGTH": str(len(body))}
        nginx |= {"HTTP_CONTENT_TYPE": nginx["CONTENT_TYPE"]}
    return ask(server.socket, "/", body, **{**nginx, **params, **more})


@PLACES
def test_routes_are_found(framework, place, prefix):
    answer = get(framework, place("/"))
    assert (answer.status, answer.body) == (200, b"index")
    answer = get(framework, place("/hello/you"), QUERY_STRING="q=1%202")
    assert (answer.status, answer.body) == (200, f"hello you, 1 2, {prefix}/".encode())
    assert answer.head["content-type"].startswith("text/html")
    assert (answer.app_status, answer.stderr) == (0, b"")


@PLACES
def test_a_path_beyond_ascii_is_read_as_utf_8(framework, place, prefix):
    assert get(framework, place("/hello/ren\u00e9")).body == f"hello ren\u00e9, , {prefix}/".encode()


@PLACES
def test_a_form_is_read(framework, place, prefix):
    text = "x" * 100_000
    answer = get(framework, place("/form"), b"name=Ren%C3%A9&text=" + text.encode())
    assert (answer.status, answer.body.decode()) == (200, f"Ren\u00e9|{text}")


@PLACES
def test_a_redirect_leads_to_where_the_application_is(framework, place, prefix):
    answer = get(framework, place("/moved"))
    assert answer.status == 302
    assert answer.head["location"] == f"{prefix}/hello/there"


@PLACES
def test_what_there_is_not_is_404(framework, place, prefix):
    assert get(framework, place("/nosuch")).status == 404


def test_head_has_no_body(framework):
    answer = get(framework, at_root("/"), REQUEST_METHOD="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.head.get("content-length") in (None, "5")
