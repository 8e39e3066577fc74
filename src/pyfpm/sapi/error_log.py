"""error_log(), and the file of the directive with that name: PHP's form, so that its readers can read it.

The file is opened for each message and closed again, as PHP does it: one that was moved away (logrotate) is simply made
anew, and nobody has to be told.
"""

from __future__ import annotations

import os
import time

from pyfpm.sapi.current import current
from pyfpm.sapi.printable import printable
from pyfpm.sapi.services import services

# strftime would follow the locale that a script may have set.
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# message_type of error_log().
SYSTEM, MAIL, FILE, SAPI = 0, 1, 3, 4


def write_message(path: str, message: str) -> bool:
    """Add a message to the file, with the time in front of it; False if that cannot be done.

    The time is UTC, which is PHP's as well where date.timezone is not set: a script may change the process's own.

    Source (PHP): php_log_err_with_severity(), main/main.c.
    """
    at = time.gmtime()
    stamp = f"{at.tm_mday:02}-{MONTHS[at.tm_mon - 1]}-{at.tm_year} {at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02} UTC"
    try:
        _append(path, f"[{stamp}] {printable(message)}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        return False
    return True


def _append(path: str, data: bytes) -> None:
    """In one write, so that the lines of several workers do not mix."""
    # Non-blocking: a FIFO that nobody reads is an error, and not a worker that waits.
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def error_log(
    message: str,
    message_type: int = SYSTEM,
    destination: str | os.PathLike[str] | None = None,
    additional_headers: str | None = None,
) -> bool:
    """Write a message to a log.

    Args:
      message_type: 0 for the file of the directive ``error_log``, and where there is none, or it cannot be written, for
        the two of 4. 3 for the file ``destination``, as it is and without a newline added. 4 for pyfpm's own log, where
        it is a notice, and the web server's error log; a message that is longer than log_limit allows is cut, and ends
        in ``...``.
      additional_headers: of a mail, which is 1 and not to be had here.

    Raises:
      ValueError: no such type, or type 3 without a destination.
      OSError: type 3, and the file cannot be written.

    Source (PHP): error_log().
    """
    message = str(message)
    if message_type == FILE:
        if destination is None:
            raise ValueError("error_log() with message_type 3 needs a destination: the file to add to")
        _append(os.fspath(destination), message.encode("utf-8", "surrogateescape"))
        return True
    if message_type == MAIL:
        raise ValueError("error_log() sends no mail (message_type 1); smtplib and email.message do")
    if message_type not in (SYSTEM, SAPI):
        raise ValueError(f"error_log() has no message_type {message_type!r}; there are 0, 3 (a file) and 4")
    request = current()
    path = request.settings.error_log
    if message_type == SYSTEM and path and write_message(path, message):
        return True
    request.response.message(services().error_log(message))
    return True


FUNCTIONS = {error_log.__name__: error_log}
