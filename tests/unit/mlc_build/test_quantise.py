"""Quantisation: how much is lost, what is refused, what comes out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hybr.mlc_build import tiny
from hybr.mlc_build.quantise import QuantiseError, decode, encode, quantise, specs

RANDOM = np.random.Generator(np.random.PCG64(1)).standard_normal((64, 256)).astype(np.float32)


def plain(weight: np.ndarray) -> np.ndarray:
    """The usual rounding to -7..7 by the largest magnitude, for comparison."""
    groups = weight.reshape(-1, 32)
    scale = np.abs(groups).max(1, keepdims=True) / 7
    return (np.clip(np.rint(groups / np.where(scale, scale, 1)), -7, 7) * scale).reshape(weight.shape)


def test_loses_less_than_plain_rounding() -> None:
    """The searched scale beats the largest magnitude's by a tenth of the squared error at least."""
    ours = np.square(RANDOM - decode(*encode(RANDOM))).sum()
    assert ours < 0.9 * np.square(RANDOM - plain(RANDOM)).sum()


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float32, (3, 64), elements=st.floats(-1000, 1000, width=32)))
def test_never_worse_than_plain_rounding(weight: np.ndarray) -> None:
    """In no group is the squared error larger than plain rounding's."""
    ours = np.square(weight - decode(*encode(weight))).reshape(-1, 32).sum(1, dtype=np.float64)
    theirs = np.square(weight - plain(weight)).reshape(-1, 32).sum(1, dtype=np.float64)
    largest = np.abs(weight).reshape(-1, 32).max(1)
    assert (ours <= theirs * (1 + 1e-5) + 1e-10 * largest**2 + 1e-30).all()


def test_what_fits_is_exact() -> None:
    """Codes times a power of two come back bit for bit, zeros included."""
    codes = np.random.Generator(np.random.PCG64(2)).integers(-7, 9, (16, 128)).astype(np.float32)
    codes[0] = 0
    codes[1:, ::32] = 8
    assert (decode(*encode(codes * np.float32(0.125))) == codes * np.float32(0.125)).all()


def test_layout() -> None:
    """Eight weights a word, the first in the lowest four bits."""
    weight = np.zeros((1, 32), np.float32)
    weight[0, :3] = 8, 1, -7
    codes, scale = encode(weight)
    assert scale.tolist() == [[1.0]]
    assert codes[0].tolist() == [0x7777708F, 0x77777777, 0x77777777, 0x77777777]


@pytest.mark.parametrize("quantisation", ["q4f32_1", "q0f32"])
def test_parameters_are_what_the_library_declares(quantisation: str) -> None:
    """Names, shapes, dtypes and order are those of `specs`, which the graph is checked against when compiled."""
    made = [(p.name, p.array.shape, str(p.array.dtype)) for p in quantise(tiny.tensors().items(), tiny.CONFIG, quantisation)]
    assert made == [tuple(spec) for spec in specs(tiny.CONFIG, quantisation)]


def test_same_bytes_twice() -> None:
    """Seed, scales and codes depend on nothing else."""
    first, second = ([p.array.tobytes() for p in quantise(tiny.tensors().items(), tiny.CONFIG, "q4f32_1")] for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("model.norm.weight"), r"lacks 1 tensor\(s\), first model\.norm\.weight"),
        (lambda t: t.update({"visual.weight": np.ones(3, np.float32)}), r"does not use, first visual\.weight"),
        (lambda t: t.update({"model.norm.weight": np.ones(5, np.float32)}), r"model\.norm\.weight has \(5,\)"),
        (lambda t: t["model.layers.1.mlp.up_proj.weight"].__setitem__((0, 0), np.nan), r"up_proj\.weight holds values"),
        (lambda t: t.update({"model.layers.0.mlp.down_proj.weight": np.ones((4, 32), np.float32)}), r"down_proj make \(4, 32\)"),
    ],
)  # fmt: skip
def test_bad_checkpoints_are_refused_by_name(change: object, message: str) -> None:
    """A missing, unknown, misshapen or poisoned tensor is named."""
    tensors = tiny.tensors()
    change(tensors)  # type: ignore[operator]
    with pytest.raises(QuantiseError, match=message):
        list(quantise(tensors.items(), tiny.CONFIG, "q4f32_1"))


def test_unknown_quantisation() -> None:
    """The message lists what there is."""
    with pytest.raises(QuantiseError, match="'q9' is not known; choose one of q4f32_1, q0f32"):
        list(quantise({}.items(), tiny.CONFIG, "q9"))
