"""Which file a web server's parameters name, and what they say once it is known where its path ends.

Web servers that know nothing of scripts send a path that goes on behind the file: ``/srv/www/x.py/more``. PHP mends
their parameters (``cgi.fix_pathinfo``) so that SCRIPT_FILENAME, SCRIPT_NAME, PATH_INFO and PATH_TRANSLATED are those of
CGI, and keeps what came under ORIG_ names; scripts and frameworks rely on what exactly it does.

PHP does it by the lengths of one parameter applied to another (CVE-2019-11043: a write before the buffer). Here every
step takes a beginning or an end off a string that has it, or does nothing.

All strings have a byte a character, as the protocol has them.

Source (PHP): init_request_info in sapi/fpm/fpm/fpm_main.c, as of 8.2.
"""

from __future__ import annotations

from collections.abc import Iterator


class Asked:
    """What was asked for."""

    __slots__ = ("by_apache", "path", "script_name")

    def __init__(self, path: str, by_apache: bool, script_name: str | None) -> None:
        self.path = path
        # By mod_proxy_fcgi, which does not know what of the path is PATH_INFO.
        self.by_apache = by_apache
        # Another SCRIPT_NAME than the one that was sent, or None.
        self.script_name = script_name


def asked(server: dict[str, str], fix_pathinfo: bool, discard_path: bool) -> Asked:
    """Reads the parameters, and mends what is not about this request: what Apache and IIS add."""
    filename = server.get("SCRIPT_FILENAME")
    translated = server.get("PATH_TRANSLATED")
    by_apache = False
    if filename is not None:
        path = script_path(filename)
        if path != filename:
            by_apache = path.startswith("/")
            filename = server["SCRIPT_FILENAME"] = path
    if is_iis(server):
        _mend_iis(server)
    path = filename if filename is not None else translated or ""
    if not fix_pathinfo:
        if translated is not None and not discard_path:
            path = translated
        return Asked(path, by_apache, None)
    redirect_url = server.get("REDIRECT_URL")
    if redirect_url is not None and not by_apache and translated is not None and translated != path:
        # Action of Apache's mod_fcgid: SCRIPT_FILENAME and SCRIPT_NAME are those of the program that handles the file.
        return Asked(translated, False, redirect_url)
    return Asked(path, by_apache, None)


def is_iis(server: dict[str, str]) -> bool:
    """Its PATH_INFO begins with SCRIPT_NAME."""
    return server.get("SERVER_SOFTWARE", "").startswith("Microsoft-IIS")


def _mend_iis(server: dict[str, str]) -> None:
    path_info = server.get("PATH_INFO")
    script_name = server.get("SCRIPT_NAME")
    if path_info is None or script_name is None or not path_info.startswith(script_name):
        return
    server["ORIG_PATH_INFO"] = path_info
    rest = path_info.removeprefix(script_name)
    if rest:
        server["PATH_INFO"] = rest
    else:
        del server["PATH_INFO"]


def beginnings(path: str, extensions: tuple[str, ...]) -> Iterator[str]:
    """Where a script's name may end in a path, the shortest first.

    If there is a file, nothing can be below it; if there is nothing, neither. So at most one of them is a script, and
    whoever looks can stop at the first that is no directory.
    """
    slash = path.find("/", 1)
    while slash > 0:
        if path.endswith(extensions, 0, slash):
            yield path[:slash]
        slash = path.find("/", slash + 1)
    if path.endswith(extensions):
        yield path


def mend(server: dict[str, str], asked: Asked, script: str) -> None:
    """Make the parameters those of this script, which is the asked path or a beginning of it."""
    rest = asked.path.removeprefix(script)
    if rest:
        _split(server, asked, script, rest)
        return
    _set(server, "SCRIPT_FILENAME", script)
    if not asked.by_apache and "REDIRECT_URL" in server:
        for name in ("PATH_INFO", "PATH_TRANSLATED"):
            if name in server:
                server["ORIG_" + name] = server.pop(name)
    if asked.script_name is not None:
        _set(server, "SCRIPT_NAME", asked.script_name, always=True)


def _split(server: dict[str, str], asked: Asked, script: str, rest: str) -> None:
    """The path goes on behind the script."""
    path_info = server.get("PATH_INFO")
    script_name = asked.script_name if asked.script_name is not None else server.get("SCRIPT_NAME")
    # What the script's URL is when PATH_INFO tells it.
    told: str | None = None
    if path_info is None:
        if asked.by_apache:
            if script_name is not None and script_name != rest and script_name.endswith(rest):
                script_name = script_name.removesuffix(rest)
            path_info = rest
    elif asked.by_apache:
        if path_info != rest:
            told, path_info = path_info, rest
    elif path_info != rest and path_info.endswith(rest):
        told, path_info = path_info.removesuffix(rest), rest
    if told is not None:
        server["ORIG_PATH_INFO"] = server["PATH_INFO"]
        _set(server, "SCRIPT_NAME", told)
    elif script_name is not None:
        _set(server, "SCRIPT_NAME", script_name)
    if path_info is not None:
        server["PATH_INFO"] = path_info
    _set(server, "SCRIPT_FILENAME", script)
    root = server.get("DOCUMENT_ROOT")
    if root is not None:
        _set(server, "PATH_TRANSLATED", root.removesuffix("/") + (path_info or ""), always=True)
    elif script_name is not None and script.endswith(script_name):
        _set(server, "PATH_TRANSLATED", script.removesuffix(script_name) + (path_info or ""), always=True)


def _set(server: dict[str, str], name: str, value: str, always: bool = False) -> None:
    before = server.get(name)
    if before != value or always:
        if before is not None:
            server["ORIG_" + name] = before
        server[name] = value


def script_path(filename: str) -> str:
    """SCRIPT_FILENAME without what Apache adds to it: ``proxy:fcgi://host:port`` (or ``proxy:balancer://name``) before
    the path, the query string behind it. The path may be percent-encoded."""
    if filename.startswith("/"):
        return filename
    start = filename[:20].lower()
    for prefix in ("proxy:fcgi://", "proxy:balancer://", "proxy:unix:"):
        if start.startswith(prefix):
            path = filename[len(prefix) :]
            if prefix == "proxy:unix:":
                path = path.partition("|fcgi://")[2]
            _, slash, path = path.partition("/")
            return slash + path.partition("?")[0]
    return filename
