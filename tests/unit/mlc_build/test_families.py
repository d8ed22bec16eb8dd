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

COMPILED = (
    *("llama3", "qwen2-slides", "qwen3", "phi3-long", "gemma2", "gemma3"),
    *(pytest.param(name, marks=pytest.mark.long) for name in ("llama", "linear", "mistral", "mistral-slides", "qwen2", "phi3")),
)
"""One of each difference the graph knows: divided frequencies, windows in all layers and in some, biases, head norms, stacked
matrices with a magnitude, caps, two rotations."""


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
    if name == "qwen2-slides":
        pytest.skip("a GGUF of Qwen2 does not tell which layers slide")
    write_gguf(tmp_path / "a.gguf", name)
    other = checkpoint.open_gguf(tmp_path / "a.gguf", ENTRY)
    ours, theirs = opened.config.to_dict(), other.config.to_dict()
    if ours["family"] == "mistral":  # llama.cpp knows it as a Llama
        ours["family"] = "llama"
    if name == "gemma2":  # nor of Gemma what the attention's scale is made of: its head_dim, but in the largest
        assert (ours.pop("query_scalar"), theirs.pop("query_scalar")) == (24, 32)
    for field in ("rms_norm_eps", "rope_magnitude", "attention_cap", "logit_cap"):
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
    """The compiled graph gives the reference's logits wherever a conversation can stand.

    Over a prompt that crosses prefill chunks (and where the family's attention slides, its window), 32 greedy tokens after it, a
    cache that is popped back into the window and goes on otherwise, in chunks of another size, and to the context's last token.
    """
    write_folder(tmp_path, which)
    found = huggingface.open_folder(tmp_path, ENTRY)
    made = parameters(found, "q4e8f32_1")
    native, reference = Native(found.config, "q4e8f32_1", made), Reference(found.config, dequantised(made))

    def differ(tokens: list[int], chunk: int | None = None) -> tuple[float, int]:
        theirs = reference.forward(tokens)[-1]
        return float(np.abs(native.forward(tokens, chunk) - theirs).max()), int(theirs.argmax())

    off, token = differ(PROMPT)
    worst = [off]
    for _ in range(32):
        off, token = differ([token])
        worst.append(off)
    native.pop(45)
    reference.pop(45)
    worst.append(differ(PROMPT[:50], chunk=7)[0])
    worst += [differ([token])[0] for token in PROMPT[: found.config.context_window_size - reference.length]]
    assert reference.length == found.config.context_window_size
    assert max(worst) < 2e-3


def test_config_is_read_back() -> None:
    """What mlc-chat-config.json holds makes the same configuration again, lists and all."""
    made = config("phi3-long")
    assert type(made).from_dict(json.loads(json.dumps(made.to_dict()))) == made
