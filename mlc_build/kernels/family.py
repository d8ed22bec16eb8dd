"""What a library profile must bring: one kernel for each thing the graph and the cache ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from tvm import tirx
    from tvm.relax.frontend import nn

    from hybr.mlc_build.model.config import ModelConfig
    from hybr.mlc_build.model.llama import Matrix, Norm


class Family(Protocol):
    """The kernels of one profile. Tensors are float32, `(1, length, width)` in the graph."""

    def embed(self, tokens: nn.Tensor, table: Matrix) -> nn.Tensor:
        """Rows of the table, `(n, hidden)`."""
        ...

    def linear(self, x: nn.Tensor, matrix: Matrix, residual: nn.Tensor | None = None) -> nn.Tensor:
        """Return x times the transposed matrix, plus the residual."""
        ...

    def norm(self, x: nn.Tensor, norm: Norm) -> nn.Tensor:
        """Return x / sqrt(mean(x^2) + eps) * weight over the last axis."""
        ...

    def biased(self, x: nn.Tensor, bias: nn.Parameter) -> nn.Tensor:
        """Return x plus a vector of the last axis."""
        ...

    def head_norm(self, qkv: nn.Tensor, query: Norm, key: Norm, config: ModelConfig) -> nn.Tensor:
        """Return `(1, n, heads, head_dim)` with each query and key head normalised; values as they are."""
        ...

    def turn(self, qkv: nn.Tensor, positions: nn.Tensor, table: npt.NDArray[np.float32], config: ModelConfig) -> nn.Tensor:
        """Return the same with queries and keys rotated by a table of `rotary.frequencies`."""
        ...

    def gated(self, x: nn.Tensor, matrix: Matrix, activation: str) -> nn.Tensor:
        """Return activation(first half) * second half of x times the transposed matrix; `silu` or `gelu`."""
        ...

    def scaled(self, x: nn.Tensor, factor: float) -> nn.Tensor:
        """Return x times a number."""
        ...

    def capped(self, x: nn.Tensor, cap: float) -> nn.Tensor:
        """Return cap * tanh(x / cap)."""
        ...

    def last(self, x: nn.Tensor) -> nn.Tensor:
        """Return the last position, `(1, 1, width)`."""
        ...

    def attention_kernel(self, config: ModelConfig, name: str, kind: str) -> tirx.PrimFunc:
        """Return the cache's kernel `append`, `rotate`, `prefill_self`, `prefill_past`, `decode_past` or `merge`.

        `kind` is the type of queries, keys, values and what comes out: `float32` or `float16`; sums are float32.
        """
        ...
