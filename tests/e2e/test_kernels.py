"""The gpu profile's own kernels, which need barriers, in Chromium under WebLLM's tvmjs: a token's products, attention, draw."""

from __future__ import annotations

import base64
import dataclasses
from typing import TYPE_CHECKING, Any

import chances
import library_desk
import numpy as np
import pytest
import sampler_desk
from families import CONFIGS, ENTRY, write_folder
from parity import PROMPT

from hybr.mlc_build import huggingface, tiny
from hybr.mlc_build.blocks import Coded, decode, encode
from hybr.mlc_build.model.config import PAGE
from hybr.mlc_build.quantise import layout
from hybr.mlc_build.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from parity import F32
    from playwright.sync_api import Browser, Page

    from hybr.mlc_build.blocks import Encoding
    from hybr.mlc_build.compile import Profile
    from hybr.mlc_build.model.config import ModelConfig

pytestmark = pytest.mark.models

VOCABULARY = 1003
SHAPES = {"ragged": (130, 96), "two tiles": (70, 2080)}
"""Rows that fill no workgroup, and columns that fill no tile."""
GATED = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),  # arXiv:1606.08415
}
ENCODINGS: tuple[Encoding, ...] = ("q4", "q4m", "q8")
KINDS = ("plain", "add", "silu")
MADE: dict[Profile, list[tuple[str, Encoding, str]]] = {
    "gpu": [
        *((name, encoding, kind) for name in SHAPES for encoding in ENCODINGS for kind in KINDS),
        ("ragged", "q4", "gelu"),  # differs from "silu" in the curve alone
    ],
    "subgroups": [("ragged", "q4m", kind) for kind in KINDS],  # they differ at the end alone, and compile for seconds each
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the page's libraries are; more may be put in."""
    return tmp_path_factory.mktemp("libraries")


@pytest.fixture(scope="module")
def page(folder: Path, chromium: Browser) -> Iterator[Page]:
    """One page with one library that has all of it."""
    sampler_desk.make(VOCABULARY, "gpu", folder / "sampler")
    sampler_desk.make(VOCABULARY, "software", folder / "sixteen")
    for profile in MADE:
        _products(folder / profile, profile)
    _attentions(folder / "attention")
    with library_desk.desk(folder, chromium, sampler_desk.HTML) as page:
        yield page


def _products(folder: Path, profile: Profile) -> None:
    """Compile a function for each shape, encoding and kind of a profile."""
    from tvm import relax as rx

    from hybr.mlc_build.kernels.vector import vector

    builder = sampler_desk.begun()
    for name, encoding, kind in MADE[profile]:
        rows, columns = SHAPES[name]
        results = rows // 2 if kind in GATED else rows
        words, shared = layout("", rows, columns, encoding)
        x = rx.Var("x", rx.TensorType((1, 1, columns), "float32"))
        held = [
            rx.Var("codes", rx.TensorType(words.shape, "uint32")),
            rx.Var("shared", rx.TensorType(shared.shape, shared.dtype)),
        ]
        more = [rx.Var("add", rx.TensorType((1, 1, rows), "float32"))] if kind == "add" else []
        with builder.function(f"{name}_{encoding}_{kind}".replace(" ", "_"), params=[x, *held, *more]):
            with builder.dataflow():
                quads = builder.emit(rx.op.memory.view(x, [1, 1, columns // 4], "float32x4"))
                codes = builder.emit(rx.op.memory.view(held[0], [rows, words.shape[1] // 4], "uint32x4"))
                made = vector(rows, columns, kind, encoding, subgroups=profile == "subgroups")
                kernel = builder.add_func(made, "vector")
                called = rx.call_tir(kernel, [quads, codes, held[1], *more], rx.TensorType((1, 1, results), "float32"))
                out = builder.emit_output(called)
            builder.emit_func_output(out)
    sampler_desk.pack(builder.finalize(), profile, folder)


HEADS: dict[str, dict[str, Any]] = {
    "grouped": {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 64},
    "ragged": {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 80},
    "slides": {
        "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 128,
        "sliding_window": 300, "sliding_layers": (0,), "attention_cap": 5.0,
    },
    "small": {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16},
    "wide": {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 256},
}  # fmt: skip
"""SmolLM2's heads; elements that fill no workgroup, nor a row's threads; Gemma 2's cap and window; few elements; Gemma's many."""
ONE = [(0.2, 1, keys) for keys in (1, 255, 512, 513)]
MANY = [(0.2, 1, 1), (0.2, 45, 33), (0.2, 70, 305)]
SLID = [(-0.2, 1, keys) for keys in (1, 255, 512, 513, 700)]
CASES: dict[str, list[tuple[float, int, int]]] = {
    "grouped_decode": ONE,
    "ragged_decode": ONE,
    "slides_decode": [*ONE, *SLID],
    "grouped_past": MANY,
    "ragged_past": MANY,
    "slides_past": [(0.2, 45, 33), (-0.2, 70, 305), (-0.2, 5, 700), (-0.2, 310, 20)],  # some of 310 see none of 20
    "wide_past": [(0.2, 21, 45)],
    "small_own": [(0.2, n, n) for n in (1, 8, 70)],
    "slides_own": [(0.2, 21, 21), (-0.2, 330, 330)],
}
"""Of heads, and of a token against the pages, many against them, and many among themselves: scale, new tokens, keys."""


def _attentions(folder: Path) -> None:
    """Compile the kernels of CASES."""
    import tvm

    from hybr.mlc_build.kernels import prefill, split

    module, makes = sampler_desk.begun().finalize(), {"decode": split.decode, "past": prefill.past, "own": prefill.own}
    for name in CASES:
        heads, place = name.split("_")
        kernel = makes[place](dataclasses.replace(tiny.CONFIG, **HEADS[heads]), "float32")
        module.update_func(tvm.ir.GlobalVar(name), kernel.with_attr("global_symbol", name))
    sampler_desk.pack(module, "gpu", folder)


def _given(array: Any) -> dict[str, Any]:
    return {"data": array.reshape(-1).tolist(), "type": str(array.dtype), "shape": list(array.shape)}


@pytest.mark.parametrize("profile", MADE)
def test_products_equal_numpy(page: Page, profile: Profile) -> None:
    """Every form and kind, over ragged shapes: the product with the decoded weights, within rounding, with and without subgroups.

    SwiftShader's subgroups are of four, the least that WebGPU allows; a larger one holds the same four threads.
    """
    assert page.evaluate("async () => (await navigator.gpu.requestAdapter()).features.has('subgroups')")
    page.evaluate("name => window.load(name)", profile)
    source = np.random.Generator(np.random.PCG64(9))
    numbers = {
        (name, n): source.standard_normal((1, 1, n)).astype(np.float32) for name, shape in SHAPES.items() for n in reversed(shape)
    }
    matrices = {name: source.standard_normal(shape).astype(np.float32) / np.sqrt(shape[1]) for name, shape in SHAPES.items()}
    for name, encoding, kind in MADE[profile]:
        x, add = (numbers[name, n] for n in reversed(SHAPES[name]))
        coded = encode(matrices[name], encoding)
        plain = decode(Coded(coded.words, coded.shared), encoding) @ x.reshape(-1)
        gate, up = np.split(plain, 2)
        wanted = GATED[kind](gate) * up if kind in GATED else plain + add.reshape(-1) if kind == "add" else plain
        args = [_given(one) for one in (x, coded.words, coded.shared, *([add] if kind == "add" else []))]
        found = page.evaluate("([name, args]) => window.run(name, args)", [f"{name}_{encoding}_{kind}".replace(" ", "_"), args])
        assert np.abs(np.array(found) - wanted).max() < 2e-5, (name, encoding, kind)


def test_attention_equals_numpy(page: Page) -> None:
    """All keys or (a negative scale) the window's, capped or not, pages in any order.

    Of a token against the pages, one workgroup or split among many; of new tokens against the pages and among themselves, where
    queries and keys fill no tile, or several and a part of the last.
    """
    page.evaluate("name => window.load(name)", "attention")
    for name, cases in CASES.items():
        for scale, tokens, keys in cases:
            _attend(page, name, scale, tokens, keys)


def _attend(page: Page, name: str, scale: float, tokens: int, keys: int) -> None:
    """Hold a kernel against numpy: the last `tokens` queries of a sequence, or those after the pages' `keys`."""
    heads, place = name.split("_")
    config = dataclasses.replace(tiny.CONFIG, **HEADS[heads])
    source = np.random.Generator(np.random.PCG64(keys))
    both = source.standard_normal((2, config.num_key_value_heads, keys, config.head_dim)).astype(np.float32)
    query = source.standard_normal((tokens, config.num_attention_heads, config.head_dim)).astype(np.float32)
    positions = np.arange(tokens) + (keys if place == "past" else keys - tokens)
    shapes = [list(query.shape), list(query.shape[:2])]
    numbers = [[0, "int32"], [1.0, "float32"], [1e4, "float32"], [scale, "float32"]]
    if place != "decode":
        numbers.insert(0, [int(place == "own"), "int32"])  # causal
    args = [_given(one) for one in _arguments(place, query, both, positions, source)]
    made, logs = page.evaluate("([name, ...all]) => window.call(name, ...all)", [name, args, shapes, numbers])
    wanted, sums = _attention(config, scale, query, both, positions)
    assert np.abs(np.reshape(made, wanted.shape) - wanted).max() < 1e-5, (name, scale, tokens, keys)
    assert np.abs(np.reshape(logs, sums.shape) - sums).max() < 1e-4, (name, scale, tokens, keys)


def _arguments(place: str, query: F32, both: F32, positions: Any, source: np.random.Generator) -> list[Any]:
    """Return a kernel's tensors as the runtime gives them: its queries, and keys and values as they are or in pages."""
    _, heads, keys, dim = both.shape
    starts = np.array([0, len(query)], np.int32)
    if place == "own":
        return [query, starts, *both.transpose(0, 2, 1, 3), starts, positions.astype(np.int32), np.zeros(1, np.int32)]
    used = -(-keys // PAGE)
    table = source.permutation(used + 3)[:used].astype(np.int32)
    pages = np.full((used + 3, 2, heads, PAGE, dim), 1e3, np.float32)  # what is in no page of the table shows
    for at in range(keys):
        pages[table[at // PAGE], :, :, at % PAGE] = both[:, :, at]
    ends = [np.array([0, used]), table, np.array([(keys - 1) % PAGE + 1]), np.zeros(1), positions]
    return [query, *([starts] if place == "past" else []), pages, *(one.astype(np.int32) for one in ends)]


def _attention(config: ModelConfig, scale: float, query: F32, both: F32, positions: Any) -> tuple[Any, Any]:
    """Return what attention gives, and the logarithms (base 2) of its sums, of queries at these positions."""
    from hybr.mlc_build.kernels.attention import LEAST

    keys, values = both.repeat(query.shape[1] // both.shape[1], axis=1).astype(np.float64)
    scores = np.einsum("qhd,hkd->qhk", query.astype(np.float64), keys) * abs(scale)
    if config.attention_cap:
        scores = np.tanh(scores / config.attention_cap) * config.attention_cap
    behind = positions[:, None] - np.arange(keys.shape[1])
    seen = (behind >= 0) & (behind < (config.sliding_window if scale < 0 else np.inf))
    weights = np.exp(scores) * seen[:, None]
    sums = np.where(seen.any(axis=1)[:, None], weights.sum(axis=2), 1)
    logs = np.where(seen.any(axis=1)[:, None], np.log2(sums), LEAST)
    return np.einsum("qhk,hkd->qhd", weights, values) / sums[..., None], logs


def test_one_dispatch_draws_what_a_sort_draws(page: Page) -> None:
    """For the same numbers 256 threads, the software profile's sixteen and the full sort name the same tokens; NaN names none."""
    source = np.random.Generator(np.random.PCG64(2))
    uniforms = [float(u) for u in source.random(12)]
    found: dict[str, list[int]] = {}
    for library, way in (("sampler", "ours"), ("sixteen", "ours"), ("sixteen", "full")):
        page.evaluate("name => window.load(name)", library)
        drawn: list[int] = []
        for seed, top_p in enumerate((0.2, 0.9, 1.0)):
            logits = sampler_desk.logits(VOCABULARY, seed)
            if seed == 1:
                logits = [round(x) / 2 for x in logits]  # ties
            args = [way, logits, 0.7, uniforms, top_p]
            drawn += page.evaluate("([way, logits, t, u, p]) => window.draw(way, logits, t, u, p)", args)["tokens"]
        found[library + way] = drawn
        nothing = page.evaluate("([way, n]) => window.draw(way, Array(n).fill(NaN), 1, [0.5], 0.9)", [way, VOCABULARY])["tokens"]
        assert way == "full" or nothing == [-1]
    first, *others = found.values()
    # A number within rounding of a boundary may fall on either side.
    assert all(sum(a != b for a, b in zip(first, other, strict=True)) <= 1 for other in others), found
    assert len(set(first)) > 8


@pytest.mark.parametrize("size", [pytest.param(size, marks=[] if size == 128256 else pytest.mark.long) for size in chances.SIZES])
@pytest.mark.parametrize("profile", ["gpu", "software"])
def test_a_real_vocabulary_draws_what_a_sort_draws(page: Page, folder: Path, profile: Profile, size: int) -> None:
    """Ties, masks and the ends of top_p and heat: the full sort's token for the same number, to a sum's rounding."""
    sampler_desk.make(size, profile, folder / f"{profile}-{size}")
    page.evaluate("name => window.load(name)", f"{profile}-{size}")
    numbers = [0.0, *(float(u) for u in np.random.Generator(np.random.PCG64(22)).random(5)), 1.0]
    for name, logits, temperature, most in chances.edges(size):
        given = base64.b64encode(logits.astype("<f4").tobytes()).decode()
        found = page.evaluate("args => window.drawEach(...args)", [given, temperature, numbers, most])
        p = np.frombuffer(base64.b64decode(found["p"]), "<f4")
        missed = [chances.off(p, token, u, most) for token, u in zip(found["tokens"], numbers, strict=True)]
        assert max(missed) < 1e-5, (name, missed)
        assert name == "all the same" or sum(not miss for miss in missed) >= len(numbers) - 1, (name, missed)
        assert all(logits[token] > chances.MASKED for token in found["tokens"]), name


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("draws", [1_000, pytest.param(100_000, marks=pytest.mark.long)])
@pytest.mark.parametrize("library", ["sampler", "sixteen"], ids=["gpu", "software"])
def test_draws_match_top_p(page: Page, library: str, draws: int) -> None:
    """With a fixed seed of WebLLM's own generator, the tokens drawn pass the chi-square test against top-p's distribution."""
    page.set_default_timeout(0)
    page.evaluate("name => window.load(name)", library)
    logits = sampler_desk.logits(VOCABULARY, 5)
    wanted = chances.top_p(np.array(logits, np.float32), 0.8, 0.9)
    asked = [logits, 0.8, 0.9, 7, draws]
    seen = np.array(page.evaluate("([logits, t, p, seed, count]) => window.many(logits, t, p, seed, count)", asked))
    assert seen.sum() == draws
    assert not seen[wanted == 0].any()
    square, bound = chances.chi_square(seen, wanted)
    print(f"{library}: {draws} draws of {(wanted > 0).sum()} tokens, chi-square {square:.1f}, bound {bound:.1f}")
    assert square < bound


WIDE = {**CONFIGS["gemma2"], "head_dim": 256, "num_hidden_layers": 2}


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("wide", "software"),
        *(pytest.param("llama", profile, marks=pytest.mark.long) for profile in ("gpu", "subgroups")),
    ],
)
def test_a_whole_library(chromium: Browser, tmp_path: Path, name: str, profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library gives the reference's logits over a prompt and 16 tokens: Gemma's heads of 256, and a small Llama's GPU kernels.

    A software adapter takes minutes to compile the latter; unrolled as a whole, it took as long for the former.
    """
    monkeypatch.setitem(CONFIGS, "wide", WIDE)
    (tmp_path / "source").mkdir()
    (tmp_path / "models").mkdir()
    write_folder(tmp_path / "source", name)
    opened = huggingface.open_folder(tmp_path / "source", ENTRY)
    library_desk.make(opened, "q4e8f32_1", profile, tmp_path / "models" / "small")
    reference = Reference.open(tmp_path / "models" / "small", opened.config)
    with library_desk.desk(tmp_path / "models", chromium) as page:
        library = library_desk.Library(page, "small", ENTRY.prefill_chunk)
        tokens = PROMPT[:40]
        for _ in range(17):
            wanted = reference.forward(tokens)[-1]
            assert np.abs(library.forward(tokens) - wanted).max() < 2e-3
            tokens = [int(wanted.argmax())]
