"""FastCGI 1.0 in plain Python, written from the specification alone: what the tests hold the real thing against.

Clear rather than fast, and with nothing in common with csrc/ or the Cython modules. Section numbers are the
specification's.
"""

import struct
from typing import NamedTuple

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT, STDERR, DATA, GET_VALUES, GET_VALUES_RESULT, UNKNOWN = range(1, 12)
RESPONDER, AUTHORIZER, FILTER = 1, 2, 3


class Record(NamedTuple):
    type: int
    id: int
    content: bytes = b""


# -- writing


def record(type, id, content=b"", padding=0):
    """[3.3] The content of the padding is nobody's business."""
    return struct.pack("!BBHHBB", 1, type, id, len(content), padding, 0) + content + b"\xa5" * padding


def stream(type, id, content, chunk=65535, padding=0):
    """[3.3] A stream as records of at most chunk bytes, with its end."""
    pieces = [content[at : at + chunk] for at in range(0, len(content), chunk)]
    return b"".join(record(type, id, piece, padding) for piece in [*pieces, b""])


def begin(id, role=RESPONDER, flags=1):
    """[5.1]"""
    return record(BEGIN, id, struct.pack("!HB5x", role, flags))


def length(number):
    """[3.4] One byte up to 127, else four with the highest bit set."""
    return bytes([number]) if number < 128 else struct.pack("!L", number | 1 << 31)


def pair(name, value):
    """[3.4]"""
    return length(len(name)) + length(len(value)) + name + value


def pairs(items):
    return b"".join(pair(name, value) for name, value in items)


def request(id, items=(), body=b"", role=RESPONDER, flags=1, chunk=65535, padding=0):
    """A responder's request, whole."""
    return (
        begin(id, role, flags)
        + stream(PARAMS, id, pairs(items), chunk, padding)
        + stream(STDIN, id, body, chunk, padding)
    )


# -- reading


def read_records(wire):
    """[3.3] All whole records of wire, and what is left of it."""
    found = []
    while len(wire) >= 8:
        version, type, id, content_length, padding_length = struct.unpack("!BBHHBx", wire[:8])
        if version != 1:
            raise ValueError("not a record")
        end = 8 + content_length + padding_length
        if len(wire) < end:
            break
        found.append(Record(type, id, wire[8 : 8 + content_length]))
        wire = wire[end:]
    return found, wire


def read_length(data):
    if data[0] >> 7 == 0:
        return data[0], data[1:]
    if len(data) < 4:
        raise IndexError
    return struct.unpack("!L", data[:4])[0] & 0x7FFFFFFF, data[4:]


def read_pairs(data):
    """[3.4] All whole pairs of data, and what is left of it."""
    found = []
    while data:
        try:
            name_length, rest = read_length(data)
            value_length, rest = read_length(rest)
        except IndexError:
            break
        if len(rest) < name_length + value_length:
            break
        found.append((rest[:name_length], rest[name_length : name_length + value_length]))
        data = rest[name_length + value_length :]
    return found, data
