"""One answer's place in the books, from the moment it is let in until it is over, whatever ends it.

    with await meter.book(caller, call) as booking:
        ...                                         # the provider begins to answer:
        booking.answered(provider, model, attempts)
        booking.first()                             # its first piece of text
        booking.pieces += 1                         # each event with text; tells what was used when nobody says
        booking.usage(prompt_tokens, completion_tokens, cached=0)  # before the last bytes go out
        ... booking.cost ...                        # USD, for `usage.cost`

What was reserved at the start is given back at the end and what was used is booked instead, exactly once, on every way out. An
answer that began and ends without `usage` (the client left, the stream broke) counts as its prompt's estimate and `pieces`
tokens: the provider has worked, and will ask for its money. What never began costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from types import TracebackType

    from hybr.server.caller import Caller

NANO = 1_000_000_000  # nano-dollars in a dollar
MOST = 10**8  # tokens that one answer can be said to have used: what a provider says is no more than its word
DEAREST = 10_000  # dollars that one answer can be said to have cost


@dataclass(slots=True)
class Spent:
    """What one answer used. `cost` is in nano-dollars, None where no price is known."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    cost: int | None = None


class Books(Protocol):
    """What a booking reports to: the meter that made it."""

    def price(self, booking: Booking, spent: Spent) -> int | None:
        """Return what `spent` costs."""

    def record(self, booking: Booking) -> None:
        """Take down what `booking.spent` says now; it may be said again."""

    def end(self, booking: Booking) -> None:
        """Give back what was reserved and count the answer. Called once."""

    def clock(self) -> float:
        """Return seconds of a clock that never goes back."""


class Booking:
    """See the module. `kind` is None for an answer that went well, else an error's code; `standing` are the RateLimit headers.

    `bound` is the most tokens that the provider may be asked for, where money was kept and the request names no bound itself.
    """

    __slots__ = (
        "attempts", "began", "books", "bound", "caller", "ended", "first_at", "hold", "kind", "model", "pieces", "provider",
        "requested", "spent", "standing", "stream",
    )  # fmt: skip

    def __init__(self, books: Books, caller: Caller, requested: str, *, stream: bool, hold: object) -> None:
        self.books = books
        self.caller = caller
        self.requested = requested
        self.stream = stream
        self.hold = hold
        self.began = books.clock()
        self.first_at: float | None = None
        self.provider = ""
        self.model = ""
        self.attempts = 0
        self.pieces = 0
        self.spent: Spent | None = None
        self.kind: str | None = None
        self.standing: tuple[tuple[bytes, bytes], ...] = ()
        self.bound: int | None = None
        self.ended = False

    def answered(self, provider: str, model: str, attempts: int) -> None:
        """Note who has begun to answer: the provider's name, its model's id as `/v1/models` lists it, and the tries it took."""
        self.provider = provider
        self.model = model
        self.attempts = attempts

    def first(self) -> None:
        """Note the first piece of text; later calls change nothing."""
        if self.first_at is None:
            self.first_at = self.books.clock()

    def usage(self, prompt_tokens: int, completion_tokens: int, cached: int = 0, told: float | None = None) -> None:
        """Note what was used, `cached` of the prompt's tokens out of the provider's cache. The last word counts.

        `told` is the cost in USD by the provider's own word, which counts where no price is known (OpenRouter's models).
        """
        if self.ended:
            return
        prompt, completion = (min(max(tokens, 0), MOST) for tokens in (prompt_tokens, completion_tokens))
        spent = Spent(prompt, completion, min(max(cached, 0), prompt))
        spent.cost = self.books.price(self, spent)
        if spent.cost is None and told is not None and 0 <= told <= DEAREST:
            spent.cost = round(told * NANO)
        self.spent = spent
        self.books.record(self)

    def failed(self, kind: str) -> None:
        """Note why the answer is not whole: an error's `code`."""
        self.kind = kind

    @property
    def cost(self) -> float | None:
        """What the answer costs in USD as far as it is known; None when no price or no usage is."""
        return None if self.spent is None or self.spent.cost is None else self.spent.cost / NANO

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None and self.kind is None:
            self.kind = getattr(error, "code", None) or ("client_gone" if not isinstance(error, Exception) else "internal_error")
        self.close()

    def close(self) -> None:
        """End it; later calls change nothing."""
        if not self.ended:
            try:
                self.books.end(self)
            finally:
                self.ended = True
