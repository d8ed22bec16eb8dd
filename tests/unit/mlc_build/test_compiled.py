"""The compiled graph against the numpy reference, and the sampler against a plain sort."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from native_model import Native

from hybr.mlc_build import quantise, tiny
from hybr.mlc_build.reference import Reference, dequantised

if TYPE_CHECKING:
    import numpy.typing as npt

PROMPTS = ("Hello", "What is the capital of France?", "abc", "The quick brown fox " * 12, "1+1=")


def ids(text: str) -> list[int]:
    """Tokens of a text: `tiny` has one a byte."""
    return [len(tiny.SPECIALS) + byte for byte in text.encode()]


@pytest.fixture(scope="module", params=("q4f32_1", "q4e8f32_1", "q0f32"))
def native(request: pytest.FixtureRequest) -> Native:
    """`tiny` in each quantisation, compiled for this machine."""
    made = {p.name: p.array for p in quantise.quantise(tiny.tensors(), tiny.CONFIG, request.param)}
    return Native(tiny.CONFIG, request.param, made)


@pytest.fixture(scope="module")
def reference(native: Native) -> Reference:
    """Numpy on the parameters the library asked for."""
    names = [p["name"] for p in json.loads(native.machine["_metadata"]())["params"]]
    return Reference(tiny.CONFIG, dequantised({n: t.numpy() for n, t in zip(names, native.parameters, strict=True)}))


@pytest.mark.parametrize("text", PROMPTS)
def test_greedy_tokens_equal_the_reference(native: Native, reference: Reference, text: str) -> None:
    """32 greedy tokens of the compiled model are those of numpy on the same weights."""
    native.reset()
    logits = native.forward(ids(text))
    found = []
    for _ in range(32):
        found.append(int(logits.argmax()))
        logits = native.forward(found[-1:])
    assert found == reference.greedy(ids(text), 32)


@pytest.mark.parametrize("chunk", [2, 16, 17, 100, 128])
def test_logits_do_not_depend_on_the_chunk(native: Native, reference: Reference, chunk: int) -> None:
    """A prompt may cross prefill chunks and pages anywhere."""
    prompt = ids("Never the toy: the real thing, thin, and then thicker. " * 4)[:201]
    native.reset()
    reference.reset()
    difference = np.abs(native.forward(prompt, chunk) - reference.forward(prompt)[-1]).max()
    assert difference < 2e-3


def test_context_can_be_filled(native: Native, reference: Reference) -> None:
    """The last position of the window is as right as the first."""
    prompt = (ids("All of the window. ") * 60)[: tiny.CONFIG.context_window_size]
    native.reset()
    reference.reset()
    assert np.abs(native.forward(prompt) - reference.forward(prompt)[-1]).max() < 2e-3


@pytest.mark.parametrize(
    ("context", "chunk"), [(23, 7), *(pytest.param(*sizes, marks=pytest.mark.long) for sizes in ((23, 1), (23, 23), (1, 1)))]
)
def test_odd_windows(context: int, chunk: int) -> None:
    """A library built for any context and chunk gives the same logits: in chunks, token by token, popped back, and to the end."""
    config = dataclasses.replace(tiny.CONFIG, context_window_size=context, prefill_chunk_size=chunk, num_hidden_layers=1)
    made = {p.name: p.array for p in quantise.quantise(tiny.tensors(), tiny.CONFIG, "q4e8f32_1") if ".layers.1." not in p.name}
    prompt = ids("An odd window, and whole")[:context]
    reference = Reference(config, dequantised(made)).forward(prompt)
    native = Native(config, "q4e8f32_1", made)
    assert np.abs(native.forward(prompt) - reference[-1]).max() < 1e-3
    for back in range(1, context, 5):
        native.pop(back)
        assert np.abs(native.forward(prompt[-back:]) - reference[-1]).max() < 1e-3


def test_a_cache_that_forgets_is_refused(native: Native) -> None:
    """WebLLM's sliding_window_size, with sinks or without: the library says that it keeps every key, and what to leave out."""
    asked = [native._shape(number) for number in (1, 64, 16, 16, 1)]
    with pytest.raises(RuntimeError, match="load it without sliding_window_size and attention_sink_size"):
        native.machine["create_tir_paged_kv_cache"](*asked)


def test_untied_head_and_grouped_heads() -> None:
    """An untied head, one key head for all queries, and a vocabulary that is no multiple of eight."""
    config = dataclasses.replace(
        tiny.CONFIG, vocab_size=197, num_key_value_heads=1, num_hidden_layers=1, tie_word_embeddings=False, prefill_chunk_size=16
    )
    source = np.random.Generator(np.random.PCG64(11))
    tensors = {
        f"{part}.weight": (source.standard_normal((rows // len(parts), columns)) / 8).astype(np.float32)
        for parts, rows, columns in quantise.matrices(config).values()
        for part in parts
        if len(parts) != 3
    }
    for part, rows in {"q": config.attention_size, "k": config.key_value_size, "v": config.key_value_size}.items():
        shape = (rows, config.hidden_size)
        tensors[f"model.layers.0.self_attn.{part}_proj.weight"] = (source.standard_normal(shape) / 8).astype(np.float32)
    tensors |= {name: np.ones(length, np.float32) for name, (_, length) in quantise.vectors(config).items()}
    made = {p.name: p.array for p in quantise.quantise(tensors, config, "q4f32_1")}
    prompt = [int(i) for i in source.integers(0, config.vocab_size, 40)]
    difference = Native(config, "q4f32_1", made).forward(prompt) - Reference(config, dequantised(made)).forward(prompt)[-1]
    assert np.abs(difference).max() < 2e-3


def sorted_draw(p: npt.NDArray[np.float32], uniform: float, top_p: float) -> int:
    """Sort, keep the smallest set that reaches top_p, draw from it."""
    order = np.argsort(-p, kind="stable")
    mass = np.cumsum(p[order].astype(np.float64))
    kept = min(int((mass < top_p).sum()), len(p) - 1)
    return int(order[int((mass <= uniform * mass[kept]).sum())])


def distributions() -> list[npt.NDArray[np.float32]]:
    """Peaked, ordinary, full of ties, flat, and all but certain."""
    source = np.random.Generator(np.random.PCG64(7))
    v = tiny.CONFIG.vocab_size
    peaked = np.exp(source.standard_normal(v) * 6)
    plain = np.exp(source.standard_normal(v))
    tied = np.repeat(source.random(v // 4), 4)
    flat = np.ones(v)
    single = np.eye(v)[17] + 1e-30
    return [(d / d.sum()).astype(np.float32) for d in (peaked, plain, tied, flat, single)]


@pytest.mark.parametrize("kind", range(5))
@pytest.mark.parametrize("top_p", [1e-5, 0.1, 0.5, 0.95, 1.0])
def test_draw_equals_sorting(native: Native, kind: int, top_p: float) -> None:
    """The bisection names the token that a stable sort and a cumulative sum would."""
    p = distributions()[kind]
    source = np.random.Generator(np.random.PCG64(kind))
    # Where the drawn number falls within rounding of a boundary either neighbour is right; a boundary is hit by at most a few.
    misses = sum(native.draw(p, u, top_p) != sorted_draw(p, u, top_p) for u in source.random(40))
    assert misses <= 1


def test_greedy_is_the_largest(native: Native) -> None:
    """At WebLLM's least temperature the largest logit wins, whatever is drawn."""
    source = np.random.Generator(np.random.PCG64(3))
    for _ in range(10):
        logits = source.standard_normal(tiny.CONFIG.vocab_size).astype(np.float32) * 10
        p = native.probabilities(logits, 1e-6)
        assert native.draw(p, 0.9999999, 1.0) == logits.argmax()


def test_softmax(native: Native) -> None:
    """Probabilities equal numpy's at ordinary temperatures."""
    logits = np.linspace(-40, 40, tiny.CONFIG.vocab_size).astype(np.float32)
    for temperature in (0.5, 1.0, 2.0):
        scaled = np.exp((logits - logits.max()).astype(np.float64) / temperature)
        np.testing.assert_allclose(native.probabilities(logits, temperature), scaled / scaled.sum(), rtol=2e-5, atol=1e-12)


def test_nan_logits_draw_no_token(native: Native) -> None:
    """Garbage gives -1, which WebLLM turns into an error, and never an arbitrary token."""
    assert native.draw(np.full(tiny.CONFIG.vocab_size, np.nan, np.float32), 0.5, 0.9) == -1


def test_bitmask(native: Native) -> None:
    """Tokens whose bit is 0 can no longer be chosen; the others keep their logits."""
    v = tiny.CONFIG.vocab_size
    allowed = np.random.Generator(np.random.PCG64(5)).random(v) < 0.5
    words = np.packbits(np.pad(allowed, (0, -v % 32)), bitorder="little").view(np.int32)
    logits = np.arange(v, dtype=np.float32)
    made = native.in_place("apply_bitmask_inplace", logits, np.zeros(1, np.int32), words.reshape(1, -1))
    assert (made[allowed] == logits[allowed]).all()
    assert (made[~allowed] < -1e37).all()


def test_penalties(native: Native) -> None:
    """Presence and frequency are subtracted, then repetition divides or multiplies."""
    logits = np.array([5.0, -2.0, 1.0, 3.0] + [0.0] * (tiny.CONFIG.vocab_size - 4), np.float32)
    zero, tokens, times = np.zeros(1, np.int32), np.array([0, 1], np.int32), np.array([2, 1], np.int32)
    penalties = np.array([[0.5, 0.25, 2.0]], np.float32)
    made = native.in_place("apply_penalty_inplace", logits, zero, np.zeros(2, np.int32), tokens, times, penalties)
    assert made[:4].tolist() == [(5 - 0.5 - 0.5) / 2, (-2 - 0.5 - 0.25) * 2, 1, 3]


def test_bias(native: Native) -> None:
    """A bias is added to the tokens named and to no other."""
    logits = np.zeros(tiny.CONFIG.vocab_size, np.float32)
    tokens, bias = np.array([3, 200], np.int32), np.array([1.5, -100.0], np.float32)
    made = native.in_place("apply_logit_bias_inplace", logits, np.zeros(2, np.int32), tokens, bias)
    assert made[3] == 1.5
    assert made[200] == -100
    assert np.count_nonzero(made) == 2
