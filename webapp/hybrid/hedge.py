"""A hedged start: when the local model is slower than this device has shown it to be, the cloud starts beside it.

The bound comes from the device profile: SLACK times the predicted time to the first token (at least FIRST_S), and afterwards a
SHARE of the measured decode rate, looked at over WINDOW_S. Where nothing has been measured there is no bound and no hedge. Who
brings the next new text wins; the other is stopped and what it spent is booked to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid.patience import attended

if TYPE_CHECKING:
    import asyncio

    from hybr.webapp.hybrid.leg import Attempt
    from hybr.webapp.hybrid.patience import Attention
    from hybr.webapp.hybrid.profile import DeviceProfile

SLACK = 3.0
FIRST_S = 1.0
SHARE = 0.25
WINDOW_S = 2.0


@dataclass(frozen=True, slots=True)
class Bound:
    """`first_s` until the first token, `tps` tokens a second afterwards; slower is slow."""

    first_s: float
    tps: float

    @classmethod
    def of(cls, profile: DeviceProfile, model: str, prompt_tokens: int) -> Bound | None:
        """What this device has shown of a model; None when it has shown nothing yet."""
        rates = profile.of(model)
        if not rates.prefill_tps or not rates.decode_tps:
            return None
        predicted = prompt_tokens / rates.prefill_tps + 1 / rates.decode_tps
        return cls(max(SLACK * predicted, FIRST_S), SHARE * rates.decode_tps)

    async def exceeded(self, attempt: Attempt, work: asyncio.Task[Any], attention: Attention) -> str | None:
        """Wait until the attempt is too slow and say how, or until it is over (None)."""
        if await attended(work, self.first_s, attention):
            return None
        if not attempt.deltas:
            return f"no token within {self.first_s:.1f} s"
        window = max(WINDOW_S, 2 / self.tps)  # so long that a rate of the bound gives two tokens
        while True:
            before = attempt.deltas
            if await attended(work, window, attention):
                return None
            rate = (attempt.deltas - before) / window
            if rate < self.tps:
                return f"{rate:.1f} tokens a second, under {self.tps:.1f}"
