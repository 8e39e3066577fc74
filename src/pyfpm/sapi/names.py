"""The functions that a script has without an import, all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyfpm.sapi import functions

FUNCTIONS: dict[str, Callable[..., Any]] = {
    **functions.FUNCTIONS,
}
