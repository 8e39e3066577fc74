"""A process for a CGI program."""

from collections.abc import Mapping, Sequence

def spawn(
    path: str,
    arguments: Sequence[str],
    environment: Mapping[bytes, bytes],
    directory: str,
    stdin: int,
    stdout: int,
    stderr: int,
) -> int:
    """Start a program; returns its process id, which is its group's as well. To be waited for.

    It has these three descriptors (none of them may be 0, 1 or 2) and no others, this environment and no other, signals
    as a fresh process has them, and a session of its own. It gets SIGKILL when the thread that has called us ends.

    Raises:
      OSError: it cannot be executed, or there are too many processes. ENOENT may also mean the interpreter that its
        first line names, or the directory.
    """
