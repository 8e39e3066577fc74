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
    """
    Args:
      status_path, ping_path: compared with SCRIPT_NAME as it comes, as php-fpm does; None: there is no such page.
      ask_status: the master's answer to a query string, None if it does not come in time.
    """

    def __init__(
        self,
        status_path: str | None,
        ping_path: str | None,
        ping_response: str,
        ask_status: Callable[[str], bytes | None],
    ) -> None:
        self._pages: dict[str, Callable[[Request, Output], None]] = {}
        if status_path is not None:
            self._pages[status_path] = self._status
        if ping_path is not None:
            self._pages[ping_path] = self._ping
        self._ping_response = ping_response
        self._ask_status = ask_status

    def before(self, adapter: Adapter) -> Adapter:
        """An adapter that answers for these, and has this one answer for everything else."""
        if not self._pages:
            return adapter

        def answer(request: Request, output: Output) -> int:
            return 0 if self.answer(request, output) else adapter(request, output)

        return answer

    def answer(self, request: Request, output: Output) -> bool:
        """False: it is none of the two, and the application's."""
        page = self._pages.get(request.params.get("SCRIPT_NAME", ""))
        if page is None:
            return False
        try:
            page(request, output)
        except ConnectionAbortedError:
            pass  # nobody waits for it any more
        return True

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
