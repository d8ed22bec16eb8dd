"""Migrations: once each, whole or not at all, never backwards."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from hybr.server.errors import ConfigError
from hybr.server.store.migrate import migrate, migrations

if TYPE_CHECKING:
    from pathlib import Path

STEPS = [(1, "one", "CREATE TABLE a (x);"), (2, "two", "-- with; a comment\nCREATE TABLE b (y);\nINSERT INTO b VALUES (1);")]


def connect(path: Path) -> sqlite3.Connection:
    """Open a database in autocommit mode."""
    return sqlite3.connect(path, isolation_level=None)


def tables(connection: sqlite3.Connection) -> set[str]:
    """Return the tables there are."""
    return {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_ours_are_numbered_without_gaps() -> None:
    """The shipped migrations count from one."""
    assert [number for number, _, _ in migrations()] == list(range(1, len(migrations()) + 1))


def test_each_once(tmp_path: Path) -> None:
    """A second run, and a run with more steps, applies only what is new."""
    connection = connect(tmp_path / "db")
    assert migrate(connection, STEPS[:1]) == 1
    assert migrate(connection, STEPS) == 2
    assert migrate(connection, STEPS) == 2
    assert connection.execute("SELECT count(*) FROM b").fetchone() == (1,)
    connection.close()


def test_whole_or_not(tmp_path: Path) -> None:
    """A step that fails leaves the database as it was before the run."""
    connection = connect(tmp_path / "db")
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, [*STEPS, (3, "bad", "CREATE TABLE c (x); CREATE TABLE a (x);")])
    assert tables(connection) == set()
    assert migrate(connection, STEPS) == 2
    connection.close()


def test_newer_is_refused(tmp_path: Path) -> None:
    """A database of a newer program is not touched, and the message names the remedy (adverse list, 42)."""
    connection = connect(tmp_path / "db")
    migrate(connection, STEPS)
    with pytest.raises(ConfigError, match="schema 2, this program knows 1") as caught:
        migrate(connection, STEPS[:1])
    assert "newer version" in str(caught.value.remedy)
    connection.close()


def test_two_processes_at_once(tmp_path: Path) -> None:
    """Servers that start together on one file both end with the same schema, applied once."""
    program = (
        "import sqlite3, sys; from hybr.server.store.migrate import migrate;"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20); print(migrate(c))"
    )
    runs = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "db")], stdout=subprocess.PIPE) for _ in range(3)]
    newest = str(migrations()[-1][0]).encode()
    assert {run.communicate(timeout=60)[0].strip() for run in runs} == {newest}
    connection = connect(tmp_path / "db")
    assert connection.execute("SELECT count(*) FROM migrations").fetchone() == (len(migrations()),)
    connection.close()
