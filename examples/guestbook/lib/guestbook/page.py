"""The frame of every page."""

from __future__ import annotations

from html import escape

from pyfpm import _SERVER, echo, exit, header, http_response_code

# Nothing comes from elsewhere, nothing runs: what a visitor manages to write into a page is text at most.
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def show(title: str, body: str, status: int = 200) -> None:
    """``body`` is HTML; whatever in it comes from visitors has been escaped."""
    http_response_code(status)
    header(f"Content-Security-Policy: {POLICY}")
    header("X-Content-Type-Options: nosniff")
    header("Referrer-Policy: same-origin")
    echo(f"""<!doctype html>
<html lang=en>
<meta charset=utf-8>
<meta name=viewport content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel=stylesheet href=style.css>
<header>
<h1>{escape(title)}</h1>
<nav><a href=index.py>Read</a> <a href=write.py>Write</a> <a href=admin.py>Admin</a></nav>
</header>
<main>
{body}
</main>
""")


def accept_only(*methods: str) -> None:
    if _SERVER["REQUEST_METHOD"] not in methods:
        header(f"Allow: {', '.join(methods)}")
        show("Not like this", "<p>This page does not do that.", 405)
        exit()


def go_to(page: str) -> None:
    """After a form: the browser fetches the next page, and reloading that sends no form again."""
    header(f"Location: {page}", code=303)
    exit()
