"""What a CGI program finds in its environment, and how it is found out whether it runs here or as a process."""

from __future__ import annotations

import os
import sys

import pytest

from pyfpm.sapi.cgi.kind import Kind, kind_of
from pyfpm.sapi.cgi.variables import (
    DEFAULT_PATH,
    of_the_process,
    of_the_request,
    search_words,
    split_path,
    without_those_of_requests,
)
from pyfpm.sapi.cgi.variables import _known as known

ALWAYS = {"GATEWAY_INTERFACE": "CGI/1.1", "QUERY_STRING": "", "REQUEST_METHOD": "GET"}


@pytest.mark.parametrize(
    ("params", "ours", "size", "found"),
    [
        ({}, {}, None, {}),
        ({"SERVER_NAME": "a"}, {}, None, {"SERVER_NAME": "a"}),
        ({"GIT_PROJECT_ROOT": "/srv"}, {}, None, {"GIT_PROJECT_ROOT": "/srv"}),
        ({"HTTP_PROXY": "http://evil/"}, {}, None, {}),
        ({"LD_PRELOAD": "/evil.so", "PYTHONPATH": "/evil", "PERL5OPT": "-M", "BASH_ENV": "/e"}, {}, None, {}),
        ({"PATH": "/evil", "HOME": "/evil"}, {}, None, {}),
        ({"FCGI_ROLE": "RESPONDER", "PHP_VALUE": "a=b"}, {}, None, {}),
        ({"DATABASE": "evil"}, {"DATABASE": "ours"}, None, {}),
        ({"SERVER_NAME": "a"}, {"SERVER_NAME": "of the container"}, None, {"SERVER_NAME": "a"}),
        ({"REMOTE_USER": "", "AUTH_TYPE": "", "CONTENT_TYPE": "", "PATH_INFO": ""}, {}, None, {}),
        ({"CONTENT_LENGTH": "", "DOCUMENT_ROOT": ""}, {}, None, {"DOCUMENT_ROOT": ""}),
        ({"CONTENT_LENGTH": "5"}, {}, 7, {"CONTENT_LENGTH": "7"}),
        ({"CONTENT_LENGTH": ""}, {}, 7, {"CONTENT_LENGTH": "7"}),
        ({"CONTENT_LENGTH": "5"}, {}, None, {"CONTENT_LENGTH": "0"}),
        ({"REQUEST_METHOD": "POST"}, {}, None, {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": "0"}),
        ({"GATEWAY_INTERFACE": "CGI/1.2"}, {}, None, {"GATEWAY_INTERFACE": "CGI/1.2"}),
        ({"A=B": "x", "": "x", "A B": "x", "A\0": "x", "A\n": "x", "1A": "x", "A\xe9": "x"}, {}, None, {}),
        ({"HTTP_X": "a\0b"}, {}, None, {}),
        ({"HTTP_X": "\xc3\xa9\xff"}, {}, None, {"HTTP_X": "é\udcff"}),
    ],
)
def test_a_request_sets_its_own_variables_and_nothing_else(params, ours, size, found):
    variables = of_the_request(params, ours, size)
    assert {os.fsdecode(name): os.fsdecode(value) for name, value in variables.items()} == ALWAYS | found


def test_a_process_is_given_what_it_needs_of_our_environment_and_what_the_operator_names():
    environ = {
        "PATH": "/bin", "LANG": "C.UTF-8", "LC_TIME": "de_DE", "TZ": "UTC", "HOME": "/root", "SECRET": "x",
        "GIVEN": "y", "REMOTE_USER": "admin", "HTTP_PROXY": "http://proxy/",
    }  # fmt: skip
    kept = of_the_process(environ, ["GIVEN"])
    assert sorted(kept) == ["GIVEN", "HOME", "LANG", "LC_TIME", "PATH", "TZ"]


def test_in_this_process_variables_that_look_like_a_requests_are_not_seen():
    environ = {"PATH": "/bin", "SECRET": "x", "REMOTE_USER": "admin", "SERVER_PORT": "1", "SSL_CERT_FILE": "/c"}
    assert sorted(without_those_of_requests(environ)) == ["PATH", "SECRET", "SSL_CERT_FILE"]
    assert without_those_of_requests(environ, ["SERVER_PORT"])["SERVER_PORT"] == "1"


def test_there_is_always_a_path():
    assert of_the_process({}) == without_those_of_requests({}) == {"PATH": DEFAULT_PATH}


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", []),
        ("a", ["a"]),
        ("a+b", ["a", "b"]),
        ("a%20b+c%2Bd%3D", ["a b", "c+d="]),
        ("a=b", []),
        ("a+b=c", []),
        ("%C3%A9%ff", ["é\udcff"]),
        ("a%00b", []),
    ],
)
def test_a_query_without_an_equals_sign_is_a_command_line(query, words):
    assert search_words({"REQUEST_METHOD": "GET", "QUERY_STRING": query}) == words
    assert search_words({"REQUEST_METHOD": "POST", "QUERY_STRING": query}) == []


OWN = f"python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        ("#!/usr/bin/env python3", Kind(True)),
        ("#!/usr/bin/env python", Kind(True)),
        ("#! /usr/bin/env  python3 ", Kind(True)),
        ("#!/usr/bin/env -S python3 -u", Kind(True, True)),
        ("#!/usr/bin/python3", Kind(True)),
        ("#!/usr/bin/python3\r", Kind(True)),
        ("#!/usr/local/bin/python", Kind(True)),
        (f"#!/usr/bin/{OWN}", Kind(True)),
        ("#!/usr/bin/python3 -u", Kind(True, True)),
        ("#!/usr/bin/python3 -sBu", Kind(True, True)),
        ("#!/usr/bin/python3 -E", Kind(True)),
        ("#!/usr/bin/python3 -I", Kind(False)),
        ("#!/usr/bin/python3 -O", Kind(False)),
        ("#!/usr/bin/python3 -m x", Kind(False)),
        ("#!/usr/bin/python2", Kind(False)),
        ("#!/usr/bin/python3.1", Kind(False)),
        ("#!/usr/bin/pythonw", Kind(False)),
        ("#!/opt/site/venv/bin/python3", Kind(False)),
        ("#!python3", Kind(False)),
        ("#!/usr/bin/env A=b python3", Kind(False)),
        ("#!/usr/bin/env -i python3", Kind(False)),
        ("#!/usr/bin/env", Kind(False)),
        ("#!", Kind(False)),
        ("#!/usr/bin/perl", Kind(False)),
        ("#!/bin/sh", Kind(False)),
        ("\x7fELF", Kind(False)),
        ("import os", Kind(False)),
        ("", Kind(False)),
    ],
)
def test_the_first_line_says_whether_a_program_runs_here(first, kind):
    assert kind_of(os.fsencode(first + "\nimport sys\n"), "/srv/cgi-bin/x.cgi") == kind
    assert kind_of(os.fsencode(first), "/srv/cgi-bin/x.cgi") == kind


def test_without_a_first_line_python_is_known_by_its_name():
    assert kind_of(b"import os\n", "/srv/x.py") == Kind(True)
    assert kind_of(b"#!/bin/sh\n", "/srv/x.py") == Kind(False)


def test_our_own_interpreter_is_ours_wherever_it_is():
    assert kind_of(f"#!{os.path.dirname(sys.executable)}/python3\n".encode(), "x") == Kind(True)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("/cgi-bin/x.cgi", {"SCRIPT_NAME": "/cgi-bin/x.cgi"}),
        (
            "/cgi-bin/x.cgi/a/x.cgi/b",
            {"SCRIPT_NAME": "/cgi-bin/x.cgi", "PATH_INFO": "/a/x.cgi/b", "PATH_TRANSLATED": "/srv/a/x.cgi/b"},
        ),
        ("/cgi-bin/x.cgi/", {"SCRIPT_NAME": "/cgi-bin/x.cgi", "PATH_INFO": "/", "PATH_TRANSLATED": "/srv/"}),
        ("/alias/more", {"SCRIPT_NAME": "/alias/more"}),
        ("/cgi-bin/not-x.cgi/a", {"SCRIPT_NAME": "/cgi-bin/not-x.cgi/a"}),
    ],
)
def test_path_info_is_what_comes_behind_the_scripts_name(name, found):
    params = {"SCRIPT_NAME": name, "DOCUMENT_ROOT": "/srv/"}
    split_path(params, "/usr/lib/cgi-bin/x.cgi")
    assert params == found | {"DOCUMENT_ROOT": "/srv/"}


def test_long_names_that_visitors_make_up_are_not_remembered():
    name = "HTTP_" + "X" * 1000
    assert of_the_request({name: "1"}, {}, None)[name.encode()] == b"1"
    assert name not in known
