"""The writer: in batches, bounded, dropping with a count when the store is away, pruning what is old."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from hybr.server.errors import UnavailableError
from hybr.server.telemetry import writer as writer_module
from hybr.server.telemetry.row import Row
from hybr.server.telemetry.writer import Writer

if TYPE_CHECKING:
    from pathlib import Path

    from hybr.server.store.database import Database

NOON = 1_795_435_200.0  # 2026-11-23


def row(owner: str = "ada", at: float = NOON, **fields: Any) -> Row:
    """Return a row."""
    values = {"source": "gateway", "event": "complete", "provider": "p", "model": "m", "device": "server", "error": "none"}
    return Row(owner, at, **{**values, "latency": 100, "prompt": 9, "completion": 3, **fields})


async def count(database: Database, table: str = "telemetry", owner: str = "ada") -> int:
    """Return how many rows an owner has."""
    async with database.begin() as connection:
        return int((await connection.execute(text(f"SELECT count(*) FROM {table} WHERE owner = :o"), {"o": owner})).scalar_one())  # noqa: S608


async def test_batches_of_any_size(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that was noted is stored once, and the sums by day say the same."""
    monkeypatch.setattr(writer_module, "BATCH", 7)
    writer = Writer(database, wall=lambda: NOON)
    for number in range(20):
        writer.note(row(error="timeout" if number % 4 == 0 else "none", latency=number))
    await writer.flush()
    await writer.flush()
    assert await count(database) == 20
    async with database.begin() as connection:
        found = await connection.execute(text("SELECT measure, sum(n) FROM telemetry_days GROUP BY measure"))
        sums = {measure: int(n) for measure, n in found.all()}
    assert sums == {"event:complete": 20, "error:timeout": 5, "prompt": 180, "completion": 60, "latency": 20}


@pytest.mark.parametrize("number", [1, writer_module.TOGETHER, 2 * writer_module.TOGETHER + 3])
async def test_each_row_as_it_was_noted(database: Database, number: int) -> None:
    """Many rows go in one statement and the rest one by one; each keeps its own values, in its own columns."""
    writer = Writer(database, wall=lambda: NOON)
    rows = [row(latency=place, ttft=None if place % 3 else place + 1000, rate=place / 4) for place in range(number)]
    for one in rows:
        writer.note(one)
    await writer.flush()
    async with database.begin() as connection:
        names = ", ".join(rows[0]._fields)
        found = await connection.execute(text(f"SELECT {names}, day FROM telemetry ORDER BY latency"))  # noqa: S608
        assert [tuple(one) for one in found] == [(*one, writer_module.day_of(NOON)) for one in rows]


async def test_full_is_dropped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the store is away so many rows wait, the others are dropped, and nobody hears of it but the counter."""
    from hybr.server.store.database import Database

    monkeypatch.setattr(writer_module, "ROOM", 10)
    (tmp_path / "data").write_text("a file where the folder should be")
    writer = Writer(Database(tmp_path / "data"), wall=lambda: NOON)
    for _ in range(25):
        writer.note(row())
    assert (writer.waiting, writer.dropped) == (10, 15)
    with pytest.raises(UnavailableError):
        await writer.flush()
    assert writer.waiting == 10
    (tmp_path / "data").unlink()
    await writer.flush()
    assert (writer.waiting, await count(writer.database)) == (0, 10)
    await writer.database.close()


async def test_stopped_without_a_store(tmp_path: Path) -> None:
    """At the end what cannot be stored is dropped and counted; the server's stop does not hang on it."""
    from hybr.server.store.database import Database

    (tmp_path / "data").write_text("")
    writer = Writer(Database(tmp_path / "data"))
    writer.start()
    writer.note(row())
    await writer.stop()
    assert (writer.waiting, writer.dropped) == (0, 1)
    await writer.database.close()


async def test_retention(database: Database) -> None:
    """Rows older than their days go, the sums stay longer, and go in the end."""
    writer = Writer(database, kept=30, wall=lambda: NOON)
    writer.note(row(at=NOON - 31 * 86_400))
    writer.note(row(at=NOON - 29 * 86_400))
    writer.note(row(at=NOON - 401 * 86_400))
    await writer.flush()
    assert await count(database) == 1
    async with database.begin() as connection:
        days = (await connection.execute(text("SELECT DISTINCT day FROM telemetry_days ORDER BY day"))).scalars().all()
    assert days == ["2026-10-23", "2026-10-25"]


async def test_forgetting_one_owner(database: Database) -> None:
    """An owner's rows and sums go, also those that wait; nobody else's do."""
    writer = Writer(database, wall=lambda: NOON)
    writer.note(row())
    writer.note(row("bob"))
    await writer.flush()
    writer.note(row())
    writer.note(row("bob"))
    await writer.forget("ada")
    await writer.flush()
    assert [await count(database, table) for table in ("telemetry", "telemetry_days")] == [0, 0]
    assert await count(database, owner="bob") == 2


async def test_a_row_that_no_store_takes(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that can never be stored is dropped and counted; the writer goes on with what comes after it."""
    monkeypatch.setattr(writer_module, "EVERY", 0.001)
    writer = Writer(database, wall=lambda: NOON)
    writer.start()
    writer.note(row(latency=10**30))
    async with asyncio.timeout(120):
        while not writer.dropped:  # noqa: ASYNC110  a counter has no event
            await asyncio.sleep(0.005)
        writer.note(row())
        while not await count(database):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    await writer.stop()
    assert (writer.dropped, await count(database)) == (1, 1)
