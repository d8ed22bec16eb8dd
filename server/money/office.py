"""All that counts, wired: till, meter, telemetry, metrics and their routes; one part for `hybr serve` to start and to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse
from starlette.routing import Route

from hybr.mlc_build import catalogue
from hybr.server.caller import PERSON
from hybr.server.caller import of as asker
from hybr.server.doors.credential import extract
from hybr.server.metrics import Exposition, Metrics
from hybr.server.money.booking import NANO
from hybr.server.money.meter import Meter
from hybr.server.money.till import Till
from hybr.server.money.usage import Usage
from hybr.server.telemetry.routes import Telemetry
from hybr.server.telemetry.row import Row, kind_of, listed
from hybr.server.telemetry.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from hybr.server.config import Settings
    from hybr.server.doors.doors import Doors
    from hybr.server.money.booking import Booking
    from hybr.server.relay import Relay
    from hybr.server.store.database import Database

PAGE_SIDES = {"local", "cloud"}  # what the page calls who answered
FRESH = 10.0  # seconds for which the names that are known stay known


class Office:
    """The relay books here from the moment this is made; the store hears of it once `start` was called.

    `stores` are the parts besides these that keep something of a person's: those that have `forget(owner)` are asked to.
    """

    def __init__(self, database: Database, settings: Settings, relay: Relay, doors: Doors, stores: Sequence[Any] = ()) -> None:
        self.relay = relay
        self.doors = doors
        self.till = Till(database, settings.data / "journal")
        self.meter = Meter(settings.money.policy, settings.money.prices, self.till)
        self.usage = Usage(database, self.till, self.meter, relay)
        self.writer = Writer(database, settings.telemetry_days)
        self.telemetry = Telemetry(self.writer, self.known)
        self.meter.known = lambda model: model in self.known()
        self.metrics = Metrics(self.meter.known)
        alone = settings.auth != "accounts"
        self.exposition = Exposition(self.metrics, self.gauges, self.breakers, self.is_admin, settings.metrics_token, alone=alone)
        self.stores = [*stores, self.usage, self.writer]
        self.meter.watchers.append(self.metrics.take)
        self.meter.refusals.append(self.metrics.refuse)
        if settings.telemetry:
            self.meter.watchers.append(self.note)
        relay.meter = self.meter
        relay.prices = self.meter
        self._known: frozenset[str] = frozenset()
        self._until = float("-inf")

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/api/prices", self.usage.prices, methods=["GET"]),
            Route("/api/usage", self.usage.usage, methods=["GET"]),
            Route("/api/telemetry", self.telemetry.take, methods=["POST"]),
            Route("/api/telemetry", self.telemetry.forget, methods=["DELETE"]),
            Route("/api/telemetry/summary", self.telemetry.summary, methods=["GET"]),
            Route("/api/telemetry/export", self.telemetry.export, methods=["GET"]),
            Route("/api/me/data", self.forget, methods=["DELETE"]),
            Route("/metrics", self.exposition.show, methods=["GET"]),
        ]

    def start(self) -> None:
        """Begin to settle and to write in the background."""
        self.till.start()
        self.writer.start()

    async def stop(self) -> None:
        """Settle, give back and write; while the store is still open."""
        await self.till.stop()
        await self.writer.stop()

    def known(self) -> frozenset[str]:
        """Return the names that may be stored or counted by: models that providers list, the page's own, and the providers.

        Asked with every answer and made anew every few seconds, for a provider's list can be long.
        """
        if (now := self.meter.clock()) >= self._until:
            names = {provider.name for provider in self.relay.providers} | PAGE_SIDES
            models = {model.id for provider in self.relay.providers for model in provider.models()}
            self._known = frozenset(names | models | {entry["id"] for entry in catalogue.entries()})
            self._until = now + FRESH
        return self._known

    def note(self, booking: Booking) -> None:
        """Write an answer's row."""
        known, spent, now = self.known(), booking.spent, self.meter.clock()
        first, latency = booking.first_at, now - booking.began
        decoding = now - first if first is not None else 0.0
        rate = spent.completion / decoding if spent and spent.completion > 1 and decoding > 0.001 else None
        self.writer.note(
            Row(
                booking.caller.owner,
                self.meter.wall(),
                "gateway",
                "complete" if booking.kind is None else "error",
                listed(booking.provider, known),
                listed(booking.model or booking.requested, known),
                "server",
                kind_of(booking.kind),
                round(latency * 1000),
                None if first is None else round((first - booking.began) * 1000),
                spent.prompt if spent else None,
                spent.completion if spent else None,
                None if rate is None else round(rate, 2),
                booking.attempts,
            )
        )

    def gauges(self) -> dict[str, float]:
        """Return what stands now."""
        till = self.till.standing()
        return {
            "hybr_in_flight": self.meter.running,
            "hybr_leases": till["leases"],
            "hybr_leased_usd": till["leased"] / NANO,
            "hybr_ledger_waiting": till["waiting"],
            "hybr_telemetry_waiting": self.writer.waiting,
            "hybr_telemetry_dropped_total": self.writer.dropped,
        }

    def breakers(self) -> Iterator[tuple[str, str]]:
        """Yield each provider's breaker's state."""
        for provider in self.relay.providers:
            yield provider.name, provider.breaker.state

    async def is_admin(self, request: Request) -> bool:
        """Say whether the request brings an administrator's credential; `/metrics` is no route of the door's."""
        if self.doors.mode == "off":
            return PERSON.role == "admin"
        entry = await self.doors.find(extract(request.scope["headers"], self.doors.cookie_name(request.scope)))
        return entry is not None and entry.held.caller.role == "admin"

    async def forget(self, request: Request) -> Response:
        """Answer `DELETE /api/me/data`: every part forgets what it keeps of the caller. Asked again, it does the same."""
        owner = asker(request.scope).owner
        for store in self.stores:
            if (forgets := getattr(store, "forget", None)) is not None:
                await forgets(owner)
        return JSONResponse({"forgotten": True})
