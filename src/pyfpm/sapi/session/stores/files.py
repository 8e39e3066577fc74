"""Sessions in files, one each, ``sess_ID`` as PHP names them.

Whoever has a session has an flock on its file, which the kernel takes back however the process ends. New content is
written beside it and renamed over it, under that lock: a worker that is killed or a disk that is full leaves the old
content, never half of the new one. So the file that somebody waited for may be no longer the one under its name; then
it is opened anew.

Not synced to the disk: after a loss of power, the newest changes of a session may be lost, and with them its login.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import suppress

from pyfpm.sapi.session.errors import SessionError

# What keeps a visitor's id from being that of a file of ours: it isn't there, is a link or a directory, or belongs to
# somebody else. It is unknown then, and gets a new one.
NOT_OURS = frozenset({errno.ENOENT, errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ENXIO})

PREFIX = "sess_"


class FileStore:
    """A directory of sessions.

    Args:
      directory: where they are.
      depth: so many directories below each other, named by the first characters of an id.
      mode: of the files.
      private: the directory is one of our own choice, so it is made when it isn't there, and only used if nobody else
        could have put it there.
    """

    def __init__(self, directory: str, *, depth: int = 0, mode: int = 0o600, private: bool = False) -> None:
        self._directory = directory
        self._depth = depth
        self._mode = mode
        self._private = private
        self._is_trusted = not private

    def create(self, session_id: str, lifetime_s: float) -> HeldFile | None:
        self._trust()
        path = self._path(session_id)
        try:
            fd = self._open_new(path)
        except FileExistsError:
            return None
        except FileNotFoundError:
            # The directory for its first characters, or somebody has cleaned up in /tmp.
            self._make_directory(os.path.dirname(path))
            fd = self._open_new(path)
        return self._hold(fd, path, session_id)

    def open(self, session_id: str, lifetime_s: float) -> HeldFile | None:
        self._trust()
        path = self._path(session_id)
        while True:
            try:
                # Non-blocking, so that a FIFO with this name does not hold the worker.
                fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                if error.errno in NOT_OURS:
                    return None
                raise self._failure("open", error) from None
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                os.close(fd)
                return None
            held = self._hold(fd, path, session_id)
            if held is None:
                continue
            if held.is_older_than(lifetime_s):
                held.destroy()
                return None
            held.read()
            return held

    def collect(self, lifetime_s: float) -> int:
        self._trust()
        removed = 0
        try:
            for path in list(_old_files(self._directory, self._depth, time.time() - lifetime_s)):
                removed += _remove_if_old(path, lifetime_s)
        except OSError as error:
            raise self._failure("look for old sessions", error) from None
        return removed

    def _path(self, session_id: str) -> str:
        # An id that is shorter than the depth has no place: "-" is one that no session of ours begins with.
        parts = session_id[: self._depth].ljust(self._depth, "-")
        return "/".join([self._directory, *parts, PREFIX + session_id])

    def _open_new(self, path: str) -> int:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, self._mode)
        except (FileExistsError, FileNotFoundError):
            raise
        except OSError as error:
            raise self._failure("make a session", error) from None
        # Whatever the script made of the umask.
        os.fchmod(fd, self._mode)
        return fd

    def _hold(self, fd: int, path: str, session_id: str) -> HeldFile | None:
        """The open file, locked. None, and it is closed, when there is another one under its name by now."""
        held = HeldFile(self, fd, path, session_id, self._mode)
        try:
            # Waits as long as it takes; max_execution_time interrupts it with an exception.
            fcntl.flock(fd, fcntl.LOCK_EX)
            if _is_at(fd, path):
                return held
        except OSError as error:
            raise self._failure("lock a session", error) from None
        held.release()
        return None

    # -- the directory ------------------------------------------------------------------------------------------------

    def _trust(self) -> None:
        if not self._is_trusted:
            self._make_directory(self._directory)
            self._is_trusted = True

    def _make_directory(self, path: str) -> None:
        if not self._private and not os.path.isdir(self._directory):
            raise SessionError(
                f"session.save_path = {self._directory} is no directory: make it, owned by user id {os.geteuid()},"
                " with mode 0700"
            )
        try:
            if self._private:
                _make_private(self._directory)
            if path != self._directory:
                os.makedirs(path, 0o700, exist_ok=True)
        except OSError as error:
            raise self._failure("make a directory", error) from None

    def _failure(self, what: str, error: OSError) -> SessionError:
        return SessionError(f"cannot {what} in {self._directory} as user id {os.geteuid()}: {error.strerror}")


def _make_private(path: str) -> None:
    """In /tmp, anybody can have made it first.

    Raises:
      SessionError: somebody else could read or write in it.
    """
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    found = os.lstat(path)
    wrong = ""
    if not stat.S_ISDIR(found.st_mode):
        wrong = "it is not a directory"
    elif found.st_uid != os.geteuid():
        wrong = f"it belongs to user id {found.st_uid}, not {os.geteuid()}"
    elif found.st_mode & 0o077:
        wrong = f"others have access to it (mode {stat.S_IMODE(found.st_mode):04o}, not 0700)"
    if wrong:
        raise SessionError(f"sessions are not kept in {path}: {wrong}. Remove it, or set session.save_path")


class HeldFile:
    """A session's file, locked; or about to be."""

    __slots__ = ("_fd", "_mode", "_path", "_store", "data", "id")

    def __init__(self, store: FileStore, fd: int, path: str, session_id: str, mode: int) -> None:
        self._store = store
        self._fd = fd
        self._path = path
        self._mode = mode
        self.id = session_id
        self.data = b""

    def is_older_than(self, lifetime_s: float) -> bool:
        return os.fstat(self._fd).st_mtime < time.time() - lifetime_s

    def read(self) -> None:
        try:
            with open(self._fd, "rb", closefd=False) as file:
                self.data = file.read()
        except OSError as error:
            self.release()
            raise self._store._failure("read a session", error) from None

    def save(self, data: bytes) -> None:
        try:
            self._replace(data)
        except OSError as error:
            raise self._store._failure("save a session", error) from None
        finally:
            self.release()

    def _replace(self, data: bytes) -> None:
        # A name of its own: if somebody removes the session under us, another request may write one of this id.
        beside = f"{self._path}.{secrets.token_hex(4)}"
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, self._mode)
        try:
            with open(fd, "wb", buffering=0) as file:
                os.fchmod(fd, self._mode)
                while data:
                    data = data[file.write(data) :]
            # Removed by hand, say: then it stays removed, as a login that was taken away.
            if _is_at(self._fd, self._path):
                os.rename(beside, self._path)
                return
        except BaseException:
            # It may have been renamed already, when max_execution_time strikes.
            with suppress(FileNotFoundError):
                os.unlink(beside)
            raise
        os.unlink(beside)

    def touch(self) -> None:
        try:
            os.utime(self._fd)
        except OSError as error:
            raise self._store._failure("touch a session", error) from None
        finally:
            self.release()

    def destroy(self) -> None:
        try:
            if _is_at(self._fd, self._path):
                os.unlink(self._path)
        except OSError as error:
            raise self._store._failure("remove a session", error) from None
        finally:
            self.release()

    def release(self) -> None:
        try:
            # Not by closing alone: a process that the script has forked may have it open as well.
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        finally:
            self.abandon()

    def abandon(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    # An exception out of a signal handler (max_execution_time) may strike anywhere, also where nobody has it yet.
    __del__ = abandon


def _is_at(fd: int, path: str) -> bool:
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return False
    ours = os.fstat(fd)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _old_files(directory: str, depth: int, before: float) -> Iterator[str]:
    """Sessions that were last used before, and what was written beside them by workers that were killed."""
    with os.scandir(directory) as entries:
        for entry in entries:
            try:
                if depth:
                    if len(entry.name) == 1 and entry.is_dir(follow_symlinks=False):
                        yield from _old_files(entry.path, depth - 1, before)
                elif entry.name.startswith(PREFIX) and _was_last_used(entry) < before:
                    yield entry.path
            except FileNotFoundError:
                pass  # Another worker was faster.


def _was_last_used(entry: os.DirEntry[str]) -> float:
    return entry.stat(follow_symlinks=False).st_mtime


def _remove_if_old(path: str, lifetime_s: float) -> int:
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return 0  # Gone, or somebody else's.
    try:
        # Who has it locked uses it, whatever its time says.
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_mtime < time.time() - lifetime_s and _is_at(fd, path):
            os.unlink(path)
            return 1
        return 0
    except OSError:
        return 0
    finally:
        os.close(fd)
