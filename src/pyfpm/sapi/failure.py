"""What becomes of an exception in user code: an answer without details, and all of them where the operator looks."""

from __future__ import annotations

import html
import re
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

from pyfpm.sapi import pages
from pyfpm.sapi.interface import Output
from pyfpm.sapi.timeout import is_timeout

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]
Log = Callable[[str, str], None]

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def describe(error: BaseException) -> str:
    """The traceback as text, with the user's own frames only. Never raises."""
    try:
        told = traceback.TracebackException.from_exception(error)
        _leave_out_ours(told, error)
        text = "".join(told.format())
    except Exception as other:  # Attributes of an exception can be anything; that must not hide that there was one.
        text = f"{type(error).__qualname__} (it cannot be shown: {type(other).__qualname__})\n"
    return printable(text)


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


def printable(text: str) -> str:
    """With escapes for what a terminal would act on, since exceptions may repeat what visitors send. Line ends stay."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def report(
    output: Output, log: Log, error: BaseException, uri: str, *, display: bool = False, told: bool = False
) -> None:
    """Log the exception and, if nothing of the answer is sent yet, answer 500 in its place; 504 to an ExecutionTimeout.

    Args:
      display: show the traceback in the page (``display_errors``).
      told: the web server's error log has a message of this request already.
    """
    text = describe(error)
    # One line, whatever is in it; a script may have made anything of it.
    request = printable(str(uri).replace("\n", "\\n"))
    log("ERROR", f"uncaught exception in request {request}\n{text}")
    try:
        output.error(b"; " * told + b"Python message: " + text.encode("utf-8", "backslashreplace"))
        if output.discard():
            if display and not is_timeout(error):
                _show(output, text)
            else:
                pages.answer(output, 504 if is_timeout(error) else 500)
    except ConnectionAbortedError:
        pass  # Nobody is there to read it; it is in the log.


def _show(output: Output, text: str) -> None:
    page = f"<!DOCTYPE html>\n<title>500 Internal Server Error</title>\n<pre>{html.escape(text)}</pre>\n"
    output.write(
        b"Status: 500 Internal Server Error\r\nContent-Type: text/html; charset=UTF-8\r\n\r\n"
        + page.encode("utf-8", "backslashreplace")
    )
