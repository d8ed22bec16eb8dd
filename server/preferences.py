"""`/api/preferences`: what a person chose, kept across reloads, devices of the same account, and crashes.

GET answers `{"version", "preferences"}`. PUT sends the same two, `version` being the one the change started from; it replaces
the whole and answers the new version. Somebody else's write in between is a 409, and the page reads again. The keys are a
closed list: this is no place to leave things.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from hybr.server import caller
from hybr.server.body import check_type, decode, read_body
from hybr.server.errors import ConflictError, RequestError
from hybr.server.hosts import model_hosts

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncConnection
    from starlette.requests import Request

    from hybr.server.store.database import Database

BODY = 16 * 1024
MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}")
EMPTY = {"version": 0, "preferences": {}}
INSERT = """
    INSERT INTO preferences (owner, version, content, updated) VALUES (:owner, :version + 1, :content, :now)
    ON CONFLICT (owner) DO NOTHING
"""
UPDATE = """
    UPDATE preferences SET version = version + 1, content = :content, updated = :now
    WHERE owner = :owner AND version = :version
"""


def one_of(*words: str) -> Callable[[Any], str | None]:
    """Return a check for one of `words`, which says what is accepted."""
    return lambda value: None if value in words else f"one of {', '.join(words)}"


def switch(value: Any) -> str | None:
    """Check for true or false."""
    return None if isinstance(value, bool) else "true or false"


def model(value: Any) -> str | None:
    """Check for a model's id."""
    return None if isinstance(value, str) and MODEL.fullmatch(value) else "a model's id"


KEYS: dict[str, Callable[[Any], str | None]] = {
    "mode": one_of("local", "cloud", "auto", "local-only", "cloud-only"),
    "model": model,
    "cloud_model": model,
    "while_loading": one_of("cloud", "wait"),
    "load_at_start": switch,
    "runtime": one_of("auto", "webgpu", "wasm"),
    "theme": one_of("auto", "light", "dark"),
    "telemetry": switch,
    "model_hosts": model_hosts,
}


class Preferences:
    """The route over `database`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def read(self, request: Request) -> JSONResponse:
        """Answer GET."""
        return reply(await self.of(caller.of(request.scope).owner))

    async def of(self, owner: str) -> dict[str, Any]:
        """Return what an owner chose, with its version."""
        async with self.database.begin() as connection:
            return await load(connection, owner)

    async def write(self, request: Request) -> JSONResponse:
        """Answer PUT."""
        check_type(request.scope)
        version, chosen = checked(decode(await read_body(request.receive, BODY)))
        async with self.database.begin() as connection:
            stored = await save(connection, caller.of(request.scope).owner, version, chosen)
        return reply(stored)

    async def forget(self, owner: str) -> None:
        """Remove what an owner chose."""
        from sqlalchemy import text

        async with self.database.begin() as connection:
            await connection.execute(text("DELETE FROM preferences WHERE owner = :owner"), {"owner": owner})


def checked(body: Any) -> tuple[int, dict[str, Any]]:
    """Return version and preferences of a PUT. Raises RequestError that names the field."""
    if not isinstance(body, dict) or set(body) != {"version", "preferences"}:
        raise RequestError("send an object with exactly version and preferences", field="preferences")
    version, chosen = body["version"], body["preferences"]
    if isinstance(version, bool) or not isinstance(version, int) or not 0 <= version < 2**53:
        raise RequestError("version must be the whole number that GET answered", field="version")
    if not isinstance(chosen, dict):
        raise RequestError("preferences must be an object", field="preferences")
    for key, value in chosen.items():
        where = f"preferences.{key[:100]}"
        if key not in KEYS:
            raise RequestError(
                f"there is no preference {key[:100]!r}; there are {', '.join(KEYS)}", code="unknown_field", field=where
            )
        if wanted := KEYS[key](value):
            raise RequestError(f"{where} must be {wanted}", field=where)
    return version, chosen


async def load(connection: AsyncConnection, owner: str) -> dict[str, Any]:
    """Return the stored preferences."""
    from sqlalchemy import text

    query = text("SELECT version, content FROM preferences WHERE owner = :owner")
    row = (await connection.execute(query, {"owner": owner})).one_or_none()
    return {"version": row[0], "preferences": json.loads(row[1])} if row else EMPTY


async def save(connection: AsyncConnection, owner: str, version: int, chosen: dict[str, Any]) -> dict[str, Any]:
    """Store `chosen` when `version` is still the newest and return what is stored. Raises ConflictError otherwise.

    The condition stands in the statement itself: two writers who both read version 3 do not both write version 4.
    """
    from sqlalchemy import text

    row = {"owner": owner, "version": version, "content": json.dumps(chosen, sort_keys=True), "now": time.time()}
    done = await connection.execute(text(INSERT if version == 0 else UPDATE), row)
    if done.rowcount != 1:
        newest = (await load(connection, owner))["version"]
        told = f"these preferences were changed elsewhere: version {newest} is the newest, the change started from {version}"
        raise ConflictError(told, code="version_conflict", field="version")
    return {"version": version + 1, "preferences": chosen}


def reply(stored: dict[str, Any]) -> JSONResponse:
    """Return the answer, with the version as its validator too."""
    return JSONResponse(stored, headers={"etag": f'"{stored["version"]}"'})
