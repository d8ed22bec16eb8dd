"""The ways in which files say the same: versions of transformers and of llama.cpp's converter, and what they leave unsaid."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from families import ENTRY, LLAMA3, LONG, config, tensors, told, write_folder, write_gguf, write_safetensors
from gguf import GGUFReader

from hybr.mlc_build import checkpoint, huggingface
from hybr.mlc_build.told import Told

if TYPE_CHECKING:
    from pathlib import Path

GONE: Any = object()
"""Stands for a field that the file does not have."""
KINDS = [*["sliding_attention"] * 5, "full_attention", "sliding_attention"]
LINEAR = {"rope_type": "linear", "factor": 8.0}
APART = {"sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}, "full_attention": {**LINEAR, "rope_theta": 1e6}}
SHORT = tuple(LONG["short_factor"])
OLD = dict.fromkeys(("rope_theta", "rope_local_base_freq", "rope_scaling"), GONE)


@pytest.mark.parametrize(
    ("name", "changed", "wanted"),
    [
        ("llama3", {**OLD, "rope_parameters": {**LLAMA3, "rope_theta": 500000.0}}, {}),
        ("gemma3", {**OLD, "rope_parameters": APART}, {}),
        ("gemma3", {**OLD, "rope_parameters": {**APART, "sliding_attention": {"rope_theta": 5e3}}}, {"local_rope_theta": 5e3}),
        ("gemma3", {"rope_theta": GONE, "rope_local_base_freq": GONE}, {}),
        ("gemma3", {"layer_types": KINDS, "sliding_window_pattern": 2}, {}),
        ("gemma3", {"sliding_window_pattern": 3}, {"sliding_layers": (0, 1, 3, 4, 6)}),
        ("gemma3", {"final_logit_softcapping": GONE, "attn_logit_softcapping": 9.0}, {"logit_cap": 0.0}),
        ("gemma2", {"final_logit_softcapping": GONE, "attn_logit_softcapping": GONE}, {"logit_cap": 30.0, "attention_cap": 50.0}),
        ("gemma2", {"final_logit_softcapping": None, "attn_logit_softcapping": None}, {"logit_cap": 0.0, "attention_cap": 0.0}),
        ("gemma2", {"tie_word_embeddings": GONE, "query_pre_attn_scalar": GONE}, {"query_scalar": 256.0}),
        ("gemma2", {"head_dim": GONE}, {"head_dim": 256}),
        ("gemma2", {"hidden_act": "gelu"}, {}),
        ("gemma2", {"hidden_act": "gelu_pytorch_tanh", "hidden_activation": None}, {}),
        ("phi3-long", {"rope_scaling": {**LONG, "rope_type": GONE, "type": "su"}}, {}),
        ("phi3-long", {"original_max_position_embeddings": GONE}, {}),
        ("phi3-long", {"rope_scaling": {**LONG, "attention_factor": 1.5}}, {"rope_magnitude": 1.5}),
        ("phi3-long", {"original_max_position_embeddings": 256}, {"rope_factors": SHORT, "rope_magnitude": 1.0606601717798212}),
        ("mistral-slides", {"sliding_window": None}, {"sliding_window": 0, "sliding_layers": ()}),
        ("mistral-slides", {"head_dim": None, "layer_types": ["full_attention", "sliding_attention"]}, {"sliding_layers": (1,)}),
        ("qwen2-slides", {"use_sliding_window": GONE}, {"sliding_window": 0, "sliding_layers": ()}),
        ("qwen2", {"tie_word_embeddings": GONE}, {"tie_word_embeddings": False}),
        ("llama", {"num_key_value_heads": None}, {"num_key_value_heads": 4}),
        ("llama", {"sliding_window": 8}, {}),
    ],
)  # fmt: skip
def test_configs(name: str, changed: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Each spelling is read as the same model, or as the one it names."""
    fields = told(name) | {key: _there(value) if isinstance(value, dict) else value for key, value in changed.items()}
    assert huggingface.read_config(_there(fields), ENTRY) == dataclasses.replace(config(name), **wanted)


def _there(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not GONE}


def test_windows() -> None:
    """Without a window named it is the checkpoint's, 4096 at most; a call takes no more tokens than there is room for."""
    free = dataclasses.replace(ENTRY, context=0, prefill_chunk=600)
    assert [checkpoint.window(free, longest) for longest in (512, 131072)] == [512, 4096]
    assert huggingface.read_config(told("llama"), free).prefill_chunk_size == 512


def test_tensors_that_are_not_wanted(tmp_path: Path) -> None:
    """Tables of frequencies, and a head beside a tied embedding, are left where they are."""
    write_folder(tmp_path, "llama-tied")
    made = tensors(config("llama-tied"))
    extra = {
        "model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(8, np.float32),
        "lm_head.weight": np.ones((260, 64), np.float32),
    }
    write_safetensors(tmp_path / "model.safetensors", made | extra)
    assert set(huggingface.open_folder(tmp_path, ENTRY).tensors) == set(made)


def test_texts(tmp_path: Path) -> None:
    """Templates by name or in a file, tokens as descriptions, several that end an answer, and no training's leftovers."""
    write_folder(tmp_path, "llama")
    words = {
        "bos_token": {"content": "<|im_start|>"},
        "eos_token": {"content": "<|im_end|>"},
        "chat_template": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": checkpoint.CHATML}],
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(words))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 2]}))
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps({**tokenizer, "truncation": {"max_length": 8}, "padding": {"x": 1}}))
    found = huggingface.open_folder(tmp_path, ENTRY)
    assert found.template == checkpoint.CHATML
    assert (found.vocabulary.bos, found.vocabulary.opens, found.vocabulary.stops) == (1, True, (2, 0))
    assert found.vocabulary.ready is not None
    assert (found.vocabulary.ready["truncation"], found.vocabulary.ready["padding"]) == (None, None)
    (tmp_path / "chat_template.jinja").write_text(checkpoint.CHATML + "{# mine #}")
    assert huggingface.open_folder(tmp_path, ENTRY).template.endswith("mine #}")


@pytest.mark.parametrize(
    ("family", "fields", "layers", "wanted"),
    [
        ("gemma2", {}, 4, (4096, (0, 2), 0.0)),
        ("gemma2", {"attention.sliding_window": 64}, 4, (64, (0, 2), 0.0)),
        ("gemma3", {"attention.sliding_window": 64}, 7, (64, (0, 1, 2, 3, 4, 6), 10000.0)),
        ("gemma3", {"attention.sliding_window": 64, "rope.freq_base_swa": 5e3}, 2, (64, (0, 1), 5e3)),
        ("gemma3", {"attention.sliding_window": 64, "attention.sliding_window_pattern": 2}, 4, (64, (0, 2), 10000.0)),
        (
            "llama",
            {"attention.sliding_window": 64, "attention.sliding_window_pattern": [False, True, True]},
            3,
            (64, (1, 2), 0.0),
        ),
        ("llama", {"attention.sliding_window": 64}, 2, (64, (0, 1), 0.0)),
        ("phi3", {}, 2, None),
    ],
)
def test_windows_of_a_gguf(family: str, fields: dict[str, Any], layers: int, wanted: tuple[Any, ...] | None) -> None:
    """Which layers slide, and over what, where the file says it one by one, by a number, or not at all."""
    found = checkpoint._sliding(family, Told(fields, "a GGUF"), layers, 8192)
    names = ("sliding_window", "sliding_layers", "local_rope_theta")
    assert found == ({} if wanted is None else dict(zip(names, wanted, strict=True)))


@pytest.mark.parametrize(
    ("layers", "second", "scalar", "caps"),
    [(26, True, 256.0, (50.0, 30.0)), (46, True, 144.0, (50.0, 30.0)), (26, False, 256.0, (0, 0)), (62, False, 144.0, (0, 0))],
)
def test_scales_of_a_gguf(layers: int, second: bool, scalar: float, caps: tuple[float, float]) -> None:
    """What a Gemma's GGUF does not say: attention's scale, from the width in the largest of a generation, and its caps."""
    found = checkpoint._gemma(Told({}, "x"), {"width": 4608, "heads": 32, "head_dim": 256, "layers": layers}, second=second)
    assert (found["query_scalar"], found["attention_cap"], found["logit_cap"]) == (scalar, *caps)


@pytest.mark.parametrize(
    ("fields", "context", "wanted"),
    [
        ({"rope.scale_linear": 4.0}, 64, ((4.0, 4.0), 1.0)),
        ({"rope.scaling.factor": 2.0, "rope.scaling.type": "linear"}, 64, ((2.0, 2.0), 1.0)),
        ({"rope.scaling.factor": 2.0, "rope.scaling.type": "none"}, 64, ((), 1.0)),
        ({"rope.scaling.original_context_length": 64, "rope.scaling.attn_factor": 1.5}, 64, ((3.0, 4.0), 1.5)),
        ({"rope.scaling.original_context_length": 64}, 65, ((5.0, 6.0), 1.0)),
    ],
)
def test_rotations_of_a_gguf(fields: dict[str, Any], context: int, wanted: tuple[Any, float]) -> None:
    """One number under its old name and its new one, or a table for windows within the original one and past it."""
    tables = {"rope_factors_short.weight": [3.0, 4.0], "rope_factors_long.weight": [5.0, 6.0]}
    kept = tables if "rope.scaling.original_context_length" in fields else {}
    reader = SimpleNamespace(tensors=[SimpleNamespace(name=name, data=data) for name, data in kept.items()])
    assert checkpoint._rope(reader, Told({"context_length": 512, **fields}, "x"), 4, context) == wanted


def test_numbers_of_a_gguf(tmp_path: Path) -> None:
    """Without a base it is the family's own; without a window it is the file's, and a call takes no more tokens than that."""
    write_gguf(tmp_path / "a.gguf", "gemma3")
    reader = GGUFReader(tmp_path / "a.gguf")
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.endswith("freq_base")}
    found = checkpoint._config(Told(fields, "x"), reader, dataclasses.replace(ENTRY, context=0, prefill_chunk=600))
    assert (found.rope_theta, found.context_window_size, found.prefill_chunk_size) == (1e6, 512, 512)


def test_tokens_of_a_gguf(tmp_path: Path) -> None:
    """A second token that ends an answer, one that opens a text, and pieces without a blank put before."""
    write_gguf(tmp_path / "a.gguf", "llama", pieces=True)
    fields = {name: field.contents() for name, field in GGUFReader(tmp_path / "a.gguf").fields.items()}
    more = {"eot_token_id": 3, "bos_token_id": 1, "add_space_prefix": False}
    plain = checkpoint._vocabulary(Told(fields, "x"))
    found = checkpoint._vocabulary(Told(fields | {f"tokenizer.ggml.{name}": value for name, value in more.items()}, "x"))
    assert (plain.stops, plain.opens) == ((2,), False)
    assert (found.stops, found.opens, found.bos) == ((2, 3), True, 1)
    assert ["Prepend" in json.dumps(one.ready) for one in (plain, found)] == [True, False]
