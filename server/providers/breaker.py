"""A fuse for one upstream: after several failures in a row it is not asked for a while, then once, to see.

Only failures of the upstream's health count. A caller's mistake, a limit (429) and a refused key say nothing about it. While it
is open callers are answered at once, instead of each waiting for the same timeout.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr.server.errors import HybrError

State = Literal["closed", "open", "half-open"]
FAILURES = 5  # in a row
PAUSE = 10.0  # seconds; doubled each time the one try fails
LONGEST = 300.0
HEALTHY = {"rate_limited", "key_refused", "quota", "redirected", "no_key"}


@dataclass
class Breaker:
    """Closed lets all pass, open none, half-open one at a time. `clock` gives seconds."""

    clock: Callable[[], float] = time.monotonic
    failures: int = 0
    opened: int = 0
    until: float = field(default=0.0)
    probing: bool = False

    @property
    def state(self) -> State:
        """Say what it does now."""
        if not self.opened:
            return "closed"
        return "open" if self.clock() < self.until else "half-open"

    def wait(self) -> float:
        """Return the seconds until it lets somebody try, 0 when it does now."""
        return max(0.0, self.until - self.clock()) if self.opened else 0.0

    def admits(self) -> bool:
        """Say whether a call may pass, and if it is the one that tries, remember that it is under way."""
        state = self.state
        if state == "closed":
            return True
        if state == "open" or self.probing:
            return False
        self.probing = True
        return True

    def succeeded(self) -> None:
        """Close: it answered."""
        self.failures = self.opened = 0
        self.probing = False

    def failed(self, error: HybrError) -> None:
        """Count a failure; a refusal that shows it is well counts as an answer."""
        if not (error.status >= 500) or error.code in HEALTHY:
            self.succeeded()
            return
        self.failures += 1
        if self.probing or (not self.opened and self.failures >= FAILURES):
            self.opened += 1
            self.until = self.clock() + max(min(PAUSE * 2 ** (self.opened - 1), LONGEST), min(error.retry_after or 0, LONGEST))
        self.probing = False

    def left(self) -> None:
        """Give the try back: who tried went away before the answer."""
        self.probing = False
