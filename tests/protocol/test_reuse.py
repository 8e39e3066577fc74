"""A web server and pyfpm on one kept connection for as long as Hypothesis likes, in any order the specification allows.

The machine plays both sides and keeps a model of each request: what was sent, what must have been seen. Invariant: a
request sees its own params and body and nothing of any other, the ids that are live on both sides agree, and once
nothing is live the budget is whole again.
"""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from talk import take

from pyfpm import protocol as p


class Sent:
    """What the web server has sent of a request, and what has become of it."""

    def __init__(self, id, number):
        self.id = id
        self.params = {"NUMBER": str(number), "HTTP_X": "x" * (number % 200)}
        self.params_sent = self.stdin_sent = False
        self.body = b""
        self.request = None
        self.seen = b""
        self.seen_end = self.refused = self.drained = False


class KeptConnection(RuleBasedStateMachine):
    @initialize(max_requests=st.integers(1, 4))
    def connect(self, max_requests):
        self.budget = p.Budget(1 << 20)
        self.max_requests = max_requests
        self.client = p.ClientConnection()
        self.server = p.ServerConnection(p.Limits(max_requests=max_requests), self.budget)
        self.live = {}  # id: Sent
        self.unread = b""  # written by the web server, not yet read by us
        self.to_client = b""
        self.number = 0

    def pick(self, data, condition):
        return data.draw(st.sampled_from([sent for sent in self.live.values() if condition(sent)]))

    # -- the web server

    @precondition(lambda self: len(self.live) < self.max_requests)
    @rule(id=st.sampled_from([1, 3, 5, 32767, 65535]), keep_conn=st.booleans())
    def begin(self, id, keep_conn):
        if id in self.live:
            return
        self.number += 1
        self.live[id] = Sent(id, self.number)
        self.unread += self.client.begin_request(id, keep_conn=keep_conn)

    @precondition(lambda self: any(not sent.params_sent for sent in self.live.values()))
    @rule(data=st.data())
    def send_params(self, data):
        sent = self.pick(data, lambda sent: not sent.params_sent)
        sent.params_sent = True
        self.unread += self.client.send_params(sent.id, sent.params)

    @precondition(lambda self: any(not sent.stdin_sent for sent in self.live.values()))
    @rule(data=st.data(), piece=st.binary(max_size=30))
    def send_stdin(self, data, piece):
        sent = self.pick(data, lambda sent: not sent.stdin_sent)
        sent.body += piece
        sent.stdin_sent = not piece
        self.unread += self.client.send_stdin(sent.id, piece)

    @rule(id=st.sampled_from([2, 1000]), piece=st.binary(max_size=5))
    def send_stray_stdin(self, id, piece):
        self.unread += bytes([1, 5, id >> 8, id & 255, 0, len(piece), 0, 0]) + piece

    @rule()
    def ask_for_values(self):
        self.unread += self.client.get_values(["FCGI_MAX_REQS", "FCGI_MPXS_CONNS"])

    # -- us

    @precondition(lambda self: self.unread)
    @rule(data=st.data())
    def read(self, data):
        size = data.draw(st.integers(1, len(self.unread)))
        self.server.receive_data(self.unread[:size])
        self.unread = self.unread[size:]
        for event in take(self.server):
            self.see(event)

    def see(self, event):
        if isinstance(event, p.Reply):
            assert not event.close
            self.to_client += event.data
            return
        request = event if isinstance(event, p.Request) else event.request
        sent = self.live[request.id]
        assert sent.request in (None, request)
        sent.request = request
        if isinstance(event, p.Request):
            assert event.params == sent.params
        elif isinstance(event, p.Stdin):
            assert not sent.refused
            sent.seen += event.data
            assert sent.body.startswith(sent.seen)
        elif isinstance(event, p.EndOfStdin):
            assert not sent.refused and not sent.seen_end
            assert sent.seen == sent.body
            sent.seen_end = True
        elif isinstance(event, p.Drained):
            assert sent.refused and not sent.drained
            sent.drained = True
        else:
            raise AssertionError(event)

    @precondition(lambda self: any(sent.request and not sent.refused for sent in self.live.values()))
    @rule(data=st.data())
    def refuse(self, data):
        sent = self.pick(data, lambda sent: sent.request and not sent.refused)
        sent.refused = True
        sent.drained = self.server.refuse_request(sent.request)

    @precondition(lambda self: any(sent.request for sent in self.live.values()))
    @rule(data=st.data(), answer=st.binary(max_size=20), app_status=st.integers(0, 2**32 - 1))
    def end(self, data, answer, app_status):
        """Also before the body has ended. What is on its way by then is a stray of a request that is over."""
        sent = self.pick(data, lambda sent: sent.request)
        wire = self.server.send_stdout(sent.request, answer)
        wire += self.server.end_request(sent.request, app_status)
        self.client.receive_data(self.to_client + wire)
        self.to_client = b""
        events = [event for event in take(self.client) if not isinstance(event, p.Values)]
        assert all(event.request_id == sent.id for event in events)
        assert b"".join(event.data for event in events if isinstance(event, p.Stdout)) == answer
        assert events[-1] == p.EndRequest(sent.id, app_status, 0)
        del self.live[sent.id]

    # -- always

    @invariant()
    def both_sides_know_the_same_requests(self):
        if not hasattr(self, "live"):
            return
        assert set(self.client.live_requests) == set(self.live)
        ours = {request.id for request in self.server.live_requests}
        # A BEGIN_REQUEST may still be on its way.
        assert ours <= set(self.live)
        assert self.unread or ours == set(self.live)

    @invariant()
    def nothing_live_costs_nothing(self):
        if hasattr(self, "live") and not self.server.live_requests:
            assert self.budget.used == 0


TestKeptConnection = KeptConnection.TestCase
