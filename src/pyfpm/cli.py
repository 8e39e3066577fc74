"""The command line of ``pyfpm``: php-fpm's switches, and what does without a file.

Each option may come from the environment as well, as PYFPM_ and its long name (``PYFPM_WORKERS=4``). The file is read
first, then what the environment sets goes over it, then what the command line sets.
"""

from __future__ import annotations

import argparse
import functools
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from pyfpm import __version__
from pyfpm.config import Config, ConfigError, PoolConfig, StartOptions, dump, from_command_line, load
from pyfpm.config.load import Override, split_assignment
from pyfpm.config.machine import refuse_root
from pyfpm.config.values import flag
from pyfpm.observe.log import Log

VERSION = f"pyfpm {__version__} (Python {platform.python_version()})"
EX_USAGE = 64
EX_CONFIG = 78

# Of a unix socket, in bytes [unix(7), sun_path].
LONGEST_SOCKET_PATH = 107

EPILOG = """\
examples:
  pyfpm --socket /tmp/fpm.sock --workers 4 --docroot /srv/www      scripts, as php-fpm runs .php files
  pyfpm --socket /tmp/fpm.sock --workers 4 mysite.wsgi:application  a WSGI application
  pyfpm -y /etc/pyfpm/pyfpm.conf                                    pools of a configuration file
  pyfpm -y /etc/pyfpm/pyfpm.conf -t                                 is that file right?

Each option may come from the environment: PYFPM_WORKERS=4 is --workers 4.
"""

# Options that stand for one directive each.
DIRECTIVES = {
    "workers": "pm.max_children",
    "pm": "pm",
    "threads": "pm.threads",
    "socket_mode": "listen.mode",
    "socket_owner": "listen.owner",
    "socket_group": "listen.group",
    "user": "user",
    "group": "group",
    "chdir": "chdir",
    "app": "app",
    "pid": "pid",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # php-fpm's order and exit status, which its users' scripts look at.
        self.print_usage(sys.stderr)
        self.exit(EX_USAGE, f"pyfpm: {message}\n")

    def format_usage(self) -> str:
        return super().format_usage().replace("usage:", "Usage:", 1)

    def format_help(self) -> str:
        return super().format_help().replace("usage:", "Usage:", 1)


class _Refused(argparse.Action):
    """A switch of php-fpm that has nothing to show here."""

    def __call__(self, parser: argparse.ArgumentParser, *args: object, **kwargs: object) -> NoReturn:
        parser.error(f"{self.option_strings[0]} shows what PHP has; pyfpm has no such thing, -v tells its version")


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
    add("--socket", action="append", metavar="PATH", help="listen on a unix socket (repeatable)")
    add("--listen", action="append", metavar="HOST:PORT", help="listen on TCP (repeatable)")
    add("--workers", metavar="N", help="worker processes (1)")
    add("--threads", metavar="N", help="requests that a worker runs at once, on threads")
    add("--pm", metavar="KIND", help="static, dynamic or ondemand (static)")
    add("--chdir", metavar="DIR", help="directory to be in, and to import APP from")
    add("--docroot", action="append", metavar="DIR", help="keep scripts inside of DIR (repeatable)")
    add("--user", metavar="NAME", help="user that runs the application")
    add("--group", metavar="NAME", help="group that runs the application")
    add("--socket-mode", metavar="MODE", help="permissions of the unix sockets (0660)")
    add("--socket-owner", metavar="NAME", help="owner of the unix sockets")
    add("--socket-group", metavar="NAME", help="group of the unix sockets")
    add("-y", "--fpm-config", metavar="FILE", help="read a configuration file, in php-fpm.conf's syntax")
    add("-p", "--prefix", metavar="DIR", help="what relative paths in FILE are meant from (its directory)")
    add("-g", "--pid", metavar="FILE", help="write the master's pid there")
    add("-d", "--directives", action="append", metavar="NAME=VALUE", help="set any directive (repeatable)")
    add("-t", "--test", action="count", help="check the configuration and exit; -tt prints it as well")
    add("-D", "--daemonize", action="store_const", const=True, help="go to the background")
    add("-F", "--nodaemonize", action="store_const", const=False, dest="daemonize", help="stay in the foreground")
    add("-O", "--force-stderr", action="store_const", const=True, help="log to standard error in any case")
    add("-R", "--allow-to-run-as-root", action="store_const", const=True, help="pools may run as root")
    add("-c", "--php-ini", metavar="PATH", help="accepted for php-fpm's sake: there is no php.ini")
    add("-n", "--no-php-ini", action="store_const", const=True, help="accepted, too")
    add("-e", "--profiler-info", action="store_const", const=True, help="accepted, too")
    add("-i", "--info", action=_Refused, nargs=0, help=argparse.SUPPRESS)
    add("-m", "--modules", action=_Refused, nargs=0, help=argparse.SUPPRESS)
    add("-v", "--version", action="version", version=VERSION, help="show the version and exit")
    return parser


def from_environment(environment: Mapping[str, str]) -> argparse.Namespace:
    """The same options, from PYFPM_ variables: lists as a shell splits them, switches as yes or no.

    Raises:
      ConfigError: a switch is neither.
    """
    options = parser()
    found = options.parse_args([])
    for action in options._actions:
        name = f"PYFPM_{action.dest.upper()}"
        if name not in environment or not hasattr(found, action.dest):
            continue
        value: object = environment[name]
        try:
            if isinstance(action, argparse._AppendAction):
                value = shlex.split(environment[name])
            elif isinstance(action, argparse._StoreConstAction):
                value = flag(environment[name])
            elif isinstance(action, argparse._CountAction):
                value = int(flag(environment[name]))
        except ValueError as error:
            raise ConfigError(f"{name} = {value!r}: expected {error}") from None
        setattr(found, action.dest, value)
    return found


def overrides(arguments: argparse.Namespace, directory: str) -> list[Override]:
    """The directives that a command line sets; options after ``-d``, so that they count more.

    Raises:
      ConfigError: an option was given nothing.
    """
    found = [split_assignment(each) for each in arguments.directives or ()]
    found += [
        (directive, getattr(arguments, option))
        for option, directive in DIRECTIVES.items()
        if getattr(arguments, option) is not None
    ]
    # Nothing is mostly a variable of a shell that was not set.
    for name, value in found:
        if value == "" and name in DIRECTIVES.values():
            raise ConfigError(f"{name} = '': expected something")
    for option in ("socket", "listen", "docroot"):
        if "" in (getattr(arguments, option) or ()):
            raise ConfigError(f"--{option} was given nothing")
    # Relative paths are meant from where the command was given, before any chdir.
    sockets = [os.path.normpath(os.path.join(directory, path)) for path in arguments.socket or ()]
    for path in sockets:
        if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
            longest = f"longer than the {LONGEST_SOCKET_PATH} bytes that Linux allows"
            raise ConfigError(f"the socket path {path!r} is {longest}")
    if sockets or arguments.listen:
        found.append(("listen", (*sockets, *(arguments.listen or ()))))
    if arguments.docroot:
        found.append(("doc_root", tuple(os.path.normpath(os.path.join(directory, path)) for path in arguments.docroot)))
    return found


def configuration(
    arguments: argparse.Namespace, beneath: argparse.Namespace | None = None, directory: str | None = None
) -> Config:
    """What a command line means, with the file that it names.

    Args:
      beneath: the options of the environment; they count less.
      directory: where they were given, so that all can be read again from elsewhere; where we are if None.
    Raises:
      ConfigError: some of it cannot be used.
    """
    directory = directory or os.getcwd()
    given = ([] if beneath is None else overrides(beneath, directory)) + overrides(arguments, directory)
    options = merged(arguments, beneath)
    if options.fpm_config is None:
        if not any(name == "listen" for name, _ in given):
            raise ConfigError(
                "there is nowhere to listen: give --socket PATH or --listen HOST:PORT, or a configuration file with"
                " -y FILE"
            )
        return from_command_line(given, directory=directory)
    if options.app is not None:
        raise ConfigError(
            f"an application ({options.app}) and a configuration file ({options.fpm_config}) do not go together:"
            " a file may have several pools, and each says app = MODULE:CALLABLE in its section"
        )
    file = os.path.join(directory, options.fpm_config) if options.fpm_config else ""
    prefix = None if options.prefix is None else os.path.join(directory, options.prefix)
    config = load(file, prefix=prefix, overrides=given, directory=directory)
    refuse_root(config, allowed=bool(options.allow_to_run_as_root))
    return config


def merged(arguments: argparse.Namespace, beneath: argparse.Namespace | None) -> argparse.Namespace:
    """Each option from the command line, or else from the environment."""
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    return argparse.Namespace(**{**vars(arguments), **(vars(beneath) if beneath else {}), **given})


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``pyfpm``; returns its exit status."""
    arguments = parser().parse_args(argv)
    log = Log()
    try:
        beneath = from_environment(os.environ)
        read = functools.partial(configuration, arguments, beneath, os.getcwd())
        config = read()
    except ConfigError as error:
        for level, line in [*error.lines(), ("ERROR", "FPM initialization failed")]:
            log(level, line)
        if error.hint:
            log("ERROR", error.hint)
        return EX_CONFIG
    options = merged(arguments, beneath)
    if options.php_ini is not None:
        log("NOTICE", f"-c {options.php_ini} is ignored: there is no php.ini, php_value[...] belongs into a pool")
    if options.test:
        return _tested(config, log, print_all=options.test > 1)
    allow_root = bool(options.allow_to_run_as_root)
    if config.path is None and not allow_root:
        _warn_of_root(config.pools[0], log)
    start = StartOptions(
        daemonize=config.main.daemonize if options.daemonize is None else options.daemonize,
        force_stderr=bool(options.force_stderr),
        allow_root=allow_root,
        reload=read,
    )
    # Only now: what comes with it is of no use to a command line that is wrong.
    from pyfpm.master.supervisor import run

    return run(config, start)


def _tested(config: Config, log: Log, *, print_all: bool) -> int:
    for level, line in config.notes:
        log(level, line)
    if unwritable := _unwritable(config):
        for line in (unwritable, "failed to post process the configuration", "FPM initialization failed"):
            log("ERROR", line)
        return EX_CONFIG
    for line in dump(config) if print_all else ():
        log("NOTICE", line)
    wrong = [pool for pool in config.pools if _cannot_bind(pool, log)]  # each is told
    if wrong:
        log("ERROR", "FPM initialization failed")
        return EX_CONFIG
    what = f"configuration file {config.path}" if config.path else "configuration of the command line"
    log("NOTICE", f"{what} test is successful")
    return 0


def _cannot_bind(pool: PoolConfig, log: Log) -> bool:
    """Whether pyfpm would have to listen elsewhere; and a warning where everybody can come."""
    paths = [address for address in pool.listen if "/" in address]
    long = [path for path in paths if len(os.fsencode(path)) > LONGEST_SOCKET_PATH]
    for path in long:
        length = f"found length: {len(os.fsencode(path))}, maximal length: {LONGEST_SOCKET_PATH}"
        log("ERROR", f"[pool {pool.pool}] cannot bind to UNIX socket '{path}' as path is too long ({length})")
    for address in pool.listen:
        host = address.rpartition(":")[0].strip("[]")
        if not host or address in paths or pool.listen_allowed_clients:
            continue
        if not (host.startswith("127.") or host in ("::1", "localhost")):
            log(
                "WARNING",
                f"[pool {pool.pool}] {address} can be reached from other machines, and whoever reaches it can run any"
                " script; name who may connect in listen.allowed_clients",
            )
    return bool(long)


def _unwritable(config: Config) -> str:
    """The first log that could not be opened, in the words of a start; "" when all can."""
    from pyfpm.master.logs import check

    named = [("error_log", config.main.error_log if config.main.error_log != "syslog" else None)]
    for pool in config.pools:
        named += [
            ("access log", pool.access_log),
            ("slowlog", pool.slowlog if pool.request_slowlog_timeout_s else None),
        ]
    for what, path in named:
        try:
            if path is not None:
                check(path)
        except OSError as error:
            return f"failed to open {what} ({path}): {error.strerror} ({error.errno})"
    return ""


def _warn_of_root(pool: PoolConfig, log: Log) -> None:
    if os.geteuid() == 0 and pool.user is None:
        log("WARNING", "the application runs as root; --user NAME runs it as somebody else, -R says that it is meant")
