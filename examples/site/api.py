"""Notes as a JSON API over SQLite.

    GET    /api.py      the newest notes     200
    GET    /api.py/7    one note             200, 404
    POST   /api.py      {"text": "Milk"}     201, 400, 413, 415
    DELETE /api.py/7                         204, 404

Everything else is answered with 404 or 405, and a database that stays busy for five seconds with
503.

Limits: there is no log-in, so whoever reaches this page may write; the oldest notes go when there
are too many.
"""

import json
import os
import re
import sqlite3
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from pyfpm import _SERVER, echo, header, http_response_code

MAX_BODY_BYTES = 16 * 1024
MAX_TEXT = 2000
MAX_LISTED = 100
MAX_NOTES = 10_000

SCHEMA = """
CREATE TABLE IF NOT EXISTS note (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    text TEXT NOT NULL,
    created TEXT NOT NULL
)
"""


class Refused(Exception):
    """An answer that is an error, raised from wherever it is noticed."""

    def __init__(self, status: int, reason: str, *headers: str) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = headers


def data_dir() -> Path:
    """Where the database lies. Never the document root: the web server would hand the file out."""
    if named := os.environ.get("EXAMPLE_DATA_DIR"):
        return Path(named)
    path = Path(tempfile.gettempdir(), f"pyfpm-example-{os.geteuid()}")
    path.mkdir(mode=0o700, exist_ok=True)
    # Anybody may have made a directory, or a link, of this name in /tmp before us.
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(f"{path} is not ours alone; set EXAMPLE_DATA_DIR")
    return path


@contextmanager
def database() -> Iterator[sqlite3.Connection]:
    """A connection for one request; what was done is committed at the end, or not at all.

    All workers write to one file: in WAL mode nobody who reads waits for the one who writes, and
    writers wait for each other up to ``timeout`` seconds.
    """
    db = sqlite3.connect(data_dir() / "notes.sqlite3", timeout=5)
    try:
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(SCHEMA)
        with db:
            yield db
    finally:
        db.close()


def answer(status: int, data: object, *headers: str) -> None:
    header("Content-Type: application/json")
    header("Cache-Control: no-store")
    for line in headers:
        header(line)
    http_response_code(status)
    echo(json.dumps(data), "\n")


def asked_for() -> int | None:
    """The number in /api.py/7; None for the collection itself."""
    path = _SERVER.get("PATH_INFO", "")
    if path in ("", "/"):
        return None
    # 18 digits always fit into SQLite's 64-bit numbers.
    if not (found := re.fullmatch("/([0-9]{1,18})", path)):
        raise Refused(404, "no such page")
    return int(found[1])


def posted_text() -> str:
    # A page of another site can make a browser post a form here, but not JSON: for that the browser
    # asks us first (CORS), and we don't agree.
    if _SERVER.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, "the body must be application/json")
    body = sys.stdin.buffer.read(MAX_BODY_BYTES + 1)
    if len(body) > MAX_BODY_BYTES:
        raise Refused(413, f"the body may have {MAX_BODY_BYTES} bytes")
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):  # not UTF-8, not JSON, or [[[[[[...
        raise Refused(400, "the body is not JSON") from None

    text = data.get("text") if isinstance(data, dict) else None
    if not isinstance(text, str) or not text.strip() or len(text) > MAX_TEXT:
        raise Refused(400, f'expected {{"text": "..."}} with 1 to {MAX_TEXT} characters')
    try:
        text.encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair: JSON can spell it, SQLite can't store it.
        raise Refused(400, "the text is not valid Unicode") from None
    return text.strip()


def list_notes() -> None:
    with database() as db:
        notes = db.execute("SELECT * FROM note ORDER BY id DESC LIMIT ?", (MAX_LISTED,)).fetchall()
    answer(200, [dict(note) for note in notes])


def add_note() -> None:
    text = posted_text()
    created = datetime.now(UTC).isoformat(timespec="seconds")
    with database() as db:
        added = db.execute("INSERT INTO note (text, created) VALUES (?, ?)", (text, created))
        number = added.lastrowid or 0
        db.execute("DELETE FROM note WHERE id <= ?", (number - MAX_NOTES,))
    here = quote(_SERVER["SCRIPT_NAME"])
    answer(201, {"id": number, "text": text, "created": created}, f"Location: {here}/{number}")


def show_note(number: int) -> None:
    with database() as db:
        note = db.execute("SELECT * FROM note WHERE id = ?", (number,)).fetchone()
    if note is None:
        raise Refused(404, "no such note")
    answer(200, dict(note))


def delete_note(number: int) -> None:
    with database() as db:
        deleted = db.execute("DELETE FROM note WHERE id = ?", (number,))
    if not deleted.rowcount:
        raise Refused(404, "no such note")
    http_response_code(204)


def serve() -> None:
    number = asked_for()
    match _SERVER["REQUEST_METHOD"], number:
        case "GET" | "HEAD", None:
            list_notes()
        case "POST", None:
            add_note()
        case _, None:
            raise Refused(405, "GET or POST, please", "Allow: GET, HEAD, POST")
        case "GET" | "HEAD", _:
            show_note(number)
        case "DELETE", _:
            delete_note(number)
        case _:
            raise Refused(405, "GET or DELETE, please", "Allow: GET, HEAD, DELETE")


try:
    serve()
except Refused as refused:
    answer(refused.status, {"error": str(refused)}, *refused.headers)
except sqlite3.OperationalError as trouble:
    # Busy for too long, a full disk, a directory that we may not write to: the log learns which.
    print("api.py:", trouble, file=sys.stderr)
    answer(503, {"error": "the database is not available"}, "Retry-After: 5")
