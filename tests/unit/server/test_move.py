"""Moving the store from one database to another: equal rows, or nothing at all (adverse list, 43)."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import String, insert, select, text

from hybr.server import cli
from hybr.server.errors import ConfigError
from hybr.server.secret import Secret
from hybr.server.store import move as moving
from hybr.server.store.database import Database
from hybr.server.store.move import MoveError, move, tables

if TYPE_CHECKING:
    from pathlib import Path

    from postgres import Cluster

# PostgreSQL's text holds every character but NUL.
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "TEXT": TEXTS,
    "BIGINT": st.integers(-(2**63), 2**63 - 1),
    "INTEGER": st.integers(-(2**63), 2**63 - 1),
    "DOUBLE PRECISION": st.floats(allow_nan=False, allow_infinity=False),
    "REAL": st.floats(allow_nan=False, allow_infinity=False),
    "BYTEA": st.binary(max_size=40),
    "BLOB": st.binary(max_size=40),
}


def row_of(table: Any, data: st.DataObject, number: int) -> dict[str, Any]:
    """Draw one row: any values, but texts and keys that no other row has; sometimes nothing where nothing may stand."""
    row: dict[str, Any] = {}
    for column in table.columns:
        values = VALUES[str(column.type)]
        if isinstance(column.type, String):
            values = values.map(f"{number} {{}}".format)
        elif column.primary_key:
            values = st.just(number)
        row[column.name] = data.draw(values | st.none() if column.nullable else values, label=f"{table.name}.{column.name}")
    return row


async def dump(database: Database) -> dict[str, list[Any]]:
    """Return every row of every table, in an order of their own."""
    async with database.begin() as connection:
        found = await tables(connection)
        rows = {}
        for name, table in found.items():
            columns = sorted(column.name for column in table.columns)
            taken = (await connection.execute(select(*(table.c[column] for column in columns)))).all()
            rows[name] = sorted(repr([moving.plain(value) for value in row]) for row in taken)
        return rows


@given(data=st.data(), count=st.integers(1, 4))
@settings(max_examples=6, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
def test_equal_rows_43(tmp_path: Path, postgres: Cluster, data: st.DataObject, count: int) -> None:
    """Any rows of every table there is arrive equal: SQLite to PostgreSQL, and from there back to SQLite."""

    async def there_and_back() -> None:
        url = postgres.fresh()
        first = Database(tmp_path / uuid.uuid4().hex)
        middle, last = Database(tmp_path, Secret(url)), Database(tmp_path / uuid.uuid4().hex)
        try:
            async with first.begin() as connection:
                for table in (await tables(connection)).values():
                    rows = [row_of(table, data, number) for number in range(1, count + 1)]
                    await connection.execute(insert(table), rows)
            before = await dump(first)
            assert all(len(rows) == count for rows in before.values())
            assert set((await move(first, middle)).values()) == {count}
            assert await dump(middle) == before
            await move(middle, last)
            assert await dump(last) == before
        finally:
            for database in (first, middle, last):
                await database.close()
            postgres.drop(url)

    asyncio.run(there_and_back())


async def full(database: Database, owners: int = 3) -> None:
    """Put some preferences in."""
    async with database.begin() as connection:
        for number in range(owners):
            await connection.execute(text("INSERT INTO preferences VALUES (:o, 1, '{}', 0.5)"), {"o": f"o{number}"})


async def test_many_rows(tmp_path: Path, postgres_url: str) -> None:
    """More rows than one insert takes arrive all."""
    first, second = Database(tmp_path / "a"), Database(tmp_path, Secret(postgres_url))
    await full(first, 2 * moving.ROWS + 1)
    assert (await move(first, second))["preferences"] == 2 * moving.ROWS + 1
    assert await dump(first) == await dump(second)
    await first.close()
    await second.close()


async def test_nothing_is_written_over(tmp_path: Path, database: Database) -> None:
    """A target that holds anything is refused, and neither side changes."""
    first = Database(tmp_path / "first")
    await full(first)
    await full(database, 1)
    before = await dump(database)
    with pytest.raises(ConfigError, match="holds rows in preferences"):
        await move(first, database)
    assert await dump(database) == before
    await first.close()


async def test_all_or_nothing(tmp_path: Path, postgres_url: str) -> None:
    """A row that the target cannot hold (a NUL in a text) leaves it empty, and the message names the table and no value."""
    first, second = Database(tmp_path / "a"), Database(tmp_path, Secret(postgres_url))
    await full(first)
    async with first.begin() as connection:
        await connection.execute(text("INSERT INTO preferences VALUES ('s3cr3t' || char(0), 1, '{}', 0.5)"))
    with pytest.raises(MoveError, match="a row of preferences does not fit") as caught:
        await move(first, second)
    assert "s3cr3t" not in str(caught.value)
    assert not any((await dump(second)).values())
    await first.close()
    await second.close()


def test_the_command(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`hybr store move` moves what the server has, and `hybr store status` then finds it where the settings say."""
    monkeypatch.setenv("HYBR_DATA", str(tmp_path))
    first = Database(tmp_path)

    async def fill() -> None:
        await full(first)
        await first.close()

    asyncio.run(fill())
    assert cli.main(["store", "move", "--to", postgres_url]) == 0
    assert "preferences: 3 rows" in capsys.readouterr().out
    (tmp_path / "target").write_text(f"{postgres_url}\n")
    assert cli.main(["store", "move", "--to-file", str(tmp_path / "target")]) == 2, "it has rows by now"
    assert cli.main(["store", "move", "--to", f"sqlite:///{tmp_path}/hybr.sqlite3"]) == 2
    monkeypatch.setenv("HYBR_DATABASE_URL", postgres_url)
    assert cli.main(["store", "status"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("postgresql: postgresql://hybr@/")
    assert "migrations, the newest" in told
