"""Draws of the library's own sampler against the distribution they stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from native_model import Native, unbound

if TYPE_CHECKING:
    import numpy.typing as npt

VOCABULARY = 96
TEMPERATURE, TOP_P = 0.8, 0.9


class Sampler(Native):
    """The functions between logits and token, compiled for this machine without a model."""

    def __init__(self) -> None:
        import tvm
        from tvm import relax

        from hybr.mlc_build.lower import add_sampler, native_target, pipeline

        self.tvm, self.device = tvm, tvm.cpu()
        target = native_target()
        module = add_sampler(tvm.IRModule(), VOCABULARY)
        with target:
            built = relax.build(unbound(module), target=target, relax_pipeline=pipeline("software", target))
        self.machine: Any = relax.VirtualMachine(built, self.device)


@pytest.fixture(scope="module")
def sampler() -> Sampler:
    """It, once."""
    return Sampler()


def kept(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return top-p's distribution: the likeliest tokens until they hold TOP_P of the mass, each by its share of that."""
    scaled = np.exp((logits - logits.max()).astype(np.float64) / TEMPERATURE)
    p = scaled / scaled.sum()
    order = np.argsort(-p, kind="stable")
    inside = order[: int((np.cumsum(p[order]) < TOP_P).sum()) + 1]
    found = np.zeros_like(p)
    found[inside] = p[inside] / p[inside].sum()
    return found


@pytest.mark.parametrize("draws", [5_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_draws_match_the_distribution(sampler: Sampler, draws: int) -> None:
    """With a fixed seed, the tokens drawn pass the chi-square test against top-p's distribution; none comes from outside it."""
    source = np.random.Generator(np.random.PCG64(20))
    logits = (source.standard_normal(VOCABULARY) * 2).astype(np.float32)
    wanted, p = kept(logits), sampler.probabilities(logits, TEMPERATURE)
    seen = np.bincount([sampler.draw(p, u, TOP_P) for u in source.random(draws)], minlength=VOCABULARY)
    assert not seen[wanted == 0].any()
    inside = wanted > 0
    expected = wanted[inside] * draws
    square = float((np.square(seen[inside] - expected) / expected).sum())
    # Chi-square's upper thousandth by Wilson and Hilferty's cube (PNAS 17, 1931); the seed is fixed, so it does not flake.
    degrees = int(inside.sum()) - 1
    bound = degrees * (1 - 2 / (9 * degrees) + 3.09 * np.sqrt(2 / (9 * degrees))) ** 3
    print(f"{draws} draws of {degrees + 1} tokens: chi-square {square:.1f}, bound {bound:.1f}")
    assert square < bound


def test_the_seed_decides(sampler: Sampler) -> None:
    """The same numbers draw the same tokens."""
    source = np.random.Generator(np.random.PCG64(21))
    p, numbers = sampler.probabilities(source.standard_normal(VOCABULARY).astype(np.float32), TEMPERATURE), source.random(50)
    first, second = ([sampler.draw(p, u, TOP_P) for u in numbers] for _ in range(2))
    assert first == second
    assert len(set(first)) > 5
