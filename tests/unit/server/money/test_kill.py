"""kill -9 at random moments: the ledger is what was acknowledged, and no budget is over-granted (adverse list, 41)."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import spender
from accounts import NOON, Clock, figures
from sqlalchemy import text

from hybr.server.money import leases
from hybr.server.money.till import Till

if TYPE_CHECKING:
    from hybr.server.store.database import Database

ONE = 19_000
HANDS = 4


async def start(database: Database, owner: str) -> asyncio.subprocess.Process:
    """Start one spender and wait until its first answer."""
    url = [database.url.reveal()] if database.url else []
    path = os.pathsep.join([str(Path(spender.__file__).parent), *filter(None, sys.path)])
    command = [sys.executable, spender.__file__, str(database.folder), owner, *url]
    return await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path})


async def killed(database: Database, owner: str, moment: random.Random) -> int:
    """Kill a spender after some of its answers and return how many it had acknowledged."""
    process = await start(database, owner)
    assert process.stdout is not None
    seen = 0
    for _ in range(moment.randint(1, 150)):
        seen += bool(await process.stdout.readline())
    await asyncio.sleep(moment.random() * 0.004)
    if process.returncode is None:
        process.kill()
    rest = await process.stdout.read()
    await process.wait()
    return seen + rest.count(b"\n")


TAKEN = text(
    "SELECT (SELECT coalesce(sum(spent), 0) FROM budgets WHERE scope = :scope) + "
    "(SELECT coalesce(sum(amount), 0) FROM leases WHERE scope = :scope)"
)


async def taken(database: Database, owner: str) -> int:
    """Return what of an owner's budget is spent or on lease, in nano-dollars."""
    async with database.begin() as connection:
        return int((await connection.execute(TAKEN, {"scope": f"user:{owner}"})).scalar_one())


async def check(database: Database, kills: int, seed: int) -> None:
    """Kill so many; after each, whoever comes next finds the books right."""
    moment, wall = random.Random(seed), Clock(NOON)  # noqa: S311
    for number in range(kills):
        owner = f"o{number % 3}"
        before, _ = await figures(database, owner)
        acknowledged = await killed(database, owner, moment)
        till = Till(database, database.folder / "journal", wall=wall)
        await till.adopt()
        await till.stop()
        requests, cost = await figures(database, owner)
        # An answer is booked before its last bytes go out, so each hand can be one ahead of what was seen.
        assert 0 <= requests - before - acknowledged <= HANDS, (number, requests, before, acknowledged)
        assert cost == requests * ONE
        assert requests * ONE <= await taken(database, owner) <= spender.LIMIT
    await over(database)


async def over(database: Database) -> None:
    """When all that the dead held is written off, what was spent is at least the ledger and at most the limit."""
    wall = Clock(4e9)
    async with database.begin() as connection:
        rows = (await connection.execute(text("SELECT DISTINCT scope, period FROM leases"))).all()
        for scope, period in rows:
            await leases.grant(connection, "heir", [leases.Want((scope, period), spender.LIMIT, 0, 0)], wall.now)
        spent = {(row[0], row[1]): row[2] for row in await connection.execute(text("SELECT scope, period, spent FROM budgets"))}
    assert spent
    for (scope, _), amount in spent.items():
        _, cost = await figures(database, scope.removeprefix("user:"))
        assert cost <= amount <= spender.LIMIT


async def test_killed_at_ten_moments(database: Database) -> None:
    """Ten kills, seeded, so that a failure can be had again."""
    await check(database, 10, seed=41)


@pytest.mark.long
async def test_killed_at_a_hundred_moments(database: Database) -> None:
    """A hundred kills."""
    await check(database, 100, seed=4141)
