"""The lifespan of an ASGI application in one worker: told when it begins to serve, and when it has served.

An application that knows nothing of it raises, or returns, and is served all the same; that is how it says so.

Source: the ASGI specification, "Lifespan Protocol" 2.0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyfpm.sapi.asgi import VERSIONS, Application
from pyfpm.sapi.failure import Log, describe
from pyfpm.sapi.interface import Event


class StartupError(Exception):
    """The application does not want to serve; with its reason."""


class Lifespan:
    """
    Args:
      make_event: of trio or asyncio.

    ``run`` is a task of its own, from before the first request to after the last. Cancelling it is no harm.
    """

    def __init__(self, application: Application, log: Log, make_event: Callable[[], Event]) -> None:
        self._application = application
        self._log = log
        self._begun = make_event()
        self._ending = make_event()
        self._ended = make_event()
        self._told: list[str] = []
        self._failure: str | None = None
        self._supported = False
        self._state: dict[str, Any] = {}

    @property
    def state(self) -> dict[str, Any] | None:
        """What the application keeps for its requests; None if it has no lifespan."""
        return self._state if self._supported else None

    async def run(self) -> None:
        scope = {"type": "lifespan", "asgi": VERSIONS, "state": self._state}
        try:
            await self._application(scope, self._receive, self._send)
        except Exception as error:
            if self._supported:
                self._log("ERROR", f"uncaught exception in the application's lifespan\n{describe(error)}")
            elif self._failure is None:
                self._log("DEBUG", f"the application has no lifespan: {type(error).__name__}: {error}")
        finally:
            self._begun.set()
            self._ended.set()

    async def startup(self) -> None:
        """Raises StartupError."""
        await self._begun.wait()
        if self._failure is not None:
            raise StartupError(f"the application's startup has failed: {self._failure or 'it does not say why'}")

    async def shutdown(self) -> None:
        """Return when the application has done what it has to do; the caller knows how long that may take."""
        self._ending.set()
        await self._ended.wait()

    async def _receive(self) -> dict[str, Any]:
        if "startup" not in self._told:
            self._told.append("startup")
            return {"type": "lifespan.startup"}
        await self._ending.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            self._supported = True
            self._begun.set()
        elif kind == "lifespan.startup.failed":
            self._failure = str(message.get("message", ""))
            self._begun.set()
        elif kind == "lifespan.shutdown.complete":
            self._ended.set()
        elif kind == "lifespan.shutdown.failed":
            self._log("ERROR", f"the application's shutdown has failed: {message.get('message', '')}")
            self._ended.set()
        else:
            raise RuntimeError(f"{kind!r} is no message of a lifespan")
