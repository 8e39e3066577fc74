"""The functions that a script has without an import, under PHP's names (https://www.php.net/manual/en/funcref.php)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from operator import index
from typing import Any, NoReturn, SupportsIndex
from urllib.parse import quote

from pyfpm.sapi.current import AtEnd, current
from pyfpm.sapi.headers import check_value, header_line
from pyfpm.sapi.response import ScriptResponse
from pyfpm.sapi.services import services

# Of Defaults.known_headers.
MOST_KNOWN = 500
LONGEST_KNOWN = 100

# What follows "HTTP/1.1 " or "Status: ".
_STATUS = re.compile(r"([0-9]{3})(?:[ \t]+(.*))?", re.DOTALL)

_COOKIE_OPTIONS = frozenset({"expires", "path", "domain", "secure", "httponly", "samesite"})


def echo(*parts: Any) -> None:
    """Send each part as it is, with nothing between them.

    str is encoded as UTF-8 (surrogates from undecodable input become their bytes again), bytes go out untouched,
    None is nothing, and anything else is shown as ``str`` shows it.
    """
    response = current().response
    try:
        text = "".join(parts)
    except TypeError:
        pass  # not all of them are str
    else:
        response.write(text.encode("utf-8", "surrogateescape"))
        return
    for part in parts:
        if isinstance(part, str):
            response.write(part.encode("utf-8", "surrogateescape"))
        elif isinstance(part, (bytes, bytearray, memoryview)):
            response.write(bytes(part))
        elif part is not None:
            response.write(str(part).encode("utf-8", "surrogateescape"))


def header(line: str, replace: bool = True, code: int = 0) -> None:
    """Set a header: ``header("Content-Type: text/plain")``, or the status: ``header("HTTP/1.1 404 Not Found")``.

    Args:
      replace: take the place of earlier headers of this name; False adds another one.
      code: also set the status. ``Location`` sets 302 by itself unless the status is 201 or 3xx.

    Raises:
      HeadersSentError: output has left already; it names the line that sent it.
      ValueError: not a header, or one with a line break in it.
    """
    response = current().response
    response.must_be_changeable()
    known = response.defaults.known_headers.get(line)
    if known is not None and not code:
        response.add(known, replace)
        return
    if line.startswith("HTTP/"):
        _set_status(response, line, line.partition(" ")[2])
        return
    name, colon, value = line.partition(":")
    if not colon:
        raise ValueError(f"{line!r} is not a header of the form 'Name: value'")
    name = name.strip(" \t")
    lower = name.lower()
    value = value.strip(" \t")
    if lower == "status":
        _set_status(response, line, value)
        return
    if lower == "content-type":
        value = _with_charset(value, response.defaults.charset)
    field = (lower, _encodable(header_line(name, value)))
    if code:
        code = _status(code)
    response.add(field, replace)
    if code:
        response.set_status(code)
    elif lower != "location":
        if len(line) <= LONGEST_KNOWN:
            known_headers = response.defaults.known_headers
            if len(known_headers) >= MOST_KNOWN:
                # Full of dates and tags; those that are asked for again come back.
                known_headers.clear()
            known_headers[line] = field
    elif not (response.status == 201 or 300 <= (response.status or 200) < 400):
        response.set_status(302)


def _with_charset(content_type: str, charset: str) -> str:
    """Text that does not say its charset has the default one, since browsers would guess.

    Source (PHP): sapi_apply_default_charset(), main/SAPI.c.
    """
    if charset and content_type.startswith("text/") and "charset=" not in content_type.lower():
        return f"{content_type};charset={charset}"
    return content_type


def _set_status(response: ScriptResponse, line: str, status: str) -> None:
    found = _STATUS.fullmatch(status.strip(" \t"))
    if found is None:
        raise ValueError(f"{line!r} does not have a status of three digits")
    phrase = found[2] or ""
    check_value("Status", phrase)
    response.set_status(_status(int(found[1])), _encodable(phrase))


def _encodable(text: str) -> str:
    """Complain where the header is made, not when it is sent."""
    if not text.isascii():
        text.encode("utf-8", "surrogateescape")
    return text


def _status(code: SupportsIndex) -> int:
    number = int(index(code))
    # 1xx would leave the visitor waiting for the answer proper.
    if not 200 <= number <= 999:
        raise ValueError(f"{number} is not a status that an answer can have")
    return number


def header_remove(name: str | None = None) -> None:
    """Remove the headers of this name, or all of them. Raises HeadersSentError when output has left already."""
    response = current().response
    response.must_be_changeable()
    if name is None:
        response.headers = []
    else:
        response.remove(name)
        if name.lower() == "content-type":
            response.remove_default()


def headers_list() -> list[str]:
    """The headers as they stand, each as ``Name: value``."""
    return current().response.listed()


class HeadersSent(int):
    """An answer of headers_sent(): equal to True or False, and it knows the place.

    Attributes:
      file: of the line whose output sent the headers; empty where there is none.
      line: its number, or 0.
    """

    file: str
    line: int

    def __new__(cls, sent: bool, file: str = "", line: int = 0) -> HeadersSent:
        self = super().__new__(cls, sent)
        self.file = file
        self.line = line
        return self

    def __repr__(self) -> str:
        return repr(bool(self))


_NOT_SENT = HeadersSent(False)


def headers_sent() -> HeadersSent:
    """True once output has left, and the headers with it; ``headers_sent().file`` and ``.line`` tell which line it was.

    Source (PHP): headers_sent($file, $line).
    """
    response = current().response
    return HeadersSent(True, response.sent_file, response.sent_line) if response.head_sent else _NOT_SENT


def header_register_callback(callback: Callable[[], object]) -> bool:
    """Have ``callback()`` called once when the headers are about to leave: it may still change them. One that was
    registered before is forgotten."""
    if not callable(callback):
        raise TypeError(f"header_register_callback() needs something to call, not {type(callback).__name__}")
    request = current()
    response = request.response
    # Where nothing is sent before the end, that is when the script is still there to be asked.
    request.at_end(AtEnd.OUTPUT, lambda: response.ask_before_head())
    response.before_head = callback
    return True


def getallheaders() -> dict[str, str]:
    """The request's headers: ``{"Host": ..., "User-Agent": ...}``.

    Their names come from the web server in capitals, and are spelled here as most are.
    """
    found = {}
    for name, value in current().superglobal("_SERVER").items():
        if name.startswith("HTTP_"):
            found["-".join([part.capitalize() for part in name[5:].split("_")])] = value
    # nginx sends these two in any case, and empty where the request has none.
    for name in ("Content-Type", "Content-Length"):
        value = current().superglobal("_SERVER").get(name.upper().replace("-", "_"))
        if value:
            found[name] = value
        else:
            found.pop(name, None)
    return found


def apache_request_headers() -> dict[str, str]:
    """As getallheaders()."""
    return getallheaders()


def http_response_code(code: int | None = None) -> int:
    """The status of the answer. With ``code``, set it, and return what it was before."""
    response = current().response
    before = response.status or 200
    if code:
        code = _status(code)
        response.must_be_changeable()
        response.set_status(code)
    return before


def setcookie(
    name: str,
    value: str = "",
    expires: float | Mapping[str, Any] = 0,
    path: str = "",
    domain: str = "",
    secure: bool = False,
    httponly: bool = False,
    samesite: str = "",
) -> None:
    """Send a cookie; its value is percent-encoded. An empty value deletes it.

    Args:
      expires: Unix time, 0 for the end of the browser's session; or a mapping with the other options, as in PHP 7.3,
        their names in any case.

    Raises:
      HeadersSentError: output has left already.
      ValueError: a name or an attribute has characters that a cookie can't have.
    """
    text = "" if value is None else quote(str(value), safe="", errors="surrogateescape")
    setrawcookie(name, text, expires, path, domain, secure, httponly, samesite)


def setrawcookie(
    name: str,
    value: str = "",
    expires: float | Mapping[str, Any] = 0,
    path: str = "",
    domain: str = "",
    secure: bool = False,
    httponly: bool = False,
    samesite: str = "",
) -> None:
    """As setcookie(), but the value is sent as it is, and may not have blanks, commas or semicolons."""
    if isinstance(expires, Mapping):
        options = {option.lower(): chosen for option, chosen in expires.items()}
        if unknown := options.keys() - _COOKIE_OPTIONS:
            raise ValueError(f"a cookie has no option {', '.join(sorted(unknown))}")
        return setrawcookie(name, value, **options)
    if not name or re.search(r"[=,; \t\r\n\v\f]", name):
        raise ValueError(f"{name!r} is not a name for a cookie")
    for what, text in (("value", value), ("path", path), ("domain", domain), ("samesite", samesite)):
        if re.search(r"[,; \t\r\n\v\f]", text):
            raise ValueError(f"{text!r} cannot stand in a cookie's {what}")
    if value:
        cookie = f"{name}={value}"
        if expires:
            cookie += f"; expires={formatdate(expires, usegmt=True)}; Max-Age={max(0, int(expires - time.time()))}"
    else:
        cookie = f"{name}=deleted; expires={formatdate(1, usegmt=True)}; Max-Age=0"
    if path:
        cookie += f"; path={path}"
    if domain:
        cookie += f"; domain={domain}"
    if secure:
        cookie += "; secure"
    if httponly:
        cookie += "; HttpOnly"
    if samesite:
        cookie += f"; SameSite={samesite}"
    response = current().response
    response.must_be_changeable()
    response.add(("set-cookie", _encodable(header_line("Set-Cookie", cookie))), False)


def fpm_get_status() -> dict[str, Any] | bool:
    """The pool's figures and its processes, under the names of the status page with dashes; False when the master does
    not tell them.

    Source (PHP): fpm_get_status().
    """
    return services().figures() or False


def flush() -> None:
    """Send what there is so far, with the headers if they are not sent yet."""
    current().response.flush()


def sapi_name() -> str:
    """``fpm-fcgi``, as php-fpm says."""
    return "fpm-fcgi"


def exit(status: object = None) -> NoReturn:
    """End the script. A str is sent first, as in PHP; ``sys.exit`` sends it to the error log, as everywhere."""
    if isinstance(status, str):
        echo(status)
        status = None
    raise SystemExit(status)


FUNCTIONS = {
    function.__name__: function
    for function in (
        apache_request_headers,
        echo,
        exit,
        flush,
        fpm_get_status,
        getallheaders,
        header,
        header_register_callback,
        header_remove,
        headers_list,
        headers_sent,
        http_response_code,
        sapi_name,
        setcookie,
        setrawcookie,
    )
}
