"""Decode requests as the reactor does: ``ServerConnection.step`` on the bytes where they lie."""
from libc.stdint cimport uint8_t

from pyfpm.protocol._server cimport (
    STEP_NEED_DATA,
    STEP_REQUEST,
    Limits,
    Request,
    ServerConnection,
    Step,
)


def decode(list wires not None):
    """The params of the last of these requests, each on a connection of its own."""
    cdef Limits limits = Limits()
    cdef ServerConnection connection
    cdef Request request = None
    cdef const uint8_t *data
    cdef size_t left
    cdef size_t used = 0
    cdef Step step
    cdef bytes wire
    for wire in wires:
        connection = ServerConnection.__new__(ServerConnection, limits, None)
        data = <const uint8_t *><const char *>wire
        left = len(wire)
        while True:
            step = connection.step(data, left, &used)
            if step == STEP_NEED_DATA:
                break
            if step == STEP_REQUEST:
                request = connection.request
            data += used
            left -= used
        assert request.is_complete()
    return request.params
