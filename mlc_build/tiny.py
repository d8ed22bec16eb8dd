"""`tiny`: a seeded random Llama of a third of a million parameters, for tests that need a whole model in seconds.

Its vocabulary is the 256 bytes after a few specials, so a token of its output is a character of its text: the embedding rows of
everything but printable ASCII are small, and with tied embeddings what has a small row is never the greedy choice. The layers are
loud against the embedding, or a tied random model would only repeat its input.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .model.config import ModelConfig

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")
"""Ids 0 to 3. A byte b has the id `len(SPECIALS) + b`."""

EOS = 2
BOS = 1
SEED = 20261122

CONFIG = ModelConfig(
    hidden_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=32,
    intermediate_size=256,
    vocab_size=len(SPECIALS) + 256,
    rope_theta=10000.0,
    rms_norm_eps=1e-5,
    tie_word_embeddings=True,
    context_window_size=1024,
    prefill_chunk_size=128,
)

PRINTABLE = range(32, 127)
QUIET = 0.02
LOUD = 16.0


def tensors() -> dict[str, npt.NDArray[np.float32]]:
    """Return the float tensors in Hugging Face's layout; the same bytes on every machine."""
    c = CONFIG
    source = np.random.Generator(np.random.PCG64(SEED))

    def matrix(rows: int, columns: int, gain: float = 1.0) -> npt.NDArray[np.float32]:
        made: npt.NDArray[np.float32] = (source.standard_normal((rows, columns)) * gain / np.sqrt(columns)).astype(np.float32)
        return made

    embedding = source.standard_normal((c.vocab_size, c.hidden_size)).astype(np.float32)
    quiet = np.ones(c.vocab_size, bool)
    quiet[[len(SPECIALS) + byte for byte in PRINTABLE]] = False
    embedding[quiet] *= np.float32(QUIET)
    found = {"model.embed_tokens.weight": embedding}
    for i in range(c.num_hidden_layers):
        p = f"model.layers.{i}"
        found |= {
            f"{p}.input_layernorm.weight": (1 + 0.1 * source.standard_normal(c.hidden_size)).astype(np.float32),
            f"{p}.self_attn.q_proj.weight": matrix(c.attention_size, c.hidden_size, 2.0),
            f"{p}.self_attn.k_proj.weight": matrix(c.key_value_size, c.hidden_size, 2.0),
            f"{p}.self_attn.v_proj.weight": matrix(c.key_value_size, c.hidden_size),
            f"{p}.self_attn.o_proj.weight": matrix(c.hidden_size, c.attention_size, LOUD),
            f"{p}.post_attention_layernorm.weight": (1 + 0.1 * source.standard_normal(c.hidden_size)).astype(np.float32),
            f"{p}.mlp.gate_proj.weight": matrix(c.intermediate_size, c.hidden_size),
            f"{p}.mlp.up_proj.weight": matrix(c.intermediate_size, c.hidden_size),
            f"{p}.mlp.down_proj.weight": matrix(c.hidden_size, c.intermediate_size, LOUD),
        }
    found["model.norm.weight"] = (1 + 0.1 * source.standard_normal(c.hidden_size)).astype(np.float32)
    return found
