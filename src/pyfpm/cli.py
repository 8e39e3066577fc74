"""The command line of ``pyfpm``."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from pyfpm import __version__
from pyfpm.config import ConfigError, PoolConfig
from pyfpm.config.pool import parse_directive
from pyfpm.observe.log import Log

EX_USAGE = 64
EX_CONFIG = 78

EPILOG = """\
examples:
  pyfpm --socket /tmp/fpm.sock --workers 4 --docroot /srv/www      scripts, as php-fpm runs .php files
  pyfpm --socket /tmp/fpm.sock --workers 4 mysite.wsgi:application  a WSGI application
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # php-fpm's order and exit status, which its users' scripts look at.
        self.print_usage(sys.stderr)
        self.exit(EX_USAGE, f"pyfpm: {message}\n")

    def format_usage(self) -> str:
        return super().format_usage().replace("usage:", "Usage:", 1)

    def format_help(self) -> str:
        return super().format_help().replace("usage:", "Usage:", 1)


def parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="pyfpm",
        description="FastCGI application server and process manager for Python.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("app", nargs="?", metavar="APP", help="module:callable, module:factory() or a .py file; without it, scripts")
    add("--socket", action="append", default=[], metavar="PATH", help="listen on a unix socket (repeatable)")
    add("--listen", action="append", default=[], metavar="HOST:PORT", help="listen on TCP (repeatable)")
    add("--workers", metavar="N", help="worker processes (1)")
    add("--chdir", metavar="DIR", help="directory to be in, and to import APP from")
    add("--docroot", action="append", default=[], metavar="DIR", help="keep scripts inside of DIR (repeatable)")
    add("--user", metavar="NAME", help="user that runs the application")
    add("--group", metavar="NAME", help="group that runs the application")
    add("--socket-mode", metavar="MODE", help="permissions of the unix sockets (0660)")
    add("--socket-owner", metavar="NAME", help="owner of the unix sockets")
    add("--socket-group", metavar="NAME", help="group of the unix sockets")
    add("-d", action="append", default=[], dest="directives", metavar="NAME=VALUE", help="set any directive")
    add("-R", "--allow-to-run-as-root", action="store_true", help="no warning when the application runs as root")
    add("-v", "--version", action="version", version=f"pyfpm {__version__} (Python {platform.python_version()})")
    return parser


def configuration(arguments: argparse.Namespace) -> PoolConfig:
    """The pool that a command line means.

    Raises:
      ConfigError: some of it cannot be used.
    """
    found: dict[str, Any] = {}
    for assignment in arguments.directives:
        name, value = parse_directive(assignment)
        found[name] = value
    for directive, value in (
        ("pm.max_children", arguments.workers),
        ("listen.mode", arguments.socket_mode),
        ("listen.owner", arguments.socket_owner),
        ("listen.group", arguments.socket_group),
        ("user", arguments.user),
        ("group", arguments.group),
        ("chdir", arguments.chdir),
        ("app", arguments.app),
    ):
        if value is not None:
            name, parsed = parse_directive(f"{directive}={value}")
            found[name] = parsed
    for option, given in (
        ("--socket", arguments.socket),
        ("--listen", arguments.listen),
        ("--docroot", arguments.docroot),
    ):
        if "" in given:
            raise ConfigError(f"{option} was given nothing")
    # Relative paths are meant from where the command was given, before any chdir.
    sockets = [os.path.abspath(path) for path in arguments.socket]
    if sockets or arguments.listen:
        found["listen"] = (*sockets, *arguments.listen)
    if arguments.docroot:
        found["docroots"] = tuple(os.path.abspath(path) for path in arguments.docroot)
    return PoolConfig(**found)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``pyfpm``; returns its exit status."""
    arguments = parser().parse_args(argv)
    log = Log()
    try:
        config = configuration(arguments)
    except ConfigError as error:
        log("ERROR", str(error))
        log("ERROR", "FPM initialization failed")
        return EX_CONFIG
    if os.geteuid() == 0 and config.user is None and not arguments.allow_to_run_as_root:
        log("WARNING", "the application runs as root; --user NAME runs it as somebody else, -R says that it is meant")
    # Only now: what comes with it is of no use to a command line that is wrong.
    from pyfpm.master.supervisor import run

    return run(config)
