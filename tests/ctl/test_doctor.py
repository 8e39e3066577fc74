"""Why a script is found or not."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from support.master import Ctl, Done
from support.server import Server

Start = Callable[..., Server]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may look with the eyes of others")


@pytest.fixture
def server(pyfpm: Start, place: Path) -> Server:
    (place / "www").mkdir()
    (place / "www/x.py").write_text("echo('fine')\n")
    return pyfpm("--docroot", str(place / "www"))


def verdicts(done: Done) -> list[tuple[str, str]]:
    return [(each["step"], each["verdict"]) for each in done.json["findings"] if each["verdict"] != "note"]


def problem(done: Done) -> str:
    [found] = [each for each in done.json["findings"] if each["verdict"] == "PROBLEM"]
    assert done.status == 1
    assert not done.json["ok"]
    return str(found["text"])


def test_all_is_well(ctl: Ctl, server: Server, place: Path) -> None:
    done = ctl("doctor", "--root", place / "www", "--uri", "/x.py?a=b", "--connect", server.socket)
    assert done.status == 0
    assert f"ok      socket: {server.socket} (" in done.out
    assert f"note    script: SCRIPT_FILENAME is {place}/www/x.py\n" in done.out
    assert "ok      script: it is there and may run\n" in done.out
    assert "ok      answer: the pool answers 200\n" in done.out
    assert "PROBLEM" not in done.out
    done = ctl("doctor", "--root", place / "www", "--uri", "/x.py", "--connect", server.socket, "--json")
    assert done.json["ok"] and done.json["params"]["SCRIPT_FILENAME"] == f"{place}/www/x.py"
    assert [each for each in verdicts(done) if each[0] != "web server"] == [
        ("socket", "ok"), ("script", "ok"), ("answer", "ok"),
    ]  # fmt: skip


def test_script_does_not_run_with_no_request(ctl: Ctl, server: Server, place: Path) -> None:
    (place / "www/run.py").write_text(f"open({str(place / 'ran')!r}, 'w')\n")
    options = ("doctor", "--script-filename", place / "www/run.py", "--connect", server.socket)
    assert ctl(*options, "--no-request").status == 0
    assert not (place / "ran").exists()
    assert ctl(*options).status == 0
    assert (place / "ran").exists()


@pytest.mark.parametrize(
    ("uri", "word"),
    [
        ("/missing.py", "no such file"),
        ("/X.py", "in {root} there is x.py"),
        ("/sub/x.py", "{root} is there, sub in it is not"),
        ("/x.txt/info", "its extension is not one of .py"),
        ("/x.txt", "its extension is not one of .py"),
        ("/dangling.py", "symbolic link to a file that does not exist"),
        ("/dir.py", "not a regular file"),
        ("/broken.py", "cannot be compiled"),
    ],
)
def test_reasons_are_the_pools_own(ctl: Ctl, server: Server, place: Path, uri: str, word: str) -> None:
    (place / "www/dangling.py").symlink_to("nowhere")
    (place / "www/dir.py").mkdir()
    (place / "www/broken.py").write_text("def")
    done = ctl("doctor", "--root", place / "www", "--uri", uri, "--connect", server.socket, "--no-request", "--json")
    assert word.format(root=place / "www") in problem(done)


def test_answer_of_the_pool_is_told(ctl: Ctl, server: Server, place: Path) -> None:
    (place / "outside.py").write_text("")
    # It is there and could run, were it not for the pool's document root, which only the pool knows here.
    done = ctl("doctor", "--script-filename", place / "outside.py", "--connect", server.socket, "--json")
    assert "404" in problem(done) and "it found no script to run" in problem(done)
    (place / "www/fails.py").write_text("1/0")
    done = ctl("doctor", "--root", place / "www", "--uri", "/fails.py", "--connect", server.socket, "--json")
    assert "500" in problem(done) and "ZeroDivisionError" in problem(done)


def test_socket_that_cannot_be_reached_says_what_to_do(ctl: Ctl, place: Path) -> None:
    (place / "x.py").write_text("")
    (place / "near.sock").write_text("")
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(place / "dead.sock"))
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    for address, word in (
        (place / "none.sock", "there is no such socket; is pyfpm running"),
        (place / "none.sock", "there is dead.sock, near.sock"),
        (place / "no/dir.sock", f"there is no directory {place}/no"),
        (place / "near.sock/x", "is a file, not a directory"),
        (place / "near.sock", "is not a socket"),
        (place / "dead.sock", "has ended and left its socket file; start pyfpm"),
        (f"127.0.0.1:{port}", "nobody listens there; start pyfpm"),
    ):
        done = ctl("doctor", "--script-filename", place / "x.py", "--connect", address, "--json")
        assert word in problem(done)
        # Nobody is asked who cannot be reached.
        assert "answer" not in dict(verdicts(done))
    dead.close()


@as_root
def test_web_server_that_may_not_connect(ctl: Ctl, server: Server, place: Path) -> None:
    options = ("doctor", "--root", place / "www", "--uri", "/x.py", "--connect", server.socket, "--json")
    os.chmod(server.socket, 0o600)
    os.chown(server.socket, 0, 0)
    done = ctl(*options, "--web-user", "nobody")
    assert "user nobody may not connect to it: the socket is root:root 0600; set listen.group" in problem(done)
    os.chmod(server.socket, 0o666)
    assert ctl(*options, "--web-user", "nobody").status == 0
    os.chmod(server.directory, 0o700)
    done = ctl(*options, "--web-user", "nobody")
    assert f"the directory {server.directory} (root:root 0700) does not let uid" in problem(done)
    assert "there is no user nobody2" in problem(ctl(*options, "--web-user", "nobody2"))


@as_root
def test_pools_user_that_may_not_read(ctl: Ctl, server: Server, place: Path) -> None:
    options = ("--uri", "/x.py", "--connect", server.socket, "--no-request", "--json", "--user", "nobody")
    assert ctl("doctor", "--root", place / "www", *options).status == 0
    (place / "www").chmod(0o700)
    text = problem(ctl("doctor", "--root", place / "www", *options))
    assert "permission denied for user id" in text
    assert f"{place}/www (root:root 0700)" in text


def test_nginx_file_is_replayed(ctl: Ctl, server: Server, place: Path) -> None:
    (place / "site").write_text(
        f"server {{ root {place}/www; location ~ \\.py$ {{ fastcgi_pass unix:{server.socket};"
        "  fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;"
        "  fastcgi_param REQUEST_METHOD $request_method; } location / { } }"
    )
    done = ctl("doctor", "--nginx", place / "site", "--uri", "/x.py", "--json")
    assert done.status == 0, done.out
    assert done.json["address"] == f"unix:{server.socket}"
    assert done.json["params"] == {
        "SCRIPT_FILENAME": f"{place}/www/x.py", "REQUEST_METHOD": "GET", "HTTP_HOST": "localhost",
    }  # fmt: skip
    done = ctl("doctor", "--nginx", place / "site", "--uri", "/x", "--json")
    assert done.status == 1
    assert "no location with a fastcgi_pass is for /x" in done.json["findings"][0]["text"]


def test_nginx_file_without_script_filename(ctl: Ctl, server: Server, place: Path) -> None:
    (place / "site").write_text(f"location / {{ fastcgi_pass unix:{server.socket}; fastcgi_param A b; }}")
    done = ctl("doctor", "--nginx", place / "site", "--uri", "/x.py", "--no-request")
    assert done.status == 1
    assert "PROBLEM nginx: no SCRIPT_FILENAME is sent; add: fastcgi_param SCRIPT_FILENAME" in done.out


def test_nginx_file_of_an_application_needs_no_script_filename(ctl: Ctl, server: Server, place: Path) -> None:
    """It used to be told to send one."""
    (place / "site").write_text(f"location / {{ fastcgi_pass unix:{server.socket}; fastcgi_param PATH_INFO $uri; }}")
    done = ctl("doctor", "--nginx", place / "site", "--uri", "/x", "--no-request")
    assert done.status == 0, done.out
    assert "note    nginx: no SCRIPT_FILENAME is sent, as for an application" in done.out
