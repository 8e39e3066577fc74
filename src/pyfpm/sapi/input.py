"""The functions by which a script takes what was sent to it: uploaded files, the raw body, JSON."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from typing import Any, BinaryIO, NoReturn

from pyfpm.sapi.body import whole
from pyfpm.sapi.current import current
from pyfpm.sapi.forms import read_body

# Largest body that json_body() reads, in bytes, unless it is told another one. What becomes of it in memory is several
# times as large. Precedent: PHP's post_max_size of 8 MiB.
MAX_JSON_SIZE = 8 * 1024 * 1024

# RFC 6838, 4.2.8, for +json.
_JSON_TYPE = re.compile(r"application/json|[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+\+json", re.IGNORECASE)


class BodyError(ValueError):
    """The body is not what the script asks for. A script that does not catch it has answered with ``status``, and not
    with 500, since it is the visitor's doing.

    Attributes:
      status: 400, 413 (too large) or 415 (another Content-Type).
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


BodyError.__module__ = "pyfpm"


def input_stream() -> BinaryIO:
    """The raw body as a binary file at its beginning, whatever _POST, sys.stdin or another one have read of it.

    Source (PHP): php://input, and of a multipart/form-data body as well.
    """
    return current().open_body()


def request_parse_body() -> tuple[dict[str, Any], dict[str, Any]]:
    """What _POST and _FILES are to a POST, for PUT, PATCH and others, which have none; the files are uploads like any.

    Raises:
      BodyError: it is no form by its Content-Type (415).

    Source (PHP): request_parse_body(), of 8.4. What is over a limit is left out and told to the operator, as of _POST.
    """
    request = current()
    if request.server.get("REQUEST_METHOD") == "POST":
        return request.superglobal("_POST"), request.superglobal("_FILES")
    found = read_body(request)
    if found is None:
        raise BodyError(415, f"the body is not a form: its Content-Type is {_shown(request.server)}")
    return found


def json_body(*, any_type: bool = False, max_size: int = MAX_JSON_SIZE) -> Any:
    """What the body says in JSON; read anew each time.

    Args:
      any_type: also when Content-Type is not ``application/json`` or ``.../...+json``. A page of another site can make
        a browser send a body as text/plain with the visitor's cookies, but not as JSON: with this, look at Origin.
      max_size: the most bytes.

    Raises:
      BodyError: it is of another type (415), too large (413), or no JSON in UTF-8 (400), with the place.

    Source: RFC 8259; so NaN and Infinity are no JSON. Of a name that comes twice the last value counts, as in PHP.
    """
    request = current()
    content_type = request.server.get("CONTENT_TYPE", "").partition(";")[0].strip(" \t")
    if not any_type and not _JSON_TYPE.fullmatch(content_type):
        raise BodyError(415, f"the body is not JSON: its Content-Type is {_shown(request.server)}")
    with request.open_body() as body:
        data = body.read(max_size + 1)
    if len(data) > max_size:
        raise BodyError(413, f"the body is larger than {max_size} bytes")
    if not data:
        raise BodyError(400, "the body is empty, and not JSON")
    try:
        # A byte order mark is not JSON, but may be ignored [RFC 8259, 8.1].
        return json.loads(data.decode("utf-8-sig"), parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise BodyError(400, f"the body is not JSON in UTF-8: byte {error.start} is no part of a character") from None
    except ValueError as error:
        raise BodyError(400, f"the body is not JSON: {error}") from None
    except RecursionError:
        raise BodyError(400, "the body is JSON that is nested too deeply") from None


def _shown(server: dict[str, Any]) -> str:
    content_type = server.get("CONTENT_TYPE")
    return f"{content_type[:100]!a}" if content_type else "not set"


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def is_uploaded_file(filename: str | os.PathLike[str]) -> bool:
    """It is the ``tmp_name`` of a file that was uploaded with this request, and not moved since.

    Source (PHP): is_uploaded_file().
    """
    request = current()
    # What was uploaded is known once it was asked for.
    request.superglobal("_FILES")
    return request.uploads is not None and os.fspath(filename) in request.uploads


def move_uploaded_file(filename: str | os.PathLike[str], to: str | os.PathLike[str]) -> bool:
    """Give an uploaded file a place of its own, over a file that may be there. Its mode is that of a new file.

    Returns:
      False when it is no upload of this request (``is_uploaded_file``); nothing is done then.

    Raises:
      OSError: it can't be there; it is still where it was.

    Source (PHP): move_uploaded_file(), which returns False for that as well.
    """
    if not is_uploaded_file(filename):
        return False
    uploads = current().uploads
    assert uploads is not None
    path, to = os.fspath(filename), os.fspath(to)
    umask = os.umask(0o077)
    os.umask(umask)
    mode = 0o666 & ~umask
    try:
        os.rename(path, to)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(path, to, mode)
        uploads.discard(path)
    else:
        os.chmod(to, mode)
        uploads.forget(path)
    return True


def _copy(path: str, to: str, mode: int) -> None:
    """To another file system: beside the place first, so that nobody meets half a file there."""
    fd, beside = tempfile.mkstemp(dir=os.path.dirname(to) or ".", prefix=".pyfpm-upload-")
    try:
        with open(fd, "wb") as copy, open(path, "rb") as file:
            shutil.copyfileobj(file, copy, 256 * 1024)
            os.fchmod(fd, mode)
        os.rename(beside, to)
    except BaseException:
        os.unlink(beside)
        raise


def data_stream() -> BinaryIO:
    """The file that a filter is given (FCGI_DATA), as a binary file at its beginning; empty for the other roles.

    What has come counts. FCGI_DATA_LENGTH is what the web server said beforehand: where it is more, something is
    missing. FCGI_DATA_LAST_MOD is the file's time, in seconds since 1970.

    Source: FastCGI 1.0, 6.4 "Filter".
    """
    return whole(current().request.data)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (data_stream, input_stream, is_uploaded_file, json_body, move_uploaded_file, request_parse_body)
}
