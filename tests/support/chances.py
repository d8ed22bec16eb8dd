"""Top-p's distribution in float64, the chi-square test of tokens drawn from it, and what a full sort draws."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

SIZES = (49152, 128256, 151936)
"""SmolLM2's vocabulary, Llama 3's and Qwen's."""
MASKED = -3.0e38
"""What a grammar's mask makes of a logit."""


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


def usual(size: int) -> npt.NDArray[np.float32]:
    """Return logits such as a language model has: a few that stand out of many."""
    source = np.random.Generator(np.random.PCG64(size))
    return (source.standard_normal(size) * 2 + (source.random(size) < 1e-3) * 9).astype(np.float32)


def edges(size: int) -> Iterator[tuple[str, npt.NDArray[np.float32], float, float]]:
    """Yield what a sampler may stumble over: its name, logits for a vocabulary of `size`, temperature, top_p."""
    plain = usual(size)
    halves = (np.round(plain) / 2).astype(np.float32)
    odd = np.arange(size) % 7
    yield "all there is", plain, 0.8, 1.0
    yield "usual", plain, 0.8, 0.95
    yield "ties", halves, 0.7, 0.9
    yield "ties at the top", np.minimum(plain, 5), 0.5, 0.5
    yield "all the same", np.zeros(size, np.float32), 1.0, 0.9
    yield "hardly any top_p", plain, 0.8, 1e-6
    yield "hardly any heat", plain, 1e-6, 0.95
    yield "hardly any heat, ties", halves, 1e-6, 1.0
    yield "one candidate", np.where(np.arange(size) == size - 1, plain, MASKED).astype(np.float32), 0.8, 1.0
    yield "masked", np.where(odd == 3, plain, MASKED).astype(np.float32), 0.8, 1.0
    yield "infinitely unlikely", np.where(odd == 5, plain, -np.inf).astype(np.float32), 0.8, 0.9


def off(p: npt.NDArray[np.float32], token: int, uniform: float, most: float) -> float:
    """Return how much mass lies between a token's own in the full sort and what was drawn for: 0 where the sort draws it too.

    The sort is stable and adds up in float64, so that a token at a boundary may miss by a sum's rounding.
    """
    order = np.argsort(-p, kind="stable")
    mass = np.cumsum(p[order].astype(np.float64))
    aim = mass[min(int(np.searchsorted(mass, most)), len(p) - 1)] * min(uniform, 0.999999)
    place = int(np.flatnonzero(order == token)[0])
    return float(max(aim - mass[place], mass[place] - p[token] - aim, 0.0))
