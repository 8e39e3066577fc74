"""What ``display_errors`` shows: an exception as a page, or as a block at the end of what has been sent.

The source around each line, the place in the user's own code first. No variable is shown, since they have the secrets;
no script runs in it, and nothing is loaded from elsewhere. Everything is escaped, and of a size that has an end.
"""

from __future__ import annotations

import linecache
import os
from collections.abc import Iterator
from html import escape
from traceback import FrameSummary, TracebackException

# Lines shown above and below: of the place itself, and of each frame.
AROUND_PLACE = 7
AROUND_FRAME = 3

# Frames that are shown with their source: the outermost and the innermost. All of them are in the text.
FIRST_FRAMES = 10
LAST_FRAMES = 30

LONGEST_LINE = 500
LONGEST_MESSAGE = 2000
LONGEST_TEXT = 100_000
LONGEST_CHAIN = 10

_LIBRARY = os.path.dirname(os.__file__) + os.sep

_STYLE = """
:root { color-scheme: light dark; --text: #1c1e21; --dim: #646a73; --ground: #fff; --box: #f5f6f7; --edge: #d9dce0;
  --error: #b3261e; --line: #fde8e6; --mark: #f6b8b2; }
@media (prefers-color-scheme: dark) { :root { --text: #e3e5e8; --dim: #9aa1ab; --ground: #17191c; --box: #202327;
  --edge: #363b42; --error: #ff8a80; --line: #43211f; --mark: #7d3630; } }
body { margin: 2rem auto; max-width: 64rem; padding: 0 1rem; color: var(--text); background: var(--ground);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; line-height: 1.3; margin: 0 0 .5rem; overflow-wrap: anywhere; white-space: pre-wrap; }
h1 b, h2 b { color: var(--error); }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; overflow-wrap: anywhere; white-space: pre-wrap; }
p, summary { color: var(--dim); margin: .4rem 0; overflow-wrap: anywhere; }
summary { cursor: pointer; }
code, pre { font: .875rem/1.5 ui-monospace, monospace; }
p code, summary code { color: var(--text); }
pre { margin: .4rem 0 1rem; padding: .6rem 0; overflow-x: auto; background: var(--box); border: 1px solid var(--edge);
  border-radius: .4rem; }
pre.text { padding: .6rem 1rem; }
pre span { display: block; padding: 0 1rem; min-width: max-content; }
pre span::before { content: attr(data-line); display: inline-block; width: 3.5rem; color: var(--dim); }
pre .at { background: var(--line); }
mark { color: inherit; background: var(--mark); border-radius: .2rem; }
footer { margin-top: 2rem; color: var(--dim); font-size: .875rem; }
"""


def page(error: BaseException, told: TracebackException, text: str, request: str) -> str:
    """A whole page.

    Args:
      told: of the error, without the frames that are not to be shown.
      text: the traceback as the log has it.
      request: what was asked for.
    """
    name, message = _name(error), _message(error)
    title = f"{name}: {message}" if message else name
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title[:200])}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1><b>{escape(name)}</b>{': ' if message else ''}{escape(message)}</h1>\n"
        f"{_place(error, told)}"
        f"<p>Request: <code>{escape(_cut(request, LONGEST_LINE))}</code></p>\n"
        f"{''.join(_chain(error, told))}"
        f'<h2>As text</h2>\n<pre class="text">{escape(_cut(text, LONGEST_TEXT))}</pre>\n'
        "<footer>Shown because <code>display_errors</code> is on, which is for development.</footer>\n"
        "</body>\n</html>\n"
    )


def block(text: str) -> str:
    """A piece of HTML that can be read wherever it ends up."""
    style = (
        "all:initial;display:block;clear:both;margin:1em;padding:1em;border:2px solid #b3261e;border-radius:6px;"
        "color:#1c1e21;background:#fff;font:14px/1.5 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere"
    )
    return f'\n<pre style="{style}">{escape(_cut(text, LONGEST_TEXT))}</pre>\n'


def _chain(error: BaseException, told: TracebackException) -> Iterator[str]:
    """The frames of the exception, and of those before it that it came from."""
    for _ in range(LONGEST_CHAIN):
        if len(told.stack):
            yield "<h2>Traceback, most recent call last</h2>\n"
            yield from _frames(told)
        before, relation = error.__cause__, "It was raised from"
        before_told = told.__cause__
        if before is None and not error.__suppress_context__:
            before, before_told, relation = error.__context__, told.__context__, "It was raised while this was handled:"
        if before is None or before_told is None:
            return
        error, told = before, before_told
        yield f"<h2>{relation} <b>{escape(_name(error))}</b>: {escape(_message(error))}</h2>\n"
        yield _place(error, told)


def _place(error: BaseException, told: TracebackException) -> str:
    """Where to look first: what cannot be compiled, or the innermost line that is the user's own."""
    if isinstance(error, SyntaxError):
        return _place_of_syntax_error(error)
    own = [frame for frame in told.stack if not _is_library(frame.filename)]
    if not own:
        return ""
    frame = own[-1]
    return f"<p>{_where(frame.filename, frame.lineno, frame.name)}</p>\n{_source(frame, AROUND_PLACE)}"


def _place_of_syntax_error(error: SyntaxError) -> str:
    filename, number = error.filename, error.lineno
    if not isinstance(filename, str) or not isinstance(number, int):
        return ""
    lines = linecache.getlines(filename)
    if not lines and isinstance(error.text, str):
        lines = [""] * (number - 1) + [error.text] if number < LONGEST_TEXT else []
    marked = None
    if isinstance(error.offset, int) and error.offset > 0:
        one_line = error.end_lineno in (None, number) and isinstance(error.end_offset, int)
        marked = (error.offset - 1, max(error.end_offset or 0, error.offset + 1) - 1 if one_line else 1 << 20)
    return f"<p>{_where(filename, number, '')}</p>\n{_lines(lines, number, AROUND_PLACE, marked)}"


def _frames(told: TracebackException) -> Iterator[str]:
    frames = list(told.stack)
    left_out = max(0, len(frames) - FIRST_FRAMES - LAST_FRAMES)
    for place, frame in enumerate(frames):
        if left_out and FIRST_FRAMES <= place < FIRST_FRAMES + left_out:
            if place == FIRST_FRAMES:
                yield f"<p>{left_out} frames are left out</p>\n"
            continue
        opened = "" if _is_library(frame.filename) else " open"
        where = _where(frame.filename, frame.lineno, frame.name)
        yield f"<details{opened}><summary>{where}</summary>\n{_source(frame, AROUND_FRAME)}</details>\n"


def _where(filename: str, number: int | None, name: str) -> str:
    within = f" in <code>{escape(_cut(name, LONGEST_LINE))}</code>" if name and name != "<module>" else ""
    return f"<code>{escape(_cut(filename, LONGEST_LINE))}</code>, line {number}{within}"


def _source(frame: FrameSummary, around: int) -> str:
    if frame.lineno is None:
        return ""
    marked = None
    if frame.end_lineno == frame.lineno and frame.colno is not None and frame.end_colno is not None:
        line = linecache.getline(frame.filename, frame.lineno)
        marked = _characters(line, frame.colno), _characters(line, frame.end_colno)
    return _lines(linecache.getlines(frame.filename), frame.lineno, around, marked)


def _characters(line: str, size: int) -> int:
    """Columns of a frame are those of the line as UTF-8."""
    return len(line.encode("utf-8", "surrogateescape")[:size].decode("utf-8", "replace"))


def _lines(lines: list[str], number: int, around: int, marked: tuple[int, int] | None) -> str:
    first = max(1, number - around)
    shown = []
    for at, line in enumerate(lines[first - 1 : number + around], first):
        line = _cut(line.rstrip("\r\n"), LONGEST_LINE)
        if at != number:
            shown.append(f'<span data-line="{at}">{escape(line)}</span>')
            continue
        start, end = marked or (0, 0)
        if start < end:
            # A caret may be behind the end of its line.
            line = line.ljust(min(start + 1, LONGEST_LINE))
            html = f"{escape(line[:start])}<mark>{escape(line[start:end])}</mark>{escape(line[end:])}"
        else:
            html = escape(line)
        shown.append(f'<span class="at" data-line="{at}">{html}</span>')
    return f"<pre>{''.join(shown)}</pre>\n" if shown else ""


def _is_library(filename: str) -> bool:
    parts = filename.split(os.sep)
    return filename.startswith((_LIBRARY, "<")) or "site-packages" in parts or "dist-packages" in parts


def _name(error: BaseException) -> str:
    kind = type(error)
    module = kind.__module__
    return kind.__qualname__ if module in ("builtins", "__main__") else f"{module}.{kind.__qualname__}"


def _message(error: BaseException) -> str:
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return _cut(str(message), LONGEST_MESSAGE)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
