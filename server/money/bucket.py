"""A token bucket: so many a minute, and at most a minute's worth at once."""

from __future__ import annotations

import math


class Bucket:
    """Holds up to `size` and fills by `size` a minute. It may go below zero: what was really used is known only afterwards."""

    __slots__ = ("_at", "_level", "rate", "size")

    def __init__(self, size: int, now: float) -> None:
        self.size = size
        self.rate = size / 60
        self._level = float(size)
        self._at = now

    def level(self, now: float) -> float:
        """Return what is in it at `now`, seconds of a clock that never goes back."""
        if now > self._at:
            level = self._level + (now - self._at) * self.rate
            self._level = level if level < self.size else float(self.size)
            self._at = now
        return self._level

    def wait(self, need: int, now: float) -> float:
        """Return the seconds until `need` can be taken, 0 for now. More than a full bucket waits for a full one."""
        lacking = min(self.size, need) - self.level(now)
        return lacking / self.rate if lacking > 0 else 0.0

    def take(self, amount: int, now: float) -> None:
        """Take `amount`, or give it back where it is negative."""
        level = self.level(now) - amount
        self._level = level if level < self.size else float(self.size)

    def standing(self, now: float) -> str:
        """Return what is left as a whole number, and the seconds until it is full, as a structured field's parameters."""
        level = self.level(now)
        return f"r={int(level) if level > 0 else 0};t={math.ceil((self.size - level) / self.rate)}"

    def idle(self, now: float) -> bool:
        """Say whether it is full, so that a new one would be the same."""
        return self.level(now) >= self.size
