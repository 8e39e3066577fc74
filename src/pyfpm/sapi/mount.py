"""Where in the URL the application is, by what the web server says."""

from __future__ import annotations

import os
from urllib.parse import unquote


def mount_of(params: dict[str, str], program: str | None = None) -> tuple[str, str]:
    """SCRIPT_NAME and PATH_INFO as Python's applications want them: where it is mounted, and the path below that.

    A web server that is not told where the application is mounted says it all in SCRIPT_NAME: nginx's own
    fastcgi_params has no PATH_INFO, Apache's mod_proxy_fcgi sends none, and a PATH_INFO that nginx or Caddy made up
    from nothing is empty while DOCUMENT_URI (which Apache and lighttpd do not send) repeats SCRIPT_NAME.

    Args:
      program: the file that the web server starts for a request, if it does: then its URL is where we are mounted.
    """
    script_name = params.get("SCRIPT_NAME", "")
    path_info = params.get("PATH_INFO")
    if program is not None and not path_info and _is_program(params, script_name, program):
        return script_name, ""
    if path_info is None or (not path_info and params.get("DOCUMENT_URI") == script_name):
        return "", script_name or "/"
    if not script_name:
        return "", path_info or "/"
    if script_name[-1] == "/":
        # "The root" is "" in WSGI, and the slash belongs to what follows: fastcgi_split_path_info ^(/app/)(.*)
        return script_name[:-1], path_info if path_info[:1] == "/" else "/" + path_info
    return script_name, path_info


def _is_program(params: dict[str, str], script_name: str, program: str) -> bool:
    """The web server's script is the program that we run in: /cgi-bin/app.cgi, or a ScriptAlias of it."""
    name = os.path.basename(program)
    return bool(name) and (params.get("SCRIPT_FILENAME") == program or script_name.endswith("/" + name))


def mount_of_authorizer(params: dict[str, str]) -> tuple[str, str]:
    """The same for an authorizer, which is no resource, and is given no path of its own (FastCGI 1.0, 6.3). An
    application that looks at paths finds the one that the visitor asks for."""
    path_info = params.get("PATH_INFO")
    if not path_info:
        path_info = unquote(params.get("REQUEST_URI", "").partition("?")[0], "latin-1")
    return params.get("SCRIPT_NAME", ""), path_info or "/"
