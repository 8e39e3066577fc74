"""What kind of application was loaded, and which event loop it wants."""

import sys
from functools import partial
from types import ModuleType

import pytest
import trio

from pyfpm.sapi.load import LoadError, kind_of, loop_of


async def asgi(scope, receive, send):
    pass


def forwarded(scope, receive, send):
    return asgi(scope, receive, send)


def wsgi(environ, start_response):
    return []


def asgi2(scope):
    return partial(asgi, scope)


class Asgi:
    async def __call__(self, scope, receive, send):
        pass


class Wsgi:
    def __call__(self, environ, start_response):
        return []


class WsgiInstances:
    def __init__(self, environ, start_response):
        pass

    def __iter__(self):
        return iter(())


class Asgi2:
    def __init__(self, scope):
        pass

    async def __call__(self, receive, send):
        pass


@pytest.mark.parametrize(
    ("application", "kind"),
    [
        (asgi, "asgi"),
        (forwarded, "asgi"),
        (Asgi(), "asgi"),
        (partial(asgi), "asgi"),
        (Asgi().__call__, "asgi"),
        (wsgi, "wsgi"),
        (Wsgi(), "wsgi"),
        (WsgiInstances, "wsgi"),
        (partial(wsgi), "wsgi"),
        (dict, "wsgi"),
    ],
    ids=str,
)
def test_the_kind_is_seen_by_how_it_is_called(application, kind):
    assert kind_of(application, "mod:app") == kind


@pytest.mark.parametrize("application", [asgi2, Asgi2, Asgi])
def test_what_would_have_to_be_called_twice_is_refused(application):
    with pytest.raises(LoadError, match=r"'mod:app' is an ASGI 2 application"):
        kind_of(application, "mod:app")


@pytest.mark.parametrize(
    ("name", "holds", "loop"),
    [
        ("mysite.views", {"trio": trio}, "trio"),
        ("mysite.views", {"t": trio}, "trio"),
        ("mysite.views", {"asyncio": sys, "trio": "a name like any other"}, "asyncio"),
        ("mysite.views", {"sleep": trio.sleep}, "asyncio"),
        ("anyio._backends._trio", {"trio": trio}, "asyncio"),
        ("httpcore._backends.trio", {"trio": trio}, "asyncio"),
    ],
)
def test_an_application_that_has_imported_trio_runs_on_trio(name, holds, loop, monkeypatch):
    module = ModuleType(name)
    vars(module).update(holds)
    monkeypatch.setitem(sys.modules, name, module)
    assert loop_of([name, "gone.meanwhile"]) == loop
