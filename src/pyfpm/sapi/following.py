"""Superglobals for imported modules: they follow the request that runs."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

from pyfpm.sapi.current import current


class Following(MutableMapping[str, Any]):
    """The superglobal ``name`` of whatever request runs where it is used. Outside of one, RuntimeError."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getitem__(self, key: str) -> Any:
        return current().superglobal(self._name)[key]

    def __setitem__(self, key: str, value: Any) -> None:
        current().superglobal(self._name)[key] = value

    def __delitem__(self, key: str) -> None:
        del current().superglobal(self._name)[key]

    def __iter__(self) -> Iterator[str]:
        return iter(current().superglobal(self._name))

    def __len__(self) -> int:
        return len(current().superglobal(self._name))

    def __repr__(self) -> str:
        return f"<{self._name} of the current request>"
