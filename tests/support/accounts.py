"""Money's tests: callers, calls of a known price, a clock in the test's hand, and a meter over a store."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from hybr.server.caller import Caller
from hybr.server.money.limits import Limits, Policy
from hybr.server.money.meter import Meter
from hybr.server.money.prices import Price, Prices
from hybr.server.money.till import Till
from hybr.server.providers.base import Call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hybr.server.store.database import Database

NANO = 1_000_000_000
NOON = 1_795_435_200.0  # 2026-11-23 12:00 UTC, a Monday
ADA = Caller("ada", "user")
BOB = Caller("bob", "user")
# One dollar for a million tokens of either kind: a token is 1,000 nano-dollars.
PRICE = Price(NANO, NANO, NANO // 10)
PRICES = Prices({"p/*": (PRICE,)}, "test")


@dataclass
class Clock:
    """Seconds that pass when the test says so."""

    now: float = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def call(output: int = 10, model: str = "p/m", said: str = "") -> Call:
    """Return a call that is reserved as 9 tokens of prompt (for nothing said) and `output` of answer."""
    return Call(model, stream=False, body={"messages": [{"role": "user", "content": said}], "max_tokens": output})


def policy(**limits: Any) -> Policy:
    """Return one set of limits for everybody."""
    return Policy(Limits(**limits))


class NoTill:
    """A till for limits without money: it keeps the entries."""

    def __init__(self) -> None:
        self.entries: list[Any] = []

    async def fill(self, purses: Any, need: int) -> None:
        """Nothing to fill from."""
        raise AssertionError("nobody's spending is limited here")

    def wake(self, purse: Any) -> None:
        """Nothing to do."""

    def book(self, entry: Any, cost: int, purses: Any) -> None:
        """Keep it."""
        self.entries.append(entry)


@contextlib.asynccontextmanager
async def metered(
    database: Database, limits: Policy, clock: Clock | None = None, wall: Clock | None = None
) -> AsyncIterator[Meter]:
    """Give a meter over the store, which settles when the test says so, and at the end."""
    clock, wall = clock or Clock(), wall or Clock(NOON)
    till = Till(database, database.folder / "journal", clock, wall)
    yield Meter(limits, PRICES, till, clock=clock, wall=wall)
    await till.stop()


async def answer(meter: Meter, who: Caller = ADA, tokens: int = 19, reserve: int | None = None) -> None:
    """Have one answer of `tokens` tokens of a thousand nano-dollars each, 9 of them the prompt's."""
    with await meter.book(who, call(tokens - 9 if reserve is None else reserve), "p") as booking:
        booking.answered("p", "p/m", 1)
        booking.usage(9, tokens - 9)


async def figures(database: Database, owner: str = "ada") -> tuple[int, int]:
    """Return an owner's requests and nano-dollars in the ledger."""
    async with database.begin() as connection:
        statement = text("SELECT coalesce(sum(requests), 0), coalesce(sum(cost), 0) FROM ledger WHERE owner = :owner")
        found = (await connection.execute(statement, {"owner": owner})).one()
    return int(found[0]), int(found[1])


async def budget(database: Database, scope: str = "user:ada", period: str = "2026-11-23") -> tuple[int, int]:
    """Return what of a budget is spent and what is on lease."""
    async with database.begin() as connection:
        names = {"scope": scope, "period": period}
        spent = await connection.execute(text("SELECT spent FROM budgets WHERE scope = :scope AND period = :period"), names)
        leased = await connection.execute(
            text("SELECT coalesce(sum(amount), 0) FROM leases WHERE scope = :scope AND period = :period"), names
        )
        return int(spent.scalar_one_or_none() or 0), int(leased.scalar_one())
