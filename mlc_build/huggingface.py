"""Checkpoints in Hugging Face's layout: config.json, tokenizer.json, tokenizer_config.json and safetensors, in one folder.

Given a single file, the folder is the one it lies in. What a family does otherwise than Llama is read from config.json into the
options of `ModelConfig`; what cannot be built is refused by the field's name.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from . import safetensors
from .checkpoint import Checkpoint, Vocabulary, window
from .errors import SourceError
from .model.config import FAMILIES, ModelConfig

if TYPE_CHECKING:
    from pathlib import Path

    from .catalogue import Entry
    from .quantise import Tensor


TEXTS = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
"""What is read besides the tensors."""


def folder_of(path: Path) -> Path:
    """Return the folder that a checkpoint's texts lie in."""
    return path.parent if path.is_file() else path


def open_folder(path: Path, entry: Entry) -> Checkpoint:
    """Read a checkpoint's numbers, vocabulary and template now, and its tensors when they are wanted. Raises SourceError."""
    folder = folder_of(path)
    told = _json(folder / "config.json")
    config = read_config(told, entry)
    tensors: dict[str, Tensor] = {
        name: tensor
        for name, tensor in safetensors.read(path).items()
        if not name.endswith("rotary_emb.inv_freq") and not (config.tie_word_embeddings and name == "lm_head.weight")
    }
    return Checkpoint(config, _vocabulary(folder, told), _template(folder), tensors)


def read_config(told: dict[str, Any], entry: Entry) -> ModelConfig:
    """Return the numbers of a config.json, with the window of `entry`. Raises SourceError naming the field."""
    family = told.get("model_type")
    if family not in FAMILIES:
        raise SourceError(f"model_type in config.json is {family!r}; there can be built {', '.join(FAMILIES)}")
    heads, width = int(_need(told, "num_attention_heads")), int(_need(told, "hidden_size"))
    if told.get("hidden_act", "silu") != "silu":
        raise SourceError(f"hidden_act in config.json is {told['hidden_act']!r}; only silu can be built")
    if told.get("partial_rotary_factor") not in {None, 1}:
        raise SourceError(f"partial_rotary_factor in config.json is {told['partial_rotary_factor']}; only 1 can be built")
    if told.get("attention_bias") and family != "qwen2":
        raise SourceError(f"attention_bias in config.json is true; no {family} with biases can be built")
    slides = told.get("sliding_window") if told.get("use_sliding_window", True) else None
    context = window(entry, int(_need(told, "max_position_embeddings")), slides)
    head_dim = int(told.get("head_dim") or width // heads)
    # transformers 5 writes the rotation's numbers into one field, 4 into two.
    rope = {**(told.get("rope_scaling") or {}), **(told.get("rope_parameters") or {})}
    theta = float(rope.get("rope_theta") or told.get("rope_theta") or 10000.0)
    factors, magnitude = rope_factors(rope, told, theta, head_dim, context)
    return ModelConfig(
        hidden_size=width,
        num_hidden_layers=int(_need(told, "num_hidden_layers")),
        num_attention_heads=heads,
        num_key_value_heads=int(told.get("num_key_value_heads") or heads),
        head_dim=head_dim,
        intermediate_size=int(_need(told, "intermediate_size")),
        vocab_size=int(_need(told, "vocab_size")),
        rope_theta=theta,
        rms_norm_eps=float(_need(told, "rms_norm_eps")),
        tie_word_embeddings=bool(told.get("tie_word_embeddings", False)),
        context_window_size=context,
        prefill_chunk_size=min(entry.prefill_chunk, context),
        family=str(family),
        qkv_bias=family == "qwen2",
        qk_norm=family == "qwen3",
        rope_factors=factors,
        rope_magnitude=magnitude,
    )


def rope_factors(
    rope: dict[str, Any], told: dict[str, Any], theta: float, head_dim: int, context: int
) -> tuple[tuple[float, ...], float]:
    """Return what each rotary frequency is divided by, and what the rotated vectors are multiplied by.

    `default`, `linear`, `llama3` (Llama 3.1's smooth interpolation by wavelength) and `longrope` (arXiv:2402.13753, where the
    checkpoint lists the divisors for windows within and past its original one). Raises SourceError for another kind.
    """
    kind, half = rope.get("rope_type", rope.get("type", "default")), head_dim // 2
    if kind == "default":
        return (), 1.0
    if kind == "linear":
        return (float(rope["factor"]),) * half, 1.0
    if kind == "llama3":
        return tuple(llama3(theta, head_dim, rope)), 1.0
    if kind not in {"longrope", "su"}:
        raise SourceError(f"rope_scaling's rope_type is {kind!r}; there can be built default, linear, llama3 and longrope")
    longest = int(_need(told, "max_position_embeddings"))
    original = int(told.get("original_max_position_embeddings") or rope.get("original_max_position_embeddings") or longest)
    listed = rope["long_factor" if context > original else "short_factor"]
    if len(listed) != half:
        raise SourceError(f"rope_scaling lists {len(listed)} factors; a head of {head_dim} needs {half}")
    return tuple(float(f) for f in listed), float(rope.get("attention_factor") or stretch(longest / original, original))


def stretch(ratio: float, original: int) -> float:
    """Return longrope's factor on rotated vectors for a window `ratio` times the original one."""
    return math.sqrt(1 + math.log(ratio) / math.log(original)) if ratio > 1 else 1.0


def llama3(theta: float, head_dim: int, rope: dict[str, Any]) -> list[float]:
    """Return Llama 3.1's divisors: 1 for short waves, `factor` for long ones, and a smooth change between."""
    low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    factor, original = float(rope["factor"]), float(rope["original_max_position_embeddings"])
    found = []
    for i in range(head_dim // 2):
        turns = original / (2 * math.pi * theta ** (2 * i / head_dim))  # of this pair within the original window
        smooth = min(max((turns - low) / (high - low), 0.0), 1.0)
        found.append(1 / ((1 - smooth) / factor + smooth))
    return found


def _vocabulary(folder: Path, told: dict[str, Any]) -> Vocabulary:
    ready, words = _json(folder / "tokenizer.json"), _json(folder / "tokenizer_config.json", {})
    if ready.get("model", {}).get("type") != "BPE":
        raise SourceError(f"{folder / 'tokenizer.json'} is not a BPE tokenizer; no other kind can be built")
    ids = {**ready["model"]["vocab"], **{token["content"]: token["id"] for token in ready.get("added_tokens", [])}}
    size = int(_need(told, "vocab_size"))
    if max(ids.values()) >= size:
        raise SourceError(
            f"tokenizer.json has a token {max(ids.values())}, but vocab_size in config.json is {size}: they are of two models"
        )
    tokens = [""] * (max(ids.values()) + 1)
    for token, at in ids.items():
        tokens[at] = token
    stops = _ids(_json(folder / "generation_config.json", {}).get("eos_token_id", told.get("eos_token_id")))
    ended = _named(words.get("eos_token"), ids)
    stops = list(dict.fromkeys([*([] if ended is None else [ended]), *stops]))
    if not stops:
        raise SourceError("no eos_token_id in config.json or generation_config.json: an answer would never end")
    bos = _named(words.get("bos_token"), ids)
    pad, unknown = _named(words.get("pad_token"), ids), _named(words.get("unk_token"), ids)
    specials = [token["id"] for token in ready.get("added_tokens", []) if token.get("special")]
    return Vocabulary(
        tokens=tokens, merges=[], specials=specials, digits=False, words=True, bos=stops[0] if bos is None else bos, eos=stops[0],
        pad=stops[0] if pad is None else pad, unknown=stops[0] if unknown is None else unknown,
        stops=tuple(stops), ready=ready, opens=bos is not None,
    )  # fmt: skip


def _named(token: Any, ids: dict[str, int]) -> int | None:
    """Return the id of a token that tokenizer_config.json names, as a text or as a description."""
    return ids.get(token["content"] if isinstance(token, dict) else token) if token else None


def _ids(told: Any) -> list[int]:
    return [] if told is None else [int(i) for i in (told if isinstance(told, list) else [told])]


def _template(folder: Path) -> str:
    apart = folder / "chat_template.jinja"
    if apart.is_file():
        return apart.read_text(encoding="utf-8")
    told = _json(folder / "tokenizer_config.json", {}).get("chat_template")
    if isinstance(told, list):  # several, by name
        told = next((one["template"] for one in told if one.get("name") == "default"), None)
    if not isinstance(told, str):
        raise SourceError(f"{folder} has no chat_template (tokenizer_config.json or chat_template.jinja): it is no chat model")
    return told


def _json(file: Path, otherwise: dict[str, Any] | None = None) -> dict[str, Any]:
    if not file.is_file():
        if otherwise is not None:
            return otherwise
        raise SourceError(f"{file} is missing; a checkpoint in Hugging Face's layout has it")
    try:
        found: dict[str, Any] = json.loads(file.read_bytes())
    except ValueError as error:
        raise SourceError(f"{file} is not JSON ({error}); fetch it again") from error
    return found


def _need(told: dict[str, Any], field: str) -> Any:
    if told.get(field) is None:
        raise SourceError(f"config.json has no {field}")
    return told[field]
