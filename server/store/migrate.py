"""Numbered migrations: `migrations/NNNN_name.sql`, each applied once, all of a start in one transaction.

BEGIN IMMEDIATE takes SQLite's write lock first, so two servers that start together apply them once, and a kill in the middle
leaves the old schema whole.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from hybr.server.errors import ConfigError
from hybr.server.paths import package

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

FILE = re.compile(r"(\d{4})_([a-z_]+)\.sql")
COMMENT = re.compile(r"--[^\n]*")


def migrations(folder: Path | None = None) -> list[tuple[int, str, str]]:
    """Return number, name and text of every migration, in order."""
    folder = folder or package("server") / "store" / "migrations"
    matches = ((FILE.fullmatch(path.name), path) for path in sorted(folder.glob("*.sql")))
    return [(int(match[1]), match[2], path.read_text()) for match, path in matches if match]


def migrate(connection: sqlite3.Connection, steps: list[tuple[int, str, str]] | None = None) -> int:
    """Bring the database up to the newest schema and return its number.

    `connection` is in autocommit mode. Raises ConfigError when the database is newer than this program.
    """
    steps = migrations() if steps is None else steps
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, name TEXT, applied REAL) STRICT")
        (current,) = connection.execute("SELECT coalesce(max(number), 0) FROM migrations").fetchone()
        newest = steps[-1][0] if steps else 0
        check_known(current, newest)
        for number, name, text in steps:
            if number > current:
                apply(connection, text)
                connection.execute("INSERT INTO migrations VALUES (?, ?, ?)", (number, name, time.time()))
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return newest


def check_known(current: int, newest: int) -> None:
    """Raise ConfigError when the database was written by a newer program: its meaning is not ours to guess."""
    if current > newest:
        raise ConfigError(
            f"the database has schema {current}, this program knows {newest}",
            field="HYBR_DATA",
            remedy="Start the newer version of HYBR that wrote it, or point HYBR_DATA at another folder",
        )


def apply(connection: sqlite3.Connection, text: str) -> None:
    """Run a migration's statements one by one: `executescript` would commit our transaction first."""
    for statement in COMMENT.sub("", text).split(";"):
        if statement.strip():
            connection.execute(statement)
