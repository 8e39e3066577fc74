"""Whether a pool's socket can be reached, why not, and what to do about it."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat

import trio

from pyfpm.client import ConnectError, FastCGIClient, parse_address
from pyfpm.ctl.finding import NOTE, OK, PROBLEM, Finding

# Users that web servers run as, by distribution. Only for a note: who it really is, --web-user or nginx's file says.
_WEB_USERS = ("www-data", "nginx", "http", "apache", "caddy")


def findings(target: str, web_user: str | None) -> list[Finding]:
    """Whether a pool's address takes connections, from us and from the web server.

    Args:
      target: the address, as ``parse_address`` takes it.
      web_user: who the web server runs as; None for whichever of the usual users there is.
    """
    address = parse_address(target)
    found_out = []
    if address.path:
        broken = _first_missing(address.path)
        if broken:
            return [Finding("socket", PROBLEM, broken)]
        try:
            found = os.stat(address.path)
        except PermissionError:
            return [Finding("socket", PROBLEM, f"{address.path}: {_closed_directory(address.path, os.geteuid(), ())}")]
        whose = f"{address.path} ({described(found)})"
        if not stat.S_ISSOCK(found.st_mode):
            return [Finding("socket", PROBLEM, f"{whose} is not a socket; is it the listen address of the pool?")]
        found_out += _for_web_user(web_user, address.path, found)
    else:
        whose = str(address)
    try:
        _touch(target)
    except ConnectError as error:
        return [Finding("socket", PROBLEM, _advice(error, whose)), *found_out]
    return [Finding("socket", OK, f"{whose} takes connections"), *found_out]


def _touch(address: str) -> None:
    """Connect, and no more."""

    async def touch() -> None:
        await FastCGIClient(address, connect_timeout_s=5.0).touch()

    trio.run(touch)


def _first_missing(path: str) -> str:
    """What of a path is not there, in words; "" when all is, or nobody lets us see."""
    at = "/"
    for part in path.strip("/").split("/"):
        parent, at = at, os.path.join(at, part)
        try:
            os.stat(at)
        except FileNotFoundError:
            if at != path:
                return f"{path}: there is no directory {at}"
            near = sorted(name for name in names(parent) if name.endswith((".sock", ".socket")))
            also = f"; in {parent} there is {', '.join(near[:5])}" if near else ""
            return f"{path}: there is no such socket; is pyfpm running, and is this the pool's listen?{also}"
        except NotADirectoryError:
            return f"{path}: {parent} is a file, not a directory"
        except OSError:
            return ""
    return ""


def names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _advice(error: ConnectError, whose: str) -> str:
    match error.errno:
        case errno.ECONNREFUSED if "/" in whose:
            return f"{whose}: nobody listens any more: the server has ended and left its socket file; start pyfpm"
        case errno.ECONNREFUSED:
            return f"{whose}: nobody listens there; start pyfpm, or compare with the pool's listen"
        case errno.EACCES | errno.EPERM:
            return (
                f"{whose}: permission denied for you (uid {os.geteuid()}); set listen.owner, listen.group, listen.mode"
            )
        case errno.ETIMEDOUT:
            return f"{whose}: {error}; all workers are busy and the queue is full, or a firewall says nothing"
        case _:
            return str(error)


def _for_web_user(web_user: str | None, path: str, found: os.stat_result) -> list[Finding]:
    """Whether the web server may connect: to write to the socket, and through all directories before it."""
    candidates = (web_user,) if web_user else _WEB_USERS
    for name in candidates:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            if web_user:
                return [Finding("web server", PROBLEM, f"there is no user {name}")]
            continue
        groups = os.getgrouplist(name, user.pw_gid)
        closed = _closed_directory(path, user.pw_uid, groups)
        if not closed and not _may(found, user.pw_uid, groups, 2):
            closed = (
                f"the socket is {described(found)}; set listen.group = {_group(user.pw_gid)} and listen.mode = 0660"
            )
        if not closed:
            return [Finding("web server", OK, f"user {name} may connect to it")]
        # Which of the usual users it is, is a guess, and nothing to raise the alarm for.
        verdict = PROBLEM if web_user else NOTE
        return [Finding("web server", verdict, f"user {name} may not connect to it: {closed}")]
    return []


def _closed_directory(path: str, uid: int, groups: tuple[int, ...] | list[int]) -> str:
    """The first directory on the way that this user may not pass, in words; "" for none."""
    groups = groups or [os.getegid(), *os.getgroups()]
    at = "/"
    for part in os.path.dirname(path).strip("/").split("/"):
        at = os.path.join(at, part)
        try:
            found = os.stat(at)
        except OSError as error:
            return f"{at}: {error.strerror}"
        if not _may(found, uid, groups, 1):
            return f"the directory {at} ({described(found)}) does not let uid {uid} through"
    return ""


def _may(found: os.stat_result, uid: int, groups: tuple[int, ...] | list[int], right: int) -> bool:
    """By the mode alone; access lists are not looked at, so they may allow more."""
    if uid == 0:
        return True
    shift = 6 if found.st_uid == uid else 3 if found.st_gid in groups else 0
    return bool(found.st_mode >> shift & right)


def described(found: os.stat_result) -> str:
    try:
        owner = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        owner = str(found.st_uid)
    return f"{owner}:{_group(found.st_gid)} {stat.S_IMODE(found.st_mode):04o}"


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
