"""Checkpoints in Hugging Face's layout: config.json, tokenizer.json, tokenizer_config.json and safetensors, in one folder.

Given a single file, the folder is the one it lies in. What a family does otherwise than Llama is read from config.json into the
options of `ModelConfig`; what cannot be built is refused by the field's name.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from . import safetensors, tokenizer
from .checkpoint import Checkpoint, Vocabulary, window
from .errors import SourceError
from .model.config import DEEPEST, FAMILIES, ModelConfig, gemma, sliding
from .told import Told, fetched, readable

if TYPE_CHECKING:
    from pathlib import Path

    from .catalogue import Entry
    from .quantise import F32, Tensor


GEMMAS = frozenset({"gemma2", "gemma3_text"})

FULL = 0.9
"""How much of its rows a model's tokenizer fills at least: they are padded to a round number, by 3 % at most in those known."""
TEXTS = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
"""What is read besides the tensors."""


def folder_of(path: Path) -> Path:
    """Return the folder that a checkpoint's texts lie in."""
    return path.parent if path.is_file() else path


def open_folder(path: Path, entry: Entry) -> Checkpoint:
    """Read a checkpoint's numbers, vocabulary and template now, and its tensors when they are wanted. Raises SourceError."""
    with readable(str(path)):
        return _opened(path, folder_of(path), entry)


def _opened(path: Path, folder: Path, entry: Entry) -> Checkpoint:
    if not (folder / "config.json").is_file():
        raise SourceError(f"{folder} has no config.json; {safetensors.instead(folder)}")
    told = _json(folder / "config.json")
    config = read_config(told, entry)
    tensors: dict[str, Tensor] = {
        name: tensor
        for name, tensor in safetensors.read(path).items()
        if not name.endswith("rotary_emb.inv_freq") and not (config.tie_word_embeddings and name == "lm_head.weight")
    }
    if config.family in GEMMAS:
        tensors = {name: OneMore(tensor) if name.endswith("norm.weight") else tensor for name, tensor in tensors.items()}
    said = _template(folder)
    return Checkpoint(config, _vocabulary(folder, told, said), said, tensors)


def read_config(values: dict[str, Any], entry: Entry) -> ModelConfig:
    """Return the numbers of a config.json, with the window of `entry`. Raises SourceError naming the field."""
    told = Told(values, "config.json")
    family = told.get("model_type")
    if family not in FAMILIES:
        other = "; of a model that sees, the text part may have a GGUF of its own" if "text_config" in values else ""
        raise SourceError(f"model_type in config.json is {family!r}; there can be built {', '.join(FAMILIES)}{other}")
    is_gemma = family in GEMMAS
    _refuse(values, family)
    heads, width = told.whole("num_attention_heads"), told.whole("hidden_size")
    context = window(entry, told.whole("max_position_embeddings"))
    head_dim = told.whole("head_dim", 256 if is_gemma else max(width // heads, 1))
    rope, local = _rotations(told)
    theta = rope.real("rope_theta", told.real("rope_theta", 1e6 if family == "gemma3_text" else 10000.0))
    factors, magnitude = rope_factors(rope, told, theta, head_dim, context)
    layers = told.whole("num_hidden_layers", most=DEEPEST)
    return ModelConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=told.whole("num_key_value_heads", heads),
        head_dim=head_dim,
        intermediate_size=told.whole("intermediate_size"),
        vocab_size=told.whole("vocab_size"),
        rope_theta=theta,
        rms_norm_eps=told.real("rms_norm_eps", zero=True),
        tie_word_embeddings=told.flag("tie_word_embeddings", is_gemma),
        context_window_size=context,
        prefill_chunk_size=min(entry.prefill_chunk, context),
        family=str(family),
        qkv_bias=family == "qwen2",
        qk_norm=family in {"qwen3", "gemma3_text"},
        rope_factors=factors,
        rope_magnitude=magnitude,
        **sliding(context, told.whole("sliding_window", 0, least=0), _sliding_layers(told, family, layers), local),
        **(_gemma(told, family, width) if is_gemma else {}),
    )


def _refuse(told: dict[str, Any], family: str) -> None:
    """Raise SourceError for what no library here computes."""
    acts = {"gelu_pytorch_tanh"} if family in GEMMAS else {"silu"}
    # Gemma's first configurations said "gelu" in hidden_act and what they meant in hidden_activation.
    said = (told.get("hidden_activation") if family in GEMMAS else None) or told.get("hidden_act") or next(iter(acts))
    if said not in acts:
        raise SourceError(f"hidden_act in config.json is {said!r}; only {acts.pop()} can be built in a {family}")
    if told.get("partial_rotary_factor") not in {None, 1}:
        raise SourceError(f"partial_rotary_factor in config.json is {told['partial_rotary_factor']}; only 1 can be built")
    if told.get("attention_bias") and family != "qwen2":
        raise SourceError(f"attention_bias in config.json is true; no {family} with biases can be built")
    if told.get("quantization_config"):
        raise SourceError(
            "quantization_config in config.json: its weights are packed; take the model's unquantised safetensors or a GGUF"
        )
    if told.get("use_bidirectional_attention"):
        raise SourceError("use_bidirectional_attention in config.json is true; only models that read forward can be built")


def _rotations(told: Told) -> tuple[Told, float]:
    """Return the numbers of the rotation, and the base of sliding layers where they have one of their own (Gemma 3).

    transformers 5 writes them into one field, by kind of layer where those differ; 4 into several.
    """
    new = Told(told.part("rope_parameters"), "rope_parameters of config.json")
    whole = Told({**told.part("rope_scaling"), **(new.part("full_attention") or new.values)}, "rope_scaling of config.json")
    third = told.get("model_type") == "gemma3_text"
    local = Told(new.part("sliding_attention"), new.where).real("rope_theta", 0.0, zero=True)
    local = local or told.real("rope_local_base_freq", 10000.0 if third else 0.0, zero=True)
    return whole, local


def _sliding_layers(told: Told, family: str, layers: int) -> tuple[int, ...]:
    """Return the numbers of the layers whose attention slides."""
    qwen = family in {"qwen2", "qwen3"}
    if family == "llama" or not told.get("sliding_window") or not told.flag("use_sliding_window", not qwen):
        return ()
    if kinds := told.get("layer_types"):
        if unknown := sorted(set(kinds) - {"sliding_attention", "full_attention"}):
            raise SourceError(f"layer_types in config.json has {unknown[0]!r}; only sliding and full attention can be built")
        if len(kinds) != layers:
            raise SourceError(f"layer_types in config.json has {len(kinds)}, but num_hidden_layers is {layers}; fetch it again")
        return tuple(i for i, kind in enumerate(kinds) if kind == "sliding_attention")
    if family == "gemma3_text":  # every sixth sees all
        return tuple(i for i in range(layers) if (i + 1) % told.whole("sliding_window_pattern", 6))
    if family == "gemma2":
        return tuple(range(0, layers, 2))
    return tuple(range(told.whole("max_window_layers", 0, least=0) if qwen else 0, layers))


def _gemma(told: Told, family: str, width: int) -> dict[str, Any]:
    second = family == "gemma2"  # the third caps no scores, whatever its configuration says
    absent = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0 if second else 0.0}
    # Named and null is no cap; not named at all is the family's own.
    caps = {name: told.real(name, 0.0 if name in told.values else most, zero=True) for name, most in absent.items()}
    scalar = told.real("query_pre_attn_scalar", 256.0)
    return gemma(width, scalar, caps["attn_logit_softcapping"] if second else 0.0, caps["final_logit_softcapping"])


class OneMore:
    """A tensor that is stored less one: Gemma's normalisations in this layout (a GGUF holds them whole)."""

    packed = ""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.shape = tensor, tensor.shape

    def read(self) -> F32:
        """See quantise.Tensor."""
        return self.tensor.read() + np.float32(1)

    def blocks(self) -> None:
        """See quantise.Tensor."""

    def part(self, rows: slice) -> OneMore:
        """See quantise.Tensor."""
        return OneMore(self.tensor.part(rows))


def rope_factors(rope: Told, told: Told, theta: float, head_dim: int, context: int) -> tuple[tuple[float, ...], float]:
    """Return what each rotary frequency is divided by, and what the rotated vectors are multiplied by.

    `default`, `linear`, `llama3` (Llama 3.1's smooth interpolation by wavelength) and `longrope` (arXiv:2402.13753, where the
    checkpoint lists the divisors for windows within and past its original one). Raises SourceError for another kind.
    """
    kind, half = rope.get("rope_type", rope.get("type", "default")), head_dim // 2
    if kind == "default":
        return (), 1.0
    if kind == "linear":
        return (rope.real("factor"),) * half, 1.0
    if kind == "llama3":
        return tuple(llama3(theta, head_dim, rope)), 1.0
    if kind not in {"longrope", "su"}:
        raise SourceError(f"rope_scaling's rope_type is {kind!r}; there can be built default, linear, llama3 and longrope")
    longest = told.whole("max_position_embeddings")
    name = "original_max_position_embeddings"
    original = told.whole(name, rope.whole(name, longest))
    listed = rope.reals("long_factor" if context > original else "short_factor", half)
    return listed, rope.real("attention_factor", stretch(longest / original, original))


def stretch(ratio: float, original: int) -> float:
    """Return longrope's factor on rotated vectors for a window `ratio` times the original one."""
    return math.sqrt(1 + math.log(ratio) / math.log(original)) if ratio > 1 else 1.0


def llama3(theta: float, head_dim: int, rope: Told) -> list[float]:
    """Return Llama 3.1's divisors: 1 for short waves, `factor` for long ones, and a smooth change between."""
    low, high = rope.real("low_freq_factor"), rope.real("high_freq_factor")
    factor, original = rope.real("factor"), rope.whole("original_max_position_embeddings")
    if high <= low:
        raise SourceError(f"rope_scaling's high_freq_factor is {high}; it must be above low_freq_factor ({low})")
    found = []
    for i in range(head_dim // 2):
        turns = original / (2 * math.pi * theta ** (2 * i / head_dim))  # of this pair within the original window
        smooth = min(max((turns - low) / (high - low), 0.0), 1.0)
        found.append(1 / ((1 - smooth) / factor + smooth))
    return found


def words(folder: Path) -> tuple[Vocabulary, str]:
    """Return a checkpoint's vocabulary and its conversation template, whatever its family. Raises SourceError."""
    with readable(str(folder)):
        said = _template(folder)
        return _vocabulary(folder, _json(folder / "config.json"), said), said


def _ready(folder: Path, size: int, template: str) -> dict[str, Any]:
    """Return tokenizer.json for a model of `size` rows, without what its maker left in it for training."""
    if not (folder / "tokenizer.json").is_file():
        raise SourceError(
            f"{folder / 'tokenizer.json'} is missing; where the model has another tokenizer file, write it with "
            "transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        )
    found = _json(folder / "tokenizer.json")
    if found.get("model", {}).get("type") != "BPE":
        raise SourceError(f"{folder / 'tokenizer.json'} is not a BPE tokenizer; no other kind can be built")
    added = found.get("added_tokens", [])
    # Gemma 3's smaller models have the tokenizer of those that see, with a token for pictures behind their last row.
    kept = [token for token in added if token["id"] < size or token["content"] in template]
    found |= {"added_tokens": kept, "padding": None, "truncation": None}
    ids = [*found["model"]["vocab"].values(), *(token["id"] for token in kept)]
    if min(ids) < 0 or max(ids) >= size or len(set(ids)) < FULL * size:
        raise SourceError(
            f"tokenizer.json has {len(set(ids))} tokens up to {max(ids)}, but vocab_size in config.json is {size}: "
            "they are of two models"
        )
    tokenizer.loads(found, str(folder / "tokenizer.json"))
    return found


def _vocabulary(folder: Path, told: dict[str, Any], template: str) -> Vocabulary:
    words = _json(folder / "tokenizer_config.json", {})
    ready = _ready(folder, Told(told, "config.json").whole("vocab_size"), template)
    ids = {**ready["model"]["vocab"], **{token["content"]: token["id"] for token in ready["added_tokens"]}}
    tokens = [""] * (max(ids.values()) + 1)
    for token, at in ids.items():
        tokens[at] = token
    stops = _ids({**told, **_json(folder / "generation_config.json", {})})
    named = {role: _named(role, words, ids) for role in ("bos_token", "eos_token", "pad_token", "unk_token")}
    ended = named["eos_token"]
    stops = list(dict.fromkeys([*([] if ended is None else [ended]), *stops]))
    if not stops:
        raise SourceError("no eos_token_id in config.json or generation_config.json: an answer would never end")
    bos, pad, unknown = (named[role] for role in ("bos_token", "pad_token", "unk_token"))
    specials = [token["id"] for token in ready["added_tokens"] if token.get("special")]
    added = tuple(token["id"] for token in ready["added_tokens"] if not token.get("special"))
    return Vocabulary(
        tokens=tokens, merges=[], specials=specials, digits=False, words=True, bos=stops[0] if bos is None else bos, eos=stops[0],
        pad=stops[0] if pad is None else pad, unknown=stops[0] if unknown is None else unknown,
        stops=tuple(stops), ready=ready, opens=bos is not None, added=added,
    )  # fmt: skip


def _named(role: str, words: dict[str, Any], ids: dict[str, int]) -> int | None:
    """Return the id of a token that tokenizer_config.json names, as a text or as a description.

    Raises SourceError where the one that opens or ends a text is none of the tokenizer's: it would never be drawn, or be split.
    """
    token = words.get(role)
    text = token.get("content") if isinstance(token, dict) else token
    if not text:
        return None
    if text not in ids and role in {"bos_token", "eos_token"}:
        raise SourceError(
            f"the tokenizer does not match: {role} in tokenizer_config.json is {text!r}, which tokenizer.json does not have"
        )
    return ids.get(text)


def _ids(told: dict[str, Any]) -> list[int]:
    """Return the ids of `eos_token_id`, one or a list. Raises SourceError."""
    found = told.get("eos_token_id", [])
    listed = found if isinstance(found, list) else [] if found is None else [found]
    return [Told({"eos_token_id": one}, "the checkpoint").whole("eos_token_id", least=0) for one in listed]


def _template(folder: Path) -> str:
    apart = folder / "chat_template.jinja"
    if apart.is_file():
        return apart.read_text(encoding="utf-8")
    told = _json(folder / "tokenizer_config.json", {}).get("chat_template")
    if isinstance(told, list):  # several, by name
        told = next((one["template"] for one in told if one.get("name") == "default"), None)
    if not isinstance(told, str):
        raise SourceError(
            f"{folder} has no chat_template (in tokenizer_config.json, or chat_template.jinja): "
            "it is no chat model; take its instruct or chat version"
        )
    return told


def _json(file: Path, otherwise: dict[str, Any] | None = None) -> dict[str, Any]:
    if not file.is_file():
        if otherwise is not None:
            return otherwise
        raise SourceError(f"{file} is missing; a checkpoint in Hugging Face's layout has it")
    try:
        found = json.loads(fetched(file).read_bytes())
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{file} is not JSON ({error}); fetch it again") from error
    if not isinstance(found, dict):
        raise SourceError(f"{file} is not a JSON object; fetch it again")
    return found
