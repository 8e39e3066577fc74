"""The functions that a script has without an import, all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyfpm.sapi import buffering, error_log, files, functions

FUNCTIONS: dict[str, Callable[..., Any]] = {
    **buffering.FUNCTIONS,
    **error_log.FUNCTIONS,
    **files.FUNCTIONS,
    **functions.FUNCTIONS,
}
