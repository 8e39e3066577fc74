"""What ps and top show of our processes."""

from __future__ import annotations

import setproctitle


def set_title(text: str) -> None:
    """``pyfpm: TEXT`` as the command line, ``pyfpm`` as the name.

    The name has no blank in it: CPython 3.12 and later counts the threads of a process by splitting /proc/self/stat at
    blanks, and would warn of threads at every fork.
    """
    setproctitle.setproctitle(f"pyfpm: {text}")
    setproctitle.setthreadtitle("pyfpm")
