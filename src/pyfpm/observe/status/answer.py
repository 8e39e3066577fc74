"""The answers to a request for the status page or the ping page, as a CGI script would give them.

Source (php-fpm): pm.status_path, ping.path, ping.response.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote_plus

from pyfpm.observe.status.as_html import as_html
from pyfpm.observe.status.as_json import as_json
from pyfpm.observe.status.as_openmetrics import as_openmetrics
from pyfpm.observe.status.as_text import as_text
from pyfpm.observe.status.as_xml import as_xml
from pyfpm.observe.status.collect import PoolStatus

# In the order php-fpm looks for them: with two in the query string, the first of these it is.
FORMATS: dict[str, tuple[str, Callable[[PoolStatus, bool], bytes]]] = {
    "html": ("text/html", as_html),
    "xml": ("text/xml", as_xml),
    "json": ("application/json", as_json),
    "openmetrics": ("application/openmetrics-text; version=1.0.0; charset=utf-8", as_openmetrics),
}
PLAIN = ("text/plain", as_text)

NOT_TO_BE_KEPT = (
    "Expires: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
    "Cache-Control: no-cache, no-store, must-revalidate, max-age=0\r\n"
)  # fmt: skip


def render(status: PoolStatus, query: str) -> tuple[str, bytes]:
    """The content type and the page that a query string asks for: ``json&full``.

    As in php-fpm the names count, whatever their values: one of html, xml, json and openmetrics, else it is plain text;
    and full, for the processes one by one.
    """
    asked = {_name(part) for part in query.split("&")}
    content_type, page = next((FORMATS[name] for name in FORMATS if name in asked), PLAIN)
    return content_type, page(status, "full" in asked)


def answer(status: PoolStatus, query: str, method: str) -> bytes:
    """The complete answer, headers and page; without the page for a HEAD request."""
    return _answer(*render(status, query), method)


def ping_answer(response: str, method: str) -> bytes:
    """The complete answer of the ping page, which says ``response`` (ping.response) and nothing else."""
    return _answer("text/plain", response.encode("utf-8", "surrogateescape"), method)


def _answer(content_type: str, body: bytes, method: str) -> bytes:
    head = f"Content-Type: {content_type}\r\n{NOT_TO_BE_KEPT}\r\n".encode("ascii")
    return head if method == "HEAD" else head + body


def _name(part: str) -> str:
    """The name that ``part`` gives a member of $_GET: an array counts by its own name."""
    return unquote_plus(part.partition("=")[0]).lstrip(" ").partition("[")[0]
