r"""The syntax of php-fpm.conf: text in, sections and entries out. What they mean is not known here.

It is PHP's ini syntax, and php-fpm reads each line on its own, so that nothing goes over the end of a line:

    [section]  ; comment
    name = value        unquoted: blanks around it are dropped; yes, on, true are 1; no, off, false, none, null are
                        nothing; ; begins a comment; ${NAME} is an environment variable, also ${NAME:-default}
    name = "value"      \" \\ \' are quote, backslash, apostrophe; variables work
    name = 'value'      as it stands
    name[key] = value, name[] = value

Parts in quotes and without may follow each other (``"a"b``). Where PHP's parser calculates or gives up (``a|b``,
``a=b``, ``f()`` unquoted), the characters are taken as they stand here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pyfpm.config.errors import ConfigError

_CONSTANTS = {"true": "1", "on": "1", "yes": "1", "false": "", "off": "", "no": "", "none": "", "null": ""}
_BLANKS = " \t"
_NAME = re.compile(r'[^=;\[\]"{}()|&^~!$\0]+')
_VARIABLE = re.compile(r"\$\{([^}:]+)(?::-([^}]*))?\}")
_ESCAPED = re.compile(rf"\\([\"'\\])|{_VARIABLE.pattern}")
_SINGLE = re.compile(r"'([^']*)'")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"')
# An apostrophe inside of a word is one: it's.
_BARE = re.compile(r"[ \t]+|[^;\"'$ \t][^;\"$ \t]*|\$|'")


@dataclass(frozen=True, slots=True)
class Section:
    name: str
    line: int


@dataclass(frozen=True, slots=True)
class Entry:
    """``name = value`` or ``name[key] = value``.

    Attributes:
      key: what is in the brackets; None without brackets.
      value: None if there was no ``=``.
      bare: nothing of it was in quotes.
    """

    name: str
    key: str | None
    value: str | None
    bare: bool
    line: int


def parse(text: str, filename: str, environment: Mapping[str, str]) -> Iterator[Section | Entry]:
    """The sections and entries of a file, in order.

    Raises:
      ConfigError: ``[FILE:LINE] ...``; what came before has been given out by then.
    """
    lines = text.removeprefix("\ufeff").split("\n")
    for number, line in enumerate(lines, 1):
        try:
            yield from _line(line.removesuffix("\r"), number, environment)
        except ValueError as error:
            raise ConfigError(f"[{filename}:{number}] {error}") from None


def _line(text: str, line: int, environment: Mapping[str, str]) -> Iterator[Section | Entry]:
    if "\0" in text:
        raise ValueError("a NUL byte: this is no text file")
    text = text.strip(_BLANKS)
    if not text or text.startswith(";"):
        return
    if text.startswith("["):
        name, rest = _section(text)
        yield Section(name, line)
        yield from _line(rest, line, environment)
        return
    yield _entry(text, line, environment)


def _section(text: str) -> tuple[str, str]:
    name, closed, rest = text[1:].partition("]")
    if not closed:
        raise ValueError(f"syntax error: {text!r} has no ']' at its end")
    name = name.strip(_BLANKS)
    if len(name) > 1 and name[0] == name[-1] and name[0] in "\"'":
        name = name[1:-1]
    if not re.fullmatch(r"[^\x00-\x1f\x7f/\[\]]+", name):
        raise ValueError(f"syntax error: {name!r} is no name for a section, expected [global] or [POOL]")
    return name, rest


def _entry(text: str, line: int, environment: Mapping[str, str]) -> Entry:
    found = _NAME.match(text)
    if not found:
        raise ValueError(f"syntax error, unexpected {text[0]!r}: expected [section], name = value or ; comment")
    name, rest = found[0].strip(_BLANKS), text[found.end() :]
    key = None
    if rest.startswith("["):
        key, closed, rest = rest[1:].partition("]")
        if not closed:
            raise ValueError(f"syntax error: {name}[ has no ']' behind its key")
        key = _value(key, environment)[0]
        rest = rest.lstrip(_BLANKS)
    if not rest or rest.startswith(";"):
        return Entry(name, key, None, True, line)
    if not rest.startswith("="):
        raise ValueError(f"syntax error, unexpected {rest[0]!r} behind {name!r}: expected name = value")
    value, bare = _value(rest[1:], environment)
    return Entry(name, key, value, bare, line)


def _value(text: str, environment: Mapping[str, str]) -> tuple[str, bool]:
    """The value, and whether nothing of it was in quotes."""
    text = text.strip(_BLANKS)
    parts: list[str] = []
    bare = word = True
    beside = False  # Blanks beside double quotes do not count.
    at = 0
    while at < len(text) and text[at] != ";":
        if found := _VARIABLE.match(text, at):
            parts.append(_variable(found, environment))
            word = False
        elif found := _DOUBLE.match(text, at):
            if parts and parts[-1].isspace() and not beside:
                parts.pop()
            parts.append(_ESCAPED.sub(lambda each: each[1] or _variable(each, environment, 2), found[1]))
            bare = False
        elif found := _SINGLE.match(text, at):
            parts.append(found[1])
            bare = False
        elif text[at] == '"':
            raise ValueError('syntax error: a " is not closed; it has to be on the same line')
        else:
            found = _BARE.match(text, at)
            assert found is not None  # Whatever is left begins with one of its characters.
            parts.append("" if beside and found[0].isspace() else found[0])
        beside = text[at] == '"'
        at = found.end()
        if at < len(text) and text[at] == ";" and text[at - 1] in _BLANKS and parts[-1].isspace():
            parts.pop()
    value = "".join(parts)
    return _CONSTANTS.get(value.lower(), value) if bare and word else value, bare


def _variable(found: re.Match[str], environment: Mapping[str, str], first: int = 1) -> str:
    return environment.get(found[first]) or found[first + 1] or ""


def written(value: str) -> str:
    """The value as it is written to be read again: without quotes where that is the same."""
    plain = (
        value
        and value == value.strip()
        and not any(character in value for character in ";\"'")
        and "${" not in value
        and value.lower() not in _CONSTANTS
        and value != "undefined"
    )
    if plain:
        return value
    escaped = re.sub(r'(["\\])', r"\\\1", value)
    # Nothing is special between apostrophes.
    return '"' + escaped.replace("${", "\"'${'\"") + '"'
