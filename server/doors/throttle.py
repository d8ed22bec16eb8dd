"""Against guessing: after some failures of one account from one address, the next attempt waits, and longer each time.

In memory and bounded: a restart forgets, which costs a guesser's patience less than a table of strangers' attempts costs us.
Counted before the password is looked at, so that parallel attempts cannot slip through together.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from hybr.server.errors import LimitError

if TYPE_CHECKING:
    from collections.abc import Callable

FREE = 5  # attempts before the first wait
FIRST = 4.0  # seconds of the first wait, doubled with each failure
LONGEST = 900.0
EVERYWHERE = 50  # free attempts at one account from all addresses together
MOST = 10_000  # pairs remembered


class Throttle:
    """Counts attempts by key; `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._tried: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()

    def attempt(self, account: str, address: str) -> None:
        """Count one attempt. Raises LimitError while the account must wait for this address, or for everybody."""
        pairs = {(account, address): FREE, (account, ""): EVERYWHERE}
        wait = max(self._left(pair) for pair in pairs)
        if wait > 0:
            text = f"too many attempts: try again in {math.ceil(wait)} s"
            raise LimitError(text, code="too_many_attempts", retry_after=math.ceil(wait))
        for pair, free in pairs.items():
            self._count(pair, free)

    def passed(self, account: str, address: str) -> None:
        """Forget the account's failures from this address: its password was right."""
        self._tried.pop((account, address), None)

    def _left(self, pair: tuple[str, str]) -> float:
        return self._tried.get(pair, (0, 0.0))[1] - self.clock()

    def _count(self, pair: tuple[str, str], free: int) -> None:
        tries, until = self._tried.pop(pair, (0, 0.0))
        if tries and self.clock() - until > LONGEST:
            tries = 0
        tries += 1
        wait = min(LONGEST, FIRST * 2.0 ** min(tries - free, 20)) if tries >= free else 0.0
        self._tried[pair] = (tries, self.clock() + wait)
        while len(self._tried) > MOST:
            self._tried.popitem(last=False)
