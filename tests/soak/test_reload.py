"""Reload, again and again, while 64 clients ask: nobody notices."""

from __future__ import annotations

import pytest

from support.load import amount, order

EXPECT = "hello n########"


@pytest.mark.parametrize("keep", [False, True], ids=["new connections", "kept connections"])
def test_no_request_and_no_kept_connection_is_lost_in_a_reload(pyfpm, hello, load, keep):
    server = pyfpm("--workers", "4")
    clients = load(server.socket, hello, EXPECT, connections=64, keep=keep, requests=amount(40_000, 200_000))
    reloads = 0
    while clients.is_running or reloads < amount(10, 50):
        answer = order(server.socket + ".ctl", do="reload")
        assert answer["ok"], answer
        reloads += 1
    result = clients.result()
    assert result["wrong"] == result["missing"] == result["not_kept"] == 0, result
    print(f"{reloads} reloads, {result['requests']} requests, latency {result['latency_us']}")


BROKEN = {
    "a syntax error": "def application(:\n",
    "an import that raises": "import no_such_module\n",
    "an exception": "raise RuntimeError('half a deploy')\n",
    "no application": "application = 42\n",
}
APPLICATION = (
    "def application(environ, start):\n    start('200 OK', [])\n"
    "    return [b'hello ' + environ['QUERY_STRING'][5:].encode()]\n"
)


def test_a_broken_deploy_is_told_to_who_reloads_and_the_visitors_notice_nothing(pyfpm, place, load):
    (place / "app.py").write_text(APPLICATION)
    server = pyfpm("--workers", "2", "app:application", cwd=place)
    clients = load(server.socket, place / "app.py", EXPECT, connections=16, keep=True, requests=amount(20_000, 200_000))
    while True:
        for what, source in BROKEN.items():
            (place / "app.py").write_text(source)
            answer = order(server.socket + ".ctl", do="reload")
            assert not answer["ok"], what
        (place / "app.py").write_text(APPLICATION)
        assert order(server.socket + ".ctl", do="reload")["ok"]
        if not clients.is_running:
            break
    result = clients.result()
    assert result["wrong"] == result["missing"] == result["not_kept"] == 0, result
