"""All that is counted in money and requests, in one place: months, budget, the rate window, estimates, the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid import auto, estimate
from hybr.webapp.hybrid.errors import GatewayError
from hybr.webapp.hybrid.ledger import Budget, Ledger
from hybr.webapp.hybrid.profile import estimate_tokens
from hybr.webapp.hybrid.rates import RateWindow

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr.webapp.hybrid.account import Account, Totals
    from hybr.webapp.hybrid.events import EventBus
    from hybr.webapp.hybrid.modes import Remembers
    from hybr.webapp.hybrid.plan import Planner
    from hybr.webapp.hybrid.types import Message, Options, Provider
    from hybr.webapp.runtimes.base import Storage

LIMITED = 429


class Money:
    """See the module. `now` is the wall clock (s), `clock` one that never goes back."""

    def __init__(
        self,
        account: Account,
        events: EventBus,
        preferences: Remembers,
        storage: Storage | None,
        *,
        now: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self._account = account
        self.ledger = Ledger(storage, now)
        self.budget = Budget(self.ledger, events, preferences, lambda: account.provider("cloud").cost)
        self.window = RateWindow(events, preferences, clock)
        account.heard = self._booked
        events.on("cost:updated", lambda _: self.budget.look())

    def _booked(self, provider: Provider, model: str, totals: Totals) -> None:
        self.ledger.book(provider, model, totals)

    def ended(self, provider: Provider, error: Exception | None) -> None:
        """A leg ended; a refusal for asking too much is told as such."""
        if isinstance(error, GatewayError) and error.status == LIMITED:
            self.window.refused(provider, error.retry_after)

    def to_dict(self) -> dict[str, Any]:
        """`{month: {name, total, models}, budget, rate_limits}`."""
        models = [
            dict(zip(("provider", "model"), name.split("/", 1), strict=True)) | sums for name, sums in self.ledger.of().items()
        ]
        month = {"name": self.ledger.month(), "total": self.ledger.total(), "models": models}
        return {"month": month, "budget": self.budget.to_dict(), "rate_limits": self.window.to_dict()}

    def report(self) -> str:
        """The account as a person reads it."""
        return estimate.report(self._account.to_dict(), self.ledger.month(), self.ledger.of(), self.budget.to_dict())

    def estimate(self, planner: Planner, asked: Options, messages: tuple[Message, ...]) -> dict[str, Any]:
        """What the request would take on each side, before it is asked."""
        answer, prompt = asked.max_output_tokens or auto.ANSWER_TOKENS, estimate_tokens(messages)
        here, there = planner.weigh(asked, messages)
        price = planner.cloud.price(there.model or None) if planner.cloud else None
        local = {"model": here.model or None, "ready": here.ready, "seconds": here.seconds, "cost": 0.0}
        cloud = {
            "model": there.model or None,
            "ready": there.ready,
            "seconds": there.seconds,
            "cost": estimate.dollars(price, prompt, answer),
            "price": price,
            "budget": self.budget.exceeded(),
        }
        return estimate.compare(prompt, answer, local, cloud)
