"""The access log's view of a request that has run: what the reactor measured, as a record that can be formatted."""

from __future__ import annotations

import os
import re
from contextlib import suppress

from pyfpm.observe.access import AccessFormat, AccessLog, AccessRecord
from pyfpm.worker.clients import text_of_address

_PAGE = os.sysconf("SC_PAGE_SIZE")

# What costs more than looking at what is there anyway.
_HEADERS = re.compile(r"%\{[^}]*\}o")
_MEMORY = re.compile(r"%(\{[^}]*\})?M")

# A web server's clock and ours are one, or not at all the same; a request has not waited for longer than this.
LONGEST_WAIT_S = 3600.0


class RequestLog:
    """The reactor's ``access``.

    Args:
      text: access.format; ``fd``: of access.log, the caller's; ``suppress``: access.suppress_path.
      json: objects instead of lines (log.format).
    """

    def __init__(self, fd: int, text: str, pool: str, suppress: tuple[str, ...], *, json: bool) -> None:
        self._log = AccessLog(fd, AccessFormat(text, pool, parent_pid=os.getppid()), suppress, json=json)
        self._wants_memory = _MEMORY.search(text) is not None
        self.wants_head = _HEADERS.search(text) is not None

    def add(
        self,
        params: dict[str, str],
        status: int,
        duration_us: int,
        cpu_us: int,
        content_length: int,
        head: bytes,
        started_unix: float,
        peer: bytes | None = None,
    ) -> None:
        self._log.add(
            AccessRecord(
                params,
                status,
                started_unix,
                duration_us=duration_us,
                cpu_user_us=cpu_us,
                wait_us=_waited_us(params, started_unix),
                memory=_resident() if self._wants_memory else 0,
                head=head,
                content_length=content_length,
                # As php-fpm has it, where the web server has an address. A unix socket has none, and the visitor's is
                # of more use than a dash.
                remote=params.get("REMOTE_ADDR", "") if peer is None else text_of_address(peer),
                request_id=params.get("REQUEST_ID", ""),
            )
        )

    def flush(self) -> None:
        self._log.flush()


def _waited_us(params: dict[str, str], started_unix: float) -> int | None:
    """REQUEST_MSEC is nginx's $msec: when it got the request, in seconds since 1970."""
    with suppress(ValueError):
        waited_s = started_unix - float(params.get("REQUEST_MSEC", ""))
        if -LONGEST_WAIT_S < waited_s < LONGEST_WAIT_S:
            return max(0, int(waited_s * 1e6))
    return None


def _resident() -> int:
    with suppress(OSError, ValueError, IndexError), open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * _PAGE
    return 0
