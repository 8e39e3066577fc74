"""pm.status_listen: status and ping from the master itself, while every worker is busy.

A FastCGI server as small as one can be: no body is kept, and only two paths are known.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

import trio

from pyfpm import protocol

# A connection that is silent for so long is closed.
SILENCE_S = 30.0
MOST_CONNECTIONS = 128

# The master keeps little of what it is told.
LIMITS = protocol.Limits(max_requests=16, max_params_size=32 * 1024, max_params=200, max_held=256 * 1024)

READ = 16 * 1024

NOT_FOUND = b"Status: 404 Not Found\r\nContent-Type: text/plain\r\n\r\nFile not found.\n"


async def serve(listening: socket.socket, answer: Callable[[str, str, str], bytes | None]) -> None:
    """Serve for ever.

    Args:
      answer: (path, query, method) to a complete CGI answer; None: there is nothing of that name.
    """
    slots = trio.CapacityLimiter(MOST_CONNECTIONS)
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
    async with trio.open_nursery() as nursery:
        while True:
            try:
                stream = await listener.accept()
            except trio.ClosedResourceError:
                return
            except OSError:
                await trio.sleep(1)  # out of descriptors
                continue
            nursery.start_soon(_connection, stream, slots, answer)


async def _connection(
    stream: trio.SocketStream, slots: trio.CapacityLimiter, answer: Callable[[str, str, str], bytes | None]
) -> None:
    async with stream:
        gone = (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, protocol.RemoteProtocolError)
        with suppress(*gone):
            async with slots:
                connection = protocol.ServerConnection(LIMITS)
                while True:
                    with trio.move_on_after(SILENCE_S) as silence:
                        data = await stream.receive_some(READ)
                    if silence.cancelled_caught or not data:
                        return
                    connection.receive_data(data)
                    if not await _serve_events(stream, connection, answer):
                        return


async def _serve_events(
    stream: trio.SocketStream,
    connection: protocol.ServerConnection,
    answer: Callable[[str, str, str], bytes | None],
) -> bool:
    """False when the connection is to be closed."""
    while not isinstance(event := connection.next_event(), protocol.NeedData):
        if isinstance(event, (protocol.ConnectionClosed, protocol.Refused)):
            return False
        if isinstance(event, protocol.Reply):
            await _send(stream, event.data)
            continue
        if isinstance(event, protocol.Abort):
            await _send(stream, connection.end_request(event.request))
            continue
        request = event if isinstance(event, protocol.Request) else getattr(event, "request", None)
        if request is None or not request.complete or request not in connection.live_requests:
            continue
        params = request.params or {}
        body = answer(
            params.get("SCRIPT_NAME", ""), params.get("QUERY_STRING", ""), params.get("REQUEST_METHOD", "GET")
        )
        records = connection.send_stdout(request, NOT_FOUND if body is None else body)
        records += connection.end_request(request)
        await _send(stream, records)
        if not request.keep_conn:
            return False
    return True


async def _send(stream: trio.SocketStream, data: bytes) -> None:
    with trio.fail_after(SILENCE_S):
        await stream.send_all(data)
