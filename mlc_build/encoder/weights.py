"""An encoder's tensors in, the library's parameters out; query, key and value are one matrix.

The table of positions takes up the one segment's vector, which every token of a single text gets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hybr.mlc_build import safetensors
from hybr.mlc_build.blocks import encode
from hybr.mlc_build.quantise import F32, Parameter, check, layout
from hybr.mlc_build.quantise import read as floats
from hybr.mlc_build.told import readable

from .config import FORMS, EncoderConfig, read, read_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from hybr.mlc_build.quantise import Tensor

UNUSED = ("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias")
PREFIX = "bert."
PLACES, SEGMENTS = "embeddings.position_embeddings.weight", "embeddings.token_type_embeddings.weight"


@dataclass(frozen=True)
class Encoder:
    """A checkpoint: its numbers and its tensors, read when they are wanted."""

    config: EncoderConfig
    tensors: Mapping[str, Tensor]
    folder: Path


def open_folder(folder: Path, context: int = 0) -> Encoder:
    """Read a checkpoint's numbers now and its tensors when they are wanted. Raises SourceError."""
    with readable(str(folder)):
        found = {name.removeprefix(PREFIX): tensor for name, tensor in safetensors.read(folder).items() if _kept(name)}
        return Encoder(read(folder, context), found, folder)


def _kept(name: str) -> bool:
    return name.removeprefix(PREFIX) not in UNUSED and not name.startswith("cls.")


def matrices(config: EncoderConfig) -> dict[str, tuple[tuple[str, ...], int, int]]:
    """Return the library's matrices: name -> (checkpoint modules stacked along rows, rows, columns)."""
    h, f = config.hidden_size, config.intermediate_size
    found: dict[str, tuple[tuple[str, ...], int, int]] = {"words": (("embeddings.word_embeddings",), config.vocab_size, h)}
    for i in range(config.num_hidden_layers):
        p = f"encoder.layer.{i}"
        found[f"layers.{i}.qkv"] = (tuple(f"{p}.attention.self.{one}" for one in ("query", "key", "value")), 3 * h, h)
        found[f"layers.{i}.out"] = ((f"{p}.attention.output.dense",), h, h)
        found[f"layers.{i}.up"] = ((f"{p}.intermediate.dense",), f, h)
        found[f"layers.{i}.down"] = ((f"{p}.output.dense",), h, f)
    return found


def vectors(config: EncoderConfig) -> dict[str, tuple[tuple[str, ...], int]]:
    """Return the library's vectors: name -> (checkpoint tensors one after the other, length)."""
    h = config.hidden_size
    found = {f"{name}.bias": (tuple(f"{one}.bias" for one in parts), rows) for name, (parts, rows, _) in matrices(config).items()}
    del found["words.bias"]
    norms = {"norm": "embeddings.LayerNorm"}
    for i in range(config.num_hidden_layers):
        p = f"encoder.layer.{i}"
        norms |= {f"layers.{i}.norm_out": f"{p}.attention.output.LayerNorm", f"layers.{i}.norm_down": f"{p}.output.LayerNorm"}
    for name, module in norms.items():
        found |= {f"{name}.{kind}": ((f"{module}.{kind}",), h) for kind in ("weight", "bias")}
    return found


def parameters(encoder: Encoder, quantisation: str) -> Iterator[Parameter]:
    """Turn the tensors into the library's parameters. Raises QuantiseError naming the tensor that is missing or does not fit."""
    config, encoding = encoder.config, FORMS[quantisation]
    check(encoder.tensors, shapes(encoder))
    for name, (parts, rows, columns) in matrices(config).items():
        whole = np.concatenate([_read(encoder, f"{part}.weight") for part in parts])
        specs = layout(name, rows, columns, encoding)
        if encoding == "float":
            yield Parameter(specs[0].name, whole)
            continue
        coded = encode(whole, encoding)
        for spec, array in zip(specs, (coded.words, coded.shared), strict=True):
            yield Parameter(spec.name, array)
    yield Parameter("positions", _read(encoder, PLACES) + _read(encoder, SEGMENTS)[0])
    for name, (parts, _) in vectors(config).items():
        yield Parameter(name, np.concatenate([_read(encoder, part) for part in parts]))


def _read(encoder: Encoder, name: str) -> F32:
    return floats(name, encoder.tensors[name])


def shapes(encoder: Encoder) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor that the checkpoint must have."""
    config = encoder.config
    found: dict[str, tuple[int, ...]] = {}
    for parts, rows, columns in matrices(config).values():
        found |= {f"{part}.weight": (rows // len(parts), columns) for part in parts}
    for parts, length in vectors(config).values():
        found |= {part: (length // len(parts),) for part in parts}
    segments = encoder.tensors[SEGMENTS].shape[:1] if SEGMENTS in encoder.tensors else ()  # any number: the first is every text's
    return found | {PLACES: (config.positions, config.hidden_size), SEGMENTS: (*segments, config.hidden_size)}


def tokenizer(encoder: Encoder) -> dict[str, Any]:
    """Return the checkpoint's tokenizer.json without padding (WebLLM would take it for text), cut where its own library cuts."""
    found: dict[str, Any] = read_json(encoder.folder / "tokenizer.json")
    most = encoder.config.context_window_size - 2  # what opens and what ends a text is put there by the library
    cut = {"direction": "Right", "max_length": most, "strategy": "LongestFirst", "stride": 0}
    return {**found, "padding": None, "truncation": cut}
