"""What a token costs the gpu profile, counted from its kernels: bytes read, dispatches, and how attention comes to the pages."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from counting import SHAPES, cost, kernel_cost, key_cost, lowered, sampler, shape, token, weights

from hybr.mlc_build.compile import shaders
from hybr.mlc_build.kernels import split, tile
from hybr.mlc_build.kernels.gpu import Gpu
from hybr.mlc_build.kernels.stock import Stock
from hybr.mlc_build.kernels.vector import vector
from hybr.mlc_build.lower import device_target, pipeline, shader_pipeline
from hybr.mlc_build.memory import WIDTHS
from hybr.mlc_build.model.config import PAGE, ModelConfig
from hybr.mlc_build.quantise import layout

if TYPE_CHECKING:
    from hybr.mlc_build.blocks import Encoding
    from hybr.mlc_build.compile import Profile

SMOLLM = ModelConfig(
    hidden_size=576, num_hidden_layers=2, num_attention_heads=9, num_key_value_heads=3, head_dim=64, intermediate_size=1536,
    vocab_size=2048, rope_theta=1e5, prefill_chunk_size=64,
)  # fmt: skip
"""SmolLM2's layers, two of them, and a smaller vocabulary: nothing of the ratio comes from its large head."""


def test_the_counter_counts() -> None:
    """A product's bytes by hand: each word and pair once, the activations once for each 64 rows; what sticks out is not read."""
    words, pairs = 576 * (1536 // 8) * 4, 576 * (1536 // 32) * 4
    found = kernel_cost(vector(576, 1536, "plain", "q4m"))
    assert (found.dispatches, found.read) == (1, words + pairs + 9 * 1536 * 4)
    ragged = kernel_cost(vector(70, 96, "add", "q8"))
    assert ragged.read == 70 * 96 + 70 * 3 * 4 + 2 * 96 * 4 + 70 * 4


@pytest.mark.parametrize("quantisation", ["q4f32_1", "q4e8f32_1"])
def test_a_token_reads_little_more_than_the_weights(quantisation: str) -> None:
    """Decode reads at most 1.15 of the weights' bytes, in fewer dispatches than the graph that TVM's schedules give."""
    module = lowered(SMOLLM, quantisation, "gpu")
    ours, stock = cost(module, "decode"), cost(lowered(SMOLLM, quantisation, "gpu", Stock()), "decode")
    assert weights(SMOLLM, quantisation) * 0.95 < ours.read < weights(SMOLLM, quantisation) * 1.15
    assert ours.dispatches == 2 * 9 + 2  # norm, three products and a gated one of a block, its cache's three; last norm, head
    assert ours.dispatches < stock.dispatches


@pytest.mark.parametrize("form", ["q4f32_1", pytest.param("q4e8f32_1", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "name", ["llama-3.2-1b", *(pytest.param(n, marks=pytest.mark.long) for n in SHAPES if n != "llama-3.2-1b")]
)
def test_a_whole_token_of_a_real_shape(name: str, form: str) -> None:
    """With the embedding's row and the draw too, 1.15 of the weights' bytes at most; fewer dispatches than TVM's schedules."""
    config = shape(name)
    ours, stock = token(config, form), token(config, form, Stock())
    assert weights(config, form) < ours.read < weights(config, form) * 1.15
    assert ours.dispatches < stock.dispatches


@pytest.mark.parametrize("profile", ["gpu", "software"])
@pytest.mark.parametrize("vocabulary", [49152, 128256, 151936])
def test_sampling_is_two_kernels(profile: Profile, vocabulary: int) -> None:
    """Softmax is a dispatch and so is the draw, which sorts nothing and returns a token: the argsort hands on what it gets."""
    module = sampler(vocabulary, profile)
    entries = ("softmax_with_temperature", "argsort_probs", "sample_with_top_p")
    assert [cost(module, entry).dispatches for entry in entries] == [1, 0, 1]


SLIDES = {"sliding_window": 300, "sliding_layers": (0,), "attention_cap": 5.0}


@pytest.mark.parametrize("kind", WIDTHS)
@pytest.mark.parametrize(
    ("queries", "heads", "dim", "more"),
    [(9, 3, 64, {}), (2, 2, 96, {}), (16, 2, 128, {}), (8, 4, 256, SLIDES), (4, 1, 128, SLIDES)],
)
def test_attention_reads_a_key_once_for_all_queries_of_a_group(
    queries: int, heads: int, dim: int, more: dict[str, Any], kind: str
) -> None:
    """Keys and values come from the pages once for each key head, windows and caps or not, in one dispatch up to 512 keys."""
    config = dataclasses.replace(SMOLLM, num_attention_heads=queries, num_key_value_heads=heads, head_dim=dim, **more)
    kernel = Gpu().attention_kernel(config, "decode_past", kind)
    assert key_cost(kernel) == 2 * heads * dim * WIDTHS[kind]
    assert split.SHORT * PAGE == 512


@pytest.mark.parametrize("kind", WIDTHS)
@pytest.mark.parametrize(
    ("queries", "heads", "dim", "more"), [(9, 3, 64, {}), (2, 2, 96, {}), (16, 2, 128, {}), (8, 4, 256, SLIDES)]
)
def test_a_prefill_reads_a_key_once_for_a_tile(queries: int, heads: int, dim: int, more: dict[str, Any], kind: str) -> None:
    """Of what the pages hold, and of the new tokens themselves, each tile of queries reads what it sees once, without more.

    The kernels without barriers, which the software profile has, read it for each token and query head.
    """
    config = dataclasses.replace(SMOLLM, num_attention_heads=queries, num_key_value_heads=heads, head_dim=dim, **more)
    new, old, scale, group = 100, 1000, -1.0 if more else 1.0, queries // heads
    given = {"length": new, "scale": scale, "first": [0, 63], "last": [old - 62 * PAGE], "position": np.arange(old, old + new)}
    window, rows = config.sliding_window or old + new, tile.sizes(config, kind)[0]
    tiles = [(at // group, (min(at + rows, new * group) - 1) // group) for at in range(0, new * group, rows)]  # first, last token
    past = sum(old - max(old + first - window + 1, 0) for first, _ in tiles)
    own = sum(last + 1 - max(first - window + 1, 0) for first, last in tiles)
    key = 2 * heads * dim * WIDTHS[kind]
    assert key_cost(Gpu().attention_kernel(config, "prefill_past", kind), given) == past * key
    assert key_cost(Gpu().attention_kernel(config, "prefill_self", kind), given) == own * key
    if not more:
        assert key_cost(Stock().attention_kernel(config, "prefill_past", kind), given) == new * group * old * key


@pytest.mark.parametrize("profile", ["gpu", "subgroups"])
def test_a_token_s_weights_come_four_words_at_a_time(profile: Profile) -> None:
    """In the WGSL of every encoding codes are bound as vectors and taken whole; only `subgroups` lets threads see each other."""
    columns, rows = 2080, 96
    for encoding, loads in {"q4": 1, "q4m": 1, "q8": 2}.items():
        text = _shader(rows, columns, encoding, profile)
        assert re.findall(r"> codes_ptr : (.+);", text) == ["array<vec4<u32>>"]
        assert re.findall(r"> x_ptr : (.+);", text) == ["array<vec4<f32>>"]
        taken = re.findall(r"^ *word\[0i\] = codes_ptr\[.*\];$", text, re.MULTILINE)
        assert len(taken) == loads == text.count("codes_ptr[")
        assert text.count("subgroupShuffleXor") == (2 if profile == "subgroups" else 0)
        assert ("enable subgroups;" in text) == (profile == "subgroups")


def _shader(rows: int, columns: int, encoding: Encoding, profile: Profile) -> str:
    """Return the WGSL of one product."""
    import tvm
    from tvm import relax as rx

    words, shared = layout("", rows, columns, encoding)
    held = [
        rx.Var("x", rx.TensorType((1, 1, columns // 4), "float32x4")),
        rx.Var("codes", rx.TensorType((rows, words.shape[1] // 4), "uint32x4")),
        rx.Var("shared", rx.TensorType(shared.shape, shared.dtype)),
    ]
    builder, target = rx.BlockBuilder(), device_target()
    with builder.function("main", params=held):
        with builder.dataflow():
            kernel = builder.add_func(vector(rows, columns, "plain", encoding, subgroups=profile == "subgroups"), "vector")
            out = builder.emit_output(rx.call_tir(kernel, held, rx.TensorType((1, 1, rows), "float32")))
        builder.emit_func_output(out)
    passes = {"relax_pipeline": pipeline(profile, target), "tir_pipeline": shader_pipeline(profile)}
    with target, tvm.transform.PassContext(opt_level=3):
        return shaders(rx.build(builder.finalize(), target=target, **passes, system_lib=True))
