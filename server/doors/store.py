"""The doors' tables. Every value is a bound parameter; what is looked up is a digest, never a secret."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

from hybr.server.caller import LOCAL, PERSON, Caller, Role
from hybr.server.doors.credential import digest
from hybr.server.doors.registry import Pass

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

IDLE = 14 * 24 * 3600.0  # seconds without a request after which a session has ended
LIFE = 60 * 24 * 3600.0  # seconds after which it has ended in any case
STEP = 300.0  # seconds between two notes of a session's use


async def run(connection: AsyncConnection, statement: str, **values: Any) -> Any:
    """Execute one statement with bound `values` and return its result."""
    from sqlalchemy import text

    return await connection.execute(text(statement), values)


async def changes(connection: AsyncConnection, topic: str) -> int:
    """Return the topic's number."""
    found = (await run(connection, "SELECT n FROM changes WHERE topic = :topic", topic=topic)).scalar()
    return int(found or 0)


async def changed(connection: AsyncConnection, topic: str) -> None:
    """Move the topic's number, so that other processes look again."""
    statement = "INSERT INTO changes VALUES (:topic, 1) ON CONFLICT (topic) DO UPDATE SET n = changes.n + 1"
    await run(connection, statement, topic=topic)


async def token(connection: AsyncConnection, sought: str, *, hosted: bool) -> Pass | None:
    """Return what the API token with this digest gives: never more than its owner has."""
    statement = (
        "SELECT t.id, t.owner, t.role, t.expires, u.role AS has, u.disabled FROM api_tokens t "
        "LEFT JOIN users u ON u.id = t.owner WHERE t.digest = :sought AND t.revoked = 0"
    )
    row = (await run(connection, statement, sought=sought)).one_or_none()
    if row is None or (row.expires is not None and row.expires <= time.time()):
        return None
    has: Role | None = PERSON.role if row.owner == LOCAL and not hosted else row.has if hosted and not row.disabled else None
    if has is None:
        return None
    return Pass(Caller(row.owner, "admin" if has == row.role == "admin" else "user", row.id), row.expires)


async def session(connection: AsyncConnection, sought: str) -> Pass | None:
    """Return what the session with this digest gives, and note that it is in use."""
    statement = (
        "SELECT s.owner, s.seen, s.expires, u.role FROM sessions s JOIN users u ON u.id = s.owner "
        "WHERE s.digest = :sought AND u.disabled = 0"
    )
    row = (await run(connection, statement, sought=sought)).one_or_none()
    now = time.time()
    if row is None or min(row.expires, row.seen + IDLE) <= now:
        return None
    if now - row.seen > STEP:
        await run(connection, "UPDATE sessions SET seen = :now WHERE digest = :sought", now=now, sought=sought)
    return Pass(Caller(row.owner, row.role), min(row.expires, now + IDLE))


async def begin_session(connection: AsyncConnection, owner: str, now: float) -> str:
    """Return the id of a fresh session; those that have ended are swept out."""
    name = secrets.token_urlsafe(32)
    await run(connection, "DELETE FROM sessions WHERE expires <= :now OR seen <= :idle", now=now, idle=now - IDLE)
    values = {"digest": digest(name), "owner": owner, "now": now, "expires": now + LIFE}
    await run(connection, "INSERT INTO sessions VALUES (:digest, :owner, :now, :now, :expires)", **values)
    return name


async def end_session(connection: AsyncConnection, sought: str) -> None:
    """Forget one session."""
    await run(connection, "DELETE FROM sessions WHERE digest = :sought", sought=sought)
    await changed(connection, "doors")


async def end_sessions(connection: AsyncConnection, owner: str) -> None:
    """Forget all sessions of one person."""
    await run(connection, "DELETE FROM sessions WHERE owner = :owner", owner=owner)
    await changed(connection, "doors")


async def create_token(connection: AsyncConnection, owner: str, name: str, role: Role, expires: float | None) -> tuple[str, str]:
    """Return the public id and the text of a new API token; the text is nowhere afterwards."""
    public, text = secrets.token_hex(6), f"hybr_{secrets.token_urlsafe(32)}"
    values = {"public": public, "owner": owner, "name": name, "role": role, "digest": digest(text)}
    statement = "INSERT INTO api_tokens VALUES (:public, :owner, :name, :role, :digest, :now, :expires, 0)"
    await run(connection, statement, **values, now=time.time(), expires=expires)
    return public, text


async def tokens(connection: AsyncConnection) -> list[Any]:
    """Return every token's row, without its digest."""
    statement = (
        "SELECT t.id, t.owner, t.name, t.role, t.created, t.expires, t.revoked, u.name AS person "
        "FROM api_tokens t LEFT JOIN users u ON u.id = t.owner ORDER BY t.created"
    )
    return list(await run(connection, statement))


async def revoke_token(connection: AsyncConnection, public: str) -> bool:
    """Revoke a token by its public id and say whether there was one."""
    done = await run(connection, "UPDATE api_tokens SET revoked = 1 WHERE id = :public AND revoked = 0", public=public)
    await changed(connection, "doors")
    return bool(done.rowcount)
