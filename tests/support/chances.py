"""Top-p's distribution in float64, and the chi-square test of tokens drawn from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def top_p(logits: npt.NDArray[np.float32], temperature: float, most: float) -> npt.NDArray[np.float64]:
    """Return each token's chance: of the likeliest tokens, until they hold `most` of the mass, its share of that."""
    scaled = np.exp((logits - logits.max()).astype(np.float64) / temperature)
    p = scaled / scaled.sum()
    order = np.argsort(-p, kind="stable")
    inside = order[: int((np.cumsum(p[order]) < most).sum()) + 1]
    found = np.zeros_like(p)
    found[inside] = p[inside] / p[inside].sum()
    return found


def chi_square(seen: npt.NDArray[np.int64], wanted: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the sum over the tokens that can come, and its upper thousandth by Wilson and Hilferty's cube (PNAS 17, 1931).

    Tokens that are expected fewer than five times count as one.
    """
    expected = wanted * seen.sum()
    often = expected >= 5
    counts, means = (np.append(x[often], x[~often].sum()) for x in (seen, expected))
    counts, means = counts[means > 0], means[means > 0]
    square = float((np.square(counts - means) / means).sum())
    degrees = len(counts) - 1
    return square, float(degrees * (1 - 2 / (9 * degrees) + 3.09 * np.sqrt(2 / (9 * degrees))) ** 3)
