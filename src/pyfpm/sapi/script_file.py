"""From SCRIPT_FILENAME to compiled code: which file is meant, whether it may run, and a cache of what was compiled.

The checks are made on the open file, not on its name: the descriptor that was checked is the one that is read, so a
link that is swapped in between changes nothing.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from types import CodeType
from urllib.parse import unquote

from pyfpm.sapi._identity import FileIdentity
from pyfpm.sapi.current import SUPERGLOBALS
from pyfpm.sapi.names import FUNCTIONS

# Compiled files that a worker keeps. Precedent: opcache.max_accelerated_files = 10000.
CACHE_SIZE = 10_000

# Files that changed less than this ago are compiled again for the next request. A file's times are those of the
# kernel's tick, 10 ms at most, so two changes of one size can look like one.
UNSETTLED_NS = 20_000_000

# What keeps a file from being opened and is not about it: a 404 would be wrong, and may be kept by caches.
NOT_THE_FILE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO})

# A line break in a path could be meant for our log; none of these is in the name of a script.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

# A script that uses one of these may reach anything by its name as text, so it gets all there is.
_BY_NAME = frozenset({"globals", "locals", "vars", "dir", "eval", "exec", "GLOBALS", "__dict__", "__main__"})


class NotRunnable(Exception):
    """There is no script to run. The message is for the operator; the visitor gets 404 and no reason."""


class Script:
    """A file that was checked and compiled."""

    __slots__ = (
        "asked",
        "code",
        "directory",
        "functions",
        "identity",
        "is_rewritten",
        "path",
        "settled",
        "superglobals",
    )

    def __init__(self, asked: bytes, path: str, code: CodeType, identity: FileIdentity) -> None:
        self.asked = asked
        self.path = path
        self.directory = os.path.dirname(path)
        self.code = code
        self.identity = identity
        # False: it was changed so short a time ago that another change may bear the same time.
        self.settled = True
        # It was asked for in Apache's way.
        self.is_rewritten = False
        # PHP's auto_globals_jit: only what the script names is made. So it is with functions: to put all of them into
        # a namespace takes 2 us, and there are more of them each year.
        names = _names_in(code)
        used = SUPERGLOBALS if names & _BY_NAME else [name for name in SUPERGLOBALS if name in names]
        self.superglobals = tuple(used)
        self.functions = dict(FUNCTIONS)
        if not names & _BY_NAME:
            self.functions = {name: FUNCTIONS[name] for name in FUNCTIONS if name in names}


class ScriptFiles:
    """The scripts that may run.

    Args:
      roots: directories that a script must be in, wherever links lead; none for anywhere.
      extensions: what a script's name must end in, in this case.
    """

    def __init__(self, roots: tuple[str, ...], extensions: tuple[str, ...] = (".py",)) -> None:
        # As they were named, and where they are.
        self._given = tuple([root.rstrip("/") + "/" for root in roots])
        self._roots = _final(roots)
        self._extensions = extensions
        self._cache: dict[str, Script] = {}

    def find(self, server: dict[str, str]) -> Script:
        """The script that the web server's parameters ask for.

        Raises:
          NotRunnable: it isn't there, or must not run.
          SyntaxError: it is there but cannot be compiled.
          OSError: it cannot be opened now; too many files are open, say.
        """
        filename = server.get("SCRIPT_FILENAME", "")
        known = self._cache.get(filename)
        if known is not None:
            if known.identity.is_at(known.asked):
                return known
            del self._cache[filename]
        if filename.startswith("proxy:"):
            return self._find_for_apache(filename.partition("?")[0])
        return self._keep(filename, self._open(filename))

    def _find_for_apache(self, filename: str) -> Script:
        """ProxyPass percent-encodes the path, SetHandler sends it as it is, and nothing tells which of them it was."""
        # With another query behind it, it is still the same script.
        known = self._cache.get(filename)
        if known is not None and known.identity.is_at(known.asked):
            return known
        path = script_path(filename)
        try:
            script = self._open(path)
        except NotRunnable:
            if "%" not in path:
                raise
            script = self._open(unquote(path, "latin-1"))
        script.is_rewritten = path != filename
        return self._keep(filename, script)

    def _keep(self, filename: str, script: Script) -> Script:
        if script.settled:
            if len(self._cache) >= CACHE_SIZE:
                del self._cache[next(iter(self._cache))]
            self._cache[filename] = script
        return script

    def _open(self, path: str) -> Script:
        if not path:
            raise NotRunnable(
                "SCRIPT_FILENAME is not set; in nginx:"
                " fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;"
            )
        raw = path.encode("latin-1")
        name = os.fsdecode(raw)
        shown = f"SCRIPT_FILENAME {name!r}"
        if _CONTROL.search(path):
            raise NotRunnable(f"{shown}: it contains a control character")
        if not path.startswith("/"):
            raise NotRunnable(f"{shown}: it is not an absolute path")
        if not path.endswith(self._extensions):
            raise NotRunnable(f"{shown}: its extension is not one of {' '.join(self._extensions)}")
        try:
            # Non-blocking, so that a FIFO with this name does not hold the worker.
            fd = os.open(raw, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in NOT_THE_FILE:
                raise
            raise NotRunnable(f"{shown}: {_why(raw, error)}") from None
        try:
            identity = FileIdentity(fd)
            found = os.fstat(fd)
            final = _real_path(fd, raw, found)
            if final is None:
                raise NotRunnable(f"{shown}: its real path cannot be known; it was moved, or /proc is not mounted")
            if final != name:
                shown += f" (really {final!r})"
            if not stat.S_ISREG(found.st_mode):
                raise NotRunnable(f"{shown}: it is not a regular file")
            if not final.endswith(self._extensions):
                extensions = " ".join(self._extensions)
                raise NotRunnable(f"{shown}: the extension of the file itself is not one of {extensions}")
            if self._given and not self._is_inside(final):
                roots = (*self._given, *self._roots)
                how = "a symbolic link leads" if os.path.normpath(name).startswith(roots) else "it is"
                raise NotRunnable(f"{shown}: {how} outside of the document root {' '.join(self._roots)}")
            try:
                with open(fd, "rb", closefd=False) as file:
                    source = file.read()
            except OSError as error:
                raise NotRunnable(f"{shown}: {_why(raw, error)}") from None
        finally:
            os.close(fd)
        try:
            code = compile(source, final, "exec", dont_inherit=True)
        except ValueError as error:  # NUL bytes, until Python 3.12 has that as a SyntaxError
            raise SyntaxError(str(error), (final, 1, 0, "")) from None
        except (RecursionError, MemoryError) as error:
            raise SyntaxError(f"it is nested too deeply ({type(error).__name__})", (final, 1, 0, "")) from None
        script = Script(raw, final, code, identity)
        script.settled = abs(time.time_ns() - found.st_ctime_ns) > UNSETTLED_NS
        return script

    def _is_inside(self, final: str) -> bool:
        if final.startswith(self._roots):
            return True
        # A root may be a link itself, which a deployment has just pointed elsewhere.
        roots = _final(self._given)
        if roots == self._roots:
            return False
        self._roots = roots
        self._cache.clear()
        return final.startswith(roots)


def _real_path(fd: int, path: bytes, found: os.stat_result) -> str | None:
    """Where an open file is; None if that cannot be said for certain."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        pass
    # In a chroot there is no /proc. What the path leads to now may not be what was opened: it has to be the same file.
    final = os.path.realpath(path)
    try:
        there = os.lstat(final)
    except OSError:
        return None
    return os.fsdecode(final) if (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino) else None


def _final(roots: tuple[str, ...]) -> tuple[str, ...]:
    """Where they really are, with a slash, so that /srv/www2 is not in /srv/www."""
    return tuple([os.path.realpath(root).rstrip("/") + "/" for root in roots])


def script_path(filename: str) -> str:
    """SCRIPT_FILENAME without what Apache adds to it: ``proxy:fcgi://host:port`` (or ``proxy:balancer://name``) before
    the path, the query string behind it. The path may be percent-encoded."""
    for prefix in ("proxy:fcgi://", "proxy:balancer://", "proxy:unix:"):
        if filename.startswith(prefix):
            path = filename[len(prefix) :]
            if prefix == "proxy:unix:":
                path = path.partition("|fcgi://")[2]
            _, slash, path = path.partition("/")
            return slash + path.partition("?")[0]
    return filename


def _why(path: bytes, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        if os.path.islink(path):
            return "it is a symbolic link to a file that does not exist"
        return "no such file"
    if isinstance(error, NotADirectoryError):
        return "a part of the path is a file, not a directory"
    if isinstance(error, PermissionError):
        return f"permission denied for user id {os.geteuid()}"
    return error.strerror or str(error)


def _names_in(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names_in(constant)
    return names
