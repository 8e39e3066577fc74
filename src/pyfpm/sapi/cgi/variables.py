"""The variables of a CGI program: what the web server said of the request (RFC 3875, 4.1), and little of the process.

What is left out, and why: web servers send empty values for what there is not (``fastcgi_param REMOTE_USER
$remote_user;``), where programs ask only whether the variable is there. And whoever can connect to us can send any
parameter, so none may change how a program is found, loaded or interpreted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote_to_bytes

# Precedent: Apache's DEFAULT_PATH. Without one, "#!/usr/bin/env perl" would depend on the C library's taste.
DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"

# What a variable can be called, and no program asks for other names. A shell takes what it is given as text to run in
# some of those.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)

# "" is not said of these [RFC 3875, 4.1: "NULL" and "unset" are the same for these].
UNSET_IF_EMPTY = frozenset({
    "AUTH_TYPE",
    "CONTENT_LENGTH",
    "CONTENT_TYPE",
    "PATH_INFO",
    "PATH_TRANSLATED",
    "REMOTE_HOST",
    "REMOTE_IDENT",
    "REMOTE_USER",
})  # fmt: skip

# httpoxy (CVE-2016-5385), what PHP keeps of names that it mends, then what loaders, interpreters and the C library act
# on.
_NEVER = re.compile(
    r"HTTP_PROXY|ORIG_(SCRIPT|PATH)_.*|FCGI_.*|UWSGI_.*"
    r"|LD_.*|PYTHON.*|PERL.*|RUBY.*|LUA_.*|NODE_.*|PHPRC|PHP_.*|CLASSPATH|_?JAVA_.*|JDK_.*"
    r"|PATH|HOME|TMPDIR|SHELL|ENV|BASH.*|SHELLOPTS|IFS|PS4|GCONV_PATH|LOCPATH|NLSPATH|HOSTALIASES|RES_OPTIONS|MALLOC_.*"
    r"|GLIBC_TUNABLES|OPENSSL_.*|SSL_CERT_(FILE|DIR)|GIT_EXEC_PATH|GIT_SSH.*|GIT_CONFIG.*"
)

# The request's own names. What a container's or a shell's environment has under these is about something else.
_OF_A_REQUEST = re.compile(
    r"(HTTP|SERVER|REMOTE|REQUEST|REDIRECT|SCRIPT|DOCUMENT|CONTENT|CONTEXT)_.*"
    r"|SSL_(CIPHER|CLIENT|COMPRESS|PROTOCOL|SECURE|SERVER|SESSION|TLS|VERSION).*|AUTH_TYPE|GATEWAY_INTERFACE|HTTPS|PATH_INFO|PATH_TRANSLATED|QUERY_STRING"
)

# A web server sends the same names each time.
_known: dict[str, bytes | None] = {}
MOST_KNOWN = 1000
# Characters of a name that is kept. Visitors make up names as well, and each may be as long as all params together.
LONGEST_KNOWN = 100

# Of the process's own environment, what a program in a process of its own has besides what env[] names. fcgiwrap hands
# over all of it, with whatever secrets are in there; Apache has PATH and LD_LIBRARY_PATH.
_OF_THE_PROCESS = re.compile(r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_.*|TZ|TMPDIR|LD_LIBRARY_PATH|LD_PRELOAD")


def without_those_of_requests(environ: Mapping[str, str], also: Iterable[str] = ()) -> dict[str, str]:
    """Our environment as a program that runs in this process finds it.

    Args:
      also: what the operator has given to programs by name (``env[]``): it stays.
    """
    names = set(also)
    found = {name: value for name, value in environ.items() if name in names or not _OF_A_REQUEST.fullmatch(name)}
    found.setdefault("PATH", DEFAULT_PATH)
    return found


def of_the_process(environ: Mapping[str, str], also: Iterable[str] = ()) -> dict[str, str]:
    """What a process that is started for a request has of our environment; ``also`` as above."""
    names = set(also)
    found = {name: value for name, value in environ.items() if name in names or _OF_THE_PROCESS.fullmatch(name)}
    found.setdefault("PATH", DEFAULT_PATH)
    return found


def of_the_request(params: Mapping[str, str], ours: Mapping[str, str], body_size: int | None) -> dict[bytes, bytes]:
    """The meta-variables.

    Args:
      params: the web server's, a character a byte.
      ours: environment of the process; of what is there, only the request's own names are replaced.
      body_size: bytes of the body; None if there is none.
    """
    found = {}
    for name, value in params.items():
        if name in ours and not _OF_A_REQUEST.fullmatch(name):
            continue
        key = _key_of(name)
        # Not set where they would be empty.
        if key is not None and (value or name not in UNSET_IF_EMPTY) and "\0" not in value:
            found[key] = value.encode("latin-1")
    # RFC 3875, 4.1.4, 4.1.7 and 4.1.12: these are always there.
    found.setdefault(b"GATEWAY_INTERFACE", b"CGI/1.1")
    found.setdefault(b"QUERY_STRING", b"")
    method = found.setdefault(b"REQUEST_METHOD", b"GET")
    # What it says is what there is, also where the web server could not know it (a body that came in chunks).
    if body_size is not None:
        found[b"CONTENT_LENGTH"] = b"%d" % body_size
    elif b"CONTENT_LENGTH" in found or method in (b"POST", b"PUT", b"PATCH"):
        found[b"CONTENT_LENGTH"] = b"0"
    return found


def split_path(params: dict[str, str], script: str) -> None:
    """Make SCRIPT_NAME end with the name of the script, and PATH_INFO what comes behind it in the URL's path.

    Not every web server is set up to say what is which, and PHP's way (``paths``) does not find it out for all of them.
    Precedent: fcgiwrap does the same.
    """
    name = params.get("SCRIPT_NAME", "")
    file = script[script.rfind("/") :]
    at = name.find(file + "/")
    if at < 0:
        return
    end = at + len(file)
    params["SCRIPT_NAME"], params["PATH_INFO"] = name[:end], name[end:]
    root = params.get("DOCUMENT_ROOT")
    if root is not None:
        params["PATH_TRANSLATED"] = root.removesuffix("/") + name[end:]


def _key_of(name: str) -> bytes | None:
    """A parameter's name as a variable's; None if it is not passed on."""
    if name in _known:
        return _known[name]
    key = name.encode() if _NAME.fullmatch(name) and not _NEVER.fullmatch(name) else None
    if len(_known) < MOST_KNOWN and len(name) <= LONGEST_KNOWN:
        _known[name] = key
    return key


def search_words(params: Mapping[str, str]) -> list[str]:
    """The command line of an indexed query, one without ``=``: split at ``+`` and decoded [RFC 3875, 4.4]."""
    query = params.get("QUERY_STRING", "")
    if not query or "=" in query or params.get("REQUEST_METHOD") not in ("GET", "HEAD"):
        return []
    words = [os.fsdecode(unquote_to_bytes(word.encode("latin-1"))) for word in query.split("+")]
    return [] if any("\0" in word for word in words) else words
