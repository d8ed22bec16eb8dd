"""A build needs at most four times the checkpoint's largest shard: so eight billion weights are built on 24 GB."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from families import CONFIGS, SAME
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter

from hybr.mlc_build import checkpoint, huggingface, own, quantise, rewrite, shards
from hybr.mlc_build.tokenizer import make

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybr.mlc_build.model.config import ModelConfig

PROBE = Path(__file__).parents[2] / "support" / "memory_probe.py"
SMALL = {
    **SAME,
    **CONFIGS["llama"],
    "hidden_size": 512,
    "num_attention_heads": 8,
    "num_hidden_layers": 4,
    "intermediate_size": 2048,
    "vocab_size": 40_000,
}
EIGHT = {
    **SMALL,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 32,
    "intermediate_size": 14336,
    "vocab_size": 128_256,
    "max_position_embeddings": 131_072,
}
"""Llama 3.1 8B's shape."""


def sparse(folder: Path, told: dict[str, Any], shard_bytes: int) -> int:
    """Write a checkpoint of zeros in bfloat16 that takes no room on the disk, in shards; return the largest one's size."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(told))
    (folder / "tokenizer.json").write_text(make(vocabulary_of(told["vocab_size"])).to_str())
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", "chat_template": checkpoint.CHATML}))
    named: dict[str, str] = {}
    largest = 0
    for number, shard in enumerate(shard_of(told, shard_bytes)):
        file = folder / f"model-{number:05}.safetensors"
        header, at = {}, 0
        for name, shape in shard.items():
            size = 2 * shape[0] * (shape[1] if len(shape) == 2 else 1)
            header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
            at += size
        text = json.dumps(header).encode()
        with file.open("wb") as opened:
            opened.write(len(text).to_bytes(8, "little") + text)
            opened.truncate(8 + len(text) + at)
        named |= dict.fromkeys(shard, file.name)
        largest = max(largest, at)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": named}))
    return largest


def shapes_of(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of each of a Llama's tensors, by Hugging Face's name and in the order of the model."""
    heads = {"q_proj": config.attention_size, "k_proj": config.key_value_size, "v_proj": config.key_value_size}
    shapes: dict[str, tuple[int, ...]] = {}
    for parts, rows, columns in quantise.matrices(config).values():
        for part in parts:
            shapes[f"{part}.weight"] = (heads.get(part.split(".")[-1], rows // len(parts)), columns)
    return shapes | {part: (length,) for parts, length in quantise.vectors(config).values() for part in parts}


def shard_of(told: dict[str, Any], shard_bytes: int) -> Iterator[dict[str, tuple[int, ...]]]:
    """Yield the tensors of each shard, filled in the order of the model."""
    shard: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes_of(config_of(told)).items():
        sizes = [2 * one[0] * (one[1] if len(one) == 2 else 1) for one in (*shard.values(), shape)]
        if shard and sum(sizes) > shard_bytes:
            yield shard
            shard = {}
        shard[name] = shape
    yield shard


def config_of(told: dict[str, Any]) -> ModelConfig:
    """Return the numbers of a config.json."""
    return huggingface.read_config(told, own.entry_of("tiny", context=256))


def vocabulary_of(size: int) -> checkpoint.Vocabulary:
    """Return the seeded model's vocabulary, filled up to `size` tokens."""
    seeded = checkpoint.open_seeded().vocabulary
    return dataclasses.replace(seeded, tokens=[*seeded.tokens, *(f"<more {i}>" for i in range(len(seeded.tokens), size))])


def sparse_gguf(file: Path, told: dict[str, Any], kind: GGMLQuantizationType) -> int:
    """Write the same as a GGUF whose matrices are blocks of a kind, all zeros and nowhere on the disk; return its size."""
    config = config_of(told)
    made = checkpoint.Checkpoint(config, vocabulary_of(config.vocab_size), checkpoint.CHATML, {})
    writer = GGUFWriter(file, "llama")
    rewrite._numbers(writer, made)
    rewrite._vocabulary(writer, made)
    total = 0
    for name, shape in shapes_of(config).items():
        stored = kind if len(shape) == 2 else GGMLQuantizationType.F32
        weights, size = GGML_QUANT_SIZES[stored]
        length = int(np.prod(shape)) // weights * size
        writer.add_tensor_info(rewrite.gguf_name(name), shape, np.dtype(np.float32), length, raw_dtype=stored)
        total += GGUFWriter.ggml_pad(length, writer.data_alignment)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with file.open("r+b") as opened:
        opened.truncate(GGUFWriter.ggml_pad(file.stat().st_size, writer.data_alignment) + total)
    return file.stat().st_size


def weighed(folder: Path, out: Path, quantisation: str) -> dict[str, int]:
    """Return what the build's weights step took, in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(PROBE), str(folder), str(out), quantisation], capture_output=True, text=True, check=True
    )
    found: dict[str, int] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("quantisation", ["q4e8f32_1", "q0f32"])
@pytest.mark.parametrize("kind", ["safetensors", "Q4_0", "Q4_K"])
def test_a_small_one(kind: str, quantisation: str, tmp_path: Path) -> None:
    """Where the largest tensor is a shard of its own, the worst case, and as a GGUF; interpreter and numpy apart."""
    source = tmp_path / ("small" if kind == "safetensors" else "small.gguf")
    largest = sparse(source, SMALL, 20 << 20) if kind == "safetensors" else sparse_gguf(source, SMALL, GGMLQuantizationType[kind])
    took = weighed(source, tmp_path / "out", quantisation)
    assert largest == 2 * 40_000 * 512 or source.is_file()
    assert took["peak"] - took["before"] <= 4 * largest
    assert len(shards.read(tmp_path / "out")) > 20


@pytest.mark.long
@pytest.mark.timeout(3600)  # a quarter of an hour on two quiet cores
@pytest.mark.parametrize("kind", ["safetensors", "Q4_0"])
def test_eight_billion_weights(kind: str, tmp_path: Path) -> None:
    """Llama 3.1 8B's shape, weights only, as its publisher shards it, and as one GGUF file."""
    source = tmp_path / ("eight" if kind == "safetensors" else "eight.gguf")
    largest = (
        sparse(source, EIGHT, 5 * 10**9) if kind == "safetensors" else sparse_gguf(source, EIGHT, GGMLQuantizationType[kind])
    )
    took = weighed(source, tmp_path / "out", "q4e8f32_1")
    print(f"{kind}: largest shard {largest / 1e9:.2f} GB, peak {took['peak'] / 1e9:.2f} GB")
    assert took["peak"] <= 4 * largest
    assert took["peak"] < 20e9
