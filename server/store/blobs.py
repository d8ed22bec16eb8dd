"""A person's blobs in the store: each write has the next number of the person's clock, and takes part in one sum.

Every function runs in the caller's transaction. A write first updates the owner's row, and so waits for every other write of the
same person: what it then reads of versions and sums stays true until it ends, on PostgreSQL too.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hybr.server.errors import ConflictError, HybrError, NotFoundError

if TYPE_CHECKING:
    from sqlalchemy import CursorResult
    from sqlalchemy.ext.asyncio import AsyncConnection

ANY = -1  # "whatever version it has", for a deletion
ABSENT = 0  # "no such blob yet"
FORGET = 1000  # deletions remembered for each person


@dataclass(frozen=True)
class Quota:
    """What one person may have: bytes a blob, bytes in all, blobs."""

    blob: int
    total: int
    count: int


@dataclass(frozen=True)
class Listed:
    """One line of the list; a deleted blob has a version too."""

    name: str
    version: int
    bytes: int
    updated: float
    deleted: bool


class FullError(HybrError):
    """The person's quota is used up."""

    type = "quota_error"
    status = 507


class PreconditionError(ConflictError):
    """The blob is not in the version that the caller started from."""

    status = 412


async def run(connection: AsyncConnection, statement: str, **values: Any) -> CursorResult[Any]:
    """Run one statement."""
    from sqlalchemy import text

    return await connection.execute(text(statement), values)


async def listed(connection: AsyncConnection, owner: str, since: int, until: int, limit: int) -> list[Listed]:
    """Return the blobs and deletions after version `since`, up to `until`, oldest first, at most `limit`."""
    found = await run(
        connection,
        "SELECT name, version, bytes, updated, content IS NULL AS gone FROM blobs "
        "WHERE owner = :owner AND version > :since AND version <= :until ORDER BY version LIMIT :limit",
        owner=owner,
        since=since,
        until=until,
        limit=limit,
    )
    return [Listed(row.name, row.version, row.bytes, row.updated, bool(row.gone)) for row in found]


async def summed(connection: AsyncConnection, owner: str) -> tuple[int, int, int, int]:
    """Return the owner's clock, bytes, blobs and floor."""
    row = (
        await run(connection, "SELECT clock, bytes, blobs, floor FROM blob_owners WHERE owner = :owner", owner=owner)
    ).one_or_none()
    return (row.clock, row.bytes, row.blobs, row.floor) if row else (0, 0, 0, 0)


async def load(connection: AsyncConnection, owner: str, name: str) -> tuple[int, bytes]:
    """Return version and content. Raises NotFoundError."""
    found = await run(
        connection,
        "SELECT version, content FROM blobs WHERE owner = :owner AND name = :name AND content IS NOT NULL",
        owner=owner,
        name=name,
    )
    row = found.one_or_none()
    if row is None:
        raise NotFoundError(f"there is no blob {name!r}", code="no_such_blob", field="name")
    return row.version, bytes(row.content)


async def save(connection: AsyncConnection, owner: str, name: str, content: bytes, *, expected: int, quota: Quota) -> int:
    """Store the content over version `expected` and return the new version. Raises PreconditionError and FullError."""
    clock, total, count = await tick(connection, owner)
    version, size = await current(connection, owner, name)
    check_version(name, expected, version)
    total, count = total + len(content) - size, count + (version == ABSENT)
    if total > quota.total:
        text = f"the blobs would have {total} bytes together, and {quota.total} are allowed"
        raise FullError(text, code="quota_bytes", field="bytes", remedy="Delete some")
    if count > quota.count:
        raise FullError(
            f"there are {count - 1} blobs, and no more are allowed", code="quota_blobs", field="name", remedy="Delete some"
        )
    await run(
        connection,
        "INSERT INTO blobs (owner, name, version, bytes, content, updated) VALUES (:owner, :name, :clock, :size, :content, :now) "
        "ON CONFLICT (owner, name) DO UPDATE SET version = excluded.version, bytes = excluded.bytes, "
        "content = excluded.content, updated = excluded.updated",
        owner=owner,
        name=name,
        clock=clock,
        size=len(content),
        content=content,
        now=time.time(),
    )
    await book(connection, owner, total, count)
    return clock


async def drop(connection: AsyncConnection, owner: str, name: str, *, expected: int) -> int:
    """Delete the blob of version `expected` and return the deletion's version. Raises PreconditionError and NotFoundError."""
    clock, total, count = await tick(connection, owner)
    version, size = await current(connection, owner, name)
    if version == ABSENT:
        raise NotFoundError(f"there is no blob {name!r}", code="no_such_blob", field="name")
    check_version(name, expected, version)
    await run(
        connection,
        "UPDATE blobs SET version = :clock, bytes = 0, content = NULL, updated = :now WHERE owner = :owner AND name = :name",
        owner=owner,
        name=name,
        clock=clock,
        now=time.time(),
    )
    await book(connection, owner, total - size, count - 1)
    await forget_old(connection, owner)
    return clock


async def tick(connection: AsyncConnection, owner: str) -> tuple[int, int, int]:
    """Return the owner's next version, and the bytes and blobs there are; their other writes wait until this one ends."""
    await run(connection, "INSERT INTO blob_owners VALUES (:owner, 0, 0, 0, 0) ON CONFLICT (owner) DO NOTHING", owner=owner)
    ticked = "UPDATE blob_owners SET clock = clock + 1 WHERE owner = :owner RETURNING clock, bytes, blobs"
    row = (await run(connection, ticked, owner=owner)).one()
    return row.clock, row.bytes, row.blobs


async def current(connection: AsyncConnection, owner: str, name: str) -> tuple[int, int]:
    """Return a blob's version and size, ABSENT and 0 where there is none."""
    query = "SELECT version, bytes FROM blobs WHERE owner = :owner AND name = :name AND content IS NOT NULL"
    row = (await run(connection, query, owner=owner, name=name)).one_or_none()
    return (row.version, row.bytes) if row else (ABSENT, 0)


def check_version(name: str, expected: int, version: int) -> None:
    """Raise PreconditionError when the caller started from another version."""
    if expected not in {version, ANY}:
        there = f"version {version} is the newest" if version else "there is none"
        started = f"version {expected}" if expected else "there being none"
        raise PreconditionError(
            f"{name}: {there}, and the change started from {started}", code="version_conflict", field="If-Match"
        )


async def book(connection: AsyncConnection, owner: str, total: int, count: int) -> None:
    """Write the owner's sums."""
    await run(
        connection,
        "UPDATE blob_owners SET bytes = :total, blobs = :count WHERE owner = :owner",
        owner=owner,
        total=total,
        count=count,
    )


async def forget_old(connection: AsyncConnection, owner: str) -> None:
    """Keep the newest FORGET deletions; a device that last asked before an older one has to compare the whole list."""
    query = "SELECT version FROM blobs WHERE owner = :owner AND content IS NULL ORDER BY version DESC LIMIT 1 OFFSET :kept"
    floor = (await run(connection, query, owner=owner, kept=FORGET)).scalar()
    if floor is not None:
        await run(
            connection,
            "DELETE FROM blobs WHERE owner = :owner AND content IS NULL AND version <= :floor",
            owner=owner,
            floor=floor,
        )
        await run(connection, "UPDATE blob_owners SET floor = :floor WHERE owner = :owner", owner=owner, floor=floor)


async def clear(connection: AsyncConnection, owner: str) -> None:
    """Remove every blob and deletion of the owner; the clock goes on, or an old device would take new blobs for known ones."""
    await run(connection, "DELETE FROM blobs WHERE owner = :owner", owner=owner)
    cleared = "UPDATE blob_owners SET clock = clock + 1, floor = clock + 1, bytes = 0, blobs = 0 WHERE owner = :owner"
    await run(connection, cleared, owner=owner)
