"""What becomes of an exception in user code: an answer without details, and all of them where the operator looks."""

from __future__ import annotations

import html
import sys
import traceback
from collections.abc import Callable
from types import TracebackType

from pyfpm.sapi import pages
from pyfpm.sapi.interface import Output

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]
Log = Callable[[str, str], None]


def describe(error: BaseException) -> str:
    """The traceback as text, from the first frame of the user's own on."""
    frames = error.__traceback__
    while frames is not None and _is_ours(frames):
        frames = frames.tb_next
    if frames is None and not isinstance(error, SyntaxError):
        # A failure of our own, and all of it is wanted. A SyntaxError names its place itself.
        frames = error.__traceback__
    try:
        return "".join(traceback.format_exception(type(error), error, frames))
    except Exception as other:  # Attributes of an exception can be anything; that must not hide that there was one.
        return f"{type(error).__qualname__} (it cannot be shown: {type(other).__qualname__})\n"


def _is_ours(frame: TracebackType) -> bool:
    # By package, since the zygote's own name is __main__. What imports on our behalf is of no more use to the reader.
    package = str(frame.tb_frame.f_globals.get("__package__", ""))
    return package.startswith("pyfpm.") or package == "importlib"


def report(output: Output, log: Log, error: BaseException, uri: str, *, display: bool = False) -> None:
    """Log the exception and, if nothing of the answer is sent yet, answer 500 in its place.

    Args:
      display: show the traceback in the page (``display_errors``).
    """
    text = describe(error)
    log("ERROR", f"uncaught exception in request {uri}\n{text}")
    try:
        output.error(b"Python message: " + text.encode("utf-8", "backslashreplace"))
        if output.discard():
            if display:
                _show(output, text)
            else:
                pages.answer(output, 500)
    except ConnectionAbortedError:
        pass  # Nobody is there to read it; it is in the log.


def _show(output: Output, text: str) -> None:
    page = f"<!DOCTYPE html>\n<title>500 Internal Server Error</title>\n<pre>{html.escape(text)}</pre>\n"
    output.write(
        b"Status: 500 Internal Server Error\r\nContent-Type: text/html; charset=UTF-8\r\n\r\n"
        + page.encode("utf-8", "backslashreplace")
    )


def current_exc_info() -> ExcInfo:
    kind, error, frames = sys.exc_info()
    assert kind is not None and error is not None
    return kind, error, frames
