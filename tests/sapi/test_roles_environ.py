"""What an application and a script are told about the role they are asked in."""

from __future__ import annotations

import contextvars
import io
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeOutput, FakeRequest, process_as_it_was

from pyfpm.protocol import AUTHORIZER, FILTER, RESPONDER
from pyfpm.sapi.mount import mount_of
from pyfpm.sapi.script import ScriptAdapter
from pyfpm.sapi.script_file import ScriptFiles
from pyfpm.sapi.settings import SapiSettings
from pyfpm.sapi.wsgi import WSGIAdapter


def request_of(role: int, params: dict[str, str], data: bytes | None = None) -> FakeRequest:
    request = FakeRequest(params)
    request.role = role
    request.data = None if data is None else io.BytesIO(data)
    return request


def environ_of(role: int, params: dict[str, str], data: bytes | None = None) -> dict[str, Any]:
    seen: list[dict[str, Any]] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(environ)
        start_response("200 OK", [])
        return []

    WSGIAdapter(application, lambda level, text: None)(request_of(role, params, data), FakeOutput())
    return seen[0]


@pytest.mark.parametrize(("role", "name"), [(RESPONDER, "RESPONDER"), (AUTHORIZER, "AUTHORIZER"), (FILTER, "FILTER")])
def test_an_application_is_told_its_role_whatever_a_parameter_says(role, name):
    assert environ_of(role, {"FCGI_ROLE": "what"})["FCGI_ROLE"] == name


def test_the_file_of_a_filter_is_in_the_environ_and_nowhere_else():
    assert environ_of(FILTER, {}, b"file")["fastcgi.data"].read() == b"file"
    assert environ_of(FILTER, {})["fastcgi.data"].read() == b""
    assert "fastcgi.data" not in environ_of(RESPONDER, {})
    assert "fastcgi.data" not in environ_of(AUTHORIZER, {})


@pytest.mark.parametrize(
    ("params", "script_name", "path_info"),
    [
        ({"REQUEST_URI": "/a%C3%A9/b?c=/d"}, "", "/a\xc3\xa9/b"),
        ({"REQUEST_URI": "/"}, "", "/"),
        ({}, "", "/"),
        ({"REQUEST_URI": "/x", "PATH_INFO": "/given"}, "", "/given"),
        ({"REQUEST_URI": "/x", "PATH_INFO": "/given", "SCRIPT_NAME": "/auth"}, "/auth", "/given"),
    ],
)
def test_an_authorizers_path_is_that_of_what_the_visitor_asks_for(params, script_name, path_info):
    environ = environ_of(AUTHORIZER, params)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script_name, path_info)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"SCRIPT_NAME": "/app.fcgi"}, ("/app.fcgi", "")),
        ({"SCRIPT_NAME": "/app.fcgi", "PATH_INFO": "", "DOCUMENT_URI": "/app.fcgi"}, ("/app.fcgi", "")),
        ({"SCRIPT_NAME": "/cgi-bin/app.fcgi", "PATH_INFO": "/x"}, ("/cgi-bin/app.fcgi", "/x")),
        ({"SCRIPT_NAME": "/alias", "SCRIPT_FILENAME": "/srv/app.fcgi"}, ("/alias", "")),
        ({"SCRIPT_NAME": "/other/page"}, ("", "/other/page")),
        ({"SCRIPT_NAME": "/myapp.fcgi"}, ("", "/myapp.fcgi")),
    ],
)
def test_a_program_is_mounted_where_the_web_server_says_that_it_is_the_script(params, expected):
    assert mount_of(params, "/srv/app.fcgi") == expected


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Runs a script in a role, and returns what it answers, or why it did not run."""
    logged: list[str] = []
    authorizer = tmp_path / "authorizer"

    def run(source: str, role: int, data: bytes | None = None, *, as_authorizer: bool = False) -> str:
        script = tmp_path / "site" / "x.py"
        script.parent.mkdir(exist_ok=True)
        script.write_text("echo('the page')" if as_authorizer else source)
        authorizer.write_text(source)
        settings = SapiSettings(authorizer_file=str(authorizer) if as_authorizer else None)
        adapter = ScriptAdapter(ScriptFiles((str(script.parent),)), lambda level, text: logged.append(text), settings)
        output = FakeOutput()
        request = request_of(role, {"SCRIPT_FILENAME": str(script), "REQUEST_METHOD": "GET"}, data)
        contextvars.copy_context().run(adapter, request, output)
        return output.sent.partition(b"\r\n\r\n")[2].decode() + "".join(logged)

    with process_as_it_was():
        yield run


@pytest.mark.parametrize(("role", "name"), [(RESPONDER, "RESPONDER"), (FILTER, "FILTER")])
def test_a_script_is_told_its_role(run, role, name):
    assert run("echo(_SERVER['FCGI_ROLE'])", role) == name


def test_the_authorizer_is_the_one_of_the_configuration_and_sees_what_is_asked_for(run):
    source = "echo(_SERVER['FCGI_ROLE'], ' ', _SERVER['SCRIPT_FILENAME'].rpartition('/')[2])"
    assert run(source, AUTHORIZER, as_authorizer=True) == "AUTHORIZER x.py"


def test_without_one_nothing_runs(run):
    said = run("echo('welcome')", AUTHORIZER)
    assert "welcome" not in said
    assert said.endswith("script not found: it is for an authorizer, and authorizer_file is not set")


def test_data_stream_is_the_file_each_time_from_its_beginning(run):
    source = "echo(data_stream().read(), data_stream().read(2))"
    assert run(source, FILTER, b"file") == "filefi"
    assert run(source, RESPONDER) == ""
