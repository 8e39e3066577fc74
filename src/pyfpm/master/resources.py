"""The listening sockets and log files of all pools. A reload keeps those that are in both configurations: whoever waits
in a listen queue is not lost."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from os import stat

from pyfpm.config import Config, PoolConfig
from pyfpm.master import listeners
from pyfpm.master.listeners import Listener
from pyfpm.master.logs import LogFile
from pyfpm.observe.log import Log


class FileError(Exception):
    """A log file cannot be opened; the message says which, and why."""


@dataclass(frozen=True)
class Places:
    """Where a pool listens and writes. All of it stays its owner's, who closes it."""

    listeners: tuple[socket.socket, ...]
    access_log: LogFile | None = None
    slowlog: LogFile | None = None


@dataclass(frozen=True)
class Held:
    """What there was at some moment."""

    sockets: frozenset[str]
    files: frozenset[tuple[str, str]]


class Resources:
    """Owns them all.

    Args:
      offered: listening sockets that somebody else has made, to be taken by whoever has their address.
      quiet: where we listen is no news.
    """

    def __init__(self, offered: list[socket.socket], log: Log, quiet: bool) -> None:
        self._offered = offered
        self._log = log
        self._quiet = quiet
        # By address. A pool that is renamed, or takes over another's address, keeps the queue.
        self._sockets: dict[str, Listener] = {}
        # By directive and path; pools may share a file.
        self._files: dict[tuple[str, str], LogFile] = {}

    def open(self, pool: PoolConfig) -> Places:
        """What this pool asks for, made if it is not there.

        Raises:
          ListenError, FileError: it cannot be had. What was made before is there.
        """
        sockets = tuple(self._listen(pool, address).socket for address in pool.listen)
        if pool.pm_status_listen is not None:
            self._listen(pool, pool.pm_status_listen)
        slowlog = pool.slowlog if pool.request_slowlog_timeout_s else None
        return Places(sockets, self._open("access.log", pool.access_log), self._open("slowlog", slowlog))

    def _listen(self, pool: PoolConfig, address: str) -> Listener:
        found = self._sockets.get(address)
        if found is not None:
            found.apply(pool)
            return found
        found = listeners.adopt(address, self._offered)
        if found is not None:
            self._log("NOTICE", f'using inherited socket fd={found.socket.fileno()}, "{address}"')
        else:
            found = listeners.listen(address, pool, self._log)
        self._sockets[address] = found
        _say_listening(found.socket, self._log.for_pool(pool.pool), self._quiet, pool)
        return found

    def _open(self, directive: str, path: str | None) -> LogFile | None:
        if path is None:
            return None
        key = (directive, path)
        if key not in self._files:
            try:
                self._files[key] = LogFile(path)
            except OSError as error:
                what = directive.replace(".", " ")
                raise FileError(f"failed to open {what} ({path}): {error.strerror} ({error.errno})") from None
        return self._files[key]

    def refuse_strangers(self) -> None:
        """Close what was offered and nobody has taken."""
        for unused in self._offered:
            self._log("WARNING", f"the inherited socket {unused.getsockname()!r} is no pool's, it is closed")
            unused.close()
        self._offered.clear()

    def held(self) -> Held:
        return Held(frozenset(self._sockets), frozenset(self._files))

    def back_to(self, held: Held) -> None:
        """Close what was made since."""
        self._close(self._sockets.keys() - held.sockets, self._files.keys() - held.files)

    def keep_only(self, config: Config) -> None:
        """Close what no pool has to do with any more."""
        sockets: set[str | None] = set()
        files: set[tuple[str, str | None]] = set()
        for pool in config.pools:
            sockets |= {*pool.listen, pool.pm_status_listen}
            files |= {("access.log", pool.access_log), ("slowlog", pool.slowlog)}
        self._close(
            {address for address in self._sockets if address not in sockets},
            {key for key in self._files if key not in files},
        )

    def _close(self, sockets: set[str], files: set[tuple[str, str]]) -> None:
        for address in sockets:
            self._sockets.pop(address).close()
        for key in files:
            self._files.pop(key).close()

    def listener(self, address: str) -> Listener:
        return self._sockets[address]

    def listening(self) -> Iterator[tuple[str, socket.socket]]:
        for address, listener in self._sockets.items():
            yield address, listener.socket

    def files(self) -> Iterator[tuple[str, LogFile]]:
        """Each with its directive."""
        for (directive, _), file in self._files.items():
            yield directive, file

    def hide(self) -> None:
        """Nobody new finds us; who is in a queue already can still be served."""
        for listener in self._sockets.values():
            listener.hide()

    def close(self) -> None:
        """To be called outside of trio."""
        self.hide()
        for listener in self._sockets.values():
            listener.socket.close()
        for file in self._files.values():
            file.close()


def _say_listening(listening: socket.socket, log: Log, quiet: bool, config: PoolConfig) -> None:
    text = f"listening on {listeners.describe(listening)}"
    if listening.family == socket.AF_UNIX:
        with suppress(OSError):
            info = stat(listening.getsockname())
            text += f" (mode {info.st_mode & 0o777:04o}, owner {info.st_uid}, group {info.st_gid})"
    log("DEBUG" if quiet else "NOTICE", text)
    # Whoever has written a file has thought of it, and php-fpm's log has no such line; -t has it.
    if not quiet and listeners.is_public(listening) and not config.listen_allowed_clients:
        log(
            "WARNING",
            f"{listeners.describe(listening)} can be reached from other machines, and whoever reaches it can run any"
            " script; listen on 127.0.0.1 or a unix socket, or name who may connect in listen.allowed_clients",
        )
