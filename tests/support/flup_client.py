"""flup's FastCGI client under Python 3.

``flup.client.fcgi_app`` was never brought to Python 3: it puts str together and writes it to sockets. Only its records
touch the socket, so it is enough that they change between the two, a byte a character.
"""

from __future__ import annotations

import io
import socket
import struct
from typing import Any

from flup.client import fcgi_app


class TextRecord(fcgi_app.Record):
    @staticmethod
    def _recvall(sock: socket.socket, length: int) -> tuple[bytes, int]:
        pieces = []
        left = length
        while left and (piece := sock.recv(left)):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces), length - left

    def read(self, sock: socket.socket) -> None:
        super().read(sock)
        if isinstance(self.contentData, bytes):  # "" where there was nothing to read
            self.contentData = self.contentData.decode("latin-1")

    def write(self, sock: socket.socket) -> None:
        content = self.contentData
        if isinstance(content, str):
            content = content.encode("latin-1")
        padding = -len(content) & 7
        sock.sendall(
            struct.pack("!BBHHBx", self.version, self.type, self.requestId, len(content), padding)
            + content
            + bytes(padding)
        )


fcgi_app.Record = TextRecord
fcgi_app.encode_pair = lambda name, value: "".join(_length(len(part)) for part in (name, value)) + name + value


def _length(length: int) -> str:
    return (struct.pack("!B", length) if length < 128 else struct.pack("!I", length | 1 << 31)).decode("latin-1")


def ask(connect: Any, params: dict[str, str], body: bytes = b"") -> tuple[str, dict[str, str], bytes, str]:
    """One request: status, headers, body, and what went to the error log."""
    started: list[Any] = []
    errors = io.StringIO()
    environ: dict[str, Any] = {**params, "wsgi.input": io.BytesIO(body), "wsgi.errors": errors}
    if body:
        environ["CONTENT_LENGTH"] = str(len(body))
    client = fcgi_app.FCGIApp(connect=connect, filterEnviron=False)
    answer = client(environ, lambda status, headers: started.append((status, dict(headers))))
    status, headers = started[0]
    return status, headers, "".join(answer).encode("latin-1"), errors.getvalue()
