"""``pyfpmctl request`` and ``ping --path``: a request as a web server sends it, as ``cgi-fcgi -bind -connect`` does."""

from __future__ import annotations

import argparse
import json
import os
import stat
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio

from pyfpm import __version__
from pyfpm.client import Answer, ClientError, ConnectError, FastCGIClient
from pyfpm.ctl import control
from pyfpm.ctl.control import Declined, Unreachable

T = TypeVar("T")


def basic_params(method: str, query: str) -> dict[str, str]:
    """What every web server sends, whatever the request."""
    return {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_SOFTWARE": f"pyfpmctl/{__version__}",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "localhost",
        "SERVER_ADDR": "127.0.0.1",
        "SERVER_PORT": "80",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "0",
        "HTTP_HOST": "localhost",
        "REQUEST_SCHEME": "http",
        "REDIRECT_STATUS": "200",
        "REQUEST_METHOD": method,
        "QUERY_STRING": query,
    }


def script_params(
    script: str, *, method: str = "", query: str = "", root: str | None = None, body: bytes | None = None
) -> dict[str, str]:
    """The params that ask for a script.

    Args:
      script: a file; or what a pool answers itself, /status say. It may have a query behind it.
      root: the document root; None for the file's directory.
      body: None for no body.
    """
    script, _, own_query = script.partition("?")
    query = query or own_query
    path = os.path.abspath(script)
    if root is not None:
        root = os.path.abspath(root)
        name = path.removeprefix(root) if path.startswith(root.rstrip("/") + "/") else script
    else:
        # What is no file here is known to the server by its name alone: its status page, or a WSGI application's URL.
        name = "/" + os.path.basename(path) if os.path.isfile(path) else script
    name = "/" + name.lstrip("/")
    params = {
        **basic_params(method or ("GET" if body is None else "POST"), query),
        "DOCUMENT_ROOT": root or os.path.dirname(path),
        "SCRIPT_FILENAME": path,
        "SCRIPT_NAME": name,
        "DOCUMENT_URI": name,
        "REQUEST_URI": f"{name}?{query}" if query else name,
    }
    if body is not None:
        params["CONTENT_LENGTH"] = str(len(body))
        params["CONTENT_TYPE"] = "application/x-www-form-urlencoded"
    return params


def assignments(texts: list[str]) -> dict[str, str]:
    """``NAME=VALUE`` each. Raises ValueError."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise ValueError(f"-p {text}: it is written NAME=VALUE")
        found[name] = value
    return found


def address_of(arguments: argparse.Namespace) -> str:
    """Where the pool listens: as given, else of the configuration, else beside the control socket.

    Raises:
      Unreachable: nothing says where.
    """
    connect: str | None = arguments.connect
    if connect:
        return connect
    if arguments.config_file:
        return _of_pool(control.load(arguments.config_file), arguments.pool, arguments.config_file)
    path = control.find(arguments.control, None)
    # Without a file the control socket is named after the pool's.
    beside = path.removesuffix(".ctl")
    try:
        if beside != path and stat.S_ISSOCK(os.stat(beside).st_mode):
            return beside
    except OSError:
        pass  # Then it is named after a pid file.
    config_file = control.ask(path, {"do": "status"})["master"].get("config")
    if not config_file:
        raise Unreachable(f"nothing says where the pool of {path} listens; give --connect ADDRESS")
    return _of_pool(control.load(config_file), arguments.pool, config_file)


def _of_pool(config: Any, name: str | None, config_file: str) -> str:
    for pool in config.pools:
        if (name is None or pool.pool == name) and pool.listen:
            return str(pool.listen[0])
    raise Unreachable(f"{config_file} has no pool {name!r}")


def exchange(address: str, params: dict[str, str], body: bytes = b"", *, timeout_s: float = 60.0) -> Answer:
    """One request with its whole answer.

    Raises:
      Unreachable: the server cannot be connected to.
      Declined: there is no whole answer.
      ValueError: the address is none.
    """

    async def once() -> Answer:
        async with FastCGIClient(address, keep=False, timeout_s=timeout_s) as client:
            return await client.request(params, body)

    return _run(once)


def _run(work: Callable[[], Awaitable[T]]) -> T:
    try:
        return trio.run(work)
    except ConnectError as error:
        raise Unreachable(f"cannot reach the server: {error}") from None
    except ClientError as error:
        raise Declined(str(error)) from None


def request(arguments: argparse.Namespace) -> int:
    """Print the answer as it comes: headers and body to stdout, STDERR to stderr. Returns the exit status."""
    body = None
    if arguments.body is not None:
        try:
            body = sys.stdin.buffer.read() if arguments.body == "-" else _read(arguments.body)
        except OSError as error:
            raise ValueError(f"--body {arguments.body}: {error.strerror}") from None
    params = script_params(
        arguments.script, method=arguments.method or "", query=arguments.query or "", root=arguments.root, body=body
    )
    params |= assignments(arguments.param)
    address = address_of(arguments)
    if arguments.json:
        answer = exchange(address, params, body or b"", timeout_s=arguments.timeout)
        print(json.dumps(as_json(answer), indent=2))
        return exit_status(answer)

    async def stream() -> int:
        async with (
            FastCGIClient(address, keep=False, timeout_s=arguments.timeout) as client,
            client.open(params, body or b"", on_stderr=_write_stderr) as answer,
        ):
            _write_stdout(answer.head)
            async for piece in answer:
                _write_stdout(piece)
            return exit_status(answer)

    return _run(stream)


def ping(arguments: argparse.Namespace) -> tuple[Any, str]:
    """Ask a pool's ping page."""
    path = arguments.path or "/ping"
    answer = exchange(address_of(arguments), script_params(path), timeout_s=arguments.timeout)
    if answer.status != 200:
        raise Declined(f"{path} was answered with {answer.status} {answer.reason}: is it the pool's ping.path?")
    text = answer.body.decode("utf-8", "replace")
    return text, text


def as_json(answer: Answer) -> dict[str, Any]:
    return {
        "status": answer.status,
        "headers": [list(pair) for pair in answer.headers],
        "body": answer.body.decode("utf-8", "backslashreplace"),
        "stderr": answer.stderr.decode("utf-8", "backslashreplace"),
        "app_status": answer.app_status,
    }


def exit_status(answer: Answer) -> int:
    """The application's own, as far as a process can have it: 256 must not look like success."""
    app_status = answer.app_status or 0
    return app_status & 0xFF or (1 if app_status else 0)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _write_stdout(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _write_stderr(data: bytes) -> None:
    sys.stderr.buffer.write(data)
    sys.stderr.buffer.flush()
