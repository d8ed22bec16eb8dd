"""`/api/providers`: who can answer the one who asks, and of the others why not, and how each one's breaker stands.

No address, no key, no word of a provider's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from hybr.server import caller

if TYPE_CHECKING:
    from starlette.requests import Request

    from hybr.server.caller import Caller
    from hybr.server.providers.base import Provider
    from hybr.server.relay import Relay


class Status:
    """The route over the relay's providers; `missing` says of those that are known and not set up what they lack."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay

    async def providers(self, request: Request) -> JSONResponse:
        """Answer GET."""
        who = caller.of(request.scope)
        told = [one for provider in self.relay.providers if (one := self.report(provider, who)) is not None]
        return JSONResponse({"object": "list", "data": [*told, *self.lacking({one["name"] for one in told})]})

    def report(self, provider: Provider, who: Caller) -> dict[str, Any] | None:
        """Return what is said of one provider; None for one that nobody set up and `who` has no key for."""
        own = self.relay.own_key(who, provider.name)
        if not provider.usable(own):
            return None
        report = provider.report()
        return report if own is None else {**report, "available": True, "reason": None}

    def lacking(self, told: set[str]) -> list[dict[str, Any]]:
        """Return those who are missing, and what they lack."""
        missing = [(name, reason) for name, reason in self.relay.missing.items() if name not in told]
        return [{"name": name, "kind": name, "available": False, "reason": reason, "models": 0} for name, reason in missing]
