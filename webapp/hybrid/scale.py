"""What each side would be for a request, as auto mode weighs them: seconds, dollars, window, abilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid import abilities, auto
from hybr.webapp.hybrid.estimate import dollars
from hybr.webapp.hybrid.profile import estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hybr.webapp.hybrid.auto import AutoConfig, Side, Wants
    from hybr.webapp.hybrid.health import Health
    from hybr.webapp.hybrid.local import LocalLLM
    from hybr.webapp.hybrid.types import Message, Options


class Scale:
    """See the module. `price(model)` is the cloud's, in dollars a million tokens."""

    def __init__(self, local: LocalLLM, health: Health, price: Callable[[str | None], dict[str, float] | None]) -> None:
        self._local = local
        self._health = health
        self._price = price

    @staticmethod
    def wants(asked: Options, messages: tuple[Message, ...]) -> Wants:
        """What the request needs; `tokens` with the answer."""
        answer, needs = asked.max_output_tokens or auto.ANSWER_TOKENS, abilities.wanted(asked, messages)
        return auto.Wants(estimate_tokens(messages) + answer, "images" in needs, "tools" in needs, "schema" in needs)

    def local(self, wants: Wants, answer: int) -> Side:
        """The local model that is loaded, if one is."""
        model = self._local.model or ""
        can = abilities.local(self._local.entry(model))
        return auto.Side(
            model,
            ready=bool(model) and not self._health.open("local"),
            seconds=self._local.profile.predict_s(self._local.measured, wants.tokens - answer, answer),
            context=self._local.context(),
            images="images" in can,
            tools="tools" in can,
            schema="schema" in can,
        )

    def cloud(self, models: Sequence[dict[str, Any]], wants: Wants, answer: int, config: AutoConfig) -> Side:
        """The best of the cloud's models for it; a side of which nothing is known where there is no list."""
        sides = [self._one(entry, wants, answer) for entry in models]
        return auto.among(sides, wants, config) or self._one({}, wants, answer)

    def _one(self, entry: dict[str, Any], wants: Wants, answer: int) -> Side:
        model, can = str(entry.get("id") or ""), abilities.cloud(entry)
        cost = dollars(self._price(model or None), wants.tokens - answer, answer)
        return auto.Side(
            model,
            seconds=self._health.mean_seconds("cloud", answer, model) or self._health.mean_seconds("cloud", answer),
            cost=self._health.mean_cost() if cost is None else cost,
            context=int(entry.get("context_length") or 0),
            images="images" in can,
            tools="tools" in can,
            schema="schema" in can,
            owner=str(entry.get("owned_by") or ""),
        )
