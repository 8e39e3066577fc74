"""Sessions in files: what is on the disk, who may have put it there, and what a fault leaves."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
import threading
import time
from pathlib import Path

import pytest

from pyfpm.sapi.session import ids
from pyfpm.sapi.session.errors import SessionError
from pyfpm.sapi.session.stores import files, store_of
from pyfpm.sapi.session.stores.files import FileStore
from support.waiting import PATIENCE_S

LIFE_S = 1000.0
ID = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def directory(tmp_path) -> Path:
    path = tmp_path / "sessions"
    path.mkdir()
    return path


@pytest.fixture
def store(directory) -> FileStore:
    return FileStore(str(directory))


def test_a_session_is_one_file_that_only_its_user_can_read(store, directory):
    before = os.umask(0)
    try:
        store.create(ID, LIFE_S).save(b"{}")
    finally:
        os.umask(before)
    (file,) = directory.iterdir()
    assert file.name == f"sess_{ID}" and file.read_bytes() == b"{}"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("umask", [0o777, 0o022, 0])
def test_the_mode_of_the_path_counts_whatever_the_umask(directory, umask):
    store = store_of("files", f"0;640;{directory}")
    before = os.umask(umask)
    try:
        held = store.create(ID, LIFE_S)
        assert stat.S_IMODE((directory / f"sess_{ID}").stat().st_mode) == 0o640
        held.save(b"{}")
    finally:
        os.umask(before)
    assert stat.S_IMODE((directory / f"sess_{ID}").stat().st_mode) == 0o640


def test_directories_are_as_deep_as_the_path_says(directory):
    store = store_of("files", f"3;{directory}")
    store.create(ID, LIFE_S).save(b"{}")
    assert (directory / "0" / "1" / "2" / f"sess_{ID}").read_bytes() == b"{}"
    assert store.collect(LIFE_S) == 0 and store.open("ab", LIFE_S) is None
    os.utime(directory / "0" / "1" / "2" / f"sess_{ID}", (1, 1))
    assert store.collect(LIFE_S) == 1


@pytest.mark.parametrize("path", ["relative", "9;/tmp", "1;9;/tmp", "1;600", "x;/tmp", "/a;/b"])
def test_a_path_that_says_nothing_is_refused(path):
    with pytest.raises(SessionError, match="is not an absolute path"):
        store_of("files", path)


def test_a_directory_that_is_not_there_is_asked_for(tmp_path):
    store = FileStore(str(tmp_path / "missing"))
    with pytest.raises(SessionError, match=rf"missing is no directory: make it, owned by user id {os.geteuid()}"):
        store.create(ID, LIFE_S)
    assert store.open(ID, LIFE_S) is None


# -- a directory of our own choice ------------------------------------------------------------------------------------


@pytest.fixture
def default(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    store_of.cache_clear()
    yield tmp_path / f"pyfpm-sessions-{os.geteuid()}"
    store_of.cache_clear()


def test_the_default_directory_is_made_for_its_user_alone(default):
    before = os.umask(0)
    try:
        store_of("files", None).create(ID, LIFE_S).save(b"{}")
    finally:
        os.umask(before)
    assert stat.S_IMODE(default.stat().st_mode) == 0o700


def test_it_is_made_again_when_somebody_cleans_up(default):
    store = store_of("files", None)
    store.create(ID, LIFE_S).save(b"{}")
    (default / f"sess_{ID}").unlink()
    default.rmdir()
    assert store.open(ID, LIFE_S) is None
    store.create(ID, LIFE_S).save(b"{}")
    assert (default / f"sess_{ID}").exists()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: path.mkdir(mode=0o755), "others have access"),
        (lambda path: path.symlink_to("/tmp"), "it is not a directory"),
        (lambda path: path.write_bytes(b""), "it is not a directory"),
        (lambda path: (path.mkdir(mode=0o700), os.chown(path, 12345, -1)), "it belongs to user id 12345"),
    ],
    ids=["open to all", "a link", "a file", "another user's"],
)
def test_one_that_somebody_else_may_have_made_is_refused(default, make, why):
    if "12345" in why and os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    make(default)
    for verb in ("create", "open"):
        with pytest.raises(SessionError, match=why):
            getattr(store_of("files", None), verb)(ID, LIFE_S)


# -- what others put under a name -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.symlink_to("/etc/passwd"),
        lambda path: path.mkdir(),
        lambda path: os.mkfifo(path),
        lambda path: (path.write_bytes(b"{}"), os.chown(path, 12345, -1)),
    ],
    ids=["link", "directory", "fifo", "another user's"],
)
def test_what_is_no_file_of_ours_is_an_unknown_session(store, directory, make):
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    make(directory / f"sess_{ID}")
    assert store.open(ID, LIFE_S) is None
    assert store.create(ID, LIFE_S) is None


# -- faults -----------------------------------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_old_content(store, directory):
    store.create(ID, LIFE_S).save(b'{"a":1}')
    held = store.open(ID, LIFE_S)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(SessionError, match=r"cannot save a session in .*: File too large"):
            held.save(b"x" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert [file.name for file in directory.iterdir()] == [f"sess_{ID}"]
    held = store.open(ID, LIFE_S)
    assert held.data == b'{"a":1}'
    held.release()


def test_a_worker_that_is_killed_while_it_writes_leaves_the_old_content(store, directory, monkeypatch):
    store.create(ID, LIFE_S).save(b'{"a":1}')
    pid = os.fork()
    if not pid:
        held = store.open(ID, LIFE_S)
        monkeypatch.setattr(files.os, "rename", lambda *paths: os.kill(os.getpid(), signal.SIGKILL))
        held.save(b"x" * 100_000)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    held = store.open(ID, LIFE_S)
    assert held.data == b'{"a":1}'
    held.release()
    # What it has left is collected when it is old.
    (left,) = set(directory.iterdir()) - {directory / f"sess_{ID}"}
    assert store.collect(LIFE_S) == 0
    os.utime(left, (1, 1))
    assert store.collect(LIFE_S) == 1 and [file.name for file in directory.iterdir()] == [f"sess_{ID}"]


def test_a_session_that_was_removed_under_us_stays_removed(store, directory):
    store.create(ID, LIFE_S).save(b"{}")
    held = store.open(ID, LIFE_S)
    (directory / f"sess_{ID}").unlink()
    held.save(b'{"admin":true}')
    assert list(directory.iterdir()) == []


def test_a_request_that_waited_for_a_removed_session_does_not_have_it(store, directory):
    """Its lock was on a file that had no name any more."""
    store.create(ID, LIFE_S).save(b"{}")
    held = store.open(ID, LIFE_S)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(store.open(ID, LIFE_S)), daemon=True)
    thread.start()
    held.destroy()
    thread.join(PATIENCE_S)
    assert seen == [None]


def test_a_wait_for_the_lock_can_be_interrupted(store):
    """As max_execution_time does it: by a signal whose handler raises."""

    class Up(BaseException):
        pass

    def raise_up(*_: object) -> None:
        raise Up

    store.create(ID, LIFE_S).save(b"{}")
    held = store.open(ID, LIFE_S)
    open_before = len(os.listdir("/proc/self/fd"))
    handler = signal.signal(signal.SIGALRM, raise_up)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(Up):
            FileStore(store._directory).open(ID, LIFE_S)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert len(os.listdir("/proc/self/fd")) == open_before
    held.release()


def test_old_sessions_are_collected_and_locked_ones_are_not(store, directory):
    names = [ids.new_id() for _ in range(5)]
    for name in names:
        store.create(name, LIFE_S).save(b"{}")
    held = store.open(names[0], LIFE_S)
    for name in names[:3]:
        os.utime(directory / f"sess_{name}", (time.time() - LIFE_S - 1,) * 2)
    (directory / "of somebody else").write_bytes(b"")
    os.utime(directory / "of somebody else", (1, 1))
    assert store.collect(LIFE_S) == 2
    held.save(b'{"a":1}')
    left = {file.name for file in directory.iterdir()}
    assert left == {"of somebody else", *(f"sess_{name}" for name in (names[0], *names[3:]))}


def test_a_directory_that_cannot_be_listed_is_told(store, directory, monkeypatch):
    def refuse(path: str) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(files.os, "scandir", refuse)
    with pytest.raises(SessionError, match=r"cannot look for old sessions in .*: Permission denied"):
        store.collect(LIFE_S)
