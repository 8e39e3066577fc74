"""docs/scripts.md is true: its examples are put into a document root, and its commands are run against it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyfpm
from pyfpm.sapi.current import SUPERGLOBALS
from pyfpm.sapi.names import FUNCTIONS
from support.server import Server, public_directory
from support.waiting import PATIENCE_S
from support.webservers import Nginx, program

PAGE = (Path(__file__).parents[2] / "docs" / "scripts.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PYTHON = [text for kind, text in BLOCKS if kind == "python"]
CONSOLES = [text for kind, text in BLOCKS if kind == "console"]
FILES = {found[1]: text for text in PYTHON if (found := re.match(r"# (\w+\.py)\n", text))}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    place = public_directory()
    (place / "uploads").mkdir()
    for name, text in FILES.items():
        (place / name).write_text(text)
    server = Server(
        "--docroot", str(place), "-d", f"session.save_path={place}/uploads", env={"UPLOADS": f"{place}/uploads"}
    )
    server.wait_until_ready()
    nginx = Nginx(server.socket, place)
    yield nginx.port
    nginx.discard()
    server.discard()
    shutil.rmtree(place, ignore_errors=True)


@pytest.mark.parametrize("text", PYTHON, ids=[text.partition("\n")[0] for text in PYTHON])
def test_the_examples_are_python(text):
    compile(text, "docs/scripts.md", "exec")


@pytest.mark.parametrize("session", CONSOLES, ids=[re.search(r"\w+\.py", text)[0] for text in CONSOLES])
def test_its_commands_say_what_the_page_says(port, tmp_path, session):
    program("curl", "curl")
    (tmp_path / "jar").touch()
    for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", session, re.MULTILINE):
        command = re.sub("^curl", "curl -sS", command.replace("http://localhost", f"http://127.0.0.1:{port}"))
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S, env=os.environ
        )
        pattern = re.escape(expected).replace(re.escape("..."), "(?s:.*)")
        assert re.fullmatch(pattern, done.stdout), f"$ {command}\n{done.stdout}{done.stderr}"


def test_every_file_is_asked_for():
    asked = set(re.findall(r"localhost/(\w+\.py)", PAGE))
    assert set(FILES) - asked == {"shop_layout.py"} and asked <= set(FILES)


def test_the_table_has_all_names_and_no_others():
    table = PAGE.partition("## All the names")[2]
    named = set(re.findall(r"`(\w+)(?:\(\))?`", table))
    real = {*FUNCTIONS, *SUPERGLOBALS, "BodyError", "ExecutionTimeout", "SessionError"}
    missing = {name for name in real - named if not name.startswith("UPLOAD_ERR_")}
    assert not missing and not {name for name in real if not name.startswith("_")} - set(pyfpm.__all__)
    called = set(re.findall(r"`(\w+)\(\)`", table)) - {"print"}
    assert called <= set(FUNCTIONS)
