"""A circuit breaker: after several failures of health in a short time a provider is left in peace for a while.

    closed     asked as usual
    open       not asked where there is another way, until `cooldown_s` have passed
    half-open  one trial decides: success closes it, failure opens it again for twice as long (to at most `longest_s`)

Only failures of health count; what a caller did wrong, what a model cannot do, and a person's stop do not.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

State = Literal["closed", "open", "half-open"]


class Breaker:
    """See the module. `clock` gives seconds; `limit` failures within `window_s` open it."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        limit: int = 3,
        window_s: float = 60.0,
        cooldown_s: float = 20.0,
        longest_s: float = 300.0,
    ) -> None:
        self._clock = clock
        self._limit = limit
        self._window_s = window_s
        self._first_s = cooldown_s
        self._longest_s = longest_s
        self._failures: deque[float] = deque(maxlen=limit)
        self._cooldown_s = cooldown_s
        self._until: float | None = None

    @property
    def state(self) -> State:
        """What it is now."""
        if self._until is None:
            return "closed"
        return "open" if self._clock() < self._until else "half-open"

    def failed(self) -> None:
        """A failure of health."""
        now = self._clock()
        if self.state == "half-open":
            self._cooldown_s = min(self._cooldown_s * 2, self._longest_s)
            self._until = now + self._cooldown_s
            return
        self._failures.append(now)
        if self._until is None and len(self._failures) == self._limit and now - self._failures[0] <= self._window_s:
            self._until = now + self._cooldown_s

    def succeeded(self) -> None:
        """It answered: all is forgotten."""
        self._failures.clear()
        self._until = None
        self._cooldown_s = self._first_s

    def retry_in_s(self) -> float:
        """Seconds until a trial is due; 0 when it is closed or due."""
        return 0.0 if self._until is None else max(self._until - self._clock(), 0.0)

    def to_dict(self) -> dict[str, Any]:
        """`{state, retry_in_s}`."""
        return {"state": self.state, "retry_in_s": self.retry_in_s()}
