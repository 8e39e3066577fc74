"""``pyfpmctl doctor``: why a script is found, or not.

It does what happens to a request, one step after the other, and says at each what it found: what nginx would send,
whether the pool's socket can be reached, what SCRIPT_FILENAME names, what the pool's own rules say to that (the very
same code, as the pool's user), and what the pool answers.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pyfpm.client import Answer, parse_address
from pyfpm.ctl import control, fastcgi, nginx, reach
from pyfpm.ctl.control import Declined, Unreachable
from pyfpm.ctl.finding import NOTE, OK, PROBLEM, Finding
from pyfpm.ctl.text import shown

if TYPE_CHECKING:
    from pyfpm.config import PoolConfig


@dataclass(frozen=True)
class Case:
    """What is looked at."""

    address: str
    params: dict[str, str]
    pool: PoolConfig | None
    user: str | None
    web_user: str | None
    timeout_s: float


def run(arguments: argparse.Namespace) -> int:
    """Print the findings. Returns 0 when there is no problem, 1 when there is.

    Raises:
      ValueError: too little was given to try anything.
      Unreachable: the configuration file cannot be read.
    """
    case, findings = _case(arguments)
    findings += examine(case, replay=arguments.replay)
    problems = [each for each in findings if each.verdict == PROBLEM]
    if arguments.json:
        told = {"ok": not problems, "address": case.address, "params": case.params}
        print(json.dumps({**told, "findings": [asdict(each) for each in findings]}, indent=2))
    else:
        for each in findings:
            lines = [shown(line) for line in each.text.rstrip("\n").split("\n")]
            print(f"{each.verdict:8}{each.step}: " + "\n          ".join(lines))
    return 1 if problems else 0


def examine(case: Case, *, replay: bool = True) -> list[Finding]:
    """All steps from the socket on. With ``replay`` the script runs."""
    findings = reach.findings(case.address, case.web_user)
    findings += script_findings(case)
    if replay and not any(each.step == "socket" and each.verdict == PROBLEM for each in findings):
        findings += answer_findings(case)
    return findings


# -- what is asked


def _case(arguments: argparse.Namespace) -> tuple[Case, list[Finding]]:
    findings: list[Finding] = []
    address, user = arguments.connect, arguments.web_user
    if arguments.nginx:
        found, findings = _nginx_findings(arguments)
        # Exactly what nginx sends: what we added could hide what it leaves out.
        basics = {} if found.is_whole else fastcgi.basic_params("GET", arguments.uri.partition("?")[2])
        params = {**basics, "HTTP_HOST": "localhost", **found.params}
        address = address or found.address
        user = user or found.user or None
    else:
        params = _params(arguments)
    if arguments.script_filename:
        params["SCRIPT_FILENAME"] = arguments.script_filename
    pool = _pool(arguments, address)
    if arguments.nginx and "SCRIPT_FILENAME" not in params:
        findings.append(_no_script_filename(params, pool))
    if address is None:
        address = pool.listen[0] if pool and pool.listen else fastcgi.address_of(arguments)
    try:
        parse_address(address)
    except ValueError:
        raise ValueError(f"{address!r} is nowhere a pool could listen; say where with --connect ADDRESS") from None
    return Case(
        address, params, pool, arguments.user or (pool.user if pool else None), user, arguments.timeout
    ), findings


def _params(arguments: argparse.Namespace) -> dict[str, str]:
    if not arguments.script_filename and not (arguments.root and arguments.uri):
        raise ValueError("doctor needs --root DIR and --uri /x.py, or --script-filename PATH, or --nginx FILE")
    path, _, query = (arguments.uri or "/" + os.path.basename(arguments.script_filename)).partition("?")
    root = arguments.root or os.path.dirname(arguments.script_filename)
    if not path.startswith("/"):
        raise ValueError(f"--uri {path}: it begins with a slash")
    return {
        **fastcgi.basic_params("GET", query),
        "DOCUMENT_ROOT": root,
        "SCRIPT_FILENAME": root.rstrip("/") + path,
        "SCRIPT_NAME": path,
        "DOCUMENT_URI": path,
        "REQUEST_URI": f"{path}?{query}" if query else path,
    }


def _nginx_findings(arguments: argparse.Namespace) -> tuple[nginx.Sent, list[Finding]]:
    uri = arguments.uri
    if not uri:
        raise ValueError("--nginx needs --uri /x.py: what the browser asks for")
    try:
        sent = nginx.sent(nginx.read(arguments.nginx), uri)
    except OSError as error:
        raise ValueError(f"--nginx {arguments.nginx}: {error.strerror}") from None
    if sent is None:
        raise ValueError(f"--nginx {arguments.nginx}: there is no fastcgi_pass in it")
    findings = [Finding("nginx", PROBLEM, text) for text in sent.problems]
    if not sent.problems:
        findings.append(Finding("nginx", OK, f"{sent.location} passes {uri} to {sent.address}"))
    findings += [Finding("nginx", NOTE, text) for text in sent.notes]
    return sent, findings


def _no_script_filename(params: dict[str, str], pool: PoolConfig | None) -> Finding:
    wanted = "fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;"
    if _is_for_application(params, pool):
        return Finding("nginx", NOTE, f"no SCRIPT_FILENAME is sent, as for an application; a script needs: {wanted}")
    # Other servers take a default then, which hides it until they are exchanged.
    return Finding("nginx", PROBLEM, f"no SCRIPT_FILENAME is sent; add: {wanted}")


def _is_for_application(params: dict[str, str], pool: PoolConfig | None) -> bool:
    """Whether no script is meant: by the pool, or where we do not know that, by the look of the request."""
    if pool is not None:
        return bool(pool.app) and pool.app_kind != "script"
    return "SCRIPT_FILENAME" not in params and "PATH_INFO" in params


def _pool(arguments: argparse.Namespace, address: str | None) -> PoolConfig | None:
    """The pool of the configuration that is asked: by name, by address, or the only one."""
    if not arguments.config_file:
        return None
    pools = control.load(arguments.config_file).pools
    if arguments.pool:
        for pool in pools:
            if pool.pool == arguments.pool:
                return pool
        raise ValueError(f"{arguments.config_file} has no pool {arguments.pool!r}")
    if address is None:
        return pools[0]
    for pool in pools:
        if any(_same(address, each) for each in pool.listen):
            return pool
    return None


def _same(one: str, other: str) -> bool:
    try:
        return parse_address(one) == parse_address(other)
    except ValueError:
        return False


# -- the script


def script_findings(case: Case) -> list[Finding]:
    """What the pool's own rules say, as the pool's user."""
    name = case.params.get("SCRIPT_FILENAME", "")
    if _is_for_application(case.params, case.pool):
        what = f"the pool runs {case.pool.app}" if case.pool else "none is asked for"
        return [Finding("script", NOTE, f"{what}: no script is looked for")]
    own = {case.pool.pm_status_path, case.pool.ping_path} if case.pool else set()
    if case.params.get("SCRIPT_NAME") in own - {None, ""}:
        return [Finding("script", NOTE, f"the pool answers {case.params['SCRIPT_NAME']} itself")]
    findings = [Finding("script", NOTE, f"SCRIPT_FILENAME is {name}")] if name else []
    chroot = case.pool.chroot if case.pool else None
    if chroot and name.startswith(chroot.rstrip("/") + "/"):
        return [*findings, Finding(
            "script", PROBLEM,
            f"the pool is in chroot {chroot} and would look for {chroot.rstrip('/')}{name}; send what it sees:"
            f" {name[len(chroot.rstrip('/')) :]}",
        )]  # fmt: skip
    try:
        reason = _as_user(case.user, chroot, lambda: _reason(case, name))
    except Unreachable as error:
        return [*findings, Finding("script", NOTE, str(error))]
    if not reason:
        who = f" for user {case.user}" if case.user else ""
        return [*findings, Finding("script", OK, f"it is there and may run{who}")]
    if "no such file" in reason:
        reason += _nearest(name)
    elif "permission denied" in reason:
        reason += "\n" + _rights(name)
    return [*findings, Finding("script", PROBLEM, reason)]


def _reason(case: Case, name: str) -> str:
    from pyfpm.sapi.script_file import NotRunnable, ScriptFiles, cgi_extensions, extensions_of

    roots = case.pool.docroots if case.pool else ()
    kind = case.pool.app_kind if case.pool else None
    extensions = extensions_of(kind, case.pool.extensions if case.pool else None)
    # As the protocol decodes params, so that no byte of the name is lost.
    wire = name.encode("utf-8", "surrogateescape").decode("latin-1")
    fix_pathinfo = case.pool is None or case.pool.cgi_fix_pathinfo
    try:
        files = ScriptFiles(tuple(roots), extensions, cgi_extensions(kind), fix_pathinfo=fix_pathinfo)
        files.find({"SCRIPT_FILENAME": wire})
    except NotRunnable as error:
        return str(error)
    except SyntaxError as error:
        return f"it is found, but cannot be compiled: {error}"
    except OSError as error:
        return f"it cannot be opened now: {error.strerror}"
    return ""


def _as_user(user: str | None, chroot: str | None, work: Callable[[], str]) -> str:
    """The result of ``work``, done by a child process as that user.

    Raises:
      Unreachable: we may not become that user. The message says what that means.
    """
    if user is None and chroot is None:
        return work()
    try:
        found = pwd.getpwnam(user) if user is not None else None
    except KeyError:
        raise Unreachable(f"there is no user {user} here, so nothing can be tried as it") from None
    if os.geteuid() != 0:
        if chroot is None and (found is None or found.pw_uid == os.geteuid()):
            return work()
        raise Unreachable(f"only root can look with the eyes of the pool (user {user}); try again as root")
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if chroot is not None:
                # Imported before, since there is no Python in there.
                import pyfpm.sapi.script_file  # noqa: F401

                os.chroot(chroot)
                os.chdir("/")
            if found is not None:
                os.initgroups(found.pw_name, found.pw_gid)
                os.setgid(found.pw_gid)
                os.setuid(found.pw_uid)
            os.write(writable, work().encode("utf-8", "surrogateescape")[:60_000])
            status = 0
        finally:
            os._exit(status)
    os.close(writable)
    with open(readable, "rb") as answer:
        text = answer.read().decode("utf-8", "surrogateescape")
    if os.waitpid(child, 0)[1] != 0:
        raise Unreachable(f"could not look as user {user}")
    return text


def _nearest(path: str) -> str:
    """How far the path goes, and what is there instead."""
    at = path
    while at not in ("/", "") and not os.path.lexists(at):
        at = os.path.dirname(at)
    if at in ("", path):
        return ""
    if at != os.path.dirname(path):
        return f"\n{at} is there, {path[len(at) :].lstrip('/').partition('/')[0]} in it is not: is nginx's root right?"
    low = os.path.basename(path).lower()
    alike = [name for name in sorted(reach.names(at)) if name.lower() == low or name.lower().rpartition(".")[0] == low]
    return f"\nin {at} there is {', '.join(alike)}" if alike else ""


def _rights(path: str) -> str:
    """Each step of the way with its owner and mode."""
    lines, at = [], "/"
    for part in path.strip("/").split("/"):
        at = os.path.join(at, part)
        try:
            lines.append(f"{at} ({reach.described(os.stat(at))})")
        except OSError:
            break
    return "\n".join(lines)


# -- the answer


def answer_findings(case: Case) -> list[Finding]:
    """Ask the pool itself."""
    try:
        answer = fastcgi.exchange(case.address, case.params, timeout_s=case.timeout_s)
    except (Declined, Unreachable) as error:
        return [Finding("answer", PROBLEM, str(error))]
    text = f"the pool answers {answer.status}{f' {answer.reason}' if answer.reason else ''}"
    said = answer.stderr.decode("utf-8", "replace").strip()
    if answer.status < 400:
        return [Finding("answer", OK, text + (f"\nand says to the error log: {said}" if said else ""))]
    return [Finding("answer", PROBLEM, "\n".join([text + _meaning(case, answer), *([said] if said else [])]))]


def _meaning(case: Case, answer: Answer) -> str:
    if answer.status in (403, 404) and answer.body in (b"File not found.\n", b"Access denied.\n"):
        unknown = "" if case.pool else "; its doc_root and extensions are known here with -y FILE"
        return f": it found no script to run; its log says why (script not found: ...){unknown}"
    meanings: dict[int, str] = {
        404: ": this comes from the script or application itself",
        500: ": the script failed; the traceback is in the pool's log",
        503: ": all workers are busy, or a limit was passed",
    }
    return meanings.get(answer.status, "")
