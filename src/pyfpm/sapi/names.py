"""The functions and constants that a script has without an import, all of them."""

from __future__ import annotations

from typing import Any

from pyfpm.sapi import functions, input, uploads

FUNCTIONS: dict[str, Any] = {
    **functions.FUNCTIONS,
    **input.FUNCTIONS,
    **uploads.CONSTANTS,
}
