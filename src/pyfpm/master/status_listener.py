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


async def serve(
    listening: socket.socket,
    answer: Callable[[str, str, str], bytes | None],
    is_allowed: Callable[[bytes], bool] | None = None,
) -> None:
    """Serve for ever.

    Args:
      answer: (path, query, method) to a complete CGI answer; None: there is nothing of that name.
      is_allowed: of an address as it comes from the kernel (listen.allowed_clients); None: all are.
    """
    # Taken before a connection is accepted: the descriptors are those that new workers need.
    slots = trio.Semaphore(MOST_CONNECTIONS)
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
    async with trio.open_nursery() as nursery:
        while True:
            await slots.acquire()
            try:
                stream = await listener.accept()
            except trio.ClosedResourceError:
                return
            except OSError:
                slots.release()
                await trio.sleep(1)  # out of descriptors
                continue
            nursery.start_soon(_connection, stream, slots, answer, is_allowed)


async def _connection(
    stream: trio.SocketStream,
    slots: trio.Semaphore,
    answer: Callable[[str, str, str], bytes | None],
    is_allowed: Callable[[bytes], bool] | None,
) -> None:
    gone = (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, protocol.RemoteProtocolError)
    try:
        with suppress(*gone):
            async with stream:
                if is_allowed is None or _comes_from(stream, is_allowed):
                    await _serve(stream, answer)
    finally:
        slots.release()


def _comes_from(stream: trio.SocketStream, is_allowed: Callable[[bytes], bool]) -> bool:
    """As in a worker, it is a matter of TCP only."""
    family = stream.socket.family
    if family not in (socket.AF_INET, socket.AF_INET6):
        return True
    try:
        host = stream.socket.getpeername()[0]
    except OSError:
        return False
    return is_allowed(socket.inet_pton(family, host.partition("%")[0]))


async def _serve(stream: trio.SocketStream, answer: Callable[[str, str, str], bytes | None]) -> None:
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
