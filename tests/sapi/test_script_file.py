"""From SCRIPT_FILENAME to a file: what runs, and what is only told to the operator."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import time

import pytest
from fakes import Site, process_as_it_was

from pyfpm.sapi.paths import script_path
from pyfpm.sapi.script_file import NotRunnable, ScriptFiles
from support.server import public_directory

GOOD = "echo('good')"


@pytest.fixture
def site(tmp_path):
    with process_as_it_was():
        yield Site(tmp_path)


def is_404(answer, *reasons):
    assert answer.status == 404 and answer.text == "File not found.\n", answer.text
    assert answer.stderr == "Primary script unknown"
    assert answer.app_status == 255
    ((level, text),) = answer.logged
    assert level == "WARNING"
    for reason in ("SCRIPT_FILENAME", *reasons):
        assert reason in text, text
    assert "\n" not in text and "\0" not in text
    return True


@pytest.mark.parametrize(
    ("filename", "reason"),
    [
        ("", "is not set"),
        ("x.py", "not an absolute path"),
        ("{root}/missing.py", "no such file"),
        ("{root}/missing/x.py", "no such file"),
        ("{root}/x.py ", "extension"),
        ("{root}/x.py.", "extension"),
        ("{root}/x.PY", "extension"),
        ("{root}/x.p\u2019", "extension"),
        ("{root}/x.txt", "extension"),
        ("{root}/x", "extension"),
        ("{root}/x.txt/.py", "not a directory"),
        ("{root}/missing.py/y.py", "no such file"),
        ("{root}/directory.py/", "not a regular file"),
        ("{root}/directory.py/y.py", "no such file"),
        ("{root}/x.py\0.txt", "control character"),
        ("{root}/x.txt\0.py", "control character"),
        ("{root}/a\n[23-Nov-2026] NOTICE: forged.py", "control character"),
        ("{root}/\x1b[2Jx.py", "control character"),
        ("{root}/directory.py", "not a regular file"),
        ("{root}/fifo.py", "not a regular file"),
        ("{root}/socket.py", "SCRIPT_FILENAME"),
        ("{root}/dangling.py", "symbolic link to a file that does not exist"),
        ("{root}/loop.py", "Too many levels"),
        ("{root}/leads_out.py", "a symbolic link leads outside"),
        ("{root}/leads_to_text.py", "extension of the file itself"),
        ("{root}/../outside/x.py", "it is outside"),
        ("{root}2/x.py", "it is outside"),
        ("/etc/passwd", "extension"),
        ("/dev/stdin", "extension"),
        ("{root}/" + "x" * 300 + ".py", "too long"),
    ],
)  # fmt: skip
def test_what_may_not_run_is_not_found_and_the_log_says_why(tmp_path, filename, reason):
    root, outside = tmp_path / "www", tmp_path / "outside"
    for directory in (root, outside, tmp_path / "www2", root / "directory.py"):
        directory.mkdir()
        (directory / "x.py").write_text(GOOD)
    (root / "x.txt").write_text(GOOD)
    os.mkfifo(root / "fifo.py")
    (root / "dangling.py").symlink_to("nowhere.py")
    (root / "loop.py").symlink_to("loop.py")
    (root / "leads_out.py").symlink_to(outside / "x.py")
    (root / "leads_to_text.py").symlink_to("x.txt")
    with socket.socket(socket.AF_UNIX) as listener, process_as_it_was():
        os.chdir(root)
        listener.bind("socket.py")  # a path of its own may be too long
        assert is_404(Site(root).ask(filename.format(root=root)), reason)


def test_an_absent_script_filename_tells_what_to_write(site):
    with pytest.raises(NotRunnable, match="fastcgi_param SCRIPT_FILENAME"):
        ScriptFiles(()).find({})


@pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to become somebody who may not read it")
def test_an_unreadable_file_is_not_found():
    root = public_directory()
    try:
        with process_as_it_was():
            site = Site(root)
            path = site.write(GOOD)
            path.chmod(0)
            os.seteuid(65534)
            try:
                answer = site.ask(str(path))
            finally:
                os.seteuid(0)
    finally:
        shutil.rmtree(root)
    assert is_404(answer, "permission denied for user id 65534")


@pytest.mark.parametrize("name", ["x.py", "a b.py", "ü€.py", "\udcff.py", "100%25.py", "a\\b.py"])
def test_a_file_runs_whatever_its_name(site, name):
    path = site.write(b"echo(__file__)", name)
    assert site.ask(str(path)).body == os.fsencode(path)


def test_a_root_with_a_name_that_is_not_ascii_holds_its_scripts(tmp_path):
    root = tmp_path / "wé€"
    root.mkdir()
    with process_as_it_was():
        assert Site(root).run("import os\necho(os.getcwd())").text == str(root)
        (root / "out.py").symlink_to(__file__)
        assert is_404(Site(root).ask(str(root / "out.py")), "a symbolic link leads outside", "wé€/out.py")


def test_links_inside_of_the_roots_are_followed(tmp_path):
    (tmp_path / "releases" / "1").mkdir(parents=True)
    (tmp_path / "current").symlink_to("releases/1")
    with process_as_it_was():
        site = Site(tmp_path / "current")
        site.run(GOOD)
        (tmp_path / "current" / "link.py").symlink_to("x.py")
        for name in ("current/x.py", "releases/1/x.py", "current/link.py", "releases/../current/x.py"):
            assert site.ask(str(tmp_path / name)).text == "good"


def test_there_can_be_two_roots_or_none(tmp_path):
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.py").write_text("")
    files = ScriptFiles((str(tmp_path / "a"), str(tmp_path / "b") + "/"))
    for name in "ab":
        assert files.find({"SCRIPT_FILENAME": f"{tmp_path}/{name}/x.py"}).path == f"{tmp_path}/{name}/x.py"
    with pytest.raises(NotRunnable, match="outside"):
        files.find({"SCRIPT_FILENAME": f"{tmp_path}/c/x.py"})
    assert ScriptFiles(()).find({"SCRIPT_FILENAME": f"{tmp_path}/c/x.py"})


@pytest.mark.parametrize(
    ("filename", "path"),
    [
        ("/srv/x.py", "/srv/x.py"),
        ("/srv/a%20b.py", "/srv/a%20b.py"),
        ("proxy:fcgi://127.0.0.1:9000/srv/x.py", "/srv/x.py"),
        ("proxy:fcgi://[::1]:9000/srv/x.py?a=/b.py", "/srv/x.py"),
        ("proxy:fcgi://localhost/srv/a%20b.py", "/srv/a%20b.py"),
        ("proxy:balancer://pool/srv/x.py?q", "/srv/x.py"),
        ("proxy:unix:/run/f.sock|fcgi://localhost/srv/x.py", "/srv/x.py"),
        ("proxy:fcgi://localhost", ""),
    ],
)
def test_apaches_additions_are_taken_off(filename, path):
    assert script_path(filename) == path


@pytest.mark.parametrize("prefix", ["proxy:fcgi://127.0.0.1:9000", "proxy:balancer://pool"])
def test_apaches_path_is_found_as_it_comes_and_percent_decoded(site, prefix):
    """ProxyPass encodes it and SetHandler does not; a percent sign in a name was decoded in any case."""
    for name in ("a b.py", "\u00fc.py", "100%25.py"):
        site.write(f"echo({name!a})", name)
    for _ in range(2):
        assert site.ask(f"{prefix}{site.root}/a%20b.py?a=1").text == "a b.py"
        assert site.ask(f"{prefix}{site.root}/%C3%BC.py").text == "\u00fc.py"
        assert site.ask(f"{prefix}{site.root}/100%25.py").text == "100%25.py"
        time.sleep(0.05)  # for them to be kept
    for name in ("x%00.py", "..%2f..%2fetc%2fx.py", "%2e%2e/%2e%2e/x.py", "x%20.py"):
        assert is_404(site.ask(f"{prefix}{site.root}/{name}"))


def test_under_apache_another_query_is_the_same_script(site):
    """Each query was compiled anew, and kept beside the others."""
    path = site.write(GOOD)
    time.sleep(0.05)
    files = ScriptFiles((str(site.root),))
    found = {files.find({"SCRIPT_FILENAME": f"proxy:fcgi://localhost{path}?n={n}"}) for n in range(3)}
    assert len(found) == 1


def test_a_deployment_may_point_the_root_elsewhere(tmp_path):
    """What the root led to was looked up at the start: after a switch of releases nothing was found any more."""
    with process_as_it_was():
        for release in "12":
            (tmp_path / release).mkdir()
            (tmp_path / release / "x.py").write_text(f"echo({release})")
        (tmp_path / "current").symlink_to("1")
        site = Site(tmp_path / "current")
        assert site.ask(f"{tmp_path}/current/x.py").text == "1"
        (tmp_path / "next").symlink_to("2")
        (tmp_path / "next").rename(tmp_path / "current")
        assert site.ask(f"{tmp_path}/current/x.py").text == "2"
        assert is_404(site.ask(f"{tmp_path}/1/x.py"), "it is outside")


def test_too_many_open_files_are_not_a_missing_script(site):
    """A 404 may be kept by caches."""
    path = site.write(GOOD)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        answer = site.ask(str(path))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert answer.status == 500
    assert "Too many open files" in answer.log
    assert site.ask(str(path)).text == "good"


@pytest.mark.parametrize(
    "name", ["PHP_VALUE", "PHP_ADMIN_VALUE", "UWSGI_FILE", "UWSGI_CHDIR", "UWSGI_MODULE", "UWSGI_SETENV"]
)
def test_no_parameter_configures_anything(site, name):
    path = site.write("import os\necho(os.getcwd(), len(os.environ))")
    assert site.ask(str(path), **{name: "auto_prepend_file=/etc/passwd\nA=B"}).text == site.ask(str(path)).text


# -- changes -----------------------------------------------------------------------------------------------------------


def test_an_edit_is_seen_by_the_next_request_though_size_and_second_are_the_same(site):
    for n in range(30):
        assert site.run(f"echo('{n:02}')").text == f"{n:02}"


def test_an_edit_of_a_file_that_is_kept_is_seen(site):
    path = site.write("echo(1)")
    time.sleep(0.05)  # for it to be kept
    assert [site.ask(str(path)).text for _ in range(2)] == ["1", "1"]
    before = path.stat()
    path.write_text("echo(2)")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert site.ask(str(path)).text == "2"
    new = site.write("echo(3)", "new.py")
    time.sleep(0.05)
    new.rename(path)
    assert [site.ask(str(path)).text for _ in range(2)] == ["3", "3"]
    path.unlink()
    assert is_404(site.ask(str(path)), "no such file")
    path.symlink_to("/etc/passwd")
    assert is_404(site.ask(str(path)), "/etc/passwd")
