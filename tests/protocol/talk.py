"""Small verbs for the tests of connections: feed bytes, take events, write them down as plain tuples."""

from pyfpm import protocol as p

# Something that changes nothing for either side, and the beginning of a record: what may follow in the same read.
TAIL = b"\1\6\xbe\xef\0\0\0\0" + b"\1\6\0"


def whole(wire):
    return [wire]


def byte_by_byte(wire):
    return [wire[at : at + 1] for at in range(len(wire))]


def with_tail(wire):
    return [wire + TAIL]


FEEDS = (whole, byte_by_byte, with_tail)


def written(event):
    """The event as a tuple that does not change when the request goes on."""
    match event:
        case p.Request():
            return ("request", event.id, event.role, event.params)
        case p.Stdin():
            return ("stdin", event.request.id, event.data)
        case p.EndOfStdin():
            return ("end of stdin", event.request.id)
        case p.Data():
            return ("data", event.request.id, event.data)
        case p.EndOfData():
            return ("end of data", event.request.id)
        case p.Abort():
            return ("abort", event.request.id)
        case p.Refused():
            return ("refused", event.request.id, event.status)
        case p.Drained():
            return ("drained", event.request.id)
        case p.Reply():
            return ("reply", event.data, event.close)
        case p.Stdout() | p.Stderr():
            return (type(event).__name__.lower(), event.request_id, event.data)
        case p.EndOfStdout():
            return ("end of stdout", event.request_id)
        case p.EndRequest():
            return ("end", event.request_id, event.app_status, event.protocol_status)
        case p.Values():
            return ("values", event.values)
        case p.UnknownType():
            return ("unknown type", event.type)
        case p.ConnectionClosed():
            return ("closed",)
    raise AssertionError(f"unexpected event {event!r}")


def joined(events):
    """Adjacent pieces of the same stream as one: where a stream is cut means nothing [3.3]."""
    out = []
    for event in events:
        if out and event[0] in ("stdin", "data", "stdout", "stderr") and out[-1][:2] == event[:2]:
            out[-1] = (*event[:2], out[-1][2] + event[2])
        else:
            out.append(event)
    return out


def take(connection):
    """All events that are there. Ends at NEED_DATA or the end of the connection; an event costs a byte or none."""
    while True:
        event = connection.next_event()
        if event is p.NEED_DATA:
            return
        yield event
        if isinstance(event, p.ConnectionClosed):
            return


def play(connection, chunks, react=lambda event: None):
    """Feed the chunks and write down what happens, in plain tuples; react sees the real events.

    A broken connection is written down as ("broken", request id) and ends the play."""
    out = []
    try:
        for chunk in chunks:
            connection.receive_data(chunk)
            for event in take(connection):
                out.append(written(event))
                react(event)
    except p.RemoteProtocolError as error:
        out.append(("broken", error.request_id))
    return joined(out)


def ending(connection, answers=None):
    """A server that ends each request once it is complete, drained, aborted or refused without being live."""

    def react(event):
        request = event if isinstance(event, p.Request) else getattr(event, "request", None)
        if request is None or (request not in connection.live_requests and not isinstance(event, p.Refused)):
            return
        done = isinstance(event, (p.Drained, p.Abort)) or (not request.refused and request.complete)
        if isinstance(event, p.Refused):
            done = request not in connection.live_requests
        if done:
            answer = connection.end_request(request)
            if answers is not None:
                answers.append(answer)

    return react
