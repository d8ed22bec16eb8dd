"""`/api/providers`: who can answer, and of the others why not. No address, no key, no word of a provider's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.requests import Request


class Reporter(Protocol):
    """A provider that can speak of itself."""

    def report(self) -> dict[str, Any]:
        """Return name, kind, available, reason and the number of models."""


class Status:
    """The route over `reporters`; `missing` names those that are known and not set up, and what they lack."""

    def __init__(self, reporters: Sequence[Reporter], missing: Mapping[str, str]) -> None:
        self.reporters = reporters
        self.missing = missing

    async def providers(self, request: Request) -> JSONResponse:  # noqa: ARG002
        """Answer GET."""
        lacking = [
            {"name": name, "kind": name, "available": False, "reason": reason, "models": 0}
            for name, reason in self.missing.items()
        ]
        return JSONResponse({"object": "list", "data": [one.report() for one in self.reporters] + lacking})
