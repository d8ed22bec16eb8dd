"""The forms of halves: what they hold, what is taken over unrounded, and what is computed from them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import encoders
import lavapipe
import numpy as np
import pytest
from dawn_desk import Dawn, dawn
from families import ENTRY, write_folder
from library_desk import make
from native_model import Native
from parity import PROMPT
from walk import walk

from hybr.mlc_build import blocks, huggingface, quantise, sources
from hybr.mlc_build.blocks import Blocks
from hybr.mlc_build.encoder import weights
from hybr.mlc_build.model.config import width
from hybr.mlc_build.reference import Reference, dequantised

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hybr.mlc_build.blocks import Encoding
    from hybr.mlc_build.compile import Profile

SOURCE = np.random.Generator(np.random.PCG64(30))


@pytest.mark.parametrize(("narrow", "wide"), [("q4h", "q4"), ("q8h", "q8")])
def test_halves_cost_hardly_more_than_floats(narrow: Encoding, wide: Encoding) -> None:
    """A scale of half the bits raises the squared error by a few per cent at most, and codes stay in their range."""
    weight = SOURCE.standard_normal((64, 256)).astype(np.float32) / 16
    errors = [float(np.square(weight - blocks.decode(blocks.encode(weight, kind), kind)).sum()) for kind in (narrow, wide)]
    assert errors[0] < errors[1] * 1.05
    assert blocks.encode(weight, narrow).shared.dtype == np.float16


def test_blocks_are_taken_over() -> None:
    """Q8_0's and Q4_0's scales are halves in the checkpoint already: nothing is rounded again."""
    scale = SOURCE.uniform(0.01, 1, (4, 2)).astype(np.float16).astype(np.float32)
    wide = Blocks(8, SOURCE.integers(-127, 128, (4, 64)).astype(np.int16), scale, None)
    narrow = Blocks(4, SOURCE.integers(0, 16, (4, 64)).astype(np.int16), scale, -8 * scale)
    for found, half, whole in ((wide, "q8h", "q8"), (narrow, "q4h", "q4")):
        first, second = blocks.repack(found, half), blocks.repack(found, whole)
        assert first is not None
        assert second is not None
        np.testing.assert_array_equal(blocks.decode(first, half), blocks.decode(second, whole))


def test_a_scale_that_is_no_half_is_not_taken_over() -> None:
    """It would be rounded: then the weights are, and the manifest says so."""
    assert blocks.repack(Blocks(8, np.zeros((1, 32), np.int16), np.full((1, 1), 0.1, np.float32), None), "q8h") is None


def test_weights_too_large_for_halves_are_refused() -> None:
    """By name, with what to build instead."""
    with pytest.raises(OverflowError, match="q4e8f32_1"):
        blocks.encode(np.full((1, 32), 1e7, np.float32), "q8h")


@pytest.mark.parametrize("form", ["q4f16_1", pytest.param("q4e8f16_1", marks=pytest.mark.long), "q0f16"])
def test_compiled_is_the_reference(form: str, tmp_path: Path) -> None:
    """Halves in weights and cache, sums in float32: the reference rounds in the same places.

    A sum on the edge of two halves may fall to either side, which moves a logit by more than in float32.
    """
    write_folder(tmp_path, "qwen2-slides")
    opened = huggingface.open_folder(tmp_path, ENTRY)
    made = {p.name: p.array for p in quantise.quantise(opened.tensors, opened.config, form)}
    native, reference = Native(opened.config, form, made), Reference(opened.config, dequantised(made), "float16")
    ours, theirs = native.forward(PROMPT), reference.forward(PROMPT)[-1]
    worst = [float(np.abs(ours - theirs).max())]
    for _ in range(32):
        token = int(theirs.argmax())
        ours, theirs = native.forward([token]), reference.forward([token])[-1]
        worst.append(float(np.abs(ours - theirs).max()))
    print(f"{form}: {max(worst):.1e}, median {np.median(worst):.1e}, where logits reach {np.abs(theirs).max():.1f}")
    assert max(worst) < 2e-2
    assert np.median(worst) < 5e-3


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Dawn, Path]]:
    """A device that has shader-f16 and subgroups, under WebLLM's tvmjs, and the folder of its models."""
    models = tmp_path_factory.mktemp("models")
    lacks = lavapipe.fetch()
    with dawn(models, ENTRY.prefill_chunk) as found:
        if missing := {"shader-f16", "subgroups"} - set(found.features):
            pytest.skip(f"Dawn finds no Vulkan device with {', '.join(sorted(missing))}. {lacks}")
        yield found, models


FORMS = ("q4f16_1", "q4e8f16_1", "q0f16", "q4e8f32_1")
FAMILIES = ("llama3", "qwen2-slides", "qwen3", "phi3", "gemma2", "gemma3")
SHORT = ("subgroups", "qwen3", "q4e8f16_1")


@pytest.mark.models
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("profile", "family", "form"),
    [
        pytest.param(*asked, marks=[] if asked == SHORT else pytest.mark.long)
        for asked in itertools.product(("gpu", "subgroups"), FAMILIES, FORMS)
    ],
)
def test_the_gpu_library_runs(profile: Profile, family: str, form: str, device: tuple[Dawn, Path], tmp_path: Path) -> None:
    """The gpu profile's own libraries, barriers, subgroups and halves and all, give the reference's logits on the whole walk."""
    write_folder(tmp_path, family)
    opened, (model, models) = huggingface.open_folder(tmp_path, ENTRY), device
    name = f"{family}-{form}-{profile}"
    promised = make(opened, form, profile, models / name)
    model.load(name)
    reference = Reference.open(models / name, opened.config)
    reference.kind = width(form)
    taken = walk(model, PROMPT, ENTRY.context)
    theirs = taken.read_by(reference)
    print(f"{name}: {taken.off(theirs):.1e}, where logits reach {np.abs(theirs[0]).max():.1f}")
    assert taken.off(theirs) < {"float16": 2e-2, "float32": 2e-3}[reference.kind]
    assert model.call("weighed")["live"] == pytest.approx(promised, rel=0.1)


TEXTS = [*["the sea " * 400] * 4, "the sea", " \n", "ships. lights. ships.", "\N{WATER WAVE}", "zzz"]
"""More than two batches, one as large as can be; texts past every window, and one without a token."""
EMBEDDING = 1
"""WebLLM's ModelType.embedding."""


@pytest.mark.models
@pytest.mark.timeout(900)
@pytest.mark.parametrize("form", ["q8f32_1", pytest.param("q0f32", marks=pytest.mark.long)])
@pytest.mark.parametrize("name", ["small", pytest.param("all-minilm-l6-v2", marks=pytest.mark.long)])
def test_the_encoders_gpu_library_runs(name: str, form: str, device: tuple[Dawn, Path], tmp_path: Path) -> None:
    """An embedding model's gpu library gives numpy's vectors, alone and in batches, in the memory that is promised."""
    source = encoders.write(tmp_path) if name == "small" else sources.fetch(name).parent
    encoder, (model, models) = weights.open_folder(source), device
    promised = make(encoder, form, "gpu", models / f"{name}-{form}")
    model.load(f"{name}-{form}", model_type=EMBEDDING)
    wanted = encoders.vectors(models / f"{name}-{form}", *TEXTS)
    worst = np.abs(model.call("embed", TEXTS) - wanted).max(), np.abs(model.call("embed", TEXTS[4:5]) - wanted[4]).max()
    print(f"{name} in {form}: {max(worst):.1e}")
    assert max(worst) < 2e-5
    assert model.call("weighed")["live"] == pytest.approx(promised, rel=0.1)
    with pytest.raises(RuntimeError, match="input is blank"):
        model.call("embed", [" \n"])
