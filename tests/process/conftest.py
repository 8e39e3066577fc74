"""Fixtures of tests that start real processes."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.fixture
def python_for_others() -> str:
    """An interpreter that other users can run, with pyfpm in it: ours, if the way to it is open to them."""
    import pyfpm

    for needed in (sys.executable, pyfpm.__file__):
        seen = subprocess.run(
            ["/bin/sh", "-c", '[ -r "$0" ]', needed], user="nobody", group="nogroup", extra_groups=[], check=False
        )
        if seen.returncode:
            pytest.skip(f"{needed} cannot be read by other users")
    return sys.executable
