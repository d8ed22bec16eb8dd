"""How long silence is borne: watchdogs that count attended time, not what the clock says.

A frozen or sleeping page finds the clock hours ahead when it wakes, with nothing wrong. So silence is counted in ticks of at
most TICK_S that were really waited through, and none is counted while the page is hidden. The engine's worker is asked for a
sign of life before its silence is held against it: one that answers a ping is given its time for a token, one that does not is
dead, however long a token may take here.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid.errors import CloudError, LocalError

if TYPE_CHECKING:
    from hybr.webapp.hybrid.errors import ProviderError
    from hybr.webapp.hybrid.leg import Attempt, Leg

TICK_S = 5.0
PING_AFTER_S = 10.0  # of silence
PING_S = 30.0  # for an answer: a software adapter may hold the worker's thread for long


@dataclass(slots=True)
class Attention:
    """Whether anybody looks at the page; `returns` counts how often it came back from being hidden or frozen."""

    hidden: bool = False
    returns: int = 0

    def tell(self, *, hidden: bool, frozen_ms: float = 0.0) -> None:
        """What the shell saw. `frozen_ms`: for how long nothing ran at all."""
        self.returns += int((self.hidden and not hidden) or frozen_ms > 0)
        self.hidden = hidden


async def attended(work: asyncio.Task[Any], seconds: float, attention: Attention) -> bool:
    """Wait until `work` is done (True), or for so many seconds during which the page was awake and seen (False)."""
    left = seconds
    while left > 0:
        tick = min(left, TICK_S)
        if (await asyncio.wait([work], timeout=tick))[0]:
            return True
        if not attention.hidden:
            left -= tick
    return work.done()


class Watchdog:
    """Watches over one attempt. Raises (`watch`) when it has stalled, or its worker is silent."""

    def __init__(self, attempt: Attempt, attention: Attention) -> None:
        self._attempt = attempt
        self._attention = attention
        self._returns = attention.returns
        self._seen = self._pulse()
        self._silence = 0.0
        self._ping: asyncio.Task[None] | None = None
        self._pinged_at = 0.0

    async def watch(self, work: asyncio.Task[Any]) -> None:
        """Return when `work` is done, however it ended. Raises LocalError, CloudError of code `stalled`.

        Where it raises, or is cancelled itself, `work` is cancelled and left behind: it may end when and as it likes.
        """
        try:
            while not await attended(work, tick := min(TICK_S, self._patience()), self._attention):
                self._look(tick)
        except BaseException:
            _leave(work)
            raise
        finally:
            self._hush()

    def _patience(self) -> float:
        leg = self._attempt.leg
        return leg.next_s if self._attempt.deltas else leg.first_s

    def _pulse(self) -> int:
        """Signs of life; where the provider answers others too, theirs count: one that is busy has not stalled."""
        pulse = self._attempt.leg.pulse
        return pulse() if pulse else self._attempt.deltas + self._attempt.thoughts

    def _look(self, tick: float) -> None:
        if (pulse := self._pulse()) != self._seen:
            self._seen, self._silence = pulse, 0.0
            self._hush()
            return
        self._silence += tick
        if self._returns != self._attention.returns:  # back from a freeze: the worker is looked after first
            self._returns, self._silence = self._attention.returns, 0.0
            self._ask()
        leg, patience = self._attempt.leg, self._patience()
        if self._silence >= patience:
            raise _stalled(leg, f"nothing came for {patience:g} s")
        if self._ping is None and self._silence >= PING_AFTER_S:
            self._ask()
        elif self._ping and not self._ping.done() and self._silence - self._pinged_at >= PING_S:
            raise _stalled(leg, f"its worker has not answered for {PING_S:g} s")

    def _ask(self) -> None:
        self._hush()
        if ping := self._attempt.leg.ping:
            self._ping = asyncio.ensure_future(ping())
            self._pinged_at = self._silence

    def _hush(self) -> None:
        ping, self._ping = self._ping, None
        if ping:
            _leave(ping)  # a dead worker is told elsewhere


def _leave(task: asyncio.Task[Any]) -> None:
    task.cancel()
    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen: else asyncio complains


def _stalled(leg: Leg, said: str) -> ProviderError:
    if leg.provider == "cloud":
        return CloudError(f"The cloud has stalled: {said}.", name="StalledError", code="stalled", retryable=True)
    error = LocalError(f"The local model has stalled: {said}.", name="StalledError", code="stalled")
    error.reactions = ("worker", "reload", "cloud")
    return error
