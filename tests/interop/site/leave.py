"""Ends the worker in the middle of an answer, or before it."""

import os
import time

if "late" in _GET:
    header("Content-Length: 20000")
    echo("the beginning of a page", "." * 10_000)
    flush()
    time.sleep(0.2)
os._exit(3)
