"""Entries, and who was busy lately, in SQLite.

A connection for each request: it takes well under a millisecond, and nothing is left open between two of them.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from guestbook import DATA

SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    message TEXT NOT NULL,
    picture TEXT,
    written_at INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS attempt (kind TEXT NOT NULL, address TEXT NOT NULL, at INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS attempt_of ON attempt (kind, address, at);
"""

PAGE = 20

# How often an address may do something, and in how many seconds.
LIMITS = {"write": (5, 600), "login": (10, 900)}


@dataclass(frozen=True)
class Entry:
    id: int
    name: str
    message: str
    picture: str | None
    written_at: int


@contextmanager
def connected() -> Iterator[sqlite3.Connection]:
    """A connection, with one transaction that is kept if nothing was raised."""
    DATA.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Somebody else may be writing: wait for it.
    connection = sqlite3.connect(DATA / "guestbook.sqlite3", timeout=10)
    try:
        connection.executescript(SCHEMA)
        with connection:
            yield connection
    finally:
        connection.close()


def page_of_entries(before: int | None = None) -> tuple[list[Entry], int | None]:
    """The newest ones older than ``before``, and where the next page begins, if there is one."""
    with connected() as connection:
        rows = connection.execute(
            "SELECT id, name, message, picture, written_at FROM entry WHERE id < ? ORDER BY id DESC LIMIT ?",
            (2**62 if before is None else before, PAGE + 1),
        ).fetchall()
    entries = [Entry(*row) for row in rows[:PAGE]]
    return entries, entries[-1].id if len(rows) > PAGE else None


def add(name: str, message: str, picture: str | None) -> None:
    with connected() as connection:
        connection.execute(
            "INSERT INTO entry (name, message, picture, written_at) VALUES (?, ?, ?, ?)",
            (name, message, picture, int(time.time())),
        )


def picture_of(entry: int) -> str | None:
    with connected() as connection:
        row = connection.execute("SELECT picture FROM entry WHERE id = ?", (entry,)).fetchone()
    return row[0] if row else None


def remove(entry: int) -> str | None:
    """Returns the name of its picture, if it had one."""
    with connected() as connection:
        row = connection.execute("DELETE FROM entry WHERE id = ? RETURNING picture", (entry,)).fetchone()
    return row[0] if row else None


def may(kind: str, address: str) -> bool:
    """Whether this address may do it once more; that counts as having done it."""
    most, within_s = LIMITS[kind]
    now = int(time.time())
    with connected() as connection:
        # Addresses are personal data: they go as soon as they are of no use.
        connection.execute("DELETE FROM attempt WHERE kind = ? AND at < ?", (kind, now - within_s))
        (count,) = connection.execute(
            "SELECT count(*) FROM attempt WHERE kind = ? AND address = ?", (kind, address)
        ).fetchone()
        if count >= most:
            return False
        connection.execute("INSERT INTO attempt VALUES (?, ?, ?)", (kind, address, now))
    return True
