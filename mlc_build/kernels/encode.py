"""What an encoder needs besides products: placing of tokens, layer normalisation, attention over a whole text, pooling.

WebLLM hands over texts without the tokens that open and end them (its tokenizer adds none) and takes row 0 of each result as the
text's vector, so both are the library's business: the graph is two tokens longer than the input, and the pooled vector is put
into row 0. A text that brings its opening token brings its last one too, and is taken as it is.

Rows are `(batch, length)` flattened. None has a barrier, so both profiles share them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tvm import te, tirx
from tvm.script import tirx as T

if TYPE_CHECKING:
    from hybr.mlc_build.encoder.config import EncoderConfig

# Abramowitz and Stegun 7.1.26: erf to 1.5e-7, of exponentials and products alone.
ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
SLOPE = 0.3275911
LOG2E = math.log2(math.e)
LEAST = -5e4
BLOCK = 32


def lengths(ids: te.Tensor, mask: te.Tensor, config: EncoderConfig) -> te.Tensor:
    """Return the tokens of each text `(batch,)`, the opening and the last one among them."""
    k = te.reduce_axis((0, mask.shape[1]), name="k")
    own = te.compute((mask.shape[0],), lambda b: te.sum(mask[b, k], axis=k), name="own")
    return te.compute(own.shape, lambda b: own[b] + tirx.if_then_else(ids[b, 0] == config.first, 0, 2), name="lengths")


def place(ids: te.Tensor, length: te.Tensor, config: EncoderConfig) -> te.Tensor:
    """Return `(batch * (n + 2),)` tokens, the opening and the last one put where they are not; 0 behind a text."""
    n = ids.shape[1]

    def token(row: Any) -> Any:
        b, i = row // (n + 2), row % (n + 2)
        there = ids[b, 0] == config.first
        before = tirx.Select(there, i, i - 1)
        inner = ids[b, te.max(te.min(before, n - 1), 0)]
        edge = tirx.if_then_else(i == 0, config.first, tirx.if_then_else(i == length[b] - 1, config.last, inner))
        return tirx.if_then_else(i < length[b], tirx.if_then_else(there, inner, edge), 0)

    return te.compute((ids.shape[0] * (n + 2),), token, name="place")


def add_positions(x: te.Tensor, positions: te.Tensor, like: te.Tensor) -> te.Tensor:
    """Return `(1, rows, width)`: each token's vector and its place's; `like` is the input, which says how long a text is."""
    length, most = like.shape[1] + 2, positions.shape[0]
    return te.compute(
        (1, *x.shape), lambda _, row, j: x[row, j] + positions[te.min(row % length, most - 1), j], name="add_positions"
    )


def biased_norm(x: te.Tensor, bias: te.Tensor, weight: te.Tensor, shift: te.Tensor, eps: float) -> te.Tensor:
    """Return the layer normalisation of x + bias over the last axis, times `weight` plus `shift`."""
    width = x.shape[2]
    k, m = te.reduce_axis((0, width), name="k"), te.reduce_axis((0, width), name="m")
    total = te.compute((x.shape[1],), lambda i: te.sum(x[0, i, k] + bias[k], axis=k), name="total")

    def centred(i: Any, j: Any) -> Any:
        return x[0, i, j] + bias[j] - total[i] / width

    square = te.compute((x.shape[1],), lambda i: te.sum(centred(i, m) * centred(i, m), axis=m), name="square")
    return te.compute(
        x.shape, lambda _, i, j: centred(i, j) * tirx.rsqrt(square[i] / width + eps) * weight[j] + shift[j], name="biased_norm"
    )


def biased_gelu(x: te.Tensor, bias: te.Tensor) -> te.Tensor:
    """Return gelu(x + bias), the exact form: y * (1 + erf(y / sqrt(2))) / 2."""

    def gelu(b: Any, i: Any, j: Any) -> Any:
        y = x[b, i, j] + bias[j]
        size = tirx.abs(y) * math.sqrt(0.5)
        t = 1 / (1 + SLOPE * size)
        series = tirx.const(0.0, "float32")
        for term in reversed(ERF):
            series = (series + term) * t
        half = series * te.exp(-size * size) / 2  # (1 - erf(size)) / 2
        return y * tirx.Select(y > 0, 1 - half, half)

    return te.compute(x.shape, gelu, name="biased_gelu")


def biased(x: te.Tensor, bias: te.Tensor) -> te.Tensor:
    """Return x plus a vector of the last axis."""
    return te.compute(x.shape, lambda b, i, j: x[b, i, j] + bias[j], name="biased")


def pool(x: te.Tensor, length: te.Tensor, like: te.Tensor, config: EncoderConfig) -> te.Tensor:
    """Return `(batch, n, width)`: a text's vector in row 0, zeros in the others, which WebLLM wants there and does not read."""
    batch, n, width = like.shape[0], like.shape[1], config.hidden_size
    k, m = te.reduce_axis((0, n + 2), name="k"), te.reduce_axis((0, width), name="m")

    def part(b: Any, i: Any, j: Any) -> Any:
        return tirx.if_then_else(i < length[b], x[0, b * (n + 2) + i, j], tirx.const(0.0, "float32"))

    if config.pooling == "mean":
        mean = te.compute((batch, width), lambda b, j: te.sum(part(b, k, j), axis=k), name="mean")
    else:
        mean = te.compute((batch, width), lambda b, j: x[0, b * (n + 2), j], name="first")
    size = te.compute((batch,), lambda b: te.sum(mean[b, m] * mean[b, m], axis=m), name="size")

    def out(b: Any, i: Any, j: Any) -> Any:
        # A mean's divisor falls out of a normalised vector.
        by = tirx.rsqrt(te.max(size[b], 1e-24)) if config.normalise else _share(length[b], config)
        return tirx.if_then_else(i == 0, mean[b, j] * by, tirx.const(0.0, "float32"))

    return te.compute((batch, n, width), out, name="pool")


def _share(length: Any, config: EncoderConfig) -> Any:
    return 1 / tirx.Cast("float32", length) if config.pooling == "mean" else tirx.const(1.0, "float32")


def attend(config: EncoderConfig) -> Any:
    """Every token to every token of its text: a thread takes one head of one token (online softmax, arXiv:1805.02867)."""
    heads, dim, width = config.num_attention_heads, config.head_dim, config.hidden_size
    scale = LOG2E / math.sqrt(dim)

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        rows, batch = T.int32(), T.int32()
        qkv = T.match_buffer(a, (1, rows, 3 * width), "float32")
        length = T.match_buffer(b, (batch,), "int32")
        output = T.match_buffer(c, (1, rows, width), "float32")
        for block in T.thread_binding((rows * heads + BLOCK - 1) // BLOCK, thread="blockIdx.x"):
            for thread in T.thread_binding(BLOCK, thread="threadIdx.x"):
                with T.sblock("attend"):
                    T.reads()
                    T.writes()
                    query = T.sblock_alloc_buffer((dim,), "float32", scope="local")
                    out = T.sblock_alloc_buffer((dim,), "float32", scope="local")
                    top = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    total = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    score = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    factor = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    at = T.sblock_alloc_buffer((2,), "int32", scope="local")
                    index: T.let[T.int32] = block * BLOCK + thread
                    row: T.let[T.int32] = index // heads
                    head: T.let[T.int32] = index % heads * dim
                    text: T.let[T.int32] = row // (rows // batch)
                    if index < rows * heads:
                        flat = T.decl_buffer((rows * 3 * width,), "float32", data=qkv.data)
                        made = T.decl_buffer((rows * width,), "float32", data=output.data)
                        at[0] = row * (3 * width) + head
                        for i in T.unroll(dim):
                            query[i] = flat[at[0] + i] * T.float32(scale)
                            out[i] = T.float32(0)
                        top[0] = T.float32(LEAST)
                        total[0] = T.float32(0)
                        at[0] = (
                            text * (rows // batch) * (3 * width) + width + head
                        )  # the text's first key; its value is `width` on
                        for _j in T.serial(length[text]):
                            score[0] = T.float32(0)
                            for i in T.unroll(dim):
                                score[0] = score[0] + query[i] * flat[at[0] + i]
                            factor[0] = T.max(top[0], score[0])
                            score[0] = T.exp2(score[0] - factor[0])
                            top[0] = T.exp2(top[0] - factor[0])
                            total[0] = total[0] * top[0] + score[0]
                            at[1] = at[0] + width
                            for i in T.unroll(dim):
                                out[i] = out[i] * top[0] + score[0] * flat[at[1] + i]
                            top[0] = factor[0]
                            at[0] = at[0] + 3 * width
                        at[0] = row * width + head
                        for i in T.unroll(dim):
                            made[at[0] + i] = out[i] / total[0]

    return kernel
