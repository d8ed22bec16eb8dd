"""The encoder in plain numpy, on the very weights that a page loads: what its vectors are compared with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hybr.mlc_build import shards
from hybr.mlc_build.reference import dequantised

if TYPE_CHECKING:
    from pathlib import Path

    from .config import EncoderConfig

F32 = npt.NDArray[np.float32]
_erf = np.vectorize(math.erf, otypes=[np.float64])


class Reference:
    """Texts in, as tokens without what opens and ends them; vectors out."""

    def __init__(self, config: EncoderConfig, held: dict[str, npt.NDArray[Any]]) -> None:
        self.config = config
        self.held = dequantised(held)

    @classmethod
    def open(cls, folder: Path, config: EncoderConfig) -> Reference:
        """Read the weights of a built model."""
        return cls(config, shards.read(folder))

    def vector(self, tokens: list[int]) -> F32:
        """Return a text's vector."""
        c, p = self.config, self.held
        ids = [c.first, *tokens, c.last]
        x = self._norm(p["words.weight"][ids] + p["positions"][: len(ids)], "norm")
        for i in range(c.num_hidden_layers):
            x = self._layer(x, f"layers.{i}")
        made: F32 = x.mean(0) if c.pooling == "mean" else x[0]
        return made / np.float32(np.linalg.norm(made)) if c.normalise else made

    def _layer(self, x: F32, name: str) -> F32:
        c = self.config
        q, k, v = (part.reshape(len(x), -1, c.head_dim) for part in np.split(self._linear(x, f"{name}.qkv"), 3, axis=1))
        scores = np.einsum("qhd,khd->hqk", q, k) / np.float32(math.sqrt(c.head_dim))
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = np.einsum("hqk,khd->qhd", weights / weights.sum(-1, keepdims=True), v).reshape(len(x), -1)
        x = self._norm(x + self._linear(mixed, f"{name}.out"), f"{name}.norm_out")
        up = self._linear(x, f"{name}.up")
        up = (up * (1 + _erf(up / math.sqrt(2))) / 2).astype(np.float32)
        return self._norm(x + self._linear(up, f"{name}.down"), f"{name}.norm_down")

    def _linear(self, x: F32, name: str) -> F32:
        made: F32 = x @ self.held[f"{name}.weight"].T + self.held[f"{name}.bias"]
        return made

    def _norm(self, x: F32, name: str) -> F32:
        centred = x - x.mean(-1, keepdims=True)
        root = np.sqrt(np.square(centred).mean(-1, keepdims=True) + np.float32(self.config.layer_norm_eps))
        made: F32 = centred / root * self.held[f"{name}.weight"] + self.held[f"{name}.bias"]
        return made
