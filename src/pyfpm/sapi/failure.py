"""What becomes of an exception in user code: an answer without details, and all of them where the operator looks."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

from pyfpm.sapi import pages, traceback_page
from pyfpm.sapi.error_log import write_message
from pyfpm.sapi.interface import Output
from pyfpm.sapi.printable import printable
from pyfpm.sapi.services import services
from pyfpm.sapi.settings import SapiSettings
from pyfpm.sapi.timeout import is_timeout

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]
Log = Callable[[str, str], None]


def describe(error: BaseException) -> str:
    """The traceback as text, with the user's own frames only. Never raises."""
    return _describe(error)[0]


def _describe(error: BaseException) -> tuple[str, traceback.TracebackException | None]:
    try:
        told = traceback.TracebackException.from_exception(error)
        _leave_out_ours(told, error)
        return printable("".join(told.format())), told
    except Exception as other:  # Attributes of an exception can be anything; that must not hide that there was one.
        return f"{type(error).__qualname__} (it cannot be shown: {type(other).__qualname__})\n", None


def _leave_out_ours(told: traceback.TracebackException, error: BaseException) -> None:
    left: list[tuple[traceback.TracebackException, BaseException]] = [(told, error)]
    while left:
        told, error = left.pop()
        ours = [_is_ours(frame.f_globals) for frame, _ in traceback.walk_tb(error.__traceback__)]
        # Without any of the user's it is a failure of our own, and all of it is wanted. A SyntaxError names its place.
        if len(ours) == len(told.stack) and (not all(ours) or isinstance(error, SyntaxError)):
            told.stack[:] = [frame for frame, is_ours in zip(told.stack, ours, strict=True) if not is_ours]
        # Where a chain of exceptions comes back to one that was told already, told has no more of it.
        if told.__cause__ is not None and error.__cause__ is not None:
            left.append((told.__cause__, error.__cause__))
        if told.__context__ is not None and error.__context__ is not None:
            left.append((told.__context__, error.__context__))
        if told.exceptions and isinstance(error, BaseExceptionGroup):
            left += zip(told.exceptions, error.exceptions, strict=True)


def _is_ours(names: dict[str, Any]) -> bool:
    # By package, since the zygote's own name is __main__. What imports on our behalf is of no more use to the reader.
    package = str(names.get("__package__", ""))
    return package.startswith("pyfpm.") or package == "importlib"


def report(
    output: Output,
    log: Log,
    error: BaseException,
    uri: str,
    settings: SapiSettings,
    *,
    told: bool = False,
    takes_a_message: bool = False,
) -> None:
    """Log the exception and, if nothing of the answer is sent yet, answer 500 in its place; 504 to an ExecutionTimeout.

    Args:
      settings: where it is logged, and whether visitors are shown more than that there was one.
      told: the web server's error log has a message of this request already.
      takes_a_message: the answer is HTML that may be added to.
    """
    note = services().out_of_memory() if isinstance(error, MemoryError) else None
    text, details = _describe(error)
    if note:
        text += f"{note}\n"
    # One line, whatever is in it; a script may have made anything of it.
    request = printable(str(uri).replace("\n", "\\n"))
    try:
        if settings.log_errors:
            message = f"uncaught exception in request {request}\n{text}"
            if not settings.error_log or not write_message(settings.error_log, f"Python Fatal error:  {message}"):
                log("ERROR", message)
                output.error(b"; " * told + b"Python message: " + text.encode("utf-8", "backslashreplace"))
        shows = settings.display_errors and not is_timeout(error)
        if output.discard():
            if shows:
                _answer_with(output, _page(error, details, text, request))
            else:
                pages.answer(output, 504 if is_timeout(error) else 500)
        elif shows and takes_a_message:
            output.write(traceback_page.block(text).encode("utf-8", "backslashreplace"))
    except ConnectionAbortedError:
        pass  # Nobody is there to read it; it is in the log.


def _page(error: BaseException, told: traceback.TracebackException | None, text: str, request: str) -> str:
    if told is not None:
        try:
            return traceback_page.page(error, told, text, request)
        except Exception:
            pass  # As above; the text is there in any case.
    return f"<!DOCTYPE html>\n<title>500 Internal Server Error</title>\n{traceback_page.block(text)}"


def _answer_with(output: Output, page: str) -> None:
    body = page.encode("utf-8", "backslashreplace")
    output.write(
        b"Status: 500 Internal Server Error\r\nContent-Type: text/html; charset=UTF-8\r\n"
        b"Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\nCache-Control: no-store\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body) + body
    )
