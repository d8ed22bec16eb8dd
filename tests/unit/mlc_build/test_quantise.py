"""Quantisation: how much is lost, what is refused, what comes out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hybr.mlc_build import blocks, tiny
from hybr.mlc_build.quantise import QUANTISATIONS, Origin, QuantiseError, quantise, repacked, specs

RANDOM = np.random.Generator(np.random.PCG64(1)).standard_normal((64, 256)).astype(np.float32)


def again(weight: np.ndarray, encoding: blocks.Encoding = "q4") -> np.ndarray:
    """Encode and decode."""
    return blocks.decode(blocks.encode(weight, encoding), encoding)


def plain(weight: np.ndarray) -> np.ndarray:
    """The usual rounding to -7..7 by the largest magnitude, for comparison."""
    groups = weight.reshape(-1, 32)
    scale = np.abs(groups).max(1, keepdims=True) / 7
    return (np.clip(np.rint(groups / np.where(scale, scale, 1)), -7, 7) * scale).reshape(weight.shape)


def test_loses_less_than_plain_rounding() -> None:
    """The searched scale beats the largest magnitude's by a tenth of the squared error at least."""
    ours = np.square(RANDOM - again(RANDOM)).sum()
    assert ours < 0.9 * np.square(RANDOM - plain(RANDOM)).sum()


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float32, (3, 64), elements=st.floats(-1000, 1000, width=32)))
def test_never_worse_than_plain_rounding(weight: np.ndarray) -> None:
    """In no group is the squared error larger than plain rounding's."""
    ours = np.square(weight - again(weight)).reshape(-1, 32).sum(1, dtype=np.float64)
    theirs = np.square(weight - plain(weight)).reshape(-1, 32).sum(1, dtype=np.float64)
    largest = np.abs(weight).reshape(-1, 32).max(1)
    assert (ours <= theirs * (1 + 1e-5) + 1e-10 * largest**2 + 1e-30).all()


def test_what_fits_is_exact() -> None:
    """Codes times a power of two come back bit for bit, zeros included."""
    codes = np.random.Generator(np.random.PCG64(2)).integers(-7, 9, (16, 128)).astype(np.float32)
    codes[0] = 0
    codes[1:, ::32] = 8
    assert (again(codes * np.float32(0.125)) == codes * np.float32(0.125)).all()


def test_layout() -> None:
    """Eight weights a word, the first in the lowest four bits."""
    weight = np.zeros((1, 32), np.float32)
    weight[0, :3] = 8, 1, -7
    codes, scale = blocks.encode(weight, "q4")
    assert scale.tolist() == [[1.0]]
    assert codes[0].tolist() == [0x7777708F, 0x77777777, 0x77777777, 0x77777777]


@pytest.mark.parametrize("quantisation", QUANTISATIONS)
def test_parameters_are_what_the_library_declares(quantisation: str) -> None:
    """Names, shapes, dtypes and order are those of `specs`, which the graph is checked against when compiled."""
    made = [(p.name, p.array.shape, str(p.array.dtype)) for p in quantise(tiny.tensors(), tiny.CONFIG, quantisation)]
    assert made == [tuple(spec) for spec in specs(tiny.CONFIG, quantisation)]


def test_same_bytes_twice() -> None:
    """Seed, scales and codes depend on nothing else."""
    first, second = ([p.array.tobytes() for p in quantise(tiny.tensors(), tiny.CONFIG, "q4f32_1")] for _ in range(2))
    assert first == second


SHIFTED = (("gate", 264), ("up", 248))
"""Rows that fit together, and not one by one."""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("model.norm.weight"), r"lacks 1 tensor\(s\), first model\.norm\.weight"),
        (lambda t: t.update({"visual.weight": np.ones(3, np.float32)}), r"does not use, first visual\.weight"),
        (lambda t: t.update({"model.norm.weight": np.ones(5, np.float32)}), r"norm\.weight has \(5,\); .* \(128,\)"),
        (lambda t: t["model.layers.1.mlp.up_proj.weight"].__setitem__((0, 0), np.nan), r"up_proj\.weight holds values"),
        (lambda t: t.update({"model.layers.0.mlp.down_proj.weight": np.ones((4, 32), np.float32)}), r"down_proj.* \(4, 32\)"),
        (lambda t: t.update({"model.layers.0.self_attn.k_proj.weight": np.ones((64, 32), np.float32)}), r"k_proj.* \(64, 32\)"),
        (lambda t: t.update({"model.norm.weight": np.ones((), np.float32)}), r"norm.weight has \(\)"),
        (lambda t: [t.update({f"model.layers.1.mlp.{one}_proj.weight": np.ones((n, 128), np.float32)}) for one, n in SHIFTED],
         r"gate_proj.weight has \(264, 128\); the configuration needs \(256, 128\)"),
    ],
)  # fmt: skip
def test_bad_checkpoints_are_refused_by_name(change: object, message: str) -> None:
    """A missing, unknown, misshapen or poisoned tensor is named."""
    tensors = tiny.tensors()
    change(tensors)  # type: ignore[operator]
    with pytest.raises(QuantiseError, match=message):
        list(quantise(tensors, tiny.CONFIG, "q4f32_1"))


def test_unknown_quantisation() -> None:
    """The message lists what there is."""
    with pytest.raises(QuantiseError, match="'q9' is not known; choose one of q4f32_1, q4e8f32_1, q0f32"):
        list(quantise({}, tiny.CONFIG, "q9"))


def test_a_least_weight_of_its_own_loses_less() -> None:
    """Sixteen steps between a group's own ends beat those around zero, and eight bits beat both by far."""
    errors = [np.square(RANDOM - again(RANDOM, encoding)).sum() for encoding in ("q4", "q4m", "q8")]
    assert errors[1] < 0.8 * errors[0]
    assert errors[2] < errors[1] / 100


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float32, (3, 64), elements=st.floats(-1000, 1000, width=32)))
def test_no_weight_is_far_off(weight: np.ndarray) -> None:
    """A step of the group's range, and what a half of its ends rounds away, is the most that any weight moves."""
    groups = weight.reshape(-1, 32)
    span = groups.max(1, keepdims=True) - groups.min(1, keepdims=True)
    largest = np.abs(groups).max(1, keepdims=True)
    assert (np.abs(again(weight, "q4m").reshape(groups.shape) - groups) <= 0.2 * span + largest / 500 + 2e-3).all()
    assert (np.abs(again(weight, "q8").reshape(groups.shape) - groups) <= largest / 253 + 1e-30).all()


def test_constant_groups() -> None:
    """Groups of one value, zero included, come back as near as a half allows."""
    weight = np.repeat(np.array([[0.0], [1.0], [-0.7]], np.float32), 32, axis=1)
    np.testing.assert_allclose(again(weight, "q4m"), weight, rtol=1e-3)


def test_what_no_half_can_hold_is_refused() -> None:
    """A weight past half precision's range is named, with the form that takes it."""
    tensors = tiny.tensors()
    tensors["model.layers.0.mlp.down_proj.weight"][3, 3] = 1e6
    with pytest.raises(QuantiseError, match=r"layers\.0\.mlp\.down_proj\.weight: a weight of 1e\+06 .* --quant q0f32"):
        list(quantise(tensors, tiny.CONFIG, "q4e8f32_1"))


def made_blocks(bits: int, kind: str) -> blocks.Blocks:
    """Blocks as GGUF has them: scales that are halves of either sign, least weights that are or are not eight scales down."""
    source = np.random.Generator(np.random.PCG64(8))
    scale = (source.standard_normal((6, 2)) / 50).astype(np.float16).astype(np.float32)
    if bits == 8:
        return blocks.Blocks(8, source.integers(-128, 128, (6, 64)).astype(np.int16), scale, None)
    least = -8 * scale if kind == "centred" else source.standard_normal((6, 2)).astype(np.float16).astype(np.float32)
    return blocks.Blocks(4, source.integers(0, 16, (6, 64)).astype(np.int16), scale, least)


@pytest.mark.parametrize(
    ("bits", "kind", "forms"),
    [(4, "centred", {"q4", "q4m", "q8"}), (4, "free", {"q4m"}), (8, "centred", {"q8"})],
)
def test_blocks_are_repacked_where_the_form_allows(bits: int, kind: str, forms: set[str]) -> None:
    """What is taken over is the same number for every weight; what cannot be is refused, not rounded."""
    found = made_blocks(bits, kind)
    least = 0 if found.least is None else np.repeat(found.least, 32, axis=1)
    wanted = found.codes * np.repeat(found.scale, 32, axis=1) + least
    for encoding in ("q4", "q4m", "q8"):
        coded = blocks.repack(found, encoding)
        assert (coded is not None) == (encoding in forms)
        if coded is not None:
            np.testing.assert_allclose(blocks.decode(coded, encoding), wanted, rtol=0, atol=1e-7)


def test_subnormal_scales_are_not_taken_over() -> None:
    """A device may read them as zero, so such a matrix is rounded anew and the manifest says so."""
    found = made_blocks(4, "free")
    assert blocks.repack(found._replace(scale=np.full_like(found.scale, 2.0**-16)), "q4m") is None


@pytest.mark.parametrize(
    ("fates", "said"),
    [(["repacked", "unpacked"], True), (["repacked", "rounded"], "partly"), (["rounded"], False), ([], False)],
)
def test_what_the_manifest_says(fates: list[str], said: bool | str) -> None:
    """All, some or none of a checkpoint's own blocks were spared a second rounding."""
    assert repacked(Origin(fate, "Q4_0", "q4") for fate in fates) == said
