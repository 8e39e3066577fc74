"""The servers that are compared: how each is installed, started with one worker, and what it can do.

A peer is described, not running: `run` starts its command in a directory of its own and stops it again. Settings are
each server's best fair ones; where we tried several, the comment says what came of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).resolve().parent

# What every page says. The load writes the number of each request where the hashes are.
PAGE = "Hello, n########. This page has read its query string, and that is all it does.\n"

# Pending connections a server may have, where it lets us choose; more than the load ever opens.
BACKLOG = min(1024, int(Path("/proc/sys/net/core/somaxconn").read_text()))


class MissingError(Exception):
    """A server cannot be had here; the message says what to install."""


@dataclass(frozen=True)
class Peer:
    name: str
    version: str
    command: Callable[[Path, bool], list[str]]
    """Make the command from the socket to listen on (its directory is free to use) and whether connections are kept."""
    script: str = "/hello.py"
    """SCRIPT_NAME of the page; the document root is this directory."""
    page: str = PAGE
    is_cgi: bool = False
    """Compared with other servers that run CGI programs, and with no others."""
    keeps: int | None = None
    """Connections that can be kept and served at a time; None: no such limit."""


@dataclass(frozen=True)
class Setup:
    """What the peers need to know about this run."""

    build: Path
    """Directory of the compiled programs and of flup6's virtual environment; kept between runs."""
    python: Path
    """The interpreter for flup6."""
    pyfpm: Path


def output(*command: str | Path) -> str:
    """Run a command; return what it printed, standard error included. That it fails makes its server a missing one."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    except FileNotFoundError:
        raise MissingError(f"there is no {command[0]}") from None
    if done.returncode != 0:
        raise MissingError(f"{' '.join(map(str, command))} failed:\n{done.stdout.strip()}")
    return done.stdout.strip()


def compile_c(setup: Setup, program: str, *sources: str, libraries: tuple[str, ...] = ()) -> Path:
    target = setup.build / program
    compiler = require(lambda: shutil.which("cc"), "gcc", "libc6-dev")
    flags = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")
    output(compiler, *flags, "-o", target, *(HERE / source for source in sources), *libraries)
    return target


def compile_load(setup: Setup) -> Path:
    """The load generator, which every run needs."""
    return compile_c(setup, "fcgi_load", "fcgi_load.c", "request.c", "answer.c")


def require(find: Callable[[], str | None], *packages: str) -> str:
    """Return what `find` finds, if need be after installing these Debian packages."""
    found = find()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"installing {' '.join(packages)}", file=sys.stderr)
        env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "install", "-y", *packages], env=env, stdout=subprocess.DEVNULL, check=False)
        found = find()
    if found is None:
        raise MissingError(f"install the packages {' '.join(packages)}")
    return found


def first_of(directory: str, pattern: str) -> str | None:
    return next((str(path) for path in sorted(Path(directory).glob(pattern))), None)


def floor(setup: Setup) -> Iterator[Peer]:
    """The C floor. It reads nothing, so its answer is the same each time, and it must be told the request's size."""
    program = compile_c(setup, "floor", "floor.c")
    page = PAGE.replace("#", "0")
    size = output(setup.build / "fcgi_load", "--docroot", str(HERE), "--script", "/hello.py", "--print-size")

    def command(socket: Path, keep: bool) -> list[str]:
        return [str(program), str(socket), size, page, *(["keep"] if keep else [])]

    yield Peer("C floor", "parses nothing", command, page=page)


def libfcgi(setup: Setup) -> Iterator[Peer]:
    require(lambda: first_of("/usr/include", "fcgiapp.h"), "libfcgi-dev")
    program = compile_c(setup, "libfcgi_app", "libfcgi_app.c", libraries=("-lfcgi",))
    version = output("dpkg-query", "-W", "-f", "${Version}", "libfcgi-dev") if shutil.which("dpkg-query") else "unknown"
    yield Peer("libfcgi", version, lambda socket, _keep: [str(program), str(socket)], keeps=1)


def php_fpm(_setup: Setup) -> Iterator[Peer]:
    """php-fpm twice. One child is one worker, but a child can keep only one connection, and between two new ones it
    waits for the web server to close the old. So the core gets a second chance with a child for each connection."""
    program = require(lambda: shutil.which("php-fpm") or first_of("/usr/sbin", "php-fpm*"), "php-fpm")
    banner = output(program, "-v")
    version = " ".join(banner.split()[:2]) + (", OPcache" if "OPcache" in banner else ", no OPcache")

    def peer(name: str, children: int) -> Peer:
        def command(socket: Path, _keep: bool) -> list[str]:
            config = socket.with_name("php-fpm.conf")
            config.write_text(
                f"[global]\nerror_log = {socket.with_name('php-fpm.log')}\ndaemonize = no\n"
                f"[bench]\nlisten = {socket}\nlisten.backlog = {BACKLOG}\ncatch_workers_output = no\n"
                f"user = {os.geteuid()}\ngroup = {os.getegid()}\npm = static\npm.max_children = {children}\n"
            )
            return [program, "--nodaemonize", "--allow-to-run-as-root", "--fpm-config", str(config)]

        return Peer(name, version, command, script="/hello.php", keeps=children)

    yield peer("php-fpm", 1)
    yield peer("php-fpm, 64 children", 64)


def uwsgi(_setup: Setup) -> Iterator[Peer]:
    """uWSGI with Debian's Python. With and without --master, --thunder-lock, --single-interpreter and --enable-threads
    its rates were the same within the noise; --master is how it is run."""
    program = require(lambda: shutil.which("uwsgi"), "uwsgi-core", "uwsgi-plugin-python3")
    require(lambda: first_of("/usr/lib/uwsgi/plugins", "python3*"), "uwsgi-plugin-python3")
    python = output(program, "--plugin", "python3", "--python-version").splitlines()[-1]

    def command(socket: Path, _keep: bool) -> list[str]:
        quiet = ["--disable-logging", "--need-app", "--die-on-term", "--listen", str(BACKLOG)]
        app = ["--plugin", "python3", "--chdir", str(HERE), "--wsgi", "hello_wsgi"]
        return [program, "--fastcgi-socket", str(socket), "--master", "--processes", "1", *app, *quiet]

    yield Peer("uWSGI", f"{output(program, '--version')}, Python {python}", command)


def flup6(setup: Setup) -> Iterator[Peer]:
    version = output(setup.python, "-c", "import platform; print(platform.python_version())")
    venv = setup.build / f"flup6-{version}"
    python = venv / "bin" / "python"
    if first_of(str(venv), "lib/python*/site-packages/flup") is None:
        output(setup.python, "-m", "venv", venv)
        output(python, "-m", "pip", "install", "--quiet", "flup6")
    flup = output(python, "-c", "from importlib import metadata; print(metadata.version('flup6'))")
    server = str(HERE / "flup_server.py")
    yield Peer("flup6", f"{flup}, Python {version}", lambda socket, _keep: [str(python), server, str(socket)])


def fcgiwrap(_setup: Setup) -> Iterator[Peer]:
    """fcgiwrap with one process, which starts the program for each request and waits for it. With more of them on the one
    core its rate was the same within the noise: the core is busy with starting interpreters."""
    program = require(lambda: shutil.which("fcgiwrap") or first_of("/usr/sbin", "fcgiwrap"), "fcgiwrap")
    version = output("dpkg-query", "-W", "-f", "${Version}", "fcgiwrap") if shutil.which("dpkg-query") else "unknown"
    version += ", " + output("/usr/bin/python3", "--version")

    def command(socket: Path, _keep: bool) -> list[str]:
        return [program, "-c", "1", "-s", f"unix:{socket}"]

    yield Peer("fcgiwrap", version, command, script="/hello.cgi", is_cgi=True, keeps=1)


def pyfpm(setup: Setup) -> Iterator[Peer]:
    if not setup.pyfpm.exists():
        raise MissingError(f"there is no {setup.pyfpm}: install pyfpm for this interpreter, or say --pyfpm PATH")
    start = [str(setup.pyfpm), "--workers", "1", "--socket"]
    interpreter = setup.pyfpm.with_name("python")
    version = output(setup.pyfpm, "--version").splitlines()[0]
    if interpreter.exists():
        version += ", " + output(interpreter, "--version")
    application = ["--chdir", str(HERE), "hello_wsgi:application"]
    yield Peer("pyfpm wsgi", version, lambda socket, _keep: [*start, str(socket), *application])
    scripts = ["--docroot", str(HERE)]
    yield Peer("pyfpm script", version, lambda socket, _keep: [*start, str(socket), *scripts])
    programs = [*scripts, "-d", "app.kind=cgi"]
    command = lambda socket, _keep: [*start, str(socket), *programs]  # noqa: E731 (as the others)
    yield Peer("pyfpm cgi", version, command, script="/hello.cgi", is_cgi=True)


# In the order of the tables.
SOURCES: dict[str, Callable[[Setup], Iterator[Peer]]] = {
    "floor": floor,
    "pyfpm": pyfpm,
    "uwsgi": uwsgi,
    "php-fpm": php_fpm,
    "libfcgi": libfcgi,
    "flup6": flup6,
    "fcgiwrap": fcgiwrap,
}
