"""Small seeded checkpoints of each family, written in Hugging Face's layout and as GGUF, with a tokenizer of bytes."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize

from hybr.mlc_build import checkpoint, huggingface, quantise
from hybr.mlc_build.catalogue import find
from hybr.mlc_build.tokenizer import make

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from hybr.mlc_build.model.config import ModelConfig

F32 = npt.NDArray[np.float32]
ENTRY = dataclasses.replace(find("tiny"), id="small", context=256, prefill_chunk=32)

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LONG = {
    "rope_type": "longrope",
    "short_factor": [1.0 + i / 10 for i in range(8)],
    "long_factor": [1.5 + i for i in range(8)],
    "original_max_position_embeddings": 64,
}
SAME: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 260,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "eos_token_id": 2,
    "pad_token_id": 3,
}
GEMMA: dict[str, Any] = {
    "head_dim": 32,
    "num_key_value_heads": 1,
    "hidden_activation": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
    "rms_norm_eps": 1e-6,
    "attn_logit_softcapping": 5.0,
    "final_logit_softcapping": 8.0,
}
"""With caps far below Gemma 2's 50 and 30, so that small logits feel them."""
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "tie_word_embeddings": False},
    "llama-tied": {"model_type": "llama", "tie_word_embeddings": True},
    "llama3": {"model_type": "llama", "rope_theta": 500000.0, "rope_scaling": LLAMA3},
    "linear": {"model_type": "llama", "rope_scaling": {"type": "linear", "factor": 4.0}},
    "mistral": {"model_type": "mistral", "sliding_window": 256, "head_dim": 32},
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": True, "use_sliding_window": False, "sliding_window": 32},
    "qwen3": {"model_type": "qwen3", "head_dim": 32, "num_key_value_heads": 1, "tie_word_embeddings": True},
    "phi3": {"model_type": "phi3", "sliding_window": None, "num_key_value_heads": 4},
    "mistral-slides": {"model_type": "mistral", "sliding_window": 24},
    "qwen2-slides": {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 40, "max_window_layers": 1},
    "gemma2": {**GEMMA, "model_type": "gemma2", "query_pre_attn_scalar": 24, "num_hidden_layers": 3, "sliding_window": 24},
    "gemma3": {
        **GEMMA,
        "model_type": "gemma3_text",
        "num_hidden_layers": 7,
        "query_pre_attn_scalar": 32,
        "sliding_window": 24,
        "rope_theta": 1e6,
        "rope_local_base_freq": 10000.0,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
    "phi3-long": {
        "model_type": "phi3",
        "tie_word_embeddings": True,
        "original_max_position_embeddings": 64,
        "rope_scaling": LONG,
    },
}


def told(name: str) -> dict[str, Any]:
    """Return a family's config.json."""
    return {**SAME, **CONFIGS[name]}


def config(name: str) -> ModelConfig:
    """Return its numbers as the compiler reads them."""
    return huggingface.read_config(told(name), ENTRY)


def tensors(made: ModelConfig) -> dict[str, F32]:
    """Return seeded tensors under the names the family's checkpoints use: stacked ones for Phi-3, parts for the others."""
    source = np.random.Generator(np.random.PCG64(61))
    found: dict[str, F32] = {}

    def draw(name: str, *shape: int) -> None:
        around = 1.0 if name.endswith("norm.weight") and not made.sandwich_norms else 0.0  # Gemma's are stored less one
        if made.sandwich_norms and "post_" in name:
            around = 3.0  # loud layers: tied to a loud embedding, a random model would only repeat its input
        spread = 0.2 if len(shape) == 1 else 2 / np.sqrt(shape[1])
        found[name] = (around + spread * source.standard_normal(shape)).astype(np.float32)

    sizes = {"q_proj": made.attention_size, "k_proj": made.key_value_size, "v_proj": made.key_value_size}
    for name, (parts, rows, columns) in quantise.matrices(made).items():
        if made.family == "phi3" or len(parts) == 1:
            draw(f"{name}.weight", rows, columns)
            continue
        for part in parts:
            draw(f"{part}.weight", sizes.get(part.rpartition(".")[2], rows // 2), columns)
    for parts, length in quantise.vectors(made).values():
        for part in parts:
            draw(part, sizes.get(part.split(".")[-2], length))
    return found


def write_folder(folder: Path, name: str, *, dtype: str = "F32", shards: int = 1, **changed: Any) -> dict[str, F32]:
    """Write a family's checkpoint as Hugging Face does and return its tensors; `changed` overrides fields of config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    made = tensors(config(name))
    (folder / "config.json").write_text(json.dumps({**told(name), **changed}))
    vocabulary = checkpoint.open_seeded().vocabulary
    (folder / "tokenizer.json").write_text(make(vocabulary).to_str())
    words = {"eos_token": "<|im_end|>", "bos_token": None, "chat_template": checkpoint.CHATML}
    (folder / "tokenizer_config.json").write_text(json.dumps(words))
    if shards == 1:
        write_safetensors(folder / "model.safetensors", made, dtype)
        return made
    named: dict[str, str] = {}
    for number in range(shards):
        part = {key: made[key] for i, key in enumerate(made) if i % shards == number}
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        write_safetensors(folder / file, part, dtype)
        named |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": named}))
    return made


def write_safetensors(file: Path, made: Mapping[str, F32], dtype: str = "F32") -> None:
    """Write a safetensors file."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data, length = [], 0
    for name, array in made.items():
        raw = {
            "F32": lambda a: a.astype("<f4"),
            "F16": lambda a: a.astype("<f2"),
            "BF16": lambda a: (a.view(np.uint32) >> np.uint32(16)).astype("<u2"),
            "F64": lambda a: a.astype("<f8"),
        }[dtype](array).tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [length, length + len(raw)]}
        data.append(raw)
        length += len(raw)
    text = json.dumps(header).encode()
    with file.open("wb") as opened:
        opened.writelines([len(text).to_bytes(8, "little"), text, *data])


def write_gguf(
    file: Path, name: str, *, pieces: bool = False, packed: str = "F32", change: Callable[[dict[str, Any]], object] | None = None
) -> dict[str, F32]:
    """Write the same checkpoint as llama.cpp's converter does and return its tensors.

    `pieces` for SentencePiece's kind; `packed` is the type of matrices; `change` has the tensors by GGUF's names before they go.
    """
    c = config(name)
    family = {"mistral": "llama", "gemma3_text": "gemma3"}.get(c.family, c.family)
    made, writer = tensors(c), GGUFWriter(file, family)
    vocabulary = checkpoint.open_seeded().vocabulary
    writer.add_context_length(512)
    writer.add_embedding_length(c.hidden_size)
    writer.add_block_count(c.num_hidden_layers)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    writer.add_key_length(c.head_dim)
    writer.add_rope_dimension_count(c.head_dim)
    writer.add_rope_freq_base(c.rope_theta)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    if pieces:
        writer.add_tokenizer_model("llama")
        writer.add_token_list([*vocabulary.tokens[:4], *(f"<0x{byte:02X}>" for byte in range(256))])
        writer.add_token_types([2, 3, 3, 3] + [6] * 256)
        writer.add_token_scores([0.0] * 260)
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_list([*vocabulary.tokens[:-1], "Āā"])
        writer.add_token_types([3] * 4 + [1] * 256)
        writer.add_token_merges(["Ā ā"])
    writer.add_eos_token_id(2)
    writer.add_chat_template(checkpoint.CHATML)
    _rope(writer, name, c)
    if c.sliding_layers:
        writer.add_sliding_window(c.sliding_window)
    if c.logit_cap:
        writer.add_attn_logit_softcapping(5.0)
        writer.add_final_logit_softcapping(c.logit_cap)
    layer, held = {theirs: ours for ours, theirs in checkpoint.LAYERS[family].items()}, {}
    whole = {theirs: ours for ours, theirs in checkpoint.WHOLE.items()}
    heads = {"q_proj": c.num_attention_heads, "k_proj": c.num_key_value_heads}
    for key, array in made.items():
        stem, _, kind = key.rpartition(".")
        parts = stem.split(".")
        turns = family == "llama" and parts[-1] in heads
        shape = array.shape
        if c.sandwich_norms and key.endswith("norm.weight"):
            array = array + np.float32(1)  # noqa: PLW2901 - llama.cpp's converter adds what Gemma's layout leaves out
        rows = array.reshape(heads[parts[-1]], 2, -1, *shape[1:]).swapaxes(1, 2).reshape(shape) if turns else array
        held[f"{whole[stem]}.{kind}" if stem in whole else f"blk.{parts[2]}.{layer['.'.join(parts[3:])]}.{kind}"] = rows
    if change is not None:
        change(held)
    for key, rows in held.items():
        chosen = GGMLQuantizationType[packed if rows.ndim == 2 else "F32"]
        writer.add_tensor(key, quantize(rows, chosen), raw_dtype=chosen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return made


def _rope(writer: GGUFWriter, name: str, c: ModelConfig) -> None:
    if name == "llama3":
        writer.add_tensor("rope_freqs.weight", np.array(c.rope_factors, np.float32))
    if name in {"linear", "gemma3"}:
        family = {"gemma3_text": "gemma3"}.get(c.family, c.family)
        writer.add_string(f"{family}.rope.scaling.type", "linear")
        writer.add_float32(f"{family}.rope.scaling.factor", c.rope_factors[0])
    if name == "phi3-long":
        writer.add_string("phi3.rope.scaling.type", "longrope")
        writer.add_uint32("phi3.rope.scaling.original_context_length", 64)
        writer.add_float32("phi3.rope.scaling.attn_factor", c.rope_magnitude)
        for kind in ("long", "short"):
            writer.add_tensor(f"rope_factors_{kind}.weight", np.array(LONG[f"{kind}_factor"], np.float32))
