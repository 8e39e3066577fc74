"""Pictures that visitors send: looked at, given a name of ours, and kept where nothing is executed.

Limits: a file is believed to be a picture if it begins like one, and browsers are told to believe the same. What is
inside is neither decoded nor made smaller, and where a phone took it stays written in it. With Pillow, decode it and
save it anew; then it is a picture for certain, of your size, and with nothing hidden in it.
"""

from __future__ import annotations

import secrets
from typing import Any

from guestbook import DATA
from pyfpm import UPLOAD_ERR_FORM_SIZE, UPLOAD_ERR_INI_SIZE, UPLOAD_ERR_NO_FILE, UPLOAD_ERR_OK, move_uploaded_file

DIRECTORY = DATA / "pictures"

# Extension: media type, and how such a file begins.
KINDS = {
    ".jpg": ("image/jpeg", (b"\xff\xd8\xff",)),
    ".png": ("image/png", (b"\x89PNG\r\n\x1a\n",)),
    ".gif": ("image/gif", (b"GIF87a", b"GIF89a")),
    ".webp": ("image/webp", (b"RIFF",)),
}


class Refused(Exception):
    """With what the visitor is told."""


def keep(upload: Any) -> str | None:
    """The name that an uploaded picture has from now on; None when none was sent.

    Raises:
      Refused: it cannot be kept.
    """
    # Somebody who writes to us by hand can send a list of files in its place, or no file at all.
    if not isinstance(upload, dict) or not isinstance(upload.get("error"), int):
        return None
    error = upload["error"]
    if error == UPLOAD_ERR_NO_FILE:
        return None
    if error in (UPLOAD_ERR_INI_SIZE, UPLOAD_ERR_FORM_SIZE):
        raise Refused("The picture is too large.")
    if error != UPLOAD_ERR_OK:
        raise Refused("The picture did not arrive. Please send it again.")
    # Neither its name nor its type, which the visitor has chosen, but what it is.
    extension = _extension(upload["tmp_name"])
    if extension is None:
        raise Refused("Please send a JPEG, PNG, GIF or WebP picture.")
    DIRECTORY.mkdir(mode=0o700, exist_ok=True)
    name = secrets.token_hex(16) + extension
    move_uploaded_file(upload["tmp_name"], DIRECTORY / name)
    return name


def _extension(path: str) -> str | None:
    with open(path, "rb") as file:
        begins = file.read(16)
    for extension, (_, marks) in KINDS.items():
        if begins.startswith(marks) and (extension != ".webp" or begins[8:12] == b"WEBP"):
            return extension
    return None


def remove(name: str) -> None:
    (DIRECTORY / name).unlink(missing_ok=True)
