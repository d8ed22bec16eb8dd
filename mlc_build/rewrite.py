"""A checkpoint as a GGUF file, so that llama.cpp runs it too: for the seeded model, which comes from none.

Tensors stay float32, so what llama.cpp computes from the file can be compared with the unquantised build token by token.
"""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

import numpy as np

from .checkpoint import CONTROL, LAYER, WHOLE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gguf import GGUFWriter

    from .checkpoint import F32, Checkpoint

NORMAL = 1
"""GGUF's token type for what is no special."""


def write(checkpoint: Checkpoint, tensors: Mapping[str, F32], path: Path) -> None:
    """Write the checkpoint with these float tensors (by Hugging Face's names) at `path`: the same bytes for the same input."""
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "llama")
    _numbers(writer, checkpoint)
    _vocabulary(writer, checkpoint)
    for name, array in tensors.items():
        writer.add_tensor(gguf_name(name), _turned(name, array, checkpoint))
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    except OSError as error:
        if error.errno is None:  # numpy's word for a full disk: "8192 requested and 0 written"
            raise OSError(errno.ENOSPC, str(error), str(path)) from error
        raise
    finally:
        with contextlib.suppress(OSError):  # closing flushes, and a full disk would be told of twice
            writer.close()


def gguf_name(name: str) -> str:
    """Return GGUF's name of one of Hugging Face's tensors, the other way round than `checkpoint.hugging_face_name`."""
    stem, _, kind = name.rpartition(".")
    whole = {theirs: ours for ours, theirs in WHOLE.items()}
    if stem in whole:
        return f"{whole[stem]}.{kind}"
    _, _, layer, rest = stem.split(".", 3)
    (ours,) = (ours for ours, theirs in LAYER.items() if theirs == rest)
    return f"blk.{layer}.{ours}.{kind}"


def interleave(weight: F32, heads: int) -> F32:
    """Bring a projection's rows from Hugging Face's order into llama.cpp's: `checkpoint.uninterleave` undone."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _turned(name: str, array: F32, checkpoint: Checkpoint) -> F32:
    if name.endswith("q_proj.weight"):
        array = interleave(array, checkpoint.config.num_attention_heads)
    elif name.endswith("k_proj.weight"):
        array = interleave(array, checkpoint.config.num_key_value_heads)
    return np.ascontiguousarray(array, dtype=np.float32)


def _numbers(writer: GGUFWriter, checkpoint: Checkpoint) -> None:
    c = checkpoint.config
    writer.add_context_length(c.context_window_size)
    writer.add_embedding_length(c.hidden_size)
    writer.add_block_count(c.num_hidden_layers)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    writer.add_rope_dimension_count(c.head_dim)
    writer.add_rope_freq_base(c.rope_theta)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    writer.add_vocab_size(c.vocab_size)


def _vocabulary(writer: GGUFWriter, checkpoint: Checkpoint) -> None:
    v = checkpoint.vocabulary
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm" if v.digits else "gpt-2")
    writer.add_token_list(v.tokens)
    writer.add_token_types([CONTROL if index in v.specials else NORMAL for index in range(len(v.tokens))])
    # llama.cpp wants the field, even of a vocabulary of bytes: a merge of two specials is one that never comes to pass.
    writer.add_token_merges(v.merges or [f"{v.tokens[v.specials[0]]} {v.tokens[v.specials[0]]}"])
    writer.add_bos_token_id(v.bos)
    writer.add_eos_token_id(v.eos)
    writer.add_pad_token_id(v.pad)
    writer.add_unk_token_id(v.unknown)
    writer.add_add_bos_token(False)
    writer.add_chat_template(checkpoint.template)
