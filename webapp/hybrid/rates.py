"""How often each provider is asked, over a sliding window, and a warning when that is more than a person set for it.

A request of the cloud counts when it leaves the page: one that the egress gate or the budget held back was never made.
It only warns (`rate-limit:exceeded`): what is really refused, the provider refuses, and that is told by the same event with the
provider's own waiting time. One warning a provider until the window has room again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr.webapp.hybrid.events import EventBus
    from hybr.webapp.hybrid.modes import Remembers

WINDOW_S = 60.0
MOST = 1_000_000
DEFAULTS: dict[str, int | None] = {"local": None, "cloud": 60}  # requests a window


class RateWindow:
    """See the module. `clock` gives seconds that never go back."""

    def __init__(self, events: EventBus, preferences: Remembers, clock: Callable[[], float]) -> None:
        self._events = events
        self._preferences = preferences
        self._clock = clock
        self._asked: dict[str, deque[float]] = {name: deque() for name in DEFAULTS}
        self._warned: dict[str, bool] = {}
        events.on("egress:sent", lambda _: self.asked("cloud"))  # and not when the gate let nothing out

    def limits(self) -> dict[str, int | None]:
        """Requests a minute by provider; None: no limit."""
        stored = self._preferences.get("rate_limits")
        mine = stored if isinstance(stored, Mapping) else {}
        return {name: mine[name] if name in mine and _valid(mine[name]) else default for name, default in DEFAULTS.items()}

    def change(self, change: object) -> dict[str, int | None]:
        """Set limits. Raises OptionError."""
        if not isinstance(change, Mapping) or not set(change) <= set(DEFAULTS) or not all(map(_valid, change.values())):
            wanted = "rate_limits must be {local, cloud}: whole numbers above 0 of requests a minute, or null for none."
            raise OptionError(wanted, field="rate_limits")
        self._preferences.set("rate_limits", {**self.limits(), **change})
        return self.limits()

    def asked(self, provider: str) -> None:
        """A request goes there now."""
        now, times, limit = self._clock(), self._asked[provider], self.limits()[provider]
        while times and now - times[0] >= WINDOW_S:
            times.popleft()
        times.append(now)
        if limit is None or len(times) <= limit:
            self._warned[provider] = False
        elif not self._warned.get(provider):
            self._warned[provider] = True
            self.tell(provider, limit, (times[-1 - limit] + WINDOW_S - now) * 1000)

    def refused(self, provider: str, retry_after_s: float | None) -> None:
        """The provider itself said that it was too much."""
        self.tell(provider, None, None if retry_after_s is None else retry_after_s * 1000)

    def tell(self, provider: str, limit: int | None, wait_ms: float | None) -> None:
        """Emit the event; `wait_time` in ms."""
        detail: dict[str, Any] = {"provider": provider, "limit": limit, "wait_time": wait_ms, "window_s": WINDOW_S}
        self._events.emit("rate-limit:exceeded", detail)

    def to_dict(self) -> dict[str, Any]:
        """By provider: `{limit, asked}` in the window."""
        now = self._clock()
        asked = {name: sum(now - then < WINDOW_S for then in times) for name, times in self._asked.items()}
        return {name: {"limit": limit, "asked": asked[name]} for name, limit in self.limits().items()}


def _valid(value: object) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST)
