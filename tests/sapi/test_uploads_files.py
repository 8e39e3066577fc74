"""Uploaded files: who may move them, and that none is left."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import FakeOutput, Site, process_as_it_was

from pyfpm.sapi import forms, uploads
from pyfpm.sapi import input as sapi_input
from pyfpm.sapi.streams import ScriptStreams
from pyfpm.sapi.timeout import ExecutionTimeout
from pyfpm.sapi.uploads import PREFIX, Uploads, directory_for, sweep

MULTIPART = "multipart/form-data; boundary=B"


def file(name: str = "f", data: bytes = b"hello") -> bytes:
    return f'--B\r\nContent-Disposition: form-data; name="{name}"; filename="a.txt"\r\n\r\n'.encode() + data + b"\r\n"


FORM = file() + file("g", b"other") + b"--B--\r\n"


@pytest.fixture
def temporary(tmp_path) -> Path:
    directory = tmp_path / "uploads"
    directory.mkdir()
    return directory


@pytest.fixture
def site(tmp_path, temporary):
    umask = os.umask(0o022)
    with process_as_it_was():
        yield Site(tmp_path, upload_tmp_dir=str(temporary))
    os.umask(umask)


def post(site: Site, source: str, body: bytes = FORM, output: FakeOutput | None = None, **more: str):
    return site.run(source, body, output, REQUEST_METHOD="POST", CONTENT_TYPE=MULTIPART, **more)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# -- moving ------------------------------------------------------------------------------------------------------------


def test_an_upload_that_is_moved_stays(site, tmp_path, temporary):
    source = """
path = _FILES["f"]["tmp_name"]
echo(is_uploaded_file(path), move_uploaded_file(path, "kept.txt"), is_uploaded_file(path),
     move_uploaded_file(path, "again.txt"))
"""
    assert post(site, source).text == "TrueTrueFalseFalse"
    assert (tmp_path / "kept.txt").read_bytes() == b"hello"
    assert not (tmp_path / "again.txt").exists()
    assert os.listdir(temporary) == []


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
@pytest.mark.parametrize("across", [False, True])
def test_its_mode_is_that_of_a_new_file(site, tmp_path, umask, across, monkeypatch):
    if across:
        is_on_another_file_system(monkeypatch)
    source = f"import os\nos.umask({umask})\necho(move_uploaded_file(_FILES['f']['tmp_name'], 'kept.txt'))"
    assert post(site, source).text == "True"
    assert stat.S_IMODE((tmp_path / "kept.txt").stat().st_mode) == 0o666 & ~umask


def is_on_another_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renaming out of the directory of uploads fails as it does across file systems."""
    rename = os.rename

    def fails(source: str, to: str) -> None:
        if PREFIX in os.path.dirname(source):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), source, None, to)
        rename(source, to)

    monkeypatch.setattr(sapi_input.os, "rename", fails)


@pytest.mark.parametrize("across", [False, True])
def test_a_file_that_is_there_is_replaced(site, tmp_path, temporary, across, monkeypatch):
    if across:
        is_on_another_file_system(monkeypatch)
    (tmp_path / "kept.txt").write_text("old")
    assert post(site, "echo(move_uploaded_file(_FILES['f']['tmp_name'], 'kept.txt'))").text == "True"
    assert (tmp_path / "kept.txt").read_bytes() == b"hello"
    assert sorted(os.listdir(tmp_path)) == ["kept.txt", "uploads", "x.py"] and os.listdir(temporary) == []


def test_a_file_is_moved_to_a_file_system_that_is_another(site, tmp_path, temporary):
    other = Path("/dev/shm") / f"pyfpm-test-{os.getpid()}"
    if not os.path.isdir("/dev/shm") or os.stat("/dev/shm").st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("there is no second file system at /dev/shm")
    try:
        answer = post(site, f"echo(move_uploaded_file(_FILES['f']['tmp_name'], {str(other)!r}))")
        assert (answer.text, other.read_bytes()) == ("True", b"hello")
    finally:
        other.unlink(missing_ok=True)
    assert os.listdir(temporary) == []


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize(("to", "error"), [("nowhere/x", FileNotFoundError), ("place", IsADirectoryError)])
def test_a_place_where_it_cannot_be_is_an_error_and_the_file_is_still_there(site, to, error, across, monkeypatch):
    (site.root / "place").mkdir()
    if across:
        is_on_another_file_system(monkeypatch)
    source = f"""
from pathlib import Path
path = _FILES["f"]["tmp_name"]
try:
    move_uploaded_file(path, "{to}")
except {error.__name__}:
    echo(is_uploaded_file(path), Path(path).read_text())
"""
    assert post(site, source).text == "Truehello"


def test_a_disk_that_is_full_leaves_no_half_of_a_file(site, tmp_path, monkeypatch):
    is_on_another_file_system(monkeypatch)

    def fails(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sapi_input.shutil, "copyfileobj", fails)
    answer = post(site, "move_uploaded_file(_FILES['f']['tmp_name'], 'kept.txt')")
    assert answer.status == 500 and "No space left" in answer.log
    assert sorted(os.listdir(tmp_path)) == ["uploads", "x.py"]


@pytest.mark.parametrize("path", ["/etc/passwd", "", "x.py", "a.txt"])
def test_what_was_not_uploaded_is_not_moved(site, tmp_path, path):
    source = f"echo(is_uploaded_file('{path}'), move_uploaded_file('{path}', 'kept.txt'))"
    assert post(site, source).text == "FalseFalse"
    assert not (tmp_path / "kept.txt").exists()


def test_the_upload_of_another_request_is_not_moved(site):
    path = post(site, "echo(_FILES['f']['tmp_name'])").text
    assert post(site, f"echo(is_uploaded_file({path!r}), move_uploaded_file({path!r}, 'x'))").text == "FalseFalse"


def test_without_asking_for_files_first_it_is_known_what_was_uploaded(site):
    source = "import glob\nechoed = is_uploaded_file('x')\nfrom pyfpm import _FILES\necho(len(_FILES))"
    assert post(site, source).text == "2"


def test_a_path_object_is_a_path(site, tmp_path):
    source = "from pathlib import Path\necho(move_uploaded_file(Path(_FILES['f']['tmp_name']), Path('kept.txt')))"
    assert post(site, source).text == "True"
    assert (tmp_path / "kept.txt").exists()


def test_functions_and_constants_are_those_of_the_package(site):
    import pyfpm

    names = [name for name in pyfpm.__all__ if name.startswith("UPLOAD_ERR_")]
    assert {name: getattr(pyfpm, name) for name in names} == uploads.CONSTANTS
    assert len(names) == 8
    source = (
        "import pyfpm\n"
        f"for name in {names} + ['is_uploaded_file', 'move_uploaded_file', 'input_stream', 'json_body']:\n"
        "    assert globals()[name] is getattr(pyfpm, name), name\n"
        "echo(_FILES['f']['error'] == UPLOAD_ERR_OK)"
    )
    assert post(site, source).text == "True"


# -- removing ----------------------------------------------------------------------------------------------------------

ENDS = {
    "the end": "",
    "exit": "exit()",
    "an exception": "raise ValueError",
    "sys.exit": "import sys\nsys.exit('no')",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
    "the file is removed": "import os\nos.unlink(path)",
    "the file is renamed": "import os\nos.rename(path, 'renamed')",
    "the directory is removed": "import os, shutil\nshutil.rmtree(os.path.dirname(path))",
    "a file beside it": "open(path + '.png', 'w').close()",
    "a directory beside it": "import os\nos.mkdir(path + '.d')\nopen(path + '.d/x', 'w').close()",
    "a link beside it": "import os\nos.symlink(__file__, path + '.link')\nos.symlink('/', path + '.root')",
    "another directory": "import os\nos.chdir('/')",
    "another umask": "import os\nos.umask(0o777)",
    "TMPDIR is changed": "import os\nos.environ['TMPDIR'] = '/nowhere'",
    "the response was sent": "echo('x' * 100000)\nflush()",
}


@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_left_however_the_script_ends(site, temporary, end):
    before = descriptors()
    answer = post(site, f"path = _FILES['f']['tmp_name']\nassert is_uploaded_file(path)\n{ENDS[end]}")
    assert "AssertionError" not in answer.log
    assert os.listdir(temporary) == []
    assert descriptors() == before
    assert (site.root / "x.py").exists()


def test_nothing_is_left_when_the_visitor_leaves(site, temporary):
    answer = post(site, "assert _FILES\nwhile True:\n    echo('x' * 10000)", output=FakeOutput(leaves_after=50_000))
    assert answer.app_status == 1
    assert os.listdir(temporary) == []


def test_nothing_is_left_when_time_is_up_while_the_form_is_read(site, temporary, monkeypatch):
    def fails(fd: int, data: bytes) -> None:
        raise ExecutionTimeout

    monkeypatch.setattr(forms, "_write", fails)
    before = descriptors()
    assert post(site, "echo(_FILES)").status == 504
    assert os.listdir(temporary) == []
    assert descriptors() == before


def test_nothing_is_left_when_time_is_up_while_they_are_removed(site, temporary, monkeypatch):
    remove = uploads._remove
    calls = []

    def fails_once(directory: str) -> None:
        calls.append(directory)
        if len(calls) == 1:
            raise ExecutionTimeout
        remove(directory)

    monkeypatch.setattr(uploads, "_remove", fails_once)
    post(site, "assert _FILES")
    assert len(calls) == 2 and os.listdir(temporary) == []


def test_nothing_is_left_when_time_is_up_before_they_are_removed(site, temporary, monkeypatch):
    def fails(self: ScriptStreams) -> None:
        raise ExecutionTimeout

    monkeypatch.setattr(ScriptStreams, "finish", fails)
    before = descriptors()
    with pytest.raises(ExecutionTimeout):  # the executor's to answer
        post(site, "assert _FILES")
    assert os.listdir(temporary) == []
    assert descriptors() == before


def test_they_are_there_for_shutdown_functions(site, temporary):
    source = """
from pathlib import Path
from pyfpm.sapi.current import AtEnd, current
path = _FILES["f"]["tmp_name"]
current().at_end(AtEnd.SHUTDOWN, lambda: echo(Path(_FILES["f"]["tmp_name"]).read_text()))
"""
    assert post(site, source).text == "hello"
    assert os.listdir(temporary) == []


def test_a_forked_child_removes_nothing_of_its_parents(site, temporary):
    source = """
import os
from pathlib import Path
path = _FILES["f"]["tmp_name"]
child = os.fork()
if not child:
    from pyfpm.sapi.uploads import Uploads
    import gc
    for each in gc.get_objects():
        if isinstance(each, Uploads):
            each.remove()
    os._exit(0)
os.waitpid(child, 0)
echo(Path(path).read_text())
"""
    assert post(site, source).text == "hello"
    assert os.listdir(temporary) == []


# -- where they cannot be ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["missing", "file"])
def test_without_a_directory_for_them_it_is_error_6_and_told(tmp_path, place):
    (tmp_path / "file").write_text("")
    with process_as_it_was():
        site = Site(tmp_path, upload_tmp_dir=str(tmp_path / place))
        answer = post(site, "echo(_FILES['f']['error'] == UPLOAD_ERR_NO_TMP_DIR, _FILES['f'], '\\n')")
    assert answer.text.startswith("True{'name': 'a.txt', 'full_path': 'a.txt', 'type': '', 'tmp_name': ''")
    assert f"an upload cannot be stored in {tmp_path / place}" in answer.stderr


def test_a_disk_that_is_full_is_error_7_and_told_once_for_each_file(site, temporary, monkeypatch):
    def fails(fd: int, data: bytes) -> None:
        assert os.listdir(temporary)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(forms, "_write", fails)
    source = """
import glob
echo(_FILES["f"]["error"] == UPLOAD_ERR_CANT_WRITE, _FILES["g"]["size"])
echo(glob.glob("uploads/*/*"))
"""
    answer = post(site, source)
    assert answer.text == "True0[]"
    assert answer.stderr.count("No space left on device") == 2
    assert os.listdir(temporary) == []


def test_without_upload_tmp_dir_it_is_tmpdir_or_tmp_and_never_the_working_directory(monkeypatch):
    monkeypatch.setenv("TMPDIR", "/nowhere")
    assert directory_for("/uploads") == "/uploads"
    assert directory_for(None) == "/nowhere"
    monkeypatch.setenv("TMPDIR", "")
    assert directory_for(None) == "/tmp"


# -- what killed workers leave -----------------------------------------------------------------------------------------

HOLDS = """
import os, sys, time
from pyfpm.sapi.uploads import Uploads
uploads = Uploads(sys.argv[1])
for _ in range(3):
    os.close(uploads.create()[0])
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    yield process
    process.kill()
    process.communicate()


def test_a_sweep_removes_what_a_killed_process_left_and_nothing_of_one_that_lives(tmp_path, holder):
    (tmp_path / f"{PREFIX}file").write_text("not a directory")
    (tmp_path / f"{PREFIX}link").symlink_to("/")
    (tmp_path / "another").mkdir()
    assert sweep(str(tmp_path)) == 0
    assert len(os.listdir(tmp_path)) == 4
    holder.kill()
    holder.wait()
    assert sweep(str(tmp_path)) == 1
    assert sorted(os.listdir(tmp_path)) == ["another", f"{PREFIX}file", f"{PREFIX}link"]
    assert sweep(str(tmp_path)) == 0


def test_the_files_of_a_process_that_was_forked_from_a_killed_one_stay_until_it_ends(tmp_path):
    read, write = os.pipe()
    source = HOLDS.replace("sys.stdin.read()", "if os.fork(): os.kill(os.getpid(), 9)\nsys.stdin.read()")
    process = subprocess.Popen(
        [sys.executable, "-c", source, str(tmp_path)], stdin=read, stdout=subprocess.PIPE, pass_fds=(read,)
    )
    os.close(read)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    process.wait()
    assert sweep(str(tmp_path)) == 0 and len(os.listdir(tmp_path)) == 1
    os.close(write)  # the child's stdin ends, and so does the child
    assert process.stdout.read() == b""
    assert sweep(str(tmp_path)) == 1
    process.stdout.close()


def test_the_files_of_another_user_are_not_swept(tmp_path, monkeypatch):
    (tmp_path / f"{PREFIX}x").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert sweep(str(tmp_path)) == 0
    assert len(os.listdir(tmp_path)) == 1


def test_a_sweep_of_no_directory_is_nothing():
    assert sweep("/nowhere") == 0


def test_a_directory_that_was_swept_before_it_was_locked_is_made_anew(tmp_path, monkeypatch):
    real = fcntl.flock
    swept = []

    def late(fd: int, kind: int) -> None:
        if kind == fcntl.LOCK_SH and not swept:
            swept.append(sweep(str(tmp_path)))
        real(fd, kind)

    monkeypatch.setattr(uploads.fcntl, "flock", late)
    before = descriptors()
    made = Uploads(str(tmp_path))
    fd, path = made.create()
    os.close(fd)
    assert swept == [1] and os.path.exists(path)
    made.remove()
    assert os.listdir(tmp_path) == [] and descriptors() == before


def test_where_there_are_no_locks_uploads_work_and_nothing_is_swept(tmp_path, monkeypatch):
    def fails(fd: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(uploads.fcntl, "flock", fails)
    made = Uploads(str(tmp_path))
    fd, path = made.create()
    os.close(fd)
    assert sweep(str(tmp_path)) == 0 and os.path.exists(path)
    made.remove()
    assert os.listdir(tmp_path) == []
