"""The kernels of the `software` profile: each serves every shape, so few are compiled at load, and only the draw has barriers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvm import relax as rx
from tvm.relax.frontend import nn

from . import plain, product
from .stock import Stock

if TYPE_CHECKING:
    from hybr.mlc_build.model.llama import Matrix, Norm

    from .product import Kind

TILE = 2
"""Tokens of a prefill that share one unpacking; more is hardly faster, and slower to compile."""


class Software(Stock):
    """Kernels for adapters that run shaders on the processor; what is not here is as in Stock."""

    def embed(self, tokens: nn.Tensor, table: Matrix) -> nn.Tensor:
        """See Family."""
        if table.encoding == "half":
            return super().embed(tokens, table)
        name, kernel = ("copy", plain.copy()) if table.encoding == "float" else ("lookup", plain.lookup(table.encoding))
        return call(name, kernel, [tokens, *table.held], (tokens.shape[0], table.columns))

    def linear(self, x: nn.Tensor, matrix: Matrix, residual: nn.Tensor | None = None) -> nn.Tensor:
        """See Family. Of halves the general one: no software adapter reads them, and the tests' processor is patient."""
        if matrix.encoding == "half":
            return super().linear(x, matrix, residual)
        tile = 1 if x.shape[1] == 1 else TILE
        whole, more = matrix.encoding == "float", [] if residual is None else [residual]
        args = [quads(x), *([quads(matrix.held[0])] if whole else matrix.held), *more]
        kind: Kind = "add" if more else "plain"
        make = product.whole(tile, residual=bool(more)) if whole else product.product(tile, kind, matrix.encoding)
        return call(f"product_{kind}_{tile}", make, args, (1, x.shape[1], matrix.rows))

    def gated(self, x: nn.Tensor, matrix: Matrix, activation: str) -> nn.Tensor:
        """See Family."""
        tile = 1 if x.shape[1] == 1 else TILE
        shape = (1, x.shape[1], matrix.rows // 2)
        if matrix.encoding in {"float", "half"}:
            return call("gate", plain.gate(activation), [self.linear(x, matrix)], shape)
        kind: Kind = "silu" if activation == "silu" else "gelu"
        make = product.product(tile, kind, matrix.encoding)
        return call(f"product_{kind}_{tile}", make, [quads(x), *matrix.held], shape)

    def norm(self, x: nn.Tensor, norm: Norm) -> nn.Tensor:
        """See Family."""
        shape = (1, x.shape[1], x.shape[2] // 4)
        made = call("normalise", plain.normalise(norm.eps), [quads(x), quads(norm.weight)], shape, "float32x4")
        return view(made, x.shape, "float32")

    def last(self, x: nn.Tensor) -> nn.Tensor:
        """See Family."""
        return call("last", plain.last(), [x], (1, 1, x.shape[2]))


def quads(x: nn.Tensor) -> nn.Tensor:
    """Return the same memory as vectors of four floats along the last axis."""
    return view(x, [*x.shape[:-1], x.shape[-1] // 4], "float32x4")


def view(x: nn.Tensor, shape: Any, dtype: str) -> nn.Tensor:
    """Return the same memory under another shape and type."""
    return nn.Tensor(_expr=rx.BlockBuilder.current().emit(rx.op.memory.view(x._expr, shape, dtype)))  # noqa: SLF001


def call(name: str, kernel: Any, args: list[nn.Tensor], shape: Any, dtype: str = "float32") -> nn.Tensor:
    """Emit a call of a kernel with one result."""
    return nn.op.tensor_ir_op(kernel, name, args, nn.Tensor.placeholder(shape, dtype))
