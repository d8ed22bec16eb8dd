"""What the relay asks of a surface: a request read, and an answer put into its words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from hybr.server.errors import HybrError
    from hybr.server.providers.base import Call, Ending


class Voice(Protocol):
    """One answer in one surface's words. Events are whole, so anything may be said between two of them.

    `beat` is an event that says nothing, for a client that waits.
    """

    beat: bytes

    def events(self, chunks: list[dict[str, Any]]) -> bytes:
        """Return chunks as events."""

    def closing(self, ending: Ending, usage: dict[str, Any] | None) -> bytes:
        """Return the last events of an answer that came to its proper end."""

    def failure(self, error: HybrError) -> bytes:
        """Return the last event of one that did not."""

    def plain(self, chunks: list[dict[str, Any]], ending: Ending, usage: dict[str, Any] | None) -> dict[str, Any]:
        """Return a whole answer."""


class Surface(Protocol):
    """One form of asking."""

    def read(self, raw: bytes) -> tuple[Call, Voice]:
        """Return the checked request, its model empty when it names none, and the voice for its answer. Raises RequestError."""

    def refusal(self, error: HybrError) -> dict[str, Any]:
        """Return an error as a whole answer."""
