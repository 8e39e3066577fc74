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
from typing import Any
from urllib.parse import unquote

from pyfpm.sapi import paths
from pyfpm.sapi._identity import FileIdentity
from pyfpm.sapi.cgi.kind import LONGEST_LINE, kind_of
from pyfpm.sapi.current import SUPERGLOBALS
from pyfpm.sapi.names import FUNCTIONS

# Compiled files that a worker keeps. Precedent: opcache.max_accelerated_files = 10000.
CACHE_SIZE = 10_000

# Files that changed less than this ago are compiled again for the next request. A file's times are those of the
# kernel's tick, 10 ms at most, so two changes of one size can look like one.
UNSETTLED_NS = 20_000_000

# What keeps a file from being opened and is not about it: a 404 would be wrong, and may be kept by caches.
NOT_THE_FILE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO})

# Before a path in the cache that is kept as it was asked for, percent-encoded. No path begins with it.
DECODED = "decoded:"

# A line break in a path could be meant for our log; none of these is in the name of a script.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

# A script that uses one of these may reach anything by its name as text, so it gets all there is.
_BY_NAME = frozenset({"globals", "locals", "vars", "dir", "eval", "exec", "GLOBALS", "__dict__", "__main__"})


def extensions_of(kind: str | None, given: tuple[str, ...] | None) -> tuple[str, ...]:
    """What a script's name may end in, by ``app.kind`` and ``security.limit_extensions``; none for any name.

    A CGI program may have any name by tradition, and no other file its executable bit. So does one that is called
    ``.cgi`` among scripts.
    """
    if given is not None:
        return given
    return () if kind == "cgi" else (".py", ".cgi")


def cgi_extensions(kind: str | None) -> tuple[str, ...]:
    """What makes a file a CGI program, as ScriptFiles is told."""
    return ("",) if kind == "cgi" else (".cgi",)


class NotRunnable(Exception):
    """There is no script to run. The message is for the operator; the visitor gets ``status`` and no reason."""

    status = 404


class NotExecutable(NotRunnable):
    """It is a CGI program, but without its executable bit it must not run."""

    status = 403  # as all web servers answer, and the first thing that people look for


class IsDirectory(NotRunnable):
    """So the script may be in it."""


class Script:
    """A file that was checked and compiled; or a CGI program, which has no ``code`` if it runs as a process."""

    __slots__ = (
        "asked",
        "code",
        "directory",
        "functions",
        "identity",
        "is_cgi",
        "is_decoded",
        "path",
        "settled",
        "superglobals",
        "unbuffered",
    )

    def __init__(self, asked: bytes, path: str, code: CodeType | None, identity: FileIdentity) -> None:
        self.asked = asked
        self.path = path
        self.directory = os.path.dirname(path)
        # None: it runs as a process. Any, since who executes it knows that it does not.
        self.code: Any = code
        self.identity = identity
        # False: it was changed so short a time ago that another change may bear the same time.
        self.settled = True
        # Its name was percent-encoded.
        self.is_decoded = False
        self.is_cgi = False
        # A CGI program's: python -u.
        self.unbuffered = False
        # PHP's auto_globals_jit: only what the script names is made. So it is with functions: to put all of them into
        # a namespace takes 2 us, and there are more of them each year.
        names = _names_in(code) if code is not None else set()
        used = SUPERGLOBALS if names & _BY_NAME else [name for name in SUPERGLOBALS if name in names]
        self.superglobals = tuple(used)
        self.functions = dict(FUNCTIONS)
        if not names & _BY_NAME:
            self.functions = {name: FUNCTIONS[name] for name in FUNCTIONS if name in names}


class ScriptFiles:
    """The scripts that may run.

    Args:
      roots: directories that a script must be in, wherever links lead; none for anywhere.
      extensions: what a script's name must end in, in this case; none for any name.
      cgi: what the name of one that is a CGI program ends in; ``""`` for all.
      fix_pathinfo: a path may go on behind the script.
      discard_path: without ``fix_pathinfo``, SCRIPT_FILENAME counts though there is a PATH_TRANSLATED.
    """

    def __init__(
        self,
        roots: tuple[str, ...],
        extensions: tuple[str, ...] = (".py",),
        cgi: tuple[str, ...] = (),
        *,
        fix_pathinfo: bool = True,
        discard_path: bool = False,
    ) -> None:
        # As they were named, and where they are.
        self._given = tuple([root.rstrip("/") + "/" for root in roots])
        self._roots = _final(roots)
        self._extensions = extensions or ("",)
        self._cgi = cgi
        self._fix_pathinfo = fix_pathinfo
        self._discard_path = discard_path
        self._cache: dict[str, Script] = {}

    def find(self, server: dict[str, str]) -> Script:
        """The script that the web server's parameters ask for; they are mended as PHP mends them.

        Raises:
          NotRunnable: it isn't there, or must not run.
          SyntaxError: it is there but cannot be compiled.
          OSError: it cannot be opened now; too many files are open, say.
        """
        known = self._cache.get(server.get("SCRIPT_FILENAME", ""))
        if known is not None and self._is_settled(server) and known.identity.is_at(known.asked):
            return known
        asked = paths.asked(server, self._fix_pathinfo, self._discard_path)
        script = self._find_encoded(asked) if asked.by_apache and "%" in asked.path else self._look_up(asked.path, "")
        if self._fix_pathinfo:
            paths.mend(server, asked, script.asked.decode("latin-1"))
        return script

    def _find_encoded(self, asked: paths.Asked) -> Script:
        """ProxyPass percent-encodes the path, SetHandler sends it as it is, and nothing tells which of them it was."""
        decoded = unquote(asked.path, "latin-1")
        script = self._kept(DECODED + decoded)
        if script is None:
            try:
                return self._look_up(asked.path, "")
            except NotRunnable:
                script = self._look_up(decoded, DECODED)
                script.is_decoded = True
        asked.path = decoded
        return script

    def _is_settled(self, server: dict[str, str]) -> bool:
        """There is nothing in the parameters that would make another script of it, or that would have to be mended."""
        if not self._fix_pathinfo or "REDIRECT_URL" in server:
            return False
        return not server.get("PATH_INFO") or not paths.is_iis(server)

    def _look_up(self, path: str, key: str) -> Script:
        """The script at a path, or at a beginning of it; kept under ``key`` and its path."""
        known = self._kept(key + path)
        if known is not None:
            return known
        reason: NotRunnable | None = None
        for beginning in paths.beginnings(path, self._extensions) if self._fix_pathinfo else (path,):
            known = self._kept(key + beginning)
            if known is not None:
                return known
            try:
                return self._keep(key + beginning, self._open(beginning, path))
            except IsDirectory as directory:
                reason = directory
        if reason is not None:
            raise reason
        return self._open(path, path)

    def _kept(self, name: str) -> Script | None:
        known = self._cache.get(name)
        if known is not None and not known.identity.is_at(known.asked):
            del self._cache[name]
            return None
        return known

    def _keep(self, filename: str, script: Script) -> Script:
        if script.settled:
            if len(self._cache) >= CACHE_SIZE:
                del self._cache[next(iter(self._cache))]
            self._cache[filename] = script
        return script

    def _open(self, path: str, asked: str) -> Script:
        if not path:
            raise NotRunnable(
                "SCRIPT_FILENAME is not set; in nginx:"
                " fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;"
            )
        raw = path.encode("latin-1")
        name = os.fsdecode(raw)
        shown = f"SCRIPT_FILENAME {name!r}"
        if path != asked:
            shown = f"SCRIPT_FILENAME {os.fsdecode(asked.encode('latin-1'))!r}, that is {name!r}"
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
            refused = IsDirectory if os.path.isdir(raw) else NotRunnable
            raise refused(f"{shown}: {_why(raw, error)}") from None
        try:
            identity = FileIdentity(fd)
            found = os.fstat(fd)
            final = _real_path(fd, raw, found)
            if final is None:
                raise NotRunnable(f"{shown}: its real path cannot be known; it was moved, or /proc is not mounted")
            if final != name:
                shown += f" (really {final!r})"
            if not stat.S_ISREG(found.st_mode):
                refused = IsDirectory if stat.S_ISDIR(found.st_mode) else NotRunnable
                raise refused(f"{shown}: it is not a regular file")
            if not final.endswith(self._extensions):
                extensions = " ".join(self._extensions)
                raise NotRunnable(f"{shown}: the extension of the file itself is not one of {extensions}")
            if self._given and not self._is_inside(final):
                roots = (*self._given, *self._roots)
                how = "a symbolic link leads" if os.path.normpath(name).startswith(roots) else "it is"
                raise NotRunnable(f"{shown}: {how} outside of the document root {' '.join(self._roots)}")
            is_cgi = final.endswith(self._cgi)
            if is_cgi and not found.st_mode & 0o111:
                raise NotExecutable(f"{shown}: a CGI program must be executable; chmod +x")
            try:
                kind = kind_of(os.pread(fd, LONGEST_LINE, 0), final) if is_cgi else None
                with open(fd, "rb", closefd=False) as file:
                    source = file.read() if kind is None or kind.inside else None
            except OSError as error:
                raise NotRunnable(f"{shown}: {_why(raw, error)}") from None
        finally:
            os.close(fd)
        code = _compiled(source, final) if source is not None else None
        script = Script(raw, final, code, identity)
        script.settled = abs(time.time_ns() - found.st_ctime_ns) > UNSETTLED_NS
        if kind is not None:
            script.is_cgi = True
            script.unbuffered = kind.unbuffered
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


def _compiled(source: bytes, final: str) -> CodeType:
    try:
        return compile(source, final, "exec", dont_inherit=True)
    except ValueError as error:  # NUL bytes, until Python 3.12 has that as a SyntaxError
        raise SyntaxError(str(error), (final, 1, 0, "")) from None
    except (RecursionError, MemoryError) as error:
        raise SyntaxError(f"it is nested too deeply ({type(error).__name__})", (final, 1, 0, "")) from None


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
