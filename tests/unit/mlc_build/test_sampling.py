"""Draws of the library's own sampler against the distribution they stand for."""

from __future__ import annotations

from typing import Any

import chances
import numpy as np
import pytest
from native_model import Native, unbound

VOCABULARY = 96
TEMPERATURE, TOP_P = 0.8, 0.9
ROUNDING = 1e-4
"""Of the mass: what a single thread's sum over a whole vocabulary may lose; a device's many lose less (test_kernels)."""


class Sampler(Native):
    """The functions between logits and token, compiled for this machine without a model."""

    def __init__(self, vocabulary: int = VOCABULARY) -> None:
        import tvm
        from tvm import relax

        from hybr.mlc_build.lower import add_sampler, native_target, pipeline, sampler_threads

        self.tvm, self.device = tvm, tvm.cpu()
        target = native_target()
        module = add_sampler(tvm.IRModule(), vocabulary, sampler_threads("software", target))
        with target:
            built = relax.build(unbound(module), target=target, relax_pipeline=pipeline("software", target))
        self.machine: Any = relax.VirtualMachine(built, self.device)


@pytest.fixture(scope="module")
def sampler() -> Sampler:
    """It, once."""
    return Sampler()


@pytest.mark.parametrize("draws", [5_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_draws_match_the_distribution(sampler: Sampler, draws: int) -> None:
    """With a fixed seed, the tokens drawn pass the chi-square test against top-p's distribution; none comes from outside it."""
    source = np.random.Generator(np.random.PCG64(20))
    logits = (source.standard_normal(VOCABULARY) * 2).astype(np.float32)
    wanted, p = chances.top_p(logits, TEMPERATURE, TOP_P), sampler.probabilities(logits, TEMPERATURE)
    seen = np.bincount([sampler.draw(p, u, TOP_P) for u in source.random(draws)], minlength=VOCABULARY)
    assert not seen[wanted == 0].any()
    square, bound = chances.chi_square(seen, wanted)  # the seed is fixed, so it does not flake
    print(f"{draws} draws of {(wanted > 0).sum()} tokens: chi-square {square:.1f}, bound {bound:.1f}")
    assert square < bound


def test_the_seed_decides(sampler: Sampler) -> None:
    """The same numbers draw the same tokens."""
    source = np.random.Generator(np.random.PCG64(21))
    p, numbers = sampler.probabilities(source.standard_normal(VOCABULARY).astype(np.float32), TEMPERATURE), source.random(50)
    first, second = ([sampler.draw(p, u, TOP_P) for u in numbers] for _ in range(2))
    assert first == second
    assert len(set(first)) > 5


@pytest.mark.parametrize("size", chances.SIZES)
def test_a_real_vocabulary_draws_what_a_sort_draws(size: int) -> None:
    """Ties, masks and the ends of top_p and heat: the full sort's token for the same number, to a sum's rounding; NaN's none."""
    sampler = Sampler(size)
    numbers = [0.0, *(float(u) for u in np.random.Generator(np.random.PCG64(22)).random(5)), 1.0]
    for name, logits, temperature, most in chances.edges(size):
        p = sampler.probabilities(logits, temperature)
        drawn = [sampler.draw(p, u, most) for u in numbers]
        missed = [chances.off(p, token, u, most) for token, u in zip(drawn, numbers, strict=True)]
        assert max(missed) < ROUNDING, (name, missed)
        assert name == "all the same" or sum(not miss for miss in missed) >= len(numbers) - 1, (name, missed)
        assert all(logits[token] > chances.MASKED for token in drawn), name
    broken = chances.usual(size)
    broken[size // 2] = np.nan
    assert sampler.draw(sampler.probabilities(broken, 0.8), 0.5, 0.9) == -1
    mask = np.zeros((1, (size + 31) // 32), np.int32)
    mask[0, -1] = 4
    left = sampler.in_place("apply_bitmask_inplace", chances.usual(size), np.zeros(1, np.int32), mask)
    assert {sampler.draw(sampler.probabilities(left, 1.0), u, 1.0) for u in numbers} == {(size - 1) // 32 * 32 + 2}
