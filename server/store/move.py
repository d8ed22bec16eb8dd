"""Every row from one database into another, equal on both sides or not at all.

The rows go over in one transaction of each side: writers of a SQLite source wait, a PostgreSQL source is read as of one
moment, and the target has all of it or nothing. Both have our newest schema first. Afterwards every table is read again from
both and compared.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from sqlalchemy import MetaData, func, insert, select

from hybr.server.errors import ConfigError, HybrError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Table
    from sqlalchemy.ext.asyncio import AsyncConnection

    from hybr.server.store.database import Database

ROWS = 500  # rows of one insert
OURS = {"migrations"}  # each side keeps its own


class MoveError(HybrError):
    """The rows could not be moved; the target is as it was."""


async def move(source: Database, target: Database, tell: Callable[[str], object] = str) -> dict[str, int]:
    """Copy every table's rows, `tell` of each, and return how many by table.

    Raises ConfigError when the target holds anything, MoveError when a row does not fit or the two sides differ afterwards.
    """
    async with source.begin() as old, target.begin() as new:
        if old.dialect.name == "postgresql":
            await old.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        if new.dialect.name == "postgresql":
            await new.exec_driver_sql("SET LOCAL statement_timeout = 0")
        theirs, ours = await tables(old), await tables(new)
        for table in ours.values():
            if await count(new, table):
                remedy = "Name an empty database; nothing is written over"
                raise ConfigError(f"the target holds rows in {table.name} already", field="--to", remedy=remedy)
        moved = {}
        for name, table in ours.items():
            moved[name] = await copy(old, theirs[name], new, table)
            await resume_counting(new, table)
            if await digest(old, theirs[name]) != await digest(new, table):
                raise MoveError(f"{name} differs after the move", code="move_differs", remedy="The target was left as it was")
            tell(f"{name}: {moved[name]} rows")
        return moved


async def tables(connection: AsyncConnection) -> dict[str, Table]:
    """Return the tables as they are, those that others refer to first."""
    found = MetaData()
    await connection.run_sync(found.reflect)
    return {table.name: table for table in found.sorted_tables if table.name not in OURS}


async def count(connection: AsyncConnection, table: Table) -> int:
    """Return how many rows there are."""
    return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())


async def copy(old: AsyncConnection, table: Table, new: AsyncConnection, into: Table) -> int:
    """Copy one table's rows. Raises MoveError that names the table, and no value."""
    from sqlalchemy.exc import DBAPIError

    done = 0
    async with old.stream(select(table)) as rows:
        async for batch in rows.mappings().partitions(ROWS):
            try:
                await new.execute(insert(into), [dict(row) for row in batch])
            except DBAPIError as error:
                told = f"a row of {table.name} does not fit: {type(error.orig).__name__}"
                raise MoveError(told, code="move_refused", remedy="The target was left as it was") from None
            done += len(batch)
    return done


async def resume_counting(new: AsyncConnection, table: Table) -> None:
    """Let PostgreSQL's own numbers go on after the highest that was copied."""
    if new.dialect.name != "postgresql":
        return
    for column in table.columns:
        if column.identity is not None:
            sequence = func.pg_get_serial_sequence(table.name, column.name)
            await new.execute(select(func.setval(sequence, func.coalesce(func.max(column), 0) + 1, False)))


async def digest(connection: AsyncConnection, table: Table) -> str:
    """Return a hash over all rows, whatever order the database has them in."""
    names = sorted(column.name for column in table.columns)
    hashes = []
    async with connection.stream(select(*(table.c[name] for name in names))) as rows:
        async for row in rows:
            hashes.append(hashlib.sha256(repr([plain(value) for value in row]).encode()).digest())  # noqa: PERF401
    return hashlib.sha256(b"".join(sorted(hashes))).hexdigest()


def plain(value: Any) -> Any:
    """Return a value in the one form that both drivers have; SQLite keeps no sign of a zero."""
    if isinstance(value, float):
        return value + 0.0
    return bytes(value) if isinstance(value, memoryview | bytearray) else value
