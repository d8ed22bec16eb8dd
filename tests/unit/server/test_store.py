"""The store on both databases: transactions, migrations, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from asyncio.subprocess import PIPE
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.exc import IntegrityError

from hybr.server.errors import ConfigError, UnavailableError
from hybr.server.secret import Secret
from hybr.server.store.database import Database
from hybr.server.store.migrate import Step, migrations, spelt

if TYPE_CHECKING:
    from pathlib import Path

ONE = Step(1, "one", "CREATE TABLE a (x {int}, y {blob}, z {real}, t TEXT) {strict};")
TWO = Step(2, "two", "-- with; a comment\nCREATE TABLE b (id {id}, y TEXT) {strict};\nINSERT INTO b (y) VALUES ('{{}');")
BAD = Step(3, "bad", "CREATE TABLE c (x {int}); CREATE TABLE a (x {int});")
FIRST_SESSION = """
    CREATE TABLE migrations (number INTEGER PRIMARY KEY, name TEXT, applied REAL) STRICT;
    INSERT INTO migrations VALUES (1, 'preferences', 1700000000.0);
    CREATE TABLE preferences (
        owner TEXT PRIMARY KEY, version INTEGER NOT NULL, content TEXT NOT NULL, updated REAL NOT NULL
    ) STRICT;
    INSERT INTO preferences VALUES ('local', 7, '{"mode": "local", "theme": "dark"}', 1700000001.0);
"""


async def count(database: Database, query: str) -> int:
    """Return the number that a query gives."""
    async with database.begin() as connection:
        return int((await connection.execute(text(query))).scalar_one())


async def has(database: Database, table: str) -> bool:
    """Say whether there is a table."""
    async with database.begin() as connection:
        return bool(await connection.run_sync(lambda plain: inspect(plain).has_table(table)))


def with_steps(database: Database, *steps: Step) -> Database:
    """Return another store over the same database with other migrations."""
    return Database(database.folder, database.url, steps)


async def add(database: Database, *owners: str, error: BaseException | None = None) -> None:
    """Add one row an owner in one transaction, and raise `error` at its end."""
    async with database.begin() as connection:
        for owner in owners:
            await connection.execute(text("INSERT INTO preferences VALUES (:owner, 1, '{}', 0)"), {"owner": owner})
        if error:
            raise error


async def test_a_transaction_is_whole(database: Database) -> None:
    """What a transaction did is there when it ends, and is not when it raises, whatever it raises."""
    await add(database, "kept")
    for error in (ValueError("ours"), asyncio.CancelledError()):
        with pytest.raises(type(error)):
            await add(database, "lost", error=error)
    assert await count(database, "SELECT count(*) FROM preferences") == 1


async def test_a_defect_stays_one(database: Database) -> None:
    """A broken constraint or bad SQL is no 503, and its text shows no value."""
    with pytest.raises(IntegrityError) as caught:
        await add(database, "canary-value", "canary-value")
    assert "SQL parameters hidden" in str(caught.value)
    with pytest.raises(Exception) as caught:  # noqa: PT011  the two databases share no class for it
        async with database.begin() as connection:
            await connection.execute(text("SELECT 1 FROM migrations WHERE number = :number"), {"number": 10**30})
    assert not isinstance(caught.value, UnavailableError)


async def test_many_at_once(database: Database) -> None:
    """Forty tasks that add to one row lose nothing, on one connection or on five."""
    async with database.begin() as connection:
        await connection.execute(text("INSERT INTO preferences VALUES ('n', 0, '{}', 0)"))

    async def step() -> None:
        async with database.begin() as connection:
            await connection.execute(text("UPDATE preferences SET version = version + 1 WHERE owner = 'n'"))

    await asyncio.gather(*(step() for _ in range(40)))
    assert await count(database, "SELECT version FROM preferences") == 40


# A connection that aiosqlite was still opening is closed when it is collected; Python 3.13 speaks of that.
@pytest.mark.filterwarnings("ignore:unclosed database in <sqlite3:ResourceWarning")
async def test_cancelled_anywhere(database: Database) -> None:
    """A transaction cancelled at any of its steps leaves the store usable, and either all of itself or nothing."""
    async with database.begin():
        pass

    for number in range(40):
        task = asyncio.create_task(add(database, f"a{number}", f"b{number}"))
        for _ in range(number):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await add(database, "a99", "b99")
    halves = "SELECT count(*) FROM (SELECT substr(owner, 2) FROM preferences GROUP BY 1 HAVING count(*) <> 2) AS halves"
    assert await count(database, halves) == 0
    assert await count(database, "SELECT count(*) FROM preferences WHERE owner = 'b99'") == 1


def test_ours_have_numbers() -> None:
    """The shipped migrations have different numbers, and both databases' words for every placeholder."""
    steps = migrations()
    assert steps[0][:2] == (1, "preferences")
    assert len({step.number for step in steps}) == len(steps)
    for step in steps:
        assert all("{" not in spelt(step.text, kind) for kind in ("sqlite", "postgresql"))


async def test_42_each_once(database: Database) -> None:
    """A second run, and one with more steps, applies only what is new, a lower number included."""
    nine = Step(9, "nine", "CREATE TABLE n (x {int});")
    for steps in ((ONE,), (ONE,), (ONE, nine), (ONE, TWO, nine), (ONE, TWO, nine)):
        store = with_steps(database, *steps)
        assert await count(store, "SELECT count(*) FROM migrations") == len(steps)
        if TWO in steps:
            assert await count(store, "SELECT count(*) FROM b") == 1
        await store.close()


async def test_42_whole_or_not(database: Database) -> None:
    """A step that fails leaves the database as it was before the run, and the mended program goes on from there."""
    broken = with_steps(database, ONE, TWO, BAD)
    for _ in range(2):
        with pytest.raises(Exception, match="a"):
            await count(broken, "SELECT 1")
    whole = with_steps(database, ONE, TWO)
    assert await count(whole, "SELECT count(*) FROM migrations") == 2
    assert not await has(whole, "c")
    await whole.close()


async def test_42_newer_is_refused(database: Database) -> None:
    """A database of a newer program is not touched, and the message names the remedy."""
    newer = with_steps(database, ONE, TWO)
    assert await count(newer, "SELECT 1") == 1
    await newer.close()
    with pytest.raises(ConfigError, match="schema 2, this program knows 1") as caught:
        await count(with_steps(database, ONE), "SELECT 1")
    assert "newer version" in str(caught.value.remedy)


PROGRAM = """
import asyncio, pathlib, sys
from hybr.server.secret import Secret
from hybr.server.store.database import Database

async def main():
    database = Database(pathlib.Path(sys.argv[1]), Secret(sys.argv[2]) if sys.argv[2] else None)
    async with database.begin() as connection:
        print((await connection.exec_driver_sql("SELECT count(*) FROM migrations")).scalar())
    await database.close()

asyncio.run(main())
"""


async def test_patience_ends_with_the_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a migration waits long for another's lock: an answer right after it gives up as soon as any."""
    monkeypatch.setattr("hybr.server.store.engine.BUSY", 0.05)
    database = Database(tmp_path / "data")
    async with database.begin() as connection:
        assert (await connection.exec_driver_sql("PRAGMA busy_timeout")).scalar() == 50
    await database.close()


async def test_42_processes_at_once(tmp_path: Path, database_url: Secret | None) -> None:
    """Servers that start together on one empty database all end with the whole schema, each step applied once."""
    words = [sys.executable, "-c", PROGRAM, str(tmp_path / "data"), database_url.reveal() if database_url else ""]
    runs = [await asyncio.create_subprocess_exec(*words, stdout=PIPE, stderr=PIPE) for _ in range(4)]
    told = [await run.communicate() for run in runs]
    assert {out.strip() for out, _ in told} == {str(len(migrations())).encode()}, told


async def test_the_first_session_s_file(tmp_path: Path) -> None:
    """A SQLite file that the first version wrote keeps its preferences, and takes the later migrations."""
    (tmp_path / "data").mkdir()
    old = sqlite3.connect(tmp_path / "data" / "hybr.sqlite3")
    old.executescript(FIRST_SESSION)
    old.close()
    database = Database(tmp_path / "data")
    async with database.begin() as connection:
        rows = (await connection.execute(text("SELECT owner, version, content FROM preferences"))).all()
    assert [tuple(row) for row in rows] == [("local", 7, '{"mode": "local", "theme": "dark"}')]
    assert await count(database, "SELECT count(*) FROM migrations") == len(migrations())
    await database.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://u:s3cret@h/d", "'mysql' is no database of ours"),
        ("postgresql://u:s3cret@h", "names no database"),
        ("s3cret", "cannot be read"),
        ("postgresql://u:s3cret@h:port/d", "cannot be read"),
    ],
)
async def test_urls(tmp_path: Path, url: str, words: str) -> None:
    """An address that is none says so and what to write, and shows nothing of itself."""
    with pytest.raises(ConfigError, match=words) as caught:
        await count(Database(tmp_path, Secret(url)), "SELECT 1")
    assert "s3cret" not in str(caught.value.envelope())
    assert caught.value.field == "HYBR_DATABASE_URL"


async def test_without_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL without asyncpg is an error that says what to install."""
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(ConfigError, match="not installed") as caught:
        await count(Database(tmp_path, Secret("postgresql://u@h/d")), "SELECT 1")
    assert "hybr[postgres]" in str(caught.value.remedy)


async def test_nobody_there(tmp_path: Path) -> None:
    """A PostgreSQL that is not there is a store that does not answer, and no password is in the message."""
    database = Database(tmp_path, Secret("postgresql://u:s3cret@127.0.0.1:1/d"))
    with pytest.raises(UnavailableError) as caught:
        await count(database, "SELECT 1")
    assert caught.value.code == "store_unavailable"
    assert "s3cret" not in str(caught.value.envelope())
    await database.close()
