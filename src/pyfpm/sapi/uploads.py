"""The files of one request's uploads, from the first byte until the request is over.

Each request that brings a file gets a directory of its own in ``upload_tmp_dir``, for the pool's user alone, and its
files are in there. When the request is over, the directory goes with all that is still in it, what a script has put
beside an upload included. So nothing is left, however the script ends.

A worker that is killed cannot do that. Its requests' directories are then removed by the next worker that starts, which
has to tell them from those in use: whoever uses one holds a lock on it (``flock``), and the kernel lets go of it when
the last process that has it open is gone. Process ids would not do, since pools of several containers may share one
``upload_tmp_dir``. A process that a script has forked and left behind keeps the files of its request.

In PHP, where files are in ``upload_tmp_dir`` itself, those of a killed child stay for ever.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from contextlib import suppress

PREFIX = "pyfpm-upload-"

# Source (PHP): https://www.php.net/manual/en/features.file-upload.errors.php
UPLOAD_ERR_OK = 0
UPLOAD_ERR_INI_SIZE = 1
UPLOAD_ERR_FORM_SIZE = 2
UPLOAD_ERR_PARTIAL = 3
UPLOAD_ERR_NO_FILE = 4
UPLOAD_ERR_NO_TMP_DIR = 6
UPLOAD_ERR_CANT_WRITE = 7
UPLOAD_ERR_EXTENSION = 8

CONSTANTS = {name: value for name, value in globals().items() if name.startswith("UPLOAD_ERR_")}

# What is wrong with the directory, and not with the room in it.
_NO_DIRECTORY = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP})


def directory_for(upload_tmp_dir: str | None) -> str:
    """Where uploads are kept. Not ``tempfile``'s choice, which may end in the working directory, and that is where the
    scripts are."""
    return upload_tmp_dir or os.environ.get("TMPDIR") or "/tmp"


def reason_of(error: OSError) -> int:
    """The UPLOAD_ERR_* of what kept a file from being made or written."""
    return UPLOAD_ERR_NO_TMP_DIR if error.errno in _NO_DIRECTORY else UPLOAD_ERR_CANT_WRITE


class Uploads:
    """The temporary files of one request.

    Args:
      parent: where its directory is made, with the first file.
    """

    __slots__ = ("_directory", "_fd", "_parent", "_paths", "_pid")

    def __init__(self, parent: str) -> None:
        self._parent = parent
        self._directory = ""
        self._fd = -1
        self._paths: set[str] = set()
        self._pid = os.getpid()

    def create(self) -> tuple[int, str]:
        """A new file that only the user of this process can open, as a descriptor to write to and a path.

        Raises:
          OSError: it cannot be made; ``reason_of`` tells what that is in ``_FILES``.
        """
        if not self._directory:
            self._make_directory()
        fd, path = tempfile.mkstemp(dir=self._directory, prefix="py")
        self._paths.add(path)
        return fd, path

    def _make_directory(self) -> None:
        while True:
            self._directory = tempfile.mkdtemp(dir=self._parent, prefix=PREFIX)
            with suppress(FileNotFoundError):
                self._fd = _locked(self._directory, fcntl.LOCK_SH)
                # One that starts at this moment may have found it unlocked, and removed it.
                os.stat(self._directory)
                return
            self._close()

    def __contains__(self, path: object) -> bool:
        """It is the path of an uploaded file of this request, which is still where it was put."""
        return path in self._paths

    def forget(self, path: str) -> None:
        """The file has a place of its own now, or is gone."""
        self._paths.discard(path)

    def discard(self, path: str) -> None:
        """Remove one, so that its room is free again."""
        self.forget(path)
        with suppress(OSError):  # then it goes with the directory
            os.unlink(path)

    def remove(self) -> None:
        """Remove what is left; there are none after that. For the end of the request; does nothing in a process that
        was forked from the one that made them."""
        try:
            self._remove()
        except BaseException:  # The request's time is up, right now. It is so only once.
            self._remove()
            raise

    def __del__(self) -> None:
        """The time of a request can be up when its adapter was about to call ``remove``, and it never does."""
        if self._directory:
            self.remove()

    def _remove(self) -> None:
        if self._pid == os.getpid() and self._directory:
            _remove(self._directory)
        self._paths.clear()
        self._directory = ""
        self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def sweep(parent: str) -> int:
    """Remove what killed workers of this user left in this directory; how many requests' it was. Never raises."""
    removed = 0
    uid = os.geteuid()
    try:
        with os.scandir(parent) as entries:
            left = [entry.path for entry in entries if entry.name.startswith(PREFIX)]
    except OSError:
        return 0  # Uploads will tell what is wrong with it.
    for path in left:
        # Another one may be at it, or it has come to its end meanwhile; and where there are no locks (NFS before
        # version 4), nobody can tell whether it is in use.
        with suppress(OSError):
            if os.lstat(path).st_uid != uid:
                continue
            fd = _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                _remove(path)
                removed += 1
            finally:
                os.close(fd)
    return removed


def _locked(directory: str, kind: int) -> int:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, kind)
    except OSError:
        if kind != fcntl.LOCK_SH:
            os.close(fd)
            raise
        # No locks here, so nobody sweeps here either.
    return fd


def _remove(directory: str) -> None:
    # Links are removed, not followed. What cannot be removed is left to the next sweep.
    shutil.rmtree(directory, ignore_errors=True)
