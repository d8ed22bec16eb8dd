"""The files of an embedding model that WebLLM reads beside its library."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hybr.mlc_build import shards

from .config import read_json
from .weights import parameters, tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from .weights import Encoder

TEXTS = (
    "config.json",
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
"""What is read besides the tensors."""


def write(encoder: Encoder, quantisation: str, folder: Path) -> None:
    """Write shards, their index and the tokenizer into `folder`."""
    shards.write(parameters(encoder, quantisation), folder)
    words = read_json(encoder.folder / "tokenizer_config.json", {})
    words["model_max_length"] = encoder.config.context_window_size
    for name, content in {"tokenizer.json": tokenizer(encoder), "tokenizer_config.json": words}.items():
        (folder / name).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def config(encoder: Encoder, quantisation: str) -> dict[str, Any]:
    """Return mlc-chat-config.json. WebLLM refuses a window that is not the chunk, for it splits no text.

    It counts the tokens that it hands over, before the library puts two of its own around them.
    """
    c = encoder.config
    return {
        "version": "0.1.0",
        "model_type": c.family,
        "quantization": quantisation,
        "model_config": c.to_dict(),
        "vocab_size": c.vocab_size,
        "context_window_size": c.context_window_size,
        "prefill_chunk_size": c.prefill_chunk_size,
        "sliding_window_size": -1,
        "attention_sink_size": -1,
        "tensor_parallel_shards": 1,
        "tokenizer_files": ["tokenizer.json", "tokenizer_config.json"],
        "tokenizer_info": {
            "token_postproc_method": "byte_level",
            "prepend_space_in_encode": False,
            "strip_space_in_decode": False,
        },
        "embedding": {"pooling": c.pooling, "normalise": c.normalise, "dimensions": c.hidden_size},
    }
