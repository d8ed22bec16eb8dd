"""One budget as this process sees it: what it holds of it on lease, what of that is spoken for, and why there is no more.

A purse is one scope (a person or a token) in one period (a UTC day or month). The store leases money to the process in blocks
(`hybr.server.money.leases`), so taking some for a request is a subtraction.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import NamedTuple


class Period(NamedTuple):
    """A UTC day (`2026-11-22`) or month (`2026-11`), and the POSIX time at which it is over."""

    name: str
    ends: float


def day(now: float) -> Period:
    """Return the UTC day of a POSIX time."""
    at = dt.datetime.fromtimestamp(now, dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return Period(f"{at:%Y-%m-%d}", (at + dt.timedelta(days=1)).timestamp())


def month(now: float) -> Period:
    """Return the UTC month of a POSIX time."""
    at = dt.datetime.fromtimestamp(now, dt.UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return Period(f"{at:%Y-%m}", (at + dt.timedelta(days=32)).replace(day=1).timestamp())


@dataclass(slots=True, eq=False)
class Purse:
    """All amounts are nano-dollars, `valid`, `asked` and `touched` times of the meter's clock.

    `lease` is what the store has set aside for this process and not heard back about; of it `used` is spent by answers whose
    cost is known, `reserved` is kept for answers under way. `left` is what the whole budget had left for anybody when last
    asked, at `asked`, and `tied` what of the rest is only leased or reserved and may come back before the period's end.
    """

    scope: str
    period: Period
    limit: int
    lease: int = 0
    used: int = 0
    reserved: int = 0
    valid: float = 0.0
    asked: float = float("-inf")
    left: int = 0
    tied: int = 0
    wanted: int = 0
    touched: float = 0.0
    key: tuple[str, str] = field(init=False)
    """The name under which the store knows it."""

    def __post_init__(self) -> None:
        self.key = self.scope, self.period.name

    def free(self, now: float) -> int:
        """Return what may be taken now: nothing on a lease that ran out, for others may have written it off."""
        return self.lease - self.used - self.reserved if now < self.valid else 0

    def low(self, now: float) -> bool:
        """Say whether it is time to ask for more, before anybody waits for it."""
        return self.free(now) < self.block() // 2

    def block(self) -> int:
        """Return how much to lease at once: enough for many answers, little enough that another process finds some too."""
        return max(self.limit // 16, 1)
