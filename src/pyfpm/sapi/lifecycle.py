"""The life of a request, as far as its script has a say: what follows it, when its answer is complete, whether somebody
still waits for that, and how long it may take.

``fastcgi_finish_request``, ``connection_aborted``, ``set_time_limit`` and the memory's two work in WSGI applications as
well; the others are about scripts.

Source (PHP): https://www.php.net/manual/en/features.connection-handling.php and main/main.c; what php-fpm 8.2 did where
that is silent.
"""

from __future__ import annotations

import functools
import resource
from collections.abc import Callable
from typing import Any

from pyfpm.sapi.current import AtEnd, current, current_or_none
from pyfpm.sapi.interface import Output
from pyfpm.sapi.response import Aborted
from pyfpm.sapi.services import services

# What connection_status() returns; the last two may come together.
CONNECTION_NORMAL = 0
CONNECTION_ABORTED = 1
CONNECTION_TIMEOUT = 2


def register_shutdown_function(callback: Callable[..., object], *args: Any) -> None:
    """Have ``callback(*args)`` called when the script has ended, in whatever way; those that were registered before it
    come first, and one may register others.

    What they print belongs to the answer, and they may set headers that have not left. After an uncaught exception that
    is the answer's 500: what they print takes the place of the page that says so. An exit() or an uncaught exception
    in one of them is the end of the others too.

    Raises:
      TypeError: it cannot be called.
    """
    if not callable(callback):
        raise TypeError(f"{callback!r} cannot be called, so it is no shutdown function")
    current().at_end(AtEnd.SHUTDOWN, functools.partial(callback, *args))


def fastcgi_finish_request() -> bool:
    """The answer is complete: send it, let the visitor go, and go on.

    What is printed later goes nowhere, and an uncaught exception to the log only. ``request_terminate_timeout`` is not
    for the rest, unless ``request_terminate_timeout_track_finished`` is set; ``max_execution_time`` is. The worker
    serves nobody else until the script ends.

    In an application it ends what has been sent or returned so far, so its place is behind that: in the iterable's
    ``close()``, or behind its last piece.

    Returns:
      False, and nothing is done, when the answer is complete already, or in an application has not begun.
    """
    request = current_or_none()
    if request is None:
        return _output().finish()
    while (flush_buffer := request.next_at_end(AtEnd.OUTPUT)) is not None:
        flush_buffer()
    try:
        request.response.end()
    except Aborted:
        pass  # The visitor did not wait for it, and we do not wait for the visitor.
    return request.output.finish()


def connection_aborted() -> bool:
    """Has the visitor left? Other than in PHP this looks, so there is no need to print something first.

    It is the web server that tells us: by hanging up, or by FCGI_ABORT_REQUEST. nginx does so unless
    ``fastcgi_ignore_client_abort`` is on.
    """
    request = current_or_none()
    if request is None:
        return _output().is_given_up()
    response = request.response
    if not response.aborted and request.output.is_given_up():
        response.aborted = True
    return response.aborted


def connection_status() -> int:
    """CONNECTION_NORMAL, or CONNECTION_ABORTED (1) and CONNECTION_TIMEOUT (2), or their sum: what ended the script, for
    its shutdown functions."""
    request = current_or_none()
    timed_out = request is not None and request.timed_out
    return CONNECTION_ABORTED * connection_aborted() + CONNECTION_TIMEOUT * timed_out


def ignore_user_abort(enable: bool | None = None) -> bool:
    """Whether the script goes on when its visitor has left; without this its next output ends it. With ``enable``, set
    that. Returns what it was before; ``ignore_user_abort`` of the configuration is how a script begins."""
    response = current().response
    before = response.ignores_abort
    if enable is not None:
        response.ignores_abort = bool(enable)
    return before


def set_time_limit(seconds: float) -> bool:
    """The request may take so long from now on, in place of ``max_execution_time``; 0: as long as it likes. Then
    ExecutionTimeout is raised in it. Time is what the clock says, not what the processor worked.

    ``request_terminate_timeout`` is the operator's, and remains.

    Returns:
      False, and nothing is done, where nobody watches: in a process that the script has forked, and in ASGI
      applications.
    """
    return services().set_time_limit(seconds)


def memory_get_usage(real_usage: bool = False) -> int:
    """Bytes of memory that the worker has now, as the kernel counts them (its resident set). ``real_usage`` is PHP's,
    and makes no difference."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def memory_get_peak_usage(real_usage: bool = False) -> int:
    """The most that it ever had, in this request or an earlier one."""
    # The kernel notes it now and then, so what there is may be more.
    return max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, memory_get_usage())


def _output() -> Output:
    """Where the answer of the application's request goes. A request has one thread here; others cannot tell which
    request they work for."""
    output = services().output()
    if output is None:
        raise RuntimeError("there is no request here: this works only while pyfpm runs one, and in its thread")
    return output


FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        connection_aborted,
        connection_status,
        fastcgi_finish_request,
        ignore_user_abort,
        memory_get_peak_usage,
        memory_get_usage,
        register_shutdown_function,
        set_time_limit,
    )
}
