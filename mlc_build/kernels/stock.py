"""Kernels written as plain tensor expressions, for TVM's own schedules to map onto a device; the cache's are barrier-free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvm import relax as rx
from tvm import te, tirx
from tvm.relax.frontend import nn

from . import attention, rotary
from .codes import FORMS, value
from .curves import activate, tanh

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from hybr.mlc_build.model.config import ModelConfig
    from hybr.mlc_build.model.llama import Matrix, Norm


def weight_at(matrix: Matrix, codes: Any, shared: Any, row: Any, column: Any) -> Any:
    """The value of a coded weight, as an expression."""
    form = FORMS[matrix.encoding]
    return value(form, codes[row, column // form.per], column % form.per, shared[row, column // 32])


class Stock:
    """The graph's kernels as tensor expressions, the cache's as `attention` has them."""

    def embed(self, tokens: nn.Tensor, table: Matrix) -> nn.Tensor:
        """See Family."""

        def quantised(ids: te.Tensor, codes: te.Tensor, shared: te.Tensor) -> te.Tensor:
            shape = (ids.shape[0], table.columns)
            return te.compute(shape, lambda i, j: weight_at(table, codes, shared, ids[i], j), name="embed")

        if table.encoding in {"float", "half"}:
            return nn.op.take(table.held[0], tokens, axis=0).astype("float32")
        return nn.op.tensor_expr_op(quantised, "embed", [tokens, *table.held])

    def linear(self, x: nn.Tensor, matrix: Matrix, residual: nn.Tensor | None = None) -> nn.Tensor:
        """See Family."""

        def product(x: te.Tensor, weight: te.Tensor) -> te.Tensor:
            k = te.reduce_axis((0, matrix.columns), name="k")
            shape = (1, x.shape[1], matrix.rows)
            return te.compute(shape, lambda b, i, j: te.sum(x[b, i, k] * weight[j, k].astype("float32"), axis=k), name="linear")

        def quantised(x: te.Tensor, codes: te.Tensor, shared: te.Tensor) -> te.Tensor:
            shape = (matrix.rows, matrix.columns)
            return product(x, te.compute(shape, lambda j, k: weight_at(matrix, codes, shared, j, k), name="dequantise"))

        whole = matrix.encoding in {"float", "half"}
        out = nn.op.tensor_expr_op(product if whole else quantised, "linear", [x, *matrix.held])
        return out if residual is None else out + residual

    def norm(self, x: nn.Tensor, norm: Norm) -> nn.Tensor:
        """See Family."""
        return nn.op.rms_norm(x, norm.weight, axes=[-1], epsilon=norm.eps)

    def biased(self, x: nn.Tensor, bias: nn.Parameter) -> nn.Tensor:
        """See Family."""

        def add(x: te.Tensor, bias: te.Tensor) -> te.Tensor:
            return te.compute(x.shape, lambda b, i, j: x[b, i, j] + bias[j], name="biased")

        return nn.op.tensor_expr_op(add, "biased", [x, bias])

    def head_norm(self, qkv: nn.Tensor, query: Norm, key: Norm, config: ModelConfig) -> nn.Tensor:
        """See Family."""
        queries, keys, dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim

        def normalise(x: te.Tensor, query: te.Tensor, key: te.Tensor) -> te.Tensor:
            k = te.reduce_axis((0, dim), name="k")
            # Of the values too, which need none: the schedule runs a workgroup for each sum, and heads without one were left out.
            squares = te.compute(x.shape[:3], lambda b, i, h: te.sum(x[b, i, h, k] * x[b, i, h, k], axis=k), name="squares")

            def one(b: Any, i: Any, h: Any, j: Any) -> Any:
                mean = squares[b, i, h] / dim
                weight = tirx.Select(h < queries, query[j], key[j])
                return tirx.if_then_else(
                    h < queries + keys, x[b, i, h, j] * tirx.rsqrt(mean + config.rms_norm_eps) * weight, x[b, i, h, j]
                )

            return te.compute(x.shape, one, name="head_norm")

        return nn.op.tensor_expr_op(normalise, "head_norm", [qkv, query.weight, key.weight])

    def turn(self, qkv: nn.Tensor, positions: nn.Tensor, table: npt.NDArray[np.float32], config: ModelConfig) -> nn.Tensor:
        """See Family."""
        args = [qkv, positions, nn.Tensor(_expr=rx.const(table))]
        return nn.op.tensor_ir_op(rotary.turn(config), "turn", args, nn.Tensor.placeholder(qkv.shape, "float32"))

    def gated(self, x: nn.Tensor, matrix: Matrix, activation: str) -> nn.Tensor:
        """See Family."""

        def gate(x: te.Tensor) -> te.Tensor:
            half = x.shape[2] // 2
            return te.compute(
                (1, x.shape[1], half), lambda b, i, j: activate(activation, x[b, i, j]) * x[b, i, j + half], name="gate"
            )

        return nn.op.tensor_expr_op(gate, "gate", [self.linear(x, matrix)])

    def scaled(self, x: nn.Tensor, factor: float) -> nn.Tensor:
        """See Family."""

        def scale(x: te.Tensor) -> te.Tensor:
            return te.compute(x.shape, lambda *at: x(*at) * tirx.const(factor, "float32"), name="scaled")

        return nn.op.tensor_expr_op(scale, "scaled", [x])

    def capped(self, x: nn.Tensor, cap: float) -> nn.Tensor:
        """See Family."""

        def bound(x: te.Tensor) -> te.Tensor:
            return te.compute(x.shape, lambda *at: cap * tanh(x(*at) / cap), name="capped")

        return nn.op.tensor_expr_op(bound, "capped", [x])

    def last(self, x: nn.Tensor) -> nn.Tensor:
        """See Family."""

        def pick(x: te.Tensor) -> te.Tensor:
            return te.compute((1, 1, x.shape[2]), lambda b, _, j: x[b, x.shape[1] - 1, j], name="last")

        return nn.op.tensor_expr_op(pick, "last", [x])

    def attention_kernel(self, config: ModelConfig, name: str, kind: str) -> tirx.PrimFunc:
        """See Family."""
        return {
            "append": attention.append,
            "rotate": rotary.rotate,
            "prefill_self": attention.prefill_self,
            "prefill_past": attention.prefill_past,
            "decode_past": attention.decode_past,
            "merge": attention.merge,
        }[name](config, kind)
