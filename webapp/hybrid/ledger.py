"""The months' totals, kept in the browser across visits, and the budget that is measured against them.

A booking belongs to the month that the wall clock shows in the person's own time zone when it is made; a clock that jumps back
books into the month it jumped to, and nothing is ever taken away. So the tabs of a browser share the months: each adds its
bookings to what is stored by then, and takes what the others have stored, of each sum the greater one.

A budget of so many dollars a month (or a session) warns once when WARN of it is spent, and stops when it is spent: then no
provider that costs money is asked.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

from hybr.webapp.hybrid.errors import BudgetExceeded, OptionError
from hybr.webapp.hybrid.kept import kept
from hybr.webapp.hybrid.schema import finite

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr.webapp.hybrid.account import Totals
    from hybr.webapp.hybrid.events import EventBus
    from hybr.webapp.hybrid.modes import Remembers
    from hybr.webapp.hybrid.types import Provider
    from hybr.webapp.runtimes.base import Storage

log = logging.getLogger(__name__)

KEY = "ledger"
SUMS = ("requests", "errors", "prompt_tokens", "completion_tokens", "cost", "unpriced")
WARN = 0.8
LAST_S = 250_000_000_000.0  # of the wall clock: the year 9892, and calendars end soon after
MOST = 1e12  # dollars, or tokens: what is more is no sum of anybody's
PERIODS = ("month", "session")
Period = Literal["month", "session"]


class Ledger:
    """See the module. `now` is the wall clock (s); without a storage the months last as long as the page."""

    def __init__(self, storage: Storage | None, now: Callable[[], float]) -> None:
        self._storage = storage
        self._now = now
        self._months: dict[str, dict[str, dict[str, float]]] = {}
        if storage:
            self._begin(storage)

    def month(self) -> str:
        """The month that it is: `2026-11`. A clock that shows no time that there is counts as one at its beginning."""
        now = self._now()
        return time.strftime("%Y-%m", time.localtime(now if 0 <= now <= LAST_S else 0.0))

    def book(self, provider: Provider, model: str, totals: Totals) -> None:
        """Add one attempt to its month."""
        month, name, booked = self.month(), f"{provider}/{model}", {name: getattr(totals, name) for name in SUMS}
        sums = self._sums(month, name)
        for one in SUMS:
            sums[one] += booked[one]
        if self._storage:
            kept(self._storage.add, KEY, {month: {name: booked}})

    def _begin(self, storage: Storage) -> None:
        months = _read(storage.get(KEY))
        if months is None:
            log.warning("the stored ledger cannot be read; it begins anew")
            kept(storage.set, KEY, "{}")  # else bookings would be added to nonsense
        self._months = months or {}
        storage.listen(KEY, self._heard)

    def _heard(self, changed: dict[str, Any]) -> None:
        """Months as they are stored by now; what this tab has yet to add is in its own sums already."""
        for month, models in (_read(json.dumps(changed)) or {}).items():
            for model, stored in models.items():
                sums = self._sums(month, model)
                sums.update({name: max(sums[name], stored[name]) for name in SUMS})

    def _sums(self, month: str, model: str) -> dict[str, float]:
        return self._months.setdefault(month, {}).setdefault(model, dict.fromkeys(SUMS, 0))

    def of(self, month: str | None = None) -> dict[str, dict[str, float]]:
        """The sums of a month (this one when None) by `provider/model`."""
        return {name: dict(sums) for name, sums in self._months.get(month or self.month(), {}).items()}

    def total(self, month: str | None = None) -> dict[str, float]:
        """The sums of a month over all models."""
        models = self.of(month).values()
        return {name: math.fsum(sums[name] for sums in models) for name in SUMS}

    def months(self) -> list[str]:
        """The months of which anything is known, newest first."""
        return sorted(self._months, reverse=True)


class Budget:
    """See the module. `session` gives the dollars spent since the page was opened."""

    def __init__(self, ledger: Ledger, events: EventBus, preferences: Remembers, session: Callable[[], float]) -> None:
        self._ledger = ledger
        self._events = events
        self._preferences = preferences
        self._session = session
        self._told: dict[Period, tuple[str, str]] = {}

    def limits(self) -> dict[Period, float | None]:
        """Dollars a month and a session; None: no limit."""
        stored = self._preferences.get("budget")
        limits = stored if isinstance(stored, Mapping) else {}
        return {period: limits[period] if _dollars(limits.get(period)) else None for period in ("month", "session")}

    def change(self, change: object) -> dict[str, Any]:
        """Set `month` or `session` (dollars, or None). Raises OptionError."""
        if not isinstance(change, Mapping):
            raise OptionError("the budget must be an object {month, session}.", field="budget")
        for period, dollars in change.items():
            if period not in PERIODS:
                raise OptionError(f"budget.{period} is not a budget. There are: {', '.join(PERIODS)}.", field=f"budget.{period}")
            if dollars is not None and not _dollars(dollars):
                raise OptionError(
                    f"budget.{period} must be dollars, from 0 to {MOST:g}, or null for none.", field=f"budget.{period}"
                )
        self._preferences.set("budget", {**self.limits(), **change})
        self._told.clear()
        return self.to_dict()

    def spent(self, period: Period) -> float:
        """Dollars spent in this month or session."""
        return self._ledger.total()["cost"] if period == "month" else self._session()

    def exceeded(self) -> Period | None:
        """The budget that is spent, or None."""
        limits = self.limits()
        return next((period for period, limit in limits.items() if limit is not None and self.spent(period) >= limit), None)

    def error(self) -> BudgetExceeded | None:
        """Why a provider that costs money may not be asked, or None."""
        period = self.exceeded()
        if period is None:
            return None
        limit, spent = self.limits()[period], self.spent(period)
        said = f"The budget of ${limit:.2f} a {period} is spent (${spent:.2f})."
        return BudgetExceeded(f"{said} Raise it, use the local model, or wait for the next {period}.", kind="policy")

    def look(self) -> None:
        """After a booking: emit `cost:budget` when a budget's state has changed, once a period."""
        for period, limit in self.limits().items():
            state = self._state(period, limit)
            if state == "within" or limit is None:
                self._told.pop(period, None)
            elif self._told.get(period) != (told := (self._ledger.month(), state)):
                self._told[period] = told
                detail = {"state": state, "period": period, "limit": limit, "spent": self.spent(period)}
                self._events.emit("cost:budget", detail)

    def _state(self, period: Period, limit: float | None) -> str:
        if limit is None or self.spent(period) < WARN * limit:
            return "within"
        return "exceeded" if self.spent(period) >= limit else "warning"

    def to_dict(self) -> dict[str, Any]:
        """By period: `{limit, spent, state}`."""
        return {
            period: {"limit": limit, "spent": self.spent(period), "state": self._state(period, limit)}
            for period, limit in self.limits().items()
        }


def _dollars(value: object) -> TypeGuard[float]:
    return finite(value) and 0 <= value <= MOST


def stated(value: object, otherwise: float | None = None) -> float | None:
    """A stated cost, where it is one; NaN or less than nothing would spoil the books for good."""
    return float(value) if _dollars(value) else otherwise


def _read(text: str | None) -> dict[str, dict[str, dict[str, float]]] | None:
    """What is stored; None when it is damaged, since sums of nonsense help nobody."""
    try:
        return {
            str(month): {str(model): {name: _sum(sums[name]) for name in SUMS} for model, sums in models.items()}
            for month, models in json.loads(text or "{}").items()
        }
    except (ValueError, TypeError, AttributeError, KeyError):
        return None


def _sum(value: object) -> float:
    if not _dollars(value):
        raise ValueError(value)
    return value
