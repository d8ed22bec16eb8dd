"""The kernels of `gpu` and `subgroups`: our own attention and a token's products; TVM's schedules for those of many tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import prefill, split
from .software import call, quads, view
from .stock import Stock
from .vector import vector

if TYPE_CHECKING:
    from tvm import tirx
    from tvm.relax.frontend import nn

    from hybr.mlc_build.model.config import ModelConfig
    from hybr.mlc_build.model.llama import Matrix

    from .product import Kind


class Gpu(Stock):
    """Kernels for real devices, which may let the threads of a subgroup see each other's numbers; the rest is as in Stock."""

    def __init__(self, *, subgroups: bool = False) -> None:
        self.subgroups = subgroups

    def linear(self, x: nn.Tensor, matrix: Matrix, residual: nn.Tensor | None = None) -> nn.Tensor:
        """See Family."""
        if x.shape[1] != 1 or matrix.encoding in {"float", "half"}:
            return super().linear(x, matrix, residual)
        return self._one(x, matrix, "plain" if residual is None else "add", [] if residual is None else [residual])

    def gated(self, x: nn.Tensor, matrix: Matrix, activation: str) -> nn.Tensor:
        """See Family."""
        if x.shape[1] != 1 or matrix.encoding in {"float", "half"}:
            return super().gated(x, matrix, activation)
        return self._one(x, matrix, "silu" if activation == "silu" else "gelu", [])

    def attention_kernel(self, config: ModelConfig, name: str, kind: str) -> tirx.PrimFunc:
        """See Family."""
        ours = {"prefill_self": prefill.own, "prefill_past": prefill.past, "decode_past": split.decode}
        return ours[name](config, kind) if name in ours else super().attention_kernel(config, name, kind)

    def _one(self, x: nn.Tensor, matrix: Matrix, kind: Kind, more: list[nn.Tensor]) -> nn.Tensor:
        words, shared = matrix.held
        results = matrix.rows if kind in {"plain", "add"} else matrix.rows // 2
        codes = view(words, [words.shape[0], words.shape[1] // 4], "uint32x4")
        kernel = vector(matrix.rows, matrix.columns, kind, matrix.encoding, subgroups=self.subgroups)
        return call(f"vector_{kind}", kernel, [quads(x), codes, shared, *more], (1, 1, results))
