"""What a zygote becomes before it touches any code of the user's: the pool's user, root, limits and environment."""

from __future__ import annotations

import grp
import importlib
import os
import pwd
import resource
import sys
import time
from contextlib import suppress

from pyfpm.worker._process import set_dumpable
from pyfpm.worker.settings import Program

# In a chroot the interpreter's own library is out of reach, unless the operator has put it there under the same path.
# What most programs need is therefore imported before.
_FOR_CHROOT = """
    base64 bisect calendar collections csv dataclasses datetime decimal email.message email.parser
    encodings.ascii encodings.cp1252 encodings.idna encodings.latin_1 encodings.utf_16 encodings.utf_8 enum
    fractions functools glob gzip hashlib hmac html.parser http.client http.cookies inspect io ipaddress
    itertools json logging.handlers math mimetypes operator os pathlib pprint queue random re secrets shutil
    sqlite3 ssl statistics string struct subprocess tempfile textwrap threading time traceback typing
    unicodedata urllib.parse urllib.request uuid warnings weakref xml.etree.ElementTree zipfile zlib zoneinfo
"""


def become(program: Program) -> None:
    """Take the pool's limits, root, user, group, environment and directory.

    Raises:
      LookupError, OSError, ValueError: it cannot be done; the message names what.
    """
    user = _user(program.user) if program.user is not None else None
    group = _group(program.group) if program.group is not None else None
    is_root = os.geteuid() == 0
    gid = group if group is not None else user.pw_gid if user is not None else os.getegid()
    # Before the change of root: in there /etc/group, and the libraries that look users up, may be the user's own.
    groups = os.getgrouplist(user.pw_name, gid) if user is not None else []
    _set_limits(program)
    if program.process_priority is not None and is_root:
        os.setpriority(os.PRIO_PROCESS, 0, program.process_priority)
    if program.chroot is not None and is_root:
        for name in _FOR_CHROOT.split():
            with suppress(ImportError):  # not every Python has all of them
                importlib.import_module(name)
        os.chroot(program.chroot)
        os.chdir("/")
    if is_root and (user is not None or group is not None):
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        if user is not None:
            os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    if program.process_dumpable:
        set_dumpable(True)  # the change of user has taken it away
    if program.chdir is not None:
        os.chdir(program.chdir)
    _set_environment(program, user)
    sys.path[:0] = program.python_path
    if program.app is not None:
        # As "python -m" would: the application is looked for where we are. A script brings its own directory.
        sys.path.insert(0, os.getcwd())


def _user(name: str) -> pwd.struct_passwd:
    """By name or number; a container's user may have no entry of its own."""
    if not name.isdecimal():
        return pwd.getpwnam(name)
    try:
        return pwd.getpwuid(int(name))
    except KeyError:
        return pwd.struct_passwd((name, "x", int(name), int(name), "", "/", ""))


def _group(name: str) -> int:
    return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid


def _set_limits(program: Program) -> None:
    for directive, which, value in (
        ("rlimit_files", resource.RLIMIT_NOFILE, program.rlimit_files),
        ("rlimit_core", resource.RLIMIT_CORE, program.rlimit_core),
    ):
        if value is None:
            continue
        limit = resource.RLIM_INFINITY if isinstance(value, str) else value
        try:
            resource.setrlimit(which, (limit, limit))
        except (OSError, ValueError) as error:
            raise OSError(f"failed to set {directive} to {value}: {error}") from None


def _set_environment(program: Program, user: pwd.struct_passwd | None) -> None:
    if program.clear_env:
        os.environ.clear()
    if user is not None and os.geteuid() == user.pw_uid:
        os.environ["USER"] = user.pw_name
        os.environ["HOME"] = user.pw_dir
    os.environ.update(program.env)
    # The zone was looked up when the interpreter started.
    time.tzset()
