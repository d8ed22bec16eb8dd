"""A plain numpy Llama, or one of its kin, on the very weights the page loads: the answer sheet for the compiled model.

It reads the artifact folder (tensor cache) and dequantises with the kernels' formula, so a difference from the page is a fault of
the kernels or the runtime, never of the quantisation. Everything is float32; sums run in numpy's order, so equal means "within
a few units of the last place", and greedy tokens are equal where no two logits nearly tie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import shards
from .blocks import Coded, Encoding, decode

if TYPE_CHECKING:
    from pathlib import Path

    from .model.config import ModelConfig

F32 = npt.NDArray[np.float32]


class Reference:
    """One sequence: feed tokens, get logits. Keys and values are kept, so tokens may come in any split."""

    def __init__(self, config: ModelConfig, parameters: dict[str, npt.NDArray[Any]], kind: str = "float32") -> None:
        self.config = config
        self.kind = kind  # of the KV cache, and of what goes into attention and comes out
        self.parameters = parameters
        self.length = 0
        self._keys: list[F32] = []
        self._values: list[F32] = []
        self.reset()

    @classmethod
    def open(cls, folder: Path, config: ModelConfig) -> Reference:
        """Read the weights of a built model."""
        return cls(config, dequantised(shards.read(folder)))

    def reset(self) -> None:
        """Forget the sequence."""
        c = self.config
        empty = np.zeros((0, c.num_key_value_heads, c.head_dim), np.float32)
        self.length = 0
        self._keys = [empty] * c.num_hidden_layers
        self._values = [empty] * c.num_hidden_layers

    def forward(self, tokens: list[int]) -> F32:
        """Append tokens and return the logits after each, `(len(tokens), vocab)`."""
        c, p = self.config, self.parameters
        x = p["model.embed_tokens.weight"][np.asarray(tokens)] * np.float32(c.embedding_scale)
        before, after = "post_attention_layernorm", None
        if c.sandwich_norms:
            before, after = "pre_feedforward_layernorm", "post_feedforward_layernorm"
        for i in range(c.num_hidden_layers):
            name = f"model.layers.{i}"
            made = self._attention(i, self._norm(x, p[f"{name}.input_layernorm.weight"]))
            x = x + (self._norm(made, p[f"{name}.post_attention_layernorm.weight"]) if after else made)
            made = self._feed_forward(name, self._norm(x, p[f"{name}.{before}.weight"]))
            x = x + (self._norm(made, p[f"{name}.{after}.weight"]) if after else made)
        self.length += len(tokens)
        head = p["model.embed_tokens.weight" if c.tie_word_embeddings else "lm_head.weight"]
        logits: F32 = self._norm(x, p["model.norm.weight"]) @ head.T
        return _capped(logits, c.logit_cap)

    def pop(self, count: int) -> None:
        """Forget the last tokens."""
        self.length -= count
        self._keys = [keys[: self.length] for keys in self._keys]
        self._values = [values[: self.length] for values in self._values]

    def greedy(self, prompt: list[int], count: int, stop: frozenset[int] = frozenset()) -> list[int]:
        """Start anew, read the prompt, and return up to `count` tokens by the largest logit, ending before a stop token."""
        self.reset()
        logits = self.forward(prompt)[-1]
        found: list[int] = []
        while len(found) < count:
            token = int(logits.argmax())
            if token in stop:
                break
            found.append(token)
            if len(found) < count:
                logits = self.forward([token])[-1]
        return found

    def _norm(self, x: F32, weight: F32) -> F32:
        mean = np.mean(np.square(x), axis=-1, keepdims=True, dtype=np.float32)
        return (x / np.sqrt(mean + np.float32(self.config.rms_norm_eps)) * weight).astype(np.float32, copy=False)

    def _feed_forward(self, name: str, x: F32) -> F32:
        gate, up = np.split(x @ self.parameters[f"{name}.mlp.gate_up_proj.weight"].T, 2, axis=1)
        gelu = self.config.activation == "gelu"
        power = np.float32(2 * np.sqrt(2 / np.pi)) * (gate + np.float32(0.044715) * gate**3) if gelu else gate
        out: F32 = (gate / (1 + np.exp(-power)) * up) @ self.parameters[f"{name}.mlp.down_proj.weight"].T
        return out

    def _attention(self, layer: int, x: F32) -> F32:
        c, p = self.config, self.parameters
        name = f"model.layers.{layer}.self_attn"
        qkv = x @ p[f"{name}.qkv_proj.weight"].T
        if c.qkv_bias:
            qkv = qkv + p[f"{name}.qkv_proj.bias"]
        heads = qkv.reshape(len(x), -1, c.head_dim)
        q, k, v = np.split(heads, [c.num_attention_heads, c.num_attention_heads + c.num_key_value_heads], axis=1)
        if c.qk_norm:
            q, k = self._norm(q, p[f"{name}.q_norm.weight"]), self._norm(k, p[f"{name}.k_norm.weight"])
        position = np.arange(self.length, self.length + len(x))
        q, k, v = (self._rounded(part) for part in (q, k, v))
        q, k = (self._rounded(self._rotate(part, position, layer)) for part in (q, k))
        keys = self._keys[layer] = np.concatenate([self._keys[layer], k])
        values = self._values[layer] = np.concatenate([self._values[layer], v])
        group = c.num_attention_heads // c.num_key_value_heads
        keys, values = np.repeat(keys, group, axis=1), np.repeat(values, group, axis=1)
        scores = np.einsum("qhd,khd->hqk", q, keys) * np.float32(c.attention_scale)
        back = position[:, None] - np.arange(len(keys))
        unseen = (back < 0) | (back >= c.sliding_window) if c.slides(layer) else back < 0
        scores = np.where(unseen, np.float32(-np.inf), _capped(scores, c.attention_cap))
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights = weights / weights.sum(-1, keepdims=True)
        mixed = self._rounded(np.einsum("hqk,khd->qhd", weights, values).reshape(len(x), -1))
        out: F32 = mixed @ p[f"{name}.o_proj.weight"].T
        return out

    def _rounded(self, x: F32) -> F32:
        return x if self.kind == "float32" else x.astype(np.float16).astype(np.float32)

    def _rotate(self, x: F32, position: npt.NDArray[np.int64], layer: int = 0) -> F32:
        """Rotate pairs `(i, i + half)`, the layout of Hugging Face's Llama checkpoints."""
        half, local = self.config.head_dim // 2, self.config.slides(layer) and self.config.local_rope_theta
        frequency = (local or self.config.rope_theta) ** (-np.arange(half, dtype=np.float64) / half)
        if self.config.rope_factors and not local:
            frequency = frequency / np.array(self.config.rope_factors)
        angle = position[:, None, None] * frequency
        cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
        low, high = x[..., :half], x[..., half:]
        return np.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)


def _capped(x: F32, cap: float) -> F32:
    return (np.float32(cap) * np.tanh(x / np.float32(cap))).astype(np.float32) if cap else x


def dequantised(parameters: dict[str, npt.NDArray[Any]]) -> dict[str, F32]:
    """Replace every matrix of codes by the one it stands for."""
    found: dict[str, F32] = {}
    for name, array in parameters.items():
        stem, _, kind = name.rpartition(".")
        if kind == "q_weight":
            pair = parameters.get(f"{stem}.q_pair")
            shared = parameters[f"{stem}.q_scale"] if pair is None else pair
            narrow: Encoding = "q4" if pair is None else "q4m"
            found[f"{stem}.weight"] = decode(Coded(array, shared), "q8" if array.shape[1] == 8 * shared.shape[1] else narrow)
        elif kind not in {"q_scale", "q_pair"}:
            found[name] = array.astype(np.float32, copy=False)
    return found
