"""The functions and constants that a script has without an import, all of them."""

from __future__ import annotations

from typing import Any

from pyfpm.sapi import buffering, error_log, files, functions, input, lifecycle, uploads
from pyfpm.sapi.session import functions as session

FUNCTIONS: dict[str, Any] = {
    **buffering.FUNCTIONS,
    **error_log.FUNCTIONS,
    **files.FUNCTIONS,
    **functions.FUNCTIONS,
    **input.FUNCTIONS,
    **lifecycle.FUNCTIONS,
    **session.FUNCTIONS,
    **session.CONSTANTS,
    **uploads.CONSTANTS,
}
