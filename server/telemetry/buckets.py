"""Histograms in whole numbers: bucket `k` holds values up to BASE * 1.25**k, so a quantile is right to an eighth or so."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

GROWTH = 1.25
BASE = 1.0  # milliseconds, or tokens a second times ten
LAST = 90


def bucket(value: float) -> int:
    """Return the bucket of a value that is not negative."""
    return 0 if value <= BASE else min(LAST, math.ceil(math.log(value / BASE, GROWTH) - 1e-9))


def quantile(counts: Mapping[int, int], share: float) -> float | None:
    """Return the value below which `share` of the counted are, None when nothing was counted.

    Inside the bucket the values are taken to be spread evenly.
    """
    total = sum(counts.values())
    if not total:
        return None
    rank, below = share * total, 0
    for index in sorted(counts):
        if below + counts[index] >= rank:
            low, high = (0.0 if index == 0 else BASE * GROWTH ** (index - 1)), BASE * GROWTH**index
            return low + (high - low) * max(rank - below, 0) / counts[index]
        below += counts[index]
    return BASE * GROWTH ** max(counts)
