"""send_file(): a file as the answer, with what HTTP has for files.

The web server gets it by sendfile, without its bytes coming through Python. Conditions and ranges are those of RFC
9110, 13 and 14; of several ranges none is served, which section 14.2 allows, but the whole file.
"""

from __future__ import annotations

import errno
import mimetypes
import os
import re
import stat
from email.utils import formatdate, parsedate_to_datetime
from urllib.parse import quote

from pyfpm.sapi.current import CurrentRequest, current
from pyfpm.sapi.functions import header
from pyfpm.sapi.response import ScriptResponse

# What a compressed file is; as Content-Encoding it would arrive unpacked, under the name of a packed one.
PACKED = {
    "br": "application/octet-stream",
    "bzip2": "application/x-bzip2",
    "compress": "application/x-compress",
    "gzip": "application/gzip",
    "xz": "application/x-xz",
}

_RANGE = re.compile(r"bytes[ \t]*=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)
# No quotes, no backslash, no line ends: what may stand between quotes as it is.
_PLAIN_NAME = re.compile(r"[ !#-\[\]-~]+")


def send_file(
    path: str | os.PathLike[str],
    mimetype: str | None = None,
    as_attachment: bool = False,
    download_name: str | None = None,
    max_age: int | None = None,
) -> None:
    """Answer with a file. It is the whole body: what was printed before is dropped, and printing more is an error.

    A GET or HEAD with a condition is answered with 304 or 412 where it says so, one for a part of the file with 206.
    What the script has set itself stays: Content-Type, ETag, Last-Modified, Cache-Control; with a status other than 200
    the file is sent whole.

    Args:
      path: of a regular file. It is not checked against anything: never what a visitor sent, as it is.
      mimetype: guessed by the extension if None.
      as_attachment: to be saved, not shown.
      download_name: the name to save it under, which may have any characters; the file's own if None.
      max_age: seconds that it may be kept without asking again; None says nothing of it.

    Raises:
      OSError: it cannot be opened, or it is no regular file. Nothing has been changed.
      HeadersSentError: output has left already.
    """
    request = current()
    response = request.response
    response.must_be_changeable()
    # Non-blocking, so that a FIFO with this name does not hold the worker.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            number = errno.EISDIR if stat.S_ISDIR(info.st_mode) else errno.EINVAL
            raise OSError(number, "send_file() sends regular files only", os.fspath(path))
        _describe(response, info, os.fspath(path), mimetype, as_attachment, download_name, max_age)
        offset, count = _part(request, info)
        response.send_file(fd, offset, count)
    finally:
        os.close(fd)


def _describe(
    response: ScriptResponse,
    info: os.stat_result,
    path: str,
    mimetype: str | None,
    as_attachment: bool,
    download_name: str | None,
    max_age: int | None,
) -> None:
    """The headers that come with the file, whatever of it is sent."""
    name = os.path.basename(path) if download_name is None else download_name
    if mimetype or response.value_of("content-type") is None:
        header(f"Content-Type: {mimetype or guess(name)}")
    if as_attachment or download_name is not None:
        header(f"Content-Disposition: {disposition('attachment' if as_attachment else 'inline', name)}")
    if max_age is not None and response.value_of("cache-control") is None:
        header(f"Cache-Control: max-age={int(max_age)}")
    if response.value_of("etag") is None:
        header(f'ETag: "{info.st_mtime_ns:x}-{info.st_size:x}"')
    if response.value_of("last-modified") is None:
        header(f"Last-Modified: {formatdate(int(info.st_mtime), usegmt=True)}")


def guess(name: str) -> str:
    """The media type of a file by its name."""
    kind, encoding = mimetypes.guess_type(name)
    if encoding is not None:
        return PACKED.get(encoding, "application/octet-stream")
    return kind or "application/octet-stream"


def disposition(how: str, name: str) -> str:
    """A Content-Disposition (RFC 6266): a plain name for all, and what it cannot have for those who know RFC 8187."""
    name = re.sub(r"[\x00-\x1f\x7f]", "_", name)
    if _PLAIN_NAME.fullmatch(name) and "%" not in name:
        return f'{how}; filename="{name}"'
    plain = re.sub(r"[^ !#$&-\[\]-~]", "_", name)
    # Surrogates are bytes that are no UTF-8, which the form does not have.
    full = quote(name.encode("utf-8", "surrogateescape").decode("utf-8", "replace"), safe="!#$&+-.^_`|~")
    return f"{how}; filename=\"{plain}\"; filename*=UTF-8''{full}"


def _part(request: CurrentRequest, info: os.stat_result) -> tuple[int, int]:
    """What of the file is to be sent, as offset and count; sets status and lengths."""
    response = request.response
    size = info.st_size
    if response.status not in (None, 200) or request.server.get("REQUEST_METHOD") not in ("GET", "HEAD"):
        header(f"Content-Length: {size}")
        return 0, size
    status = _condition(request, info)
    if status:
        response.set_status(status)
        response.remove("content-type")
        response.remove("content-disposition")
        if status == 412:
            header("Content-Length: 0")
        return 0, 0
    header("Accept-Ranges: bytes")
    found = _range(request, info, size)
    if found is None:
        header(f"Content-Length: {size}")
        return 0, size
    start, end = found
    if start >= end:
        response.set_status(416)
        header(f"Content-Range: bytes */{size}")
        header("Content-Length: 0")
        return 0, 0
    response.set_status(206)
    header(f"Content-Range: bytes {start}-{end - 1}/{size}")
    header(f"Content-Length: {end - start}")
    return start, end - start


def _condition(request: CurrentRequest, info: os.stat_result) -> int:
    """304, 412, or 0 where there is no condition that rules the file out (RFC 9110, 13.2.2)."""
    server = request.server
    tag = request.response.value_of("etag") or ""
    modified = _last_modified(request.response, info)
    if "HTTP_IF_MATCH" in server:
        if not _lists(server["HTTP_IF_MATCH"], tag, weakly=False):
            return 412
    elif (since := _date(server.get("HTTP_IF_UNMODIFIED_SINCE"))) is not None and modified > since:
        return 412
    if "HTTP_IF_NONE_MATCH" in server:
        if _lists(server["HTTP_IF_NONE_MATCH"], tag, weakly=True):
            return 304
    elif (since := _date(server.get("HTTP_IF_MODIFIED_SINCE"))) is not None and modified <= since:
        return 304
    return 0


def _range(request: CurrentRequest, info: os.stat_result, size: int) -> tuple[int, int] | None:
    """Start and end of the part that is asked for; None for the whole file, an empty part for none that there is."""
    server = request.server
    wanted = _RANGE.fullmatch(server.get("HTTP_RANGE", ""))
    if wanted is None:
        return None
    only_if = server.get("HTTP_IF_RANGE", "").strip()
    if only_if:
        if only_if[0] == '"' or only_if.startswith("W/"):
            # A weak tag says nothing of single bytes (RFC 9110, 13.1.5).
            if only_if != request.response.value_of("etag") or only_if.startswith("W/"):
                return None
        elif _date(only_if) != _last_modified(request.response, info):
            return None
    first, last = wanted.groups()
    if first:
        if last and int(last) < int(first):
            return None  # It is invalid, and so to be ignored.
        return int(first), min(int(last) + 1, size) if last else size
    if not last:
        return None
    return max(0, size - int(last)) if int(last) else size, size


def _lists(tags: str, tag: str, *, weakly: bool) -> bool:
    """Whether a list of entity tags has this one."""
    if tags.strip() == "*":
        return True
    if weakly:
        tag = tag.removeprefix("W/")
    elif tag.startswith("W/"):
        return False
    for each in re.findall(r'(?:W/)?"[^"]*"', tags):
        if (each.removeprefix("W/") if weakly else each) == tag:
            return True
    return False


def _last_modified(response: ScriptResponse, info: os.stat_result) -> int:
    found = _date(response.value_of("last-modified"))
    return int(info.st_mtime) if found is None else found


def _date(text: str | None) -> int | None:
    """Unix time of an HTTP date; None for what is none."""
    if not text:
        return None
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (ValueError, TypeError, OverflowError):
        return None


FUNCTIONS = {send_file.__name__: send_file}
