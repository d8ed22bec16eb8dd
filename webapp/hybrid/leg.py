"""A leg is one provider's part in a request; an attempt is a leg under way, and what it has spent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid.errors import CloudError, LocalError
from hybr.webapp.hybrid.types import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from hybr.webapp.hybrid.errors import ProviderError
    from hybr.webapp.hybrid.types import Call, Final, Provider
    from hybr.webapp.runtimes.base import Emit

NO_USAGE = Usage()
FIRST_S, NEXT_S = 300.0, 120.0  # where nothing is known of a provider: a software adapter needs seconds a token


@dataclass(frozen=True, slots=True)
class Leg:
    """One provider's part in a plan. `prefill`: it goes on from an assistant's turn that comes last.

    A leg without `chat` cannot be walked, for the reason in `error`: it is not an attempt and nothing is booked for it.
    `first_s` and `next_s` are how long it may be silent before its first token and between two: then it has stalled. `pulse`
    shows life of the provider as a whole, where one that is busy with other requests is silent for a good reason. `stands_in`:
    it is asked only until the local model, which the person prefers, has been loaded.
    """

    provider: Provider
    chat: Callable[[Call, Emit], Coroutine[Any, Any, Final]] | None
    model: str | None = None
    prefill: bool = False
    error: ProviderError | None = None
    first_s: float = FIRST_S
    next_s: float = NEXT_S
    pulse: Callable[[], int] | None = None
    reason: str = ""
    stands_in: bool = False


@dataclass(slots=True)
class Attempt:
    """The leg under way and what it has spent; `started` and `first` on the loop's clock (s)."""

    leg: Leg
    started: float
    first: float | None = None
    deltas: int = 0

    def usage(self) -> Usage:
        """What it spent as far as one can tell from outside."""
        return Usage(0, self.deltas, estimated=True) if self.deltas else NO_USAGE


def check_alive(leg: Leg, pulse: int, seen: int, patience: float) -> None:
    """Raise when there was no sign of life since the last look."""
    if pulse > seen:
        return
    said = f"nothing came for {patience:g} s."
    if leg.provider == "local":
        error: ProviderError = LocalError(f"The local model has stalled: {said}", name="StalledError", code="stalled")
        error.reactions = ("worker", "reload", "cloud")
    else:
        error = CloudError(f"The cloud has stalled: {said}", name="StalledError", code="stalled", retryable=True)
    raise error


def decode_rate(attempt: Attempt, usage: Usage, last: float) -> float | None:
    """Decode rate as seen from here: tokens after the first by the time they took."""
    if attempt.first is None or usage.completion_tokens < 2 or last <= attempt.first:
        return None
    return (usage.completion_tokens - 1) / (last - attempt.first)
