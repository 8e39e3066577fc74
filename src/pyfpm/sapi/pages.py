"""The pages that come from the server itself, and nothing of its insides in them."""

from __future__ import annotations

from http import HTTPStatus

from pyfpm.sapi.interface import Output

# php-fpm's words for what it refuses; a visitor learns no more than this.
TEXTS = {
    403: "Access denied.\n",
    404: "File not found.\n",
}


def answer(output: Output, status: int) -> None:
    """A complete small answer with this HTTP status."""
    phrase = HTTPStatus(status).phrase
    body = TEXTS.get(status) or f"<!DOCTYPE html>\n<title>{status} {phrase}</title>\n<h1>{phrase}</h1>\n"
    retry = "Retry-After: 1\r\n" if status == HTTPStatus.SERVICE_UNAVAILABLE else ""
    output.write(
        f"Status: {status} {phrase}\r\n"
        f"Content-Type: text/html; charset=UTF-8\r\n{retry}"
        f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
    )
