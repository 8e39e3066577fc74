"""What nginx sends to a FastCGI server for a URI, read from its configuration: as much of it as says why a script is
not found, and no more. It is tolerant: what it does not know is left out or kept as it is, and told.

The rules that surprise people are here: a location with one ``fastcgi_param`` of its own inherits none, a regular
expression goes before a longer prefix, and without ``fastcgi_split_path_info`` the script's name is the whole URI.
"""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass, field
from urllib.parse import unquote

# Files that include each other end here.
_MAX_DEPTH = 8

# Where "include fastcgi_params;" is looked for, beside the file itself.
_DIRECTORIES = ("/etc/nginx", "/usr/local/nginx/conf", "/usr/local/etc/nginx")

_TOKEN = re.compile(
    r"""\s+|\#[^\n]*|"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([{};])|((?:\\.|\$\{\w+\}|[^\s{};"'])+)""", re.S
)
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass
class Block:
    """The root, or what is in braces: its words (``location ~ \\.py$``) and what it has."""

    words: list[str]
    above: Block | None = None
    directives: list[list[str]] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)

    def own(self, name: str) -> list[list[str]]:
        return [words[1:] for words in self.directives if words[0] == name]

    def line(self) -> list[Block]:
        """Itself and all around it, from the inside."""
        return [self, *(self.above.line() if self.above else [])]

    def inherited(self, name: str) -> list[list[str]]:
        """Its own, else those of the nearest block around it that has any: nginx adds nothing up."""
        return next((found for block in self.line() if (found := block.own(name))), [])

    def one(self, name: str) -> str:
        found = self.inherited(name)
        return found[-1][0] if found and found[-1] else ""

    def everything(self) -> list[Block]:
        return [self, *(each for block in self.blocks for each in block.everything())]


@dataclass(frozen=True)
class Sent:
    """What nginx sends for a URI, and where. ``is_whole``: no included file was missing."""

    location: str
    address: str
    params: dict[str, str]
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    user: str
    is_whole: bool


def read(path: str) -> Block:
    """Raises OSError; ValueError when the braces do not fit."""
    root = Block([])
    _read_into(root, path, 0)
    return root


def _read_into(block: Block, path: str, depth: int) -> None:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        text = file.read()
    root, words = block, []
    for found in _TOKEN.finditer(text):
        double, single, sign, word = found.groups()
        if (quoted := double if double is not None else single) is not None:
            words.append(re.sub(r"\\(.)", r"\1", quoted))
        elif word is not None:
            words.append(word)
        elif sign == "{":
            # The braces of a regular expression are of its word: nginx wants it in quotes then.
            inner = Block(words, block)
            block.blocks.append(inner)
            block, words = inner, []
        elif sign == "}":
            if block is root or block.above is None:
                raise ValueError(f"{path}: there is a }} too many")
            block = block.above
        elif sign == ";" and words:
            if words[0] == "include" and len(words) == 2 and depth < _MAX_DEPTH:
                names = _included(words[1], path)
                for name in names:
                    _read_into(block, name, depth + 1)
                if names:
                    words = []
                    continue
            block.directives.append(words)
            words = []
    if block is not root:
        raise ValueError(f"{path}: a block is not closed: {' '.join(block.words)}")


def _included(pattern: str, path: str) -> list[str]:
    for directory in (os.path.dirname(os.path.abspath(path)), *_DIRECTORIES):
        found = sorted(name for name in glob.glob(os.path.join(directory, pattern)) if os.path.isfile(name))
        if found:
            return found
    return []


def sent(root: Block, uri: str, *, method: str = "GET") -> Sent | None:
    """What is sent for a URI (with its query string); None when no location has a fastcgi_pass.

    Args:
      root: of ``read``; a location's inside alone will do.
    """
    path, _, query = uri.partition("?")
    decoded = unquote(path, errors="surrogateescape")
    passing = [block for block in root.everything() if block.own("fastcgi_pass")]
    if not passing:
        return None
    problems, notes = [], []
    block = _location(passing, decoded)
    if block is None:
        block = passing[0]
        problems.append(f"no location with a fastcgi_pass is for {path}: {', '.join(map(_name, passing))}")
    else:
        chosen = _location([each for each in _server(block).everything() if each.words[:1] == ["location"]], decoded)
        if chosen is not None and chosen is not block:
            problems.append(f"nginx chooses {_name(chosen)} for {path}, which has no fastcgi_pass")

    variables = _variables(block, path, decoded, query, method)
    params: dict[str, str] = {}
    unknown: set[str] = set()
    for words in block.inherited("fastcgi_param"):
        if len(words) < 2:
            continue
        value = expand(words[1], variables, unknown)
        if value or words[2:] != ["if_not_empty"]:
            params[words[0]] = value
    if unknown:
        notes.append("nothing is known here about " + ", ".join(f"${name}" for name in sorted(unknown)))
    missing = [words[0] for each in block.line() for words in each.own("include") if words]
    notes += [f"include {name} was not found from here" for name in missing]
    above = block.above.inherited("fastcgi_param") if block.above else []
    is_hidden = block.own("fastcgi_param") and any(words[:1] == ["SCRIPT_FILENAME"] for words in above)
    if is_hidden and "SCRIPT_FILENAME" not in params:
        problems.append(
            "the location has fastcgi_param lines of its own, so it inherits none: the SCRIPT_FILENAME further up"
            " does not count"
        )
    target = expand(block.own("fastcgi_pass")[-1][0], variables, unknown)
    user = root.one("user") or next((each.one("user") for each in root.blocks if each.own("user")), "")
    return Sent(_name(block), _upstream(root, target), params, tuple(notes), tuple(problems), user, not missing)


def _name(block: Block) -> str:
    return " ".join(block.words) or "the file itself"


def _server(block: Block) -> Block:
    return next((each for each in block.line() if each.words == ["server"]), block.line()[-1])


def _location(blocks: list[Block], path: str) -> Block | None:
    """The one that nginx takes: an exact one, else the longest prefix if that says ``^~``, else the first regular
    expression, else that prefix. What is no location (a snippet) is for everything."""
    best: tuple[int, bool, Block] | None = None
    expressions = []
    for block in blocks:
        words = block.words[1:] if block.words[:1] == ["location"] else ["/"]
        sign, pattern = (words[0], words[1]) if len(words) > 1 else ("", words[0] if words else "/")
        if sign == "=" and pattern == path:
            return block
        if sign in ("~", "~*"):
            expressions.append((block, pattern, re.I if sign == "~*" else 0))
        elif sign in ("", "^~") and path.startswith(pattern) and (best is None or len(pattern) > best[0]):
            best = (len(pattern), sign == "^~", block)
    if best and best[1]:
        return best[2]
    for block, pattern, flags in expressions:
        if _search(pattern, path, flags):
            return block
    return best[2] if best else None


def _search(pattern: str, path: str, flags: int = 0) -> re.Match[str] | None:
    try:
        return re.search(pattern.replace("(?<", "(?P<").replace("(?P<=", "(?<=").replace("(?P<!", "(?<!"), path, flags)
    except re.error:
        return None


def _variables(block: Block, path: str, decoded: str, query: str, method: str) -> dict[str, str]:
    variables: dict[str, str] = {}
    if block.words[1:2] in (["~"], ["~*"]) and (found := _search(block.words[2], decoded, re.I)):
        variables |= {str(at + 1): group or "" for at, group in enumerate(found.groups())}
        variables |= {name: group or "" for name, group in found.groupdict().items()}
    script, info = decoded, ""
    split = block.one("fastcgi_split_path_info")
    if split and (found := _search(split, decoded)) and len(found.groups()) >= 2:
        script, info = found[1] or "", found[2] or ""
    if script.endswith("/"):
        script += block.one("fastcgi_index")
    root = block.one("root") or "/etc/nginx/html"
    filename = root + decoded
    if alias := block.one("alias"):
        prefix = block.words[-1] if block.words[:1] == ["location"] else "/"
        root, filename = alias, alias + decoded.removeprefix(prefix)
    variables |= {
        "document_root": root,
        "realpath_root": os.path.realpath(root),
        "fastcgi_script_name": script,
        "fastcgi_path_info": info,
        "request_uri": f"{path}?{query}" if query else path,
        "uri": decoded,
        "document_uri": decoded,
        "request_filename": filename,
        "query_string": query,
        "args": query,
        "is_args": "?" if query else "",
        "request_method": method,
        "content_type": "",
        "content_length": "",
        "server_protocol": "HTTP/1.1",
        "scheme": "http",
        "request_scheme": "http",
        "https": "",
        "host": "localhost",
        "http_host": "localhost",
        "server_name": (block.one("server_name") or "localhost"),
        "server_addr": "127.0.0.1",
        "server_port": "80",
        "remote_addr": "127.0.0.1",
        "remote_port": "0",
        "remote_user": "",
        "nginx_version": "1",
    }
    for name, value in [words for words in block.inherited("set") if len(words) == 2]:
        variables[name.removeprefix("$")] = expand(value, variables, set())
    return variables


def expand(text: str, variables: dict[str, str], unknown: set[str]) -> str:
    """Puts the variables in. A visitor's header that is not there is empty; other unknown ones are, too, and noted."""

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name not in variables and not name.startswith(("http_", "arg_", "cookie_")):
            unknown.add(name)
        return variables.get(name, "")

    return _VARIABLE.sub(value, text)


def _upstream(root: Block, target: str) -> str:
    """The address behind a name; nginx would take turns among several, we take the first."""
    for block in root.everything():
        if block.words == ["upstream", target] and block.own("server"):
            target = block.own("server")[0][0]
            break
    return target.removeprefix("fastcgi://")
