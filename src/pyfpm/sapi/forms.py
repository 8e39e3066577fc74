"""From a form's body to _POST and _FILES: both at once, when a script asks for one of them.

A body is read in pieces, and what becomes of it is bounded: the values of all fields together by MAX_FORM_SIZE, their
number by ``max_input_vars``, files by ``upload_max_filesize`` and ``max_file_uploads``, parts of either kind by
``max_multipart_body_parts``; the work is one pass over the body, whatever is in it. What is over a limit, or cannot be
read, is left out. The visitor is not told, since the script may have more to say about it; the operator has one line of
each kind.

Source (PHP): rfc1867_post_handler in main/rfc1867.c, as of 8.2, for what is done in which case.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from pyfpm.sapi.parts import MalformedForm, Part, boundary_of, parts_of
from pyfpm.sapi.superglobals import flat_query, parse_form
from pyfpm.sapi.uploads import (
    UPLOAD_ERR_CANT_WRITE,
    UPLOAD_ERR_FORM_SIZE,
    UPLOAD_ERR_INI_SIZE,
    UPLOAD_ERR_NO_FILE,
    UPLOAD_ERR_OK,
    UPLOAD_ERR_PARTIAL,
    reason_of,
)
from pyfpm.sapi.variables import Variables

if TYPE_CHECKING:
    from pyfpm.sapi.current import CurrentRequest

# Bytes of an urlencoded form, or of all fields of another one, that are held in memory; a larger body is there on
# sys.stdin and in input_stream(). Precedent: PHP's post_max_size of 8 MiB.
MAX_FORM_SIZE = 8 * 1024 * 1024

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"

Superglobals = tuple[dict[str, Any], dict[str, Any]]


def read_form(request: CurrentRequest) -> Superglobals:
    """_POST and _FILES of a request; both are empty when it is no form, or was not sent by POST."""
    if request.server.get("REQUEST_METHOD") != "POST":
        return {}, {}
    return read_body(request) or ({}, {})


def read_body(request: CurrentRequest) -> Superglobals | None:
    """The fields and files of a body, whatever the method; None when its Content-Type is not that of a form."""
    content_type = request.server.get("CONTENT_TYPE", "")
    kind = re.split("[;, ]", content_type, maxsplit=1)[0].lower()
    if kind == URLENCODED:
        return _urlencoded(request), {}
    if kind == MULTIPART:
        return _Multipart(request).read(content_type)
    return None


def _open(request: CurrentRequest) -> BinaryIO:
    try:
        return request.open_body()
    except ValueError:
        raise MalformedForm("the script has closed sys.stdin.buffer before it asked for _POST or _FILES") from None


def _urlencoded(request: CurrentRequest) -> dict[str, Any]:
    try:
        with _open(request) as body:
            data = body.read(MAX_FORM_SIZE + 1)
    except MalformedForm as reason:
        request.tell(f"{reason}; _POST is empty")
        return {}
    if len(data) > MAX_FORM_SIZE:
        request.tell(f"the form is larger than {MAX_FORM_SIZE} bytes, _POST is empty")
        return {}
    text = data.decode("latin-1")
    found = flat_query(text, request.settings.max_input_vars)
    return request.parsed("_POST", parse_form, text) if found is None else found


class _Multipart:
    """One multipart body, while it is read."""

    def __init__(self, request: CurrentRequest) -> None:
        self._request = request
        self._settings = settings = request.settings
        # The number of fields and files is counted here.
        self._post = Variables(-1, settings.max_input_nesting_level)
        self._files = Variables(-1, settings.max_input_nesting_level)
        self._fields = 0
        self._room = MAX_FORM_SIZE
        self._files_left = settings.max_file_uploads
        self._no_more_files = not settings.file_uploads
        self._nameless = 0
        self._max_file_size = 0
        limit = settings.max_multipart_body_parts
        self._parts_left = limit if limit >= 0 else settings.max_input_vars + settings.max_file_uploads

    def read(self, content_type: str) -> Superglobals:
        try:
            boundary = boundary_of(content_type)
            with _open(self._request) as body:
                self._read_parts(parts_of(boundary, body.read))
        except MalformedForm as reason:
            self._tell(f"multipart/form-data: {reason}; _POST and _FILES have what came before")
        for variables in (self._post, self._files):
            if variables.too_deep:
                limit = self._settings.max_input_nesting_level
                self._tell(f"names with more brackets than max_input_nesting_level = {limit} are left out")
        return self._post.result(), self._files.result()

    def _tell(self, text: str) -> None:
        self._request.tell(text)

    def _read_parts(self, events: Iterator[Part | bytes | None]) -> None:
        """Raises MalformedForm."""
        for part in events:
            if not isinstance(part, Part) or not part.has_disposition:
                continue  # of a part that is left out
            self._parts_left -= 1
            if self._parts_left < 0:
                limit = self._settings.max_multipart_body_parts
                told = f"max_multipart_body_parts = {limit}"
                if limit < 0:
                    told = f"max_input_vars and max_file_uploads allow together ({told})"
                raise MalformedForm(f"there are more parts than {told}")
            if part.filename is None and part.name is not None:
                self._read_field(part.name, events)
            elif self._takes_file(part):
                self._read_file(part, events)

    # -- fields -------------------------------------------------------------------------------------------------------

    def _read_field(self, name: str, events: Iterator[Part | bytes | None]) -> None:
        self._fields += 1
        limit = self._settings.max_input_vars
        if self._fields > limit:
            if self._fields == limit + 1:
                self._tell(f"there are more fields than max_input_vars = {limit}; the others are left out")
            return
        pieces: list[bytes] = []
        try:
            self._take(len(name))
            for piece in _content(events):
                self._take(len(piece))
                pieces.append(piece)
        finally:
            # Of one that is cut off PHP has the beginning as well.
            if self._room >= 0:
                value = b"".join(pieces)
                self._post.add(name, value.decode("utf-8", "surrogateescape"))
                if name.lower() == "max_file_size":
                    self._max_file_size = _strtoll(value)

    def _take(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            raise MalformedForm(f"its fields are larger than {MAX_FORM_SIZE} bytes")

    # -- files --------------------------------------------------------------------------------------------------------

    def _takes_file(self, part: Part) -> bool:
        """Raises MalformedForm for a part that is neither a field nor a file."""
        if not self._no_more_files and self._files_left <= 0:
            self._no_more_files = True
            limit = self._settings.max_file_uploads
            self._tell(f"there are more files than max_file_uploads = {limit}; the others are left out")
        if part.filename is None:
            raise MalformedForm("a part has neither name nor filename")
        if part.name is None:
            part.name = str(self._nameless)
            self._nameless += 1
        if not self._no_more_files and not _is_balanced(part.name):
            # PHP takes none after it, either.
            self._no_more_files = True
            self._tell("the brackets of a file's name do not match; it and the files behind it are left out")
        return not self._no_more_files

    def _read_file(self, part: Part, events: Iterator[Part | bytes | None]) -> None:
        error = UPLOAD_ERR_NO_FILE
        path = ""
        size = 0
        if part.filename:
            self._files_left -= 1
            error = UPLOAD_ERR_PARTIAL
            try:
                error, path, size = self._store(events)
            finally:
                self._register(part, error, path, size)
        else:
            self._register(part, error, path, size)

    def _store(self, events: Iterator[Part | bytes | None]) -> tuple[int, str, int]:
        """The rest of a part as a file: its error, and path and size if there is none.

        Raises:
          MalformedForm: the body ends in the middle. There is no file then.
        """
        try:
            fd, path = self._request.new_upload()
        except OSError as failure:
            self._failed("an upload cannot be stored", failure)
            return reason_of(failure), "", 0
        error, size = UPLOAD_ERR_PARTIAL, 0
        limit, too_large = self._limit()
        try:
            for piece in _content(events):
                size += len(piece)
                if size > limit:
                    error = too_large
                    return error, "", 0
                _write(fd, piece)
            error = UPLOAD_ERR_OK
        except OSError as failure:
            self._failed("an upload cannot be written", failure)
            error = UPLOAD_ERR_CANT_WRITE
        finally:
            os.close(fd)
            if error != UPLOAD_ERR_OK:
                assert self._request.uploads is not None
                self._request.uploads.discard(path)
        return (error, path, size) if error == UPLOAD_ERR_OK else (error, "", 0)

    def _limit(self) -> tuple[float, int]:
        """The most bytes of a file, and which UPLOAD_ERR_* it is to have more: the limit that it meets first."""
        of_pool = self._settings.upload_max_filesize or float("inf")
        of_form = self._max_file_size or float("inf")
        return (of_form, UPLOAD_ERR_FORM_SIZE) if of_form < of_pool else (of_pool, UPLOAD_ERR_INI_SIZE)

    def _failed(self, what: str, failure: OSError) -> None:
        self._request.tell(f"{what} in {self._request.upload_directory}: {failure.strerror}", to_log=True)

    def _register(self, part: Part, error: int, path: str, size: int) -> None:
        """Source (PHP): ``f[a][]`` is ``f[name][a][]``, ``f[full_path][a][]`` and so on."""
        assert part.name is not None and part.filename is not None
        head, bracket, rest = part.name.partition("[")
        if bracket and part.name.endswith("]"):
            rest = bracket + rest
        else:
            head, rest = part.name, ""
        for key, value in (
            ("name", _base(part.filename)),
            ("full_path", part.filename),
            ("type", part.content_type if error == UPLOAD_ERR_OK else ""),
            ("tmp_name", path),
            ("error", error),
            ("size", size),
        ):
            self._files.add(f"{head}[{key}]{rest}", value)


def _content(events: Iterator[Part | bytes | None]) -> Iterator[bytes]:
    """What is left of this part."""
    for piece in events:
        if piece is None:
            return
        assert isinstance(piece, bytes)
        yield piece


def _write(fd: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        # A disk that becomes full takes a part of it first.
        left = left[os.write(fd, left) :]


def _base(filename: str) -> str:
    """Without directories of either kind. What is left may be empty, or ``..``: it is a name to show, not to open."""
    return filename[max(filename.rfind("/"), filename.rfind("\\")) + 1 :]


def _is_balanced(name: str) -> bool:
    """Every bracket is closed before the next is opened, and nothing but a bracket stands behind a closed one."""
    open_ = 0
    for at, character in enumerate(name):
        if character == "[":
            open_ += 1
        elif character == "]":
            open_ -= 1
            if open_ < 0 or name[at + 1 : at + 2] not in ("", "["):
                return False
    return open_ == 0


def _strtoll(value: bytes) -> int:
    found = re.match(rb"[ \t\n\v\f\r]*([+-]?[0-9]{1,30})", value)
    return 0 if found is None else max(-(2**63), min(int(found[1]), 2**63 - 1))
