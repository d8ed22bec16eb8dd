"""People and tokens for tests of the doors: made as the commands make them, let in as browsers are."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

import httpx

from hybr.server import accounts, app
from hybr.server.caller import LOCAL
from hybr.server.doors.store import create_token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hybr.server.caller import Role
    from hybr.server.serve import Parts

PASSWORD = "four unrelated small words"


async def person(parts: Parts, name: str, role: Role = "user") -> str:
    """Make a person and return their id."""
    return await accounts.add(parts.database, name, PASSWORD, role)


async def token(parts: Parts, owner: str = LOCAL, role: Role = "user", expires: float | None = None) -> tuple[str, str]:
    """Make an API token and return its public id and its text."""
    async with parts.database.begin() as connection:
        return await create_token(connection, owner, "test", role, expires)


def routes(parts: Parts) -> list[tuple[str, str]]:
    """Return every method and path that the application has, with `openai` and `x` for what stands in braces."""
    application: Any = app.create(parts, f"http://127.0.0.1:{parts.doors.port}")
    while not hasattr(application, "routes"):
        application = application.app
    found = []
    for route in application.routes:
        path = re.sub(r"\{\w+(:path)?\}", "x", route.path.replace("{provider}", "openai"))
        found += [(method, path) for method in sorted(route.methods - {"HEAD"})]
    return found


@contextlib.asynccontextmanager
async def browser(address: str, name: str = "", password: str = PASSWORD) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client that keeps cookies, logged in when a name is given."""
    async with httpx.AsyncClient(base_url=address, timeout=120) as client:
        if name:
            answer = await client.post("/api/session", json={"name": name, "password": password})
            assert answer.status_code == 200, answer.text
        yield client
