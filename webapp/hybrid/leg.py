"""A leg is one provider's part in a request; an attempt is a leg under way, and what it has spent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid.types import Usage

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from hybr.webapp.hybrid.errors import ProviderError, RefusedError
    from hybr.webapp.hybrid.handover import Joiner, Seam
    from hybr.webapp.hybrid.hedge import Bound
    from hybr.webapp.hybrid.prompted import Reader
    from hybr.webapp.hybrid.types import Call, Cause, Final, Provider
    from hybr.webapp.runtimes.base import Emit

NO_USAGE = Usage()
FIRST_S, NEXT_S = 300.0, 120.0  # where nothing is known of a provider: a software adapter needs seconds a token


@dataclass(frozen=True, slots=True)
class Leg:
    """One provider's part in a plan. `prefill`: it goes on from an assistant's turn that comes last.

    A leg without `chat` cannot be walked, for the reason in `error`: it is not an attempt and nothing is booked for it.
    `first_s` and `next_s` are how long it may be silent before its first token and between two: then it has stalled. `pulse`
    shows life of the provider as a whole, where one that is busy with other requests is silent for a good reason; `ping` asks its
    worker for a sign of life. `stands_in`: it is asked only until the local model, which the person prefers, has been loaded.
    `bound` is when it counts as slow, so that the next leg may start beside it; None: no hedge. `context` is its window
    in tokens, 0 when that is not known. `unsent(request id)` says that nothing has gone out yet, since the person is being asked.
    `barred(cause)` refuses, and tells so, where the page was closed after the plan was made. `prompted`: the model does not know
    tools, and is told of them in words.
    """

    provider: Provider
    chat: Callable[[Call, Emit], Coroutine[Any, Any, Final]] | None
    model: str | None = None
    prefill: bool = False
    error: ProviderError | None = None
    first_s: float = FIRST_S
    next_s: float = NEXT_S
    pulse: Callable[[], int] | None = None
    ping: Callable[[], Coroutine[Any, Any, None]] | None = None
    reason: str = ""
    stands_in: bool = False
    bound: Bound | None = None
    context: int = 0
    unsent: Callable[[str], bool] | None = None
    barred: Callable[[Cause], RefusedError | None] = lambda _: None
    prompted: bool = False


@dataclass(slots=True, eq=False)
class Attempt:
    """The leg under way and what it has spent; `started` and `first` on the loop's clock (s).

    `cause` is why it began; `thoughts` counts what its model told of its thinking. `closed`: its text counts no more, since it
    was left behind or is over. Its text passes `half` (a character of which only the first half came), `reader`, `joiner` and
    `seam`, where there are such; `ended` is set where the text came to an end before its model did. `trimmed` messages were left
    out for it, since the conversation was `too_long` at first (its tokens, the window's), and `notes` say in a line each how
    it was asked otherwise, by what was tried (`asking`).
    """

    leg: Leg
    started: float
    cause: Cause = "mode"
    joiner: Joiner | None = None
    seam: Seam | None = None
    reader: Reader | None = None
    half: str = ""
    ended: bool = False
    too_long: tuple[int, int] | None = None
    trimmed: int = 0
    notes: dict[str, str] = field(default_factory=dict)
    detail: dict[str, Any] | None = None
    first: float | None = None
    deltas: int = 0
    thoughts: int = 0
    closed: bool = False
    task: asyncio.Task[Final] | None = None

    def whole(self, delta: str) -> str:
        """A piece without half characters: one that stands at its end waits for the next piece, one alone becomes U+FFFD."""
        text, self.half = self.half + delta, ""
        try:
            text.encode()
        except UnicodeEncodeError:
            if "\ud800" <= text[-1] <= "\udbff":
                text, self.half = text[:-1], text[-1]
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return text

    def usage(self) -> Usage:
        """What it spent as far as one can tell from outside."""
        return Usage(0, self.deltas, estimated=True) if self.deltas else NO_USAGE

    def decode_rate(self, usage: Usage, last: float) -> float | None:
        """Decode rate as seen from here: tokens after the first by the time they took."""
        if self.first is None or usage.completion_tokens < 2 or last <= self.first:
            return None
        return (usage.completion_tokens - 1) / (last - self.first)
