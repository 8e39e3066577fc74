"""Edit a file, refresh the page: what is served is what is there, and never a mix."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from support.waiting import eventually
from support.wire import Wire, ask

INTERVAL_S = 0.1


@pytest.fixture
def site(tmp_path: Path):
    def write(name: str, source: str) -> str:
        # As editors and deployments do: whole, at once.
        new = tmp_path / f"{name}.new"
        new.parent.mkdir(exist_ok=True)
        new.write_text(source)
        new.rename(tmp_path / name)
        return str(tmp_path / name)

    return write


@pytest.fixture
def scripts(pyfpm, site, tmp_path):
    page = site("page.py", "import a, b\necho(a.VALUE, b.VALUE)")
    site("a.py", "VALUE = 'one '")
    site("b.py", "VALUE = 'one'")
    return pyfpm("--docroot", str(tmp_path), "--workers", "2", "-d", f"python.revalidate={INTERVAL_S}"), page


def test_an_edit_of_a_module_is_seen_without_a_restart(scripts, site):
    server, page = scripts
    assert ask(server.socket, page).body == b"one one"
    before = set(server.workers)
    for value in ("two", "three", "four!"):
        site("b.py", f"VALUE = {value!r}")
        eventually(lambda value=value: ask(server.socket, page).body == f"one {value}".encode(), f"{value} is served")
    # Whoever had the old one was replaced after it had imported the new one; who did not run has nothing to forget.
    eventually(lambda: before - set(server.workers) and len(server.workers) == 2, "a worker was replaced")


def test_two_edits_are_never_mixed(scripts, site):
    """Both modules carry a number; a page has one of each, and both are edited before it is asked for."""
    server, page = scripts
    seen = set()
    for number in range(20):
        for name in ("a", "b"):
            site(f"{name}.py", f"VALUE = '{number} '")
        with Wire(server.socket) as wire:
            for _ in range(10):
                first, second = wire.ask(page, keep=True).body.split()
                assert first == second
                seen.add(first)
    assert seen


def test_a_syntax_error_is_a_500_with_file_and_line_and_goes_away(pyfpm, site, tmp_path):
    page = site("page.py", "import a\necho(a.VALUE)")
    site("a.py", "VALUE = 'one'")
    server = pyfpm(
        "--docroot", str(tmp_path), "-d", f"python.revalidate={INTERVAL_S}", "-d", "display_errors=yes"
    )  # fmt: skip
    assert ask(server.socket, page).body == b"one"
    site("a.py", "VALUE = (\n")
    eventually(lambda: ask(server.socket, page).status == 500, "the error is served")
    answer = ask(server.socket, page)
    for shown in (answer.body.decode(), answer.stderr.decode(), server.log()):
        assert "a.py" in shown and "line 1" in shown and "SyntaxError" in shown
    site("a.py", "VALUE = 'mended'")
    assert ask(server.socket, page).body == b"mended"
    site("page.py", "echo(")
    assert ask(server.socket, page).status == 500
    site("page.py", "echo('page mended')")
    assert ask(server.socket, page).body == b"page mended"


def test_without_revalidation_a_module_stays(pyfpm, site, tmp_path):
    page = site("page.py", "import a\necho(a.VALUE)")
    site("a.py", "VALUE = 'one'")
    server = pyfpm("--docroot", str(tmp_path), "-d", "python.revalidate=0")
    assert ask(server.socket, page).body == b"one"
    worker = server.workers
    site("a.py", "VALUE = 'two'")
    assert ask(server.socket, page).body == b"one"
    assert server.workers == worker


def test_no_request_is_lost_while_modules_change(scripts, site):
    server, page = scripts
    done = threading.Event()
    failures: list[object] = []

    def load() -> None:
        with Wire(server.socket) as wire:
            while not done.is_set():
                answer = wire.ask(page, keep=True)
                if answer.status != 200:
                    failures.append(answer)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(10):
        site("b.py", f"VALUE = '{number}'")
        eventually(lambda number=number: ask(server.socket, page).body.endswith(str(number).encode()), "it is served")
    done.set()
    for thread in threads:
        thread.join()
    assert not failures


APP = "import views\ndef application(environ, start):\n    start('200 OK', [])\n    return [views.page()]\n"


def view(text: str) -> str:
    return f"def page():\n    return {text.encode()!r}\n"


def test_an_application_is_loaded_again(pyfpm, site, tmp_path):
    site("wsgi.py", APP)
    site("views.py", view("one"))
    server = pyfpm("wsgi:application", "--chdir", str(tmp_path), "-d", f"python.revalidate={INTERVAL_S}")
    assert ask(server.socket).body == b"one"
    site("views.py", view("two"))
    eventually(lambda: ask(server.socket).body == b"two", "the new code is served")
    site("views.py", "def page(:\n")
    eventually(lambda: server.logged("the changed application cannot be loaded, the old one goes on"), "it is told")
    assert ask(server.socket).body == b"two"
    assert "SyntaxError" in server.log()
    site("views.py", view("three"))
    eventually(lambda: ask(server.socket).body == b"three", "mended, it is served")
    assert server.logged("the changed application cannot be loaded") == 1


def test_an_application_named_by_its_file_is_loaded_again(pyfpm, site, tmp_path):
    path = site("site.py", "def app(environ, start):\n    start('200 OK', [])\n    return [b'one']\n")
    server = pyfpm(path, "-d", f"python.revalidate={INTERVAL_S}")
    assert ask(server.socket).body == b"one"
    site("site.py", "def app(environ, start):\n    start('200 OK', [])\n    return [b'two']\n")
    eventually(lambda: ask(server.socket).body == b"two", "the new code is served")


def test_an_application_stays_by_default(pyfpm, site, tmp_path):
    site("wsgi.py", APP)
    site("views.py", view("one"))
    server = pyfpm("wsgi:application", "--chdir", str(tmp_path))
    assert ask(server.socket).body == b"one"
    worker = server.workers
    site("views.py", view("two"))
    os.utime(tmp_path / "views.py")
    assert (ask(server.socket).body, server.workers) == (b"one", worker)


def test_a_reload_does_not_wait_for_a_changed_application_that_hangs(pyfpm, site, tmp_path):
    """Who may edit one pool's files could keep the operator from reloading any."""
    site("wsgi.py", APP)
    site("views.py", view("one"))
    server = pyfpm("wsgi:application", "--chdir", str(tmp_path), "-d", f"python.revalidate={INTERVAL_S}")
    assert ask(server.socket).body == b"one"
    site("views.py", "open('hangs', 'w').close()\nimport time\ntime.sleep(1000)\n")
    eventually((tmp_path / "hangs").exists, "its import hangs")
    site("views.py", view("two"))
    server.control("reload")
    assert ask(server.socket).body == b"two"
    site("views.py", view("three"))
    eventually(lambda: ask(server.socket).body == b"three", "changes are still seen")


TELLS_LIES = """
import gc

def application(environ, start):
    start("200 OK", [])
    control = next(each for each in gc.get_objects() if type(each).__name__ == "Control")
    for number in range(200):
        control.send("c", f"{10**18 * 9 + number} /lie")
    return [b"told"]
"""


def test_a_worker_that_says_so_again_and_again_has_no_more_tried_for_it(pyfpm, site, tmp_path):
    """Each time was a task of the master's, which waited for its turn, and a line in the log."""
    site("wsgi.py", TELLS_LIES)
    server = pyfpm("wsgi:application", "--chdir", str(tmp_path), "-d", "python.revalidate=1000")
    worker = server.worker
    assert ask(server.socket).body == b"told"
    eventually(lambda: worker not in server.workers, "it is loaded again")
    server.control("reload")
    assert server.logged("loading the application again") <= 2
