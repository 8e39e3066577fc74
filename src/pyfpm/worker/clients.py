"""``listen.allowed_clients``: whose connections over TCP are taken."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterable

# Lines a second: whoever is refused must not be able to fill the log.
MOST_LINES = 10

_MAPPED = bytes(10) + b"\xff\xff"


class AllowedClients:
    """Called with an address as it comes from the kernel, tells whether connections from there are taken.

    What it logs are php-fpm's words, which its users look for in what a worker has said into stderr.

    Args:
      addresses: IPv4 and IPv6. One that is none is logged and left out; with none left nobody is let in.
      log: ``log(level, text)``.
      clock: seconds, from any start.
    """

    def __init__(
        self, addresses: Iterable[str], log: Callable[[str, str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._clock = clock
        self._second = 0
        self._lines = 0
        self._allowed = set()
        for address in addresses:
            try:
                self._allowed.add(_plain(ipaddress.ip_address(address.strip()).packed))
            except ValueError:
                self._error(f"Wrong IP address '{address.strip()}' in listen.allowed_clients")
        if not self._allowed:
            self._error("There are no allowed addresses")

    def __call__(self, address: bytes) -> bool:
        if _plain(address) in self._allowed:
            return True
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._lines = 0
        self._lines += 1
        if self._lines <= MOST_LINES:
            self._error(f"Connection disallowed: IP address '{text_of_address(address)}' has been dropped.")
        return False

    def _error(self, text: str) -> None:
        self._log("ERROR", text)


def text_of_address(address: bytes) -> str:
    """An address as it comes from the kernel, as people write it."""
    return str(ipaddress.ip_address(_plain(address)))


def _plain(address: bytes) -> bytes:
    """An IPv4 client of an IPv6 socket is an IPv4 client."""
    return address[12:] if len(address) == 16 and address.startswith(_MAPPED) else address
