"""The families: read from both formats alike, computed as transformers does, and compiled to what the reference computes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from families import CONFIGS, ENTRY, config, write_folder, write_gguf
from native_model import Native
from parity import FORM, PROMPT, kept, off
from walk import Last, walk

from hybr.mlc_build import checkpoint, huggingface
from hybr.mlc_build.quantise import quantise, specs
from hybr.mlc_build.reference import Reference, dequantised

if TYPE_CHECKING:
    from pathlib import Path

    from hybr.mlc_build.checkpoint import Checkpoint

COMPILED = (
    *("qwen2-slides", "phi3-long"),
    *(pytest.param(name, marks=pytest.mark.long) for name in CONFIGS if name not in {"qwen2-slides", "phi3-long"}),
)
"""The others' libraries are compared in Chromium itself (tests/e2e/test_library.py); these two there only in the long run."""


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
    """On the whole walk our numpy reference gives transformers' logits in float32, a fifth of what a library may be off.

    On the same dequantised weights; and at every place of a whole context its choice, and its greedy answers, sixty-four tokens
    to each of twenty prompts.
    """
    theirs = kept(name)
    reference = Reference(opened.config, dequantised(parameters(opened, FORM)))
    taken = walk(Last(reference), PROMPT, ENTRY.context, theirs["steps"])
    assert off(theirs, taken.logits) <= 4e-4
    reference.reset()
    assert [int(i) for i in reference.forward(taken.sequences[1]).argmax(1)] == theirs["likeliest"]
    for prompt, answer in zip(theirs["prompts"], theirs["answers"], strict=True):
        reference.reset()
        said = reference.forward(prompt + answer[:-1]).argmax(1)[len(prompt) - 1 :]
        assert [int(i) for i in said] == answer


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_both_formats_are_one_model(name: str, tied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GGUF as llama.cpp's converter writes it gives the numbers and parameters of the safetensors it was made from."""
    if name == "qwen2-slides":
        pytest.skip("a GGUF of Qwen2 does not tell which layers slide")
    monkeypatch.setitem(CONFIGS, name, {**CONFIGS[name], "tie_word_embeddings": tied})
    write_folder(tmp_path, name)
    write_gguf(tmp_path / "a.gguf", name)
    one, other = huggingface.open_folder(tmp_path, ENTRY), checkpoint.open_gguf(tmp_path / "a.gguf", ENTRY)
    ours, theirs = one.config.to_dict(), other.config.to_dict()
    if ours["family"] == "mistral":  # llama.cpp knows it as a Llama
        ours["family"] = "llama"
    if name == "gemma2":  # nor of Gemma what the attention's scale is made of: its head_dim, but in the largest
        assert (ours.pop("query_scalar"), theirs.pop("query_scalar")) == (24, 32)
    for field in ("rms_norm_eps", "rope_magnitude", "attention_cap", "logit_cap"):
        assert theirs.pop(field) == pytest.approx(ours.pop(field), rel=1e-6)
    np.testing.assert_allclose(theirs.pop("rope_factors"), ours.pop("rope_factors"), rtol=1e-6)
    assert theirs == ours
    first, second = parameters(one, FORM), parameters(other, FORM)
    assert list(first) == list(second)
    assert tied != ("lm_head.q_weight" in first)
    for key, array in first.items():
        np.testing.assert_array_equal(second[key], array, key)


def test_parameters_are_declared(opened: Checkpoint) -> None:
    """Names, shapes and order are those the library asks for."""
    made = [(p.name, p.array.shape, str(p.array.dtype)) for p in quantise(opened.tensors, opened.config, FORM)]
    assert made == [tuple(spec) for spec in specs(opened.config, FORM)]


@pytest.mark.parametrize("which", COMPILED)
def test_compiled_is_the_reference(which: str, tmp_path: Path) -> None:
    """The compiled graph gives the reference's logits on the whole walk: chunks, the window, 32 steps, a pop, a full context."""
    write_folder(tmp_path, which)
    found = huggingface.open_folder(tmp_path, ENTRY)
    made = parameters(found, FORM)
    taken = walk(Native(found.config, FORM, made), PROMPT, ENTRY.context)
    assert len(taken.sequences[1]) == ENTRY.context
    assert taken.off(taken.read_by(Reference(found.config, dequantised(made)))) < 2e-3


@pytest.mark.long
@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_compiled_from_a_gguf(name: str, tied: bool, heads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every family's graph, tied or not, with a key head for each query head, for two of them and for all, from its GGUF."""
    monkeypatch.setitem(CONFIGS, name, {**CONFIGS[name], "tie_word_embeddings": tied, "num_key_value_heads": heads})
    write_gguf(tmp_path / "a.gguf", name)
    found = checkpoint.open_gguf(tmp_path / "a.gguf", ENTRY)
    assert (found.config.tie_word_embeddings, found.config.num_key_value_heads) == (tied, heads)
    made = parameters(found, FORM)
    taken = walk(Native(found.config, FORM, made), PROMPT, ENTRY.context)
    assert taken.off(taken.read_by(Reference(found.config, dequantised(made)))) < 2e-3


def test_config_is_read_back() -> None:
    """What mlc-chat-config.json holds makes the same configuration again, lists and all."""
    made = config("phi3-long")
    assert type(made).from_dict(json.loads(json.dumps(made.to_dict()))) == made
