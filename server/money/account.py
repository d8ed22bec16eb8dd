"""One person's or token's standing against their limits, within this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hybr.server.money import purse
from hybr.server.money.bucket import Bucket

if TYPE_CHECKING:
    from hybr.server.money.limits import Limits
    from hybr.server.money.purse import Period, Purse


class Refusal(NamedTuple):
    """Which limit refuses, its size, and the seconds until it would not."""

    limit: str
    size: int
    wait: float


class Account:
    """The state behind one scope's limits. `check` everything first, then `take`: nothing is half taken."""

    __slots__ = ("_day", "_kept", "limits", "policy", "purses", "rates", "requests", "running", "scope", "tokens")

    def __init__(self, scope: str, limits: Limits, now: float) -> None:
        self.scope = scope
        self.limits = limits
        self.requests = None if limits.requests_per_minute is None else Bucket(limits.requests_per_minute, now)
        self.tokens = None if limits.tokens_per_minute is None else Bucket(limits.tokens_per_minute, now)
        self.running = 0
        self.purses: tuple[Purse, ...] = ()
        self._day: Period | None = None
        self._kept: tuple[Purse, ...] = ()  # of periods that are over, while something is in them: a clock may be set back
        prefix = "key-" if scope.startswith("key:") else ""
        self.rates = tuple((f'"{prefix}{name}"', bucket) for name, bucket in self.buckets())
        self.policy = ", ".join([f"{name};q={bucket.size};w=60" for name, bucket in self.rates])

    def buckets(self) -> list[tuple[str, Bucket]]:
        """Return what is limited by the minute, by name."""
        return [(name, one) for name, one in (("requests", self.requests), ("tokens", self.tokens)) if one is not None]

    def check(self, tokens: int, now: float) -> Refusal | None:
        """Return the rate or stream limit that refuses a request of `tokens`, None for none."""
        limits = self.limits
        if limits.streams is not None and self.running >= limits.streams:
            return Refusal("streams", limits.streams, 1.0)
        if self.requests is not None and (wait := self.requests.wait(1, now)):
            return Refusal("requests", self.requests.size, wait)
        if self.tokens is not None and (wait := self.tokens.wait(tokens, now)):
            return Refusal("tokens", self.tokens.size, wait)
        return None

    def take(self, tokens: int, now: float) -> None:
        """Count one request of `tokens` as running."""
        self.running += 1
        if self.requests is not None:
            self.requests.take(1, now)
        if self.tokens is not None:
            self.tokens.take(tokens, now)

    def give(self, tokens: int, now: float) -> None:
        """Count it as over; `tokens` is what was taken too much (less than nothing where it was too little)."""
        self.running -= 1
        if self.tokens is not None:
            self.tokens.take(-tokens, now)

    def open(self, today: Period, month: Period) -> tuple[Purse, ...]:
        """Return the purses of the limits on spending, new ones where a period is over."""
        if self._day is today:
            return self.purses
        self._day = today
        known = {one.key: one for one in (*self._kept, *self.purses)}
        wanted = ((today, self.limits.spend_day), (month, self.limits.spend_month))
        self.purses = tuple(
            known.get((self.scope, period.name)) or purse.Purse(self.scope, period, limit)
            for period, limit in wanted
            if limit is not None
        )
        self._kept = tuple(one for one in known.values() if one not in self.purses and (one.lease or one.used or one.reserved))
        return self.purses

    def idle(self, now: float) -> bool:
        """Say whether nothing would be lost by forgetting it."""
        buckets = all(bucket is None or bucket.idle(now) for bucket in (self.requests, self.tokens))
        return buckets and not self.running and not any(one.lease or one.used for one in (*self._kept, *self.purses))
