"""What a request begins with is compared with what others began with, instead of decoded. Nobody may notice."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from pyfpm.protocol import ClientConnection, Limits, Request, ServerConnection

FIXED = [(f"FIXED_{number}", "the same each time") for number in range(12)]


def decode(params: list[tuple[str, str]], limits: Limits | None = None) -> dict[str, str]:
    client = ClientConnection()
    server = ServerConnection(limits or Limits())
    server.receive_data(client.begin_request(1) + client.send_params(1, params))
    request = server.next_event()
    assert isinstance(request, Request)
    return request.params


names = st.sampled_from([name for name, _ in FIXED] + ["QUERY_STRING", "REMOTE_PORT", "X", ""])
values = st.text(st.characters(max_codepoint=255), max_size=5) | st.sampled_from(["the same each time", "v" * 200])
distinct_pairs = st.lists(st.tuples(names, values), max_size=16, unique_by=lambda pair: pair[0])
beginnings = st.integers(0, len(FIXED))


@given(st.lists(st.tuples(beginnings, distinct_pairs), max_size=40))
def test_requests_are_what_they_say_whatever_others_began_with(
    requests: list[tuple[int, list[tuple[str, str]]]],
) -> None:
    for fixed, rest in requests:
        pairs = dict(FIXED[:fixed]) | dict(rest)
        as_bytes = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs.items()]
        assert decode(as_bytes) == pairs  # type: ignore[arg-type]


def test_a_dict_that_an_application_changed_is_not_what_the_next_one_gets() -> None:
    for _ in range(3):
        params = decode([*FIXED, ("REQUEST_METHOD", "GET")])
        assert params == {**dict(FIXED), "REQUEST_METHOD": "GET"}
        params.clear()
        params["FIXED_0"] = "changed"


def test_limits_count_usual_pairs_as_well() -> None:
    size = sum(len(name) + len(value) for name, value in FIXED)
    for _ in range(3):
        assert decode(FIXED) == dict(FIXED)
        assert decode(FIXED, Limits(max_params_size=size, max_params=len(FIXED))) == dict(FIXED)
        for limits in (Limits(max_params_size=size - 1), Limits(max_params=len(FIXED) - 1)):
            client = ClientConnection()
            server = ServerConnection(limits)
            server.receive_data(client.begin_request(1) + client.send_params(1, FIXED))
            assert getattr(server.next_event(), "status", None) == 431


def test_secrets_are_not_remembered() -> None:
    # Names of this test's own, and often enough to be learnt whatever was usual before.
    others = [(f"OTHER_{number}", "the same each time") for number in range(12)]
    for _ in range(40):
        params = decode([*others, ("HTTP_COOKIE", "session=s3cr3t"), ("HTTP_AUTHORIZATION", "Bearer s3cr3t")])
    # Nothing but the dict that the application was given holds on to them.
    alone = {"name": "".join(["session=", "s3cr3t"])}
    for name in ("HTTP_COOKIE", "HTTP_AUTHORIZATION"):
        assert sys.getrefcount(params[name]) == sys.getrefcount(alone["name"])
    assert sys.getrefcount(params["OTHER_1"]) > sys.getrefcount(alone["name"])
