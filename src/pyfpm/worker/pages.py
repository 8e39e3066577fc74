"""Status and ping on the pool's own address: the two paths that are not the application's.

Ping is answered here, since it asks whether a worker answers. Status is the master's to tell; it sees all workers.
"""

from __future__ import annotations

from collections.abc import Callable

from pyfpm.observe.status import ping_answer
from pyfpm.sapi import pages
from pyfpm.sapi.interface import Output, Request
from pyfpm.worker.inline import Adapter


class ServerPages:
    """An adapter around the application's own.

    Args:
      status_path, ping_path: compared with SCRIPT_NAME as it comes, as php-fpm does; None: there is no such page.
      ask_status: the master's answer to a query string, None if it does not come in time.
    """

    def __init__(
        self,
        adapter: Adapter,
        status_path: str | None,
        ping_path: str | None,
        ping_response: str,
        ask_status: Callable[[str], bytes | None],
    ) -> None:
        self._adapter = adapter
        self._pages = {}
        if status_path is not None:
            self._pages[status_path] = self._status
        if ping_path is not None:
            self._pages[ping_path] = self._ping
        self._ping_response = ping_response
        self._ask_status = ask_status

    def __call__(self, request: Request, output: Output) -> int:
        page = self._pages.get(request.params.get("SCRIPT_NAME", ""))
        if page is None:
            return self._adapter(request, output)
        try:
            page(request, output)
        except ConnectionAbortedError:
            pass  # nobody waits for it any more
        return 0

    def _ping(self, request: Request, output: Output) -> None:
        output.write(ping_answer(self._ping_response, request.params.get("REQUEST_METHOD", "GET")))

    def _status(self, request: Request, output: Output) -> None:
        found = self._ask_status(request.params.get("QUERY_STRING", ""))
        if found is None:
            pages.answer(output, 503)
            return
        if request.params.get("REQUEST_METHOD") == "HEAD":
            found = found.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        output.write(found)
