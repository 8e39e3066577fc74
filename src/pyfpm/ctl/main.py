"""The command line of ``pyfpmctl``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from pyfpm import __version__
from pyfpm.ctl import control, orders
from pyfpm.ctl.control import Declined, Unreachable

# What was asked is answered with no: a reload that failed, a ping without pong, a doctor that found something.
EX_NO = 1
EX_UNREACHABLE = 2
EX_USAGE = 64
# As a shell tells of those that SIGINT and SIGPIPE have ended.
EX_INTERRUPTED = 130
EX_PIPE = 141

EPILOG = """\
exit status: 0 fine, 1 the answer is no, 2 the master cannot be reached, 64 the command line is wrong;
of "request", that of the script.

examples:
  pyfpmctl status
  pyfpmctl reload && echo the new code serves
  pyfpmctl request /srv/www/hello.py -q name=x --connect /run/pyfpm.sock
  pyfpmctl doctor --nginx /etc/nginx/sites-enabled/site --uri /hello.py
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EX_USAGE, f"pyfpmctl: {message}\n")


def parser() -> argparse.ArgumentParser:
    # Given before or behind the command, whatever comes to the fingers.
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--json", action="store_true", help="answer in JSON")
    common.add_argument("--control", metavar="PATH", help=f"the master's control socket (or {control.ENVIRONMENT})")
    common.add_argument(
        "-y", "--fpm-config", dest="config_file", metavar="FILE", help="look it up in this configuration"
    )

    top = _Parser(
        prog="pyfpmctl",
        description="Ask and steer a pyfpm that runs.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
        allow_abbrev=False,
    )
    top.add_argument("-v", "--version", action="version", version=f"pyfpmctl {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, sentence: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=sentence, description=sentence, parents=[common], allow_abbrev=False)

    def fastcgi(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--connect", metavar="ADDRESS", help="where the pool listens: /path, HOST:PORT, [IPv6]:PORT")
        sub.add_argument("--pool", metavar="NAME", help="of the configuration, instead of its first one")
        sub.add_argument("--timeout", type=_seconds, default=60.0, metavar="SECONDS", help="longest silence (60)")

    command("status", "the pools in a table")
    sub = command("ping", "ask whether it lives: the master, or with --path or --connect a pool's ping page")
    sub.add_argument("--path", metavar="PATH", help="the pool's ping.path (/ping)")
    fastcgi(sub)
    sub = command("top", "what the pools and workers do, live")
    sub.add_argument("--once", action="store_true", help="once, and not live; as when stdout is no terminal")
    command("requests", "the requests that run, the oldest first")
    sub = command("trace", "what a worker does: its Python stack")
    sub.add_argument("pid", type=_pid, metavar="PID")
    sub = command("retire", "replace a worker once it has finished what it does")
    sub.add_argument("pid", type=_pid, metavar="PID")
    sub = command("scale", "give a pool so many workers")
    sub.add_argument("pool", metavar="POOL")
    sub.add_argument("workers", type=_count, metavar="N")
    sub = command("reload", "new code and configuration; waits, and says whether they serve now")
    sub.add_argument("pool", nargs="?", metavar="POOL", help="this one alone")
    sub = command("request", "send a request, as a web server does, and print the answer")
    sub.add_argument("script", metavar="SCRIPT", help="a file, or a path that the pool answers itself: /status")
    sub.add_argument("-X", "--method", metavar="METHOD", help="GET; with a body POST")
    sub.add_argument("-q", "--query", metavar="QUERY", help="the query string")
    sub.add_argument("-p", "--param", action="append", default=[], metavar="NAME=VALUE", help="set any parameter")
    sub.add_argument("--root", metavar="DIR", help="the document root (the script's directory)")
    sub.add_argument("--body", metavar="FILE", help="send this as the body; - for stdin")
    fastcgi(sub)
    sub = command("doctor", "say why a script is found or not: replay what nginx sends, and look at each step")
    sub.add_argument("--root", metavar="DIR", help="nginx's root")
    sub.add_argument("--uri", metavar="URI", help="what the browser asks for: /x.py?a=b")
    sub.add_argument("--script-filename", metavar="PATH", help="SCRIPT_FILENAME as the pool gets it")
    sub.add_argument("--nginx", metavar="FILE", help="read the location in this file of nginx's configuration")
    sub.add_argument("--user", metavar="NAME", help="the pool's user")
    sub.add_argument("--web-user", metavar="NAME", help="the web server's user")
    sub.add_argument("--no-request", dest="replay", action="store_false", help="look only; do not run the script")
    fastcgi(sub)
    return top


def _number(text: str, least: int, what: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 9 or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is no {what}")
    return int(text)


def _pid(text: str) -> int:
    return _number(text, 1, "process id")


def _count(text: str) -> int:
    return _number(text, 0, "number of workers")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds


# Answered by the master: the result, and how it is shown.
ORDERS: dict[str, Callable[[str, argparse.Namespace], tuple[Any, str]]] = {
    "ping": orders.ping,
    "requests": orders.requests,
    "trace": orders.trace,
    "retire": orders.retire,
    "scale": orders.scale,
    "reload": orders.reload,
}


def run(arguments: argparse.Namespace) -> int:
    command = arguments.command
    # What only one command needs is imported by it: "ping" is asked every few seconds, by health checks.
    if command == "request":
        from pyfpm.ctl import fastcgi

        return fastcgi.request(arguments)
    if command == "doctor":
        from pyfpm.ctl import doctor

        return doctor.run(arguments)
    if command == "ping" and (arguments.path or arguments.connect):
        from pyfpm.ctl import fastcgi

        return _show(arguments, *fastcgi.ping(arguments))
    path = control.find(arguments.control, arguments.config_file)
    if command == "top":
        from pyfpm.ctl import top

        return top.run(path, arguments)
    if command == "status":
        from pyfpm.ctl import status

        result = control.ask(path, {"do": "status"})
        return _show(arguments, result, "" if arguments.json else status.render(result))
    return _show(arguments, *ORDERS[command](path, arguments))


def _show(arguments: argparse.Namespace, result: Any, text: str) -> int:
    print(json.dumps(result, indent=2) if arguments.json else text)
    return 0


def _fail(arguments: argparse.Namespace, error: Exception, status: int) -> int:
    if arguments.json:
        print(json.dumps({"error": str(error)}))
    print(f"pyfpmctl: {error}", file=sys.stderr)
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``pyfpmctl``; returns its exit status."""
    for stream in (sys.stdout, sys.stderr):
        # A locale without the character that a URI has is no reason to say nothing.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    # Not as the parsers' defaults: they share these options, and the second one's would undo what the first has read.
    arguments = parser().parse_args(argv, argparse.Namespace(json=False, control=None, config_file=None))
    try:
        try:
            status = run(arguments)
        except Unreachable as error:
            status = _fail(arguments, error, EX_UNREACHABLE)
        except Declined as error:
            status = _fail(arguments, error, EX_NO)
        except ValueError as error:
            status = _fail(arguments, error, EX_USAGE)
        sys.stdout.flush()
    except BrokenPipeError:
        # Who reads has had enough. What is still in the buffer goes nowhere, at the interpreter's end as well.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EX_PIPE
    except KeyboardInterrupt:
        return EX_INTERRUPTED
    return status
