"""The families: read from both formats alike, computed as transformers does, and compiled to what the reference computes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from families import CONFIGS, ENTRY, config, write_folder, write_gguf
from native_model import Native
from parity import KEPT, POSITIONS, PROMPT, TOKENS

from hybr.mlc_build import checkpoint, huggingface
from hybr.mlc_build.quantise import quantise, specs
from hybr.mlc_build.reference import Reference, dequantised

if TYPE_CHECKING:
    from pathlib import Path

    from hybr.mlc_build.checkpoint import Checkpoint

COMPILED = ("llama3", "qwen2", "qwen3", "phi3-long")
"""One of each difference the graph knows: divided frequencies, biases, head norms, stacked matrices with a magnitude."""


@pytest.fixture(scope="module", params=CONFIGS)
def name(request: pytest.FixtureRequest) -> str:
    """Each family and variant."""
    return str(request.param)


@pytest.fixture(scope="module")
def opened(name: str, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """It, from safetensors."""
    folder = tmp_path_factory.mktemp(name)
    write_folder(folder, name)
    return huggingface.open_folder(folder, ENTRY)


def parameters(found: Checkpoint, quantisation: str) -> dict[str, Any]:
    """The library's parameters of a checkpoint."""
    return {p.name: p.array for p in quantise(found.tensors, found.config, quantisation)}


def test_transformers_agree(opened: Checkpoint, name: str) -> None:
    """Over 150 tokens our numpy reference gives transformers' logits in float32 to a few units of the last place."""
    theirs = json.loads(KEPT.read_text())[name]
    ours = Reference(opened.config, dequantised(parameters(opened, "q0f32"))).forward(PROMPT)
    assert np.abs(ours[list(POSITIONS), TOKENS] - np.array(theirs["logits"])).max() < 5e-5
    assert [int(i) for i in ours.argmax(1)] == theirs["likeliest"]


def test_both_formats_are_one_model(opened: Checkpoint, name: str, tmp_path: Path) -> None:
    """A GGUF as llama.cpp's converter writes it gives the numbers and parameters of the safetensors it was made from."""
    write_gguf(tmp_path / "a.gguf", name)
    other = checkpoint.open_gguf(tmp_path / "a.gguf", ENTRY)
    ours, theirs = opened.config.to_dict(), other.config.to_dict()
    if ours["family"] == "mistral":  # llama.cpp knows it as a Llama
        ours["family"] = "llama"
    for field in ("rms_norm_eps", "rope_magnitude"):
        assert theirs.pop(field) == pytest.approx(ours.pop(field), rel=1e-6)
    np.testing.assert_allclose(theirs.pop("rope_factors"), ours.pop("rope_factors"), rtol=1e-6)
    assert theirs == ours
    first, second = parameters(opened, "q4e8f32_1"), parameters(other, "q4e8f32_1")
    assert list(first) == list(second)
    for key, array in first.items():
        np.testing.assert_array_equal(second[key], array, key)


def test_parameters_are_declared(opened: Checkpoint) -> None:
    """Names, shapes and order are those the library asks for."""
    made = [(p.name, p.array.shape, str(p.array.dtype)) for p in quantise(opened.tensors, opened.config, "q4e8f32_1")]
    assert made == [tuple(spec) for spec in specs(opened.config, "q4e8f32_1")]


@pytest.mark.parametrize("which", COMPILED)
def test_compiled_is_the_reference(which: str, tmp_path: Path) -> None:
    """The compiled graph gives the reference's logits over a prompt that crosses prefill chunks and 32 greedy tokens after it."""
    write_folder(tmp_path, which)
    found = huggingface.open_folder(tmp_path, ENTRY)
    made = parameters(found, "q4e8f32_1")
    native, reference = Native(found.config, "q4e8f32_1", made), Reference(found.config, dequantised(made))
    ours, theirs = native.forward(PROMPT), reference.forward(PROMPT)[-1]
    for _ in range(32):
        assert np.abs(ours - theirs).max() < 2e-3
        token = int(theirs.argmax())
        ours, theirs = native.forward([token]), reference.forward([token])[-1]


def test_config_is_read_back() -> None:
    """What mlc-chat-config.json holds makes the same configuration again, lists and all."""
    made = config("phi3-long")
    assert type(made).from_dict(json.loads(json.dumps(made.to_dict()))) == made
