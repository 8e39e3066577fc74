"""How long it takes to decode a request, beside flup6: the same bytes, the same work, in this process.

The request is what nginx makes of a browser's GET with its fastcgi.conf: BEGIN_REQUEST, 26 parameters in one PARAMS
record, the empty PARAMS record, the empty STDIN record. Sixty-four of them take turns, which differ in what differs
between real ones: query, URI, client port, cookie.

Each request comes on a connection of its own, as nginx does it by default. Ours is the public way: ``receive_data``, then
``next_event`` until there is nothing more; and beside it ``step``, which is what the server itself calls, on a buffer, without
an object per event (codec_step.pyx, for which Cython is needed). flup6 is its own ``Record.read``, ``Connection._do_*`` and ``decode_pair``. In
its favour the socket is bytes in memory, the select() before each record is left out, and its debug switch is off.

    python tools/bench/codec.py [--rounds 7]

Needs flup6. Prints the best round of each; the rounds alternate, so that a busy machine disturbs both alike.
"""

import argparse
import importlib
import io
import itertools
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from flup.server import fcgi_base as flup

from pyfpm.protocol import NEED_DATA, ClientConnection, EndOfStdin, Limits, Request, ServerConnection

REQUESTS = 64


def params(number: int) -> dict[str, str]:
    query = f"n={number * 7919}"
    return {
        "SCRIPT_FILENAME": "/srv/www/example/public/hello.py",
        "QUERY_STRING": query,
        "REQUEST_METHOD": "GET",
        "CONTENT_TYPE": "",
        "CONTENT_LENGTH": "",
        "SCRIPT_NAME": "/hello.py",
        "REQUEST_URI": f"/hello.py?{query}",
        "DOCUMENT_URI": "/hello.py",
        "DOCUMENT_ROOT": "/srv/www/example/public",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REQUEST_SCHEME": "http",
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_SOFTWARE": "nginx/1.22.1",
        "REMOTE_ADDR": "192.0.2.17",
        "REMOTE_PORT": str(32768 + number * 37),
        "SERVER_ADDR": "192.0.2.1",
        "SERVER_PORT": "80",
        "SERVER_NAME": "www.example.org",
        "REDIRECT_STATUS": "200",
        "PATH_INFO": "",
        "HTTP_HOST": "www.example.org",
        "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
        "HTTP_ACCEPT": "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8",
        "HTTP_ACCEPT_LANGUAGE": "de,en-US;q=0.7,en;q=0.3",
        "HTTP_ACCEPT_ENCODING": "gzip, deflate, br",
        "HTTP_COOKIE": f"session={number:032x}; theme=light",
    }


def wire(number: int) -> bytes:
    client = ClientConnection()
    return client.begin_request(1, keep_conn=True) + client.send_params(1, params(number)) + client.send_stdin(1, b"")


def ours(wires: list[bytes]) -> dict[str, str]:
    limits = Limits()
    request: Request | None = None
    for data in wires:
        connection = ServerConnection(limits)
        connection.receive_data(data)
        while (event := connection.next_event()) is not NEED_DATA:
            if type(event) is EndOfStdin:
                request = event.request
    assert request is not None
    return request.params


def as_the_reactor() -> Callable[[list[bytes]], object]:
    """Compile codec_step.pyx and return its decode."""
    root = Path(__file__).parent.parent.parent
    sys.path[:0] = [str(Path(__file__).parent), str(root / "src")]
    pyximport = importlib.import_module("pyximport")
    pyximport.install(
        build_dir=tempfile.mkdtemp(prefix="pyfpm-codec-"),
        setup_args={"include_dirs": [str(root / "csrc")]},
        language_level=3,
    )
    decode: Callable[[list[bytes]], object] = importlib.import_module("codec_step").decode
    return decode


class FlupSocket(io.BytesIO):
    """A socket that has everything already."""

    recv = io.BytesIO.read

    def fileno(self) -> int:
        return -1


class FlupRequest(flup.Request):
    def run(self) -> None:
        """The request is decoded: nothing is to run."""


class FlupServer:
    request_class = FlupRequest
    inputStreamShrinkThreshold = 102400 - 8192  # flup's own


def flups(wires: list[bytes]) -> dict[str, str]:
    server = FlupServer()
    request = None
    for data in wires:
        connection = flup.Connection(None, None, server)
        handlers = {
            flup.FCGI_BEGIN_REQUEST: connection._do_begin_request,
            flup.FCGI_PARAMS: connection._do_params,
            flup.FCGI_STDIN: connection._do_stdin,
        }
        sock = FlupSocket(data)
        end = len(data)
        while sock.tell() < end:
            record = flup.Record()
            record.read(sock)
            handlers[record.type](record)
        request = connection._requests[1]
    assert request is not None
    return request.params


def us_per_request(decode: Callable[[list[bytes]], object], wires: list[bytes], at_least_s: float = 0.3) -> float:
    started = time.perf_counter()
    for rounds in itertools.count(1):  # noqa: B007 (is, behind it)
        decode(wires)
        took = time.perf_counter() - started
        if took >= at_least_s:
            break
    return took / rounds / len(wires) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    wires = [wire(number) for number in range(REQUESTS)]
    decoders = {"pyfpm, step": as_the_reactor(), "pyfpm, next_event": ours, "flup6": flups}
    for decode in decoders.values():
        assert decode(wires) == params(REQUESTS - 1), "they read different requests"

    best = dict.fromkeys(decoders, float("inf"))
    for _ in range(options.rounds):
        for name, decode in decoders.items():
            best[name] = min(best[name], us_per_request(decode, wires))
    print(f"{len(wires[0])} bytes, {len(params(0))} parameters, µs a request:")
    for name, us in best.items():
        print(f"  {name:18} {us:6.2f}   flup6 takes {best['flup6'] / us:.1f} times as long")


if __name__ == "__main__":
    main()
