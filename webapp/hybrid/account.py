"""The account: what each provider spent, in tokens, time, errors and money, booked to the one that spent it.

Totals are kept per provider and model as they come, so the sums are those of the single usages by construction. Money is US
dollars; a cost that nobody stated counts as unknown and not as nothing, and `unpriced` says how many there were.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr.webapp.hybrid.types import Provider, Usage

DEPTH = 20  # how many fallbacks, handovers and switches are remembered (blueprint)
Outcome = Literal["done", "error", "stopped", "refused"]


@dataclass(slots=True)
class Totals:
    """Running sums of one provider's model. `requests` counts attempts that reached the provider.

    `fallbacks` counts the requests that another had to take over. Rates (tokens/s) are sums over the answers that had one.
    """

    requests: int = 0
    errors: int = 0
    stopped: int = 0
    fallbacks: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_time: float = 0.0
    ttft_sum: float = 0.0
    ttft_count: int = 0
    prefill_sum: float = 0.0
    prefill_count: int = 0
    decode_sum: float = 0.0
    decode_count: int = 0
    cost: float = 0.0
    unpriced: int = 0

    def add(self, other: Totals) -> None:
        """Add `other`'s sums to these."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def to_dict(self) -> dict[str, Any]:
        """The sums, with `tokens` and the averages that people ask for (ms)."""
        return {
            "requests": self.requests,
            "tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "errors": self.errors,
            "stopped": self.stopped,
            "fallbacks": self.fallbacks,
            "total_time": self.total_time,
            "average_time": self.total_time / self.requests if self.requests else 0.0,
            "average_ttft": self.ttft_sum / self.ttft_count if self.ttft_count else None,
            "average_prefill_tps": self.prefill_sum / self.prefill_count if self.prefill_count else None,
            "average_decode_tps": self.decode_sum / self.decode_count if self.decode_count else None,
            "cost": self.cost,
            "unpriced": self.unpriced,
        }


@dataclass(slots=True)
class Account:
    """The books of one page session. `heard` is told of each booking; `refusals` counts what the egress gate let nobody see."""

    models: dict[tuple[Provider, str], Totals] = field(default_factory=dict)
    fallbacks: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=DEPTH))
    handovers: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=DEPTH))
    fallback_count: int = 0
    handover_count: int = 0
    refusals: int = 0
    heard: Callable[[Provider, str, Totals], object] = lambda *_: None

    def book(
        self,
        provider: Provider,
        model: str,
        outcome: Outcome,
        usage: Usage,
        *,
        ms: float,
        ttft_ms: float | None,
        cost: float | None,
        prefill_tps: float | None = None,
        decode_tps: float | None = None,
    ) -> None:
        """Book one attempt: what it used, how long it took, how fast it was and how it ended. `cost` None: nobody stated it."""
        one = Totals(
            requests=1,
            errors=int(outcome == "error"),
            stopped=int(outcome == "stopped"),
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            total_time=ms,
            ttft_sum=ttft_ms or 0.0,
            ttft_count=int(ttft_ms is not None),
            prefill_sum=prefill_tps or 0.0,
            prefill_count=int(bool(prefill_tps)),
            decode_sum=decode_tps or 0.0,
            decode_count=int(bool(decode_tps)),
            cost=cost or 0.0,
            unpriced=int(cost is None),
        )
        self.models.setdefault((provider, model), Totals()).add(one)
        self.heard(provider, model, one)

    def changed(self, kind: Literal["fallback", "handover"], detail: dict[str, Any]) -> None:
        """Remember a change of provider, newest first; it counts to the `model` that was left."""
        if detail.get("model"):
            self.models.setdefault((detail["from"], detail["model"]), Totals()).fallbacks += 1
        if kind == "fallback":
            self.fallbacks.appendleft(detail)
            self.fallback_count += 1
        else:
            self.handovers.appendleft(detail)
            self.handover_count += 1

    def provider(self, provider: Provider) -> Totals:
        """The sums over all models of one provider."""
        total = Totals()
        for (owner, _), totals in self.models.items():
            if owner == provider:
                total.add(totals)
        return total

    def to_dict(self) -> dict[str, Any]:
        """`{local, cloud, models, fallbacks, handovers, fallback_count, handover_count, refusals}`."""
        return {
            "local": self.provider("local").to_dict(),
            "cloud": self.provider("cloud").to_dict(),
            "models": [
                {"provider": provider, "model": model, **totals.to_dict()} for (provider, model), totals in self.models.items()
            ],
            "fallbacks": list(self.fallbacks),
            "handovers": list(self.handovers),
            "fallback_count": self.fallback_count,
            "handover_count": self.handover_count,
            "refusals": self.refusals,
        }
