"""The store's side of money, in transactions the caller holds: grant a block, settle what was used, give back, write off.

A budget's row is locked before it is read (an UPDATE that changes nothing does that in both databases), and rows are taken in
order, so two processes wait for each other and never for ever. Of a budget, `spent` plus what is on lease never passes the
limit by a grant; only an answer that cost more than was reserved for it can take it further.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import text

from hybr.server.money.ledger import FIGURES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from hybr.server.money.ledger import Batch, Key

TTL = 60.0  # seconds a lease lasts without a word of its process
GRACE = 30.0  # seconds more before others write it off: clocks differ
KEPT = 7 * 86_400.0  # seconds for which settled journals and old leases are remembered

LEDGER = text(
    "INSERT INTO ledger (day, owner, provider, model, requests, prompt, cached, completion, cost, unpriced, errors) VALUES "
    "(:day, :owner, :provider, :model, :requests, :prompt, :cached, :completion, :cost, :unpriced, :errors) "
    "ON CONFLICT (day, owner, provider, model) DO UPDATE SET requests = ledger.requests + excluded.requests, "
    "prompt = ledger.prompt + excluded.prompt, cached = ledger.cached + excluded.cached, "
    "completion = ledger.completion + excluded.completion, cost = ledger.cost + excluded.cost, "
    "unpriced = ledger.unpriced + excluded.unpriced, errors = ledger.errors + excluded.errors"
)
SEGMENT = text("INSERT INTO segments (name, settled) VALUES (:name, :now) ON CONFLICT (name) DO NOTHING")
# A limit that is set in mid-month counts what the ledger has of the month already.
BUDGET = text(
    "INSERT INTO budgets (scope, period, spent) SELECT :scope, :period, coalesce(sum(cost), 0) FROM ledger "
    "WHERE owner = :owner AND day LIKE :days ON CONFLICT (scope, period) DO NOTHING"
)
LOCK = text("UPDATE budgets SET spent = spent + :more WHERE scope = :scope AND period = :period")
SPENT = text("SELECT spent FROM budgets WHERE scope = :scope AND period = :period")
LEASED = text("SELECT coalesce(sum(amount), 0) FROM leases WHERE scope = :scope AND period = :period")
LATE = text(
    "SELECT coalesce(sum(amount), 0) FROM leases WHERE scope = :scope AND period = :period AND process <> :process "
    "AND expires < :late"
)
WRITE_OFF = text(
    "UPDATE leases SET written = written + amount, amount = 0 WHERE scope = :scope AND period = :period "
    "AND process <> :process AND expires < :late"
)
LEASE = text(
    "INSERT INTO leases (process, scope, period, amount, written, expires) "
    "VALUES (:process, :scope, :period, :amount, 0, :expires) "
    "ON CONFLICT (process, scope, period) DO UPDATE SET amount = leases.amount + excluded.amount, expires = excluded.expires"
)
HELD = text("SELECT amount, written FROM leases WHERE process = :process AND scope = :scope AND period = :period")
SET = text(
    "UPDATE leases SET amount = :amount, written = :written WHERE process = :process AND scope = :scope AND period = :period"
)
RENEW = text("UPDATE leases SET expires = :expires WHERE process = :process")
MINE = text("SELECT scope, period, amount FROM leases WHERE process = :process")
PRUNE = (
    text("DELETE FROM leases WHERE expires < :old AND amount = 0 AND written = 0"),
    text("DELETE FROM leases WHERE period < :before"),
    text("DELETE FROM segments WHERE settled < :old"),
    text("DELETE FROM budgets WHERE period < :before"),
)


class Want(NamedTuple):
    """A wish for a budget: at least `least` nano-dollars, better a whole `block`, of what `limit` leaves."""

    key: Key
    limit: int
    least: int
    block: int


class Grant(NamedTuple):
    """What came of it: what this process holds now, what of the budget nobody holds, what other processes hold."""

    held: int
    left: int
    others: int


async def grant(connection: AsyncConnection, process: str, wants: Sequence[Want], now: float) -> dict[Key, Grant]:
    """Lease to `process` what is wanted as far as there is any."""
    found = {}
    for want in sorted(wants):
        scope, period = want.key
        names = {"scope": scope, "period": period}
        await lock(connection, want.key)
        await write_off(connection, process, want.key, now)
        spent = (await connection.execute(SPENT, names)).scalar_one()
        leased = int((await connection.execute(LEASED, names)).scalar_one())
        left = max(want.limit - spent - leased, 0)
        given = min(max(want.least, want.block), left)
        await connection.execute(LEASE, {**names, "process": process, "amount": given, "expires": now + TTL})
        held, _ = await holding(connection, process, want.key)
        found[want.key] = Grant(held, left - given, leased + given - held)
    return found


async def lock(connection: AsyncConnection, key: Key, more: int = 0) -> None:
    """Keep a budget's row to ourselves until the transaction ends, making it where it is missing, and add to what is spent."""
    names = {"scope": key[0], "period": key[1]}
    if not (await connection.execute(LOCK, {**names, "more": more})).rowcount:
        owner = key[0].removeprefix("user:") if key[0].startswith("user:") else ""
        await connection.execute(BUDGET, {**names, "owner": owner, "days": f"{key[1]}%"})
        await connection.execute(LOCK, {**names, "more": more})


async def write_off(connection: AsyncConnection, process: str, key: Key, now: float) -> None:
    """Count as spent what other processes took on lease and were not heard of since."""
    names = {"scope": key[0], "period": key[1], "process": process, "late": now - GRACE}
    lost = int((await connection.execute(LATE, names)).scalar_one())
    if lost:
        await connection.execute(WRITE_OFF, names)
        await lock(connection, key, lost)


async def holding(connection: AsyncConnection, process: str, key: Key) -> tuple[int, int]:
    """Return what a process holds of a budget, and what of that was written off meanwhile."""
    row = (await connection.execute(HELD, {"process": process, "scope": key[0], "period": key[1]})).one_or_none()
    return (row[0], row[1]) if row else (0, 0)


async def settle(connection: AsyncConnection, process: str, batch: Batch, now: float) -> dict[Key, int]:
    """Book one batch of a process once, however often it is asked to, and return what the process holds then."""
    if (await connection.execute(SEGMENT, {"name": batch.name, "now": now})).rowcount:
        for key in sorted(batch.costs):  # before the ledger: a budget made here begins from what the ledger had
            await spend(connection, process, key, batch.costs[key])
        for row, figures in sorted(batch.rows.items()):
            await connection.execute(LEDGER, {**row._asdict(), **dict(zip(FIGURES, figures, strict=True))})
    return {key: (await holding(connection, process, key))[0] for key in sorted(batch.costs)}


async def spend(connection: AsyncConnection, process: str, key: Key, cost: int) -> None:
    """Turn `cost` of a process's lease into money spent; what was written off of it is spent already."""
    await lock(connection, key)
    amount, written = await holding(connection, process, key)
    known = min(max(cost, 0), written)
    fresh = cost - known
    await lock(connection, key, fresh)
    names = {"process": process, "scope": key[0], "period": key[1]}
    await connection.execute(SET, {**names, "amount": max(amount - fresh, 0), "written": written - known})


async def renew(connection: AsyncConnection, process: str, now: float) -> dict[Key, int]:
    """Say that the process lives, and return what it still holds."""
    await connection.execute(RENEW, {"process": process, "expires": now + TTL})
    rows = (await connection.execute(MINE, {"process": process})).all()
    return {(scope, period): amount for scope, period, amount in rows}


async def give_back(connection: AsyncConnection, process: str, keys: Sequence[Key]) -> None:
    """Return to their budgets what the process holds and did not use."""
    for key in sorted(keys):
        await lock(connection, key)
        _, written = await holding(connection, process, key)
        names = {"process": process, "scope": key[0], "period": key[1]}
        await connection.execute(SET, {**names, "amount": 0, "written": written})


async def prune(connection: AsyncConnection, now: float, before: str) -> None:
    """Forget leases and journals that are long over, and budgets of periods before `before` (ISO day).

    A lease that nobody settled stays as long as its budget: it counts as spent, also where nobody has asked for more since.
    """
    for statement in PRUNE:
        await connection.execute(
            statement, {"old": now - KEPT, "before": before} if ":before" in statement.text else {"old": now - KEPT}
        )
