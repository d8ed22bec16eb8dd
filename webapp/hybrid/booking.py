"""What an attempt has cost, booked when it is over: to the account, to its request's answer, and told (`cost:updated`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybr.webapp.hybrid.profile import estimate_tokens

if TYPE_CHECKING:
    from hybr.webapp.hybrid.account import Outcome
    from hybr.webapp.hybrid.answer import Answer, Asked
    from hybr.webapp.hybrid.desk import Desk
    from hybr.webapp.hybrid.leg import Attempt
    from hybr.webapp.hybrid.types import Final, Usage


def book(
    desk: Desk, asked: Asked, answer: Answer, attempt: Attempt, *, outcome: Outcome, usage: Usage, final: Final | None, now: float
) -> None:
    """Book an attempt that ended `now` (s, the loop's clock); `final` is the end of one that ended well."""
    leg, request_id = attempt.leg, asked.options.request_id
    if leg.unsent and leg.unsent(request_id):
        return  # the person was still being asked: nobody has done any work
    if outcome == "refused":
        desk.account.refusals += 1
        return
    cost = _cost(desk, asked, attempt, outcome, final)
    name = (final.model if final else None) or leg.model or "default"
    desk.account.book(
        leg.provider,
        name,
        outcome,
        usage,
        ms=(now - attempt.started) * 1000,
        ttft_ms=None if attempt.first is None else (attempt.first - attempt.started) * 1000,
        cost=cost,
        prefill_tps=final.prefill_tps if final else None,
        decode_tps=(final.decode_tps if final else None) or attempt.decode_rate(usage, now),
    )
    answer.spent += usage
    answer.cost = None if cost is None or answer.cost is None else answer.cost + cost
    desk.events.emit("cost:updated", {"provider": leg.provider, "model": name, "cost": cost, "request_id": request_id})


def _cost(desk: Desk, asked: Asked, attempt: Attempt, outcome: Outcome, final: Final | None) -> float | None:
    """Dollars, as stated; None where nobody knows."""
    if final and final.cost is not None:
        return final.cost
    if attempt.leg.provider == "local" or (outcome == "error" and not attempt.deltas):
        return 0.0  # nothing was paid for what ran here, nor for a refusal
    if outcome == "done":
        return None
    # Cut off before it could say: by the price list, as far as there is one.
    return desk.quote(attempt.leg.model, estimate_tokens(asked.messages), attempt.deltas)
