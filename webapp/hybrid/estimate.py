"""What a request would take, here and in the cloud, before it is asked: tokens, seconds, dollars.

Prompt tokens are estimated (`profile.estimate_tokens`), answer tokens are the caller's limit or auto mode's expectation. Seconds
come from the device profile and from this session's means; dollars from the server's price list, in dollars a million tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

MILLION = 1_000_000


def dollars(price: Mapping[str, Any] | None, prompt_tokens: int, completion_tokens: int) -> float | None:
    """The price of so many tokens; None where no price is known."""
    if price is None:
        return None
    return (prompt_tokens * float(price["input"]) + completion_tokens * float(price["output"])) / MILLION


def compare(prompt: int, answer: int, local: dict[str, Any], cloud: dict[str, Any]) -> dict[str, Any]:
    """The two sides of an estimate beside each other, with what the local model saves where both are known."""
    saving = cloud["cost"] - local["cost"] if cloud["cost"] is not None else None
    tokens = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
    return {"tokens": tokens, "currency": "USD", "local": local, "cloud": cloud, "saving": saving}


def report(usage: dict[str, Any], month: str, models: dict[str, dict[str, float]], budget: dict[str, Any]) -> str:
    """The account as a person reads it: the session by provider, the month by model, the budgets."""
    lines = ["This session:"]
    for name in ("local", "cloud"):
        totals = usage[name]
        counts = f"{totals['requests']} requests, {totals['tokens']} tokens, {totals['errors']} errors"
        unknown = f" ({totals['unpriced']} without a price)" if totals["unpriced"] else ""
        lines.append(f"  {name}: {counts}, ${totals['cost']:.6f}{unknown}")
    lines.append(f"  fallbacks {usage['fallback_count']}, handovers {usage['handover_count']}")
    lines.append(f"In {month}:")
    for name, sums in sorted(models.items()):
        tokens = sums["prompt_tokens"] + sums["completion_tokens"]
        lines.append(f"  {name}: {sums['requests']:.0f} requests, {tokens:.0f} tokens, ${sums['cost']:.6f}")
    for period, told in budget.items():
        if told["limit"] is not None:
            lines.append(f"Budget a {period}: ${told['spent']:.6f} of ${told['limit']:.2f} ({told['state']})")
    return "\n".join(lines)
