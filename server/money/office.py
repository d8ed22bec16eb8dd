"""Everything that counts, wired: the till, the meter, and the routes over them; one part for `hybr serve` to start and stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from hybr.server.money.meter import Meter
from hybr.server.money.till import Till
from hybr.server.money.usage import Usage

if TYPE_CHECKING:
    from pathlib import Path

    from hybr.server.money.config import Money
    from hybr.server.relay import Relay
    from hybr.server.store.database import Database


class Office:
    """The relay books here from the moment this is made; the store hears of it once `start` was called."""

    def __init__(self, database: Database, folder: Path, money: Money, relay: Relay) -> None:
        self.till = Till(database, folder / "journal")
        self.meter = Meter(money.policy, money.prices, self.till)
        self.usage = Usage(database, self.till, self.meter, relay)
        relay.meter = self.meter
        relay.prices = self.meter

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/api/prices", self.usage.prices, methods=["GET"]),
            Route("/api/usage", self.usage.usage, methods=["GET"]),
        ]

    def start(self) -> None:
        """Begin to settle in the background."""
        self.till.start()

    async def stop(self) -> None:
        """Settle and give back; while the store is still open."""
        await self.till.stop()
