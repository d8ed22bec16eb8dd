"""The answer sheet itself: its cache, its greedy loop, and the properties `tiny` must have to prove anything."""

from __future__ import annotations

import numpy as np
import pytest

from hybr.mlc_build import tiny
from hybr.mlc_build.reference import Reference, dequantised

PROMPTS = ("Hello", "What is the capital of France?", "abc", "The quick brown fox " * 12, "1+1=")


def ids(text: str) -> list[int]:
    """Tokens of a text: `tiny` has one a byte."""
    return [len(tiny.SPECIALS) + byte for byte in text.encode()]


@pytest.fixture(scope="module")
def reference() -> Reference:
    """`tiny` as quantised."""
    from hybr.mlc_build.quantise import quantise

    made = {p.name: p.array for p in quantise(tiny.tensors(), tiny.CONFIG, "q4f32_1")}
    return Reference(tiny.CONFIG, dequantised(made))


@pytest.mark.parametrize("cut", [1, 7, 39])
def test_tokens_may_come_in_any_split(reference: Reference, cut: int) -> None:
    """Keys and values of earlier calls count as if all came at once."""
    prompt = ids("Forty tokens are enough for this one....")
    reference.reset()
    whole = reference.forward(prompt)[-1]
    reference.reset()
    reference.forward(prompt[:cut])
    np.testing.assert_allclose(reference.forward(prompt[cut:])[-1], whole, rtol=0, atol=1e-3)


def test_rotation_is_relative(reference: Reference) -> None:
    """Turning queries and keys by the same number of positions leaves their products alone."""
    x = np.random.Generator(np.random.PCG64(4)).standard_normal((2, 1, tiny.CONFIG.head_dim)).astype(np.float32)
    near, far = (reference._rotate(x, np.array([p, p + 3])) for p in (0, 900))
    assert (near[0] * near[1]).sum() == pytest.approx((far[0] * far[1]).sum(), abs=1e-4)


def test_greedy_stops_before_a_stop_token(reference: Reference) -> None:
    """A stop token ends the answer and is not part of it."""
    tokens = reference.greedy(ids("Hello"), 10)
    assert reference.greedy(ids("Hello"), 10, frozenset({tokens[4]})) == tokens[: tokens.index(tokens[4])]


@pytest.mark.parametrize("text", PROMPTS)
def test_tiny_is_fit_for_greedy_tests(reference: Reference, text: str) -> None:
    """Its answers vary, are printable, and no two logits come near enough for rounding to choose."""
    reference.reset()
    logits, seen = reference.forward(ids(text))[-1], []
    for _ in range(32):
        second, first = np.sort(logits)[-2:]
        assert first - second > 5e-3
        seen.append(int(logits.argmax()))
        logits = reference.forward(seen[-1:])[-1]
    assert len(set(seen)) >= 12
    assert all(token - len(tiny.SPECIALS) in tiny.PRINTABLE for token in seen)
