"""A FastCGI client: what a web server does towards pyfpm, php-fpm or any other FastCGI server, on trio.

    async with FastCGIClient("/run/pyfpm.sock") as client:
        answer = await client.request({"SCRIPT_FILENAME": "/srv/www/hello.py", "REQUEST_METHOD": "GET"})
        print(answer.status, answer.headers, answer.body)

One request at a time travels on a connection: several at once take several connections, at most ``max_connections``.
A connection whose answer has ended is kept for the next request, as long as the server keeps it, too.

The request is written by a task of its own beside the reading of the answer, since a server may answer before it has
read the body, and may stop reading until its answer is taken. That task never outlives the ``async with`` block of its
answer. Whatever ends that block before END_REQUEST was read, cancellation included, closes the connection: that is how
a web server says that it no longer wants the answer.
"""

from pyfpm.client._client import FastCGIClient
from pyfpm.client._exchange import Answer, Body, Params
from pyfpm.client.address import Address, parse_address
from pyfpm.client.errors import (
    BadAnswer,
    BadHeaders,
    CannotMultiplex,
    ClientError,
    ConnectError,
    EndedEarly,
    Overloaded,
    Refused,
    TimedOut,
    UnknownRole,
)

__all__ = [
    "Address",
    "Answer",
    "BadAnswer",
    "BadHeaders",
    "Body",
    "CannotMultiplex",
    "ClientError",
    "ConnectError",
    "EndedEarly",
    "FastCGIClient",
    "Overloaded",
    "Params",
    "Refused",
    "TimedOut",
    "UnknownRole",
    "parse_address",
]
