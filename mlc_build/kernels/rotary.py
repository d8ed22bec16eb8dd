"""Rotary embedding that stays exact at any position.

WGSL promises little of `pow` and of `sin` far from zero (SwiftShader's error at position 240 was large enough to change
tokens), so neither is used. The frequencies are a constant of the library, in turns per token, split in two floats: position
times the upper part is exact, hence so is its fraction of a turn. Sine and cosine of what remains are polynomials of the half
angle.

The cache hands the table to the kernel where it would hand the "extension factors" of long-context models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tvm.script import tirx as T

if TYPE_CHECKING:
    from hybr.mlc_build.model.config import ModelConfig

SINE = (-1 / 6, 1 / 120, -1 / 5040, 1 / 362880, -1 / 39916800, 1 / 6227020800)
COSINE = (-1 / 2, 1 / 24, -1 / 720, 1 / 40320, -1 / 3628800, 1 / 479001600, -1 / 87178291200)
PI = 3.14159265358979


def frequencies(config: ModelConfig, *, local: bool = False) -> npt.NDArray[np.float32]:
    """Return turns per token, `(2, head_dim / 2)`: the part that multiplies exactly, and the rest.

    `local` asks for those of sliding layers where they have their own (Gemma 3).
    """
    half = config.head_dim // 2
    theta = config.local_rope_theta if local else config.rope_theta
    turns = theta ** (-np.arange(half, dtype=np.float64) / half) / (2 * np.pi)
    if config.rope_factors and not local:
        turns /= np.array(config.rope_factors)
    bits = 24 - int(config.context_window_size - 1).bit_length()
    mantissa, exponent = np.frexp(turns)
    upper = np.ldexp(np.floor(np.ldexp(mantissa, bits)), exponent - bits)
    return np.stack([upper, turns - upper]).astype(np.float32)


def polynomial(square: Any, terms: tuple[float, ...]) -> Any:
    """Return 1 + terms[0] * square + terms[1] * square^2 ... by Horner's rule, as an expression."""
    value = T.float32(terms[-1])
    for term in reversed(terms[:-1]):
        value = value * square + T.float32(term)
    return value * square + T.float32(1)


@T.macro
def _turn(x, position, table, i):
    """Turn the pair in x[0], x[1] by the position; x[2] to x[6] are scratch: angle, its square, sine, cosine, and a spare."""
    x[2] = T.cast(position, "float32")
    x[6] = x[2] * table[0, i]
    x[2] = x[6] - T.floor(x[6]) + x[2] * table[1, i]
    # Half of what is left of the turn, in radians within -pi/2..pi/2.
    x[2] = (x[2] - T.floor(x[2] + T.float32(0.5))) * T.float32(PI)
    x[3] = x[2] * x[2]
    x[4] = x[2] * polynomial(x[3], SINE)
    x[5] = polynomial(x[3], COSINE)
    x[6] = T.float32(2) * x[4] * x[5]
    x[5] = T.float32(1) - T.float32(2) * x[4] * x[4]
    x[4] = x[6]
    x[6] = x[0] * x[5] - x[1] * x[4]
    x[1] = x[1] * x[5] + x[0] * x[4]
    x[0] = x[6]


def rotate(config: ModelConfig, kind: str) -> Any:
    """Split the fused projection into queries, keys and values, and rotate the first two, unless the graph has done so (`turn`).

    A thread takes one pair `(i, i + half)` of one head of one token.
    """
    queries, heads, dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    half, total, turned = dim // 2, queries + 2 * heads, bool(config.local_rope_theta)

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle, d: T.handle, e: T.handle, f: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        length = T.int32()
        offset = T.int32()
        qkv = T.match_buffer(a, (length, total, dim), kind)
        position = T.match_buffer(b, (length,), "int32", elem_offset=offset)
        q = T.match_buffer(c, (length, queries, dim), kind)
        k = T.match_buffer(d, (length, heads, dim), kind)
        v = T.match_buffer(e, (length, heads, dim), kind)
        table = T.match_buffer(f, (2, half), "float32")
        for block in T.thread_binding((length * total * half + 63) // 64, thread="blockIdx.x"):
            for thread in T.thread_binding(64, thread="threadIdx.x"):
                with T.sblock("rotate"):
                    T.reads()
                    T.writes()
                    x = T.sblock_alloc_buffer((7,), "float32", scope="local")
                    index: T.let[T.int32] = block * 64 + thread
                    token: T.let[T.int32] = index // (total * half)
                    head: T.let[T.int32] = index // half % total
                    i: T.let[T.int32] = index % half
                    if index < length * total * half:
                        x[0] = T.cast(qkv[token, head, i], "float32")
                        x[1] = T.cast(qkv[token, head, i + half], "float32")
                        if not turned:
                            if head < queries + heads:
                                _turn(x, position[token], table, i)
                        if head < queries:
                            q[token, head, i] = T.cast(x[0], kind)
                            q[token, head, i + half] = T.cast(x[1], kind)
                        else:
                            if head < queries + heads:
                                k[token, head - queries, i] = T.cast(x[0], kind)
                                k[token, head - queries, i + half] = T.cast(x[1], kind)
                            else:
                                v[token, head - queries - heads, i] = T.cast(x[0], kind)
                                v[token, head - queries - heads, i + half] = T.cast(x[1], kind)

    return kernel


def turn(config: ModelConfig) -> Any:
    """Rotate queries and keys `(1, n, heads, head_dim)` before the cache sees them, where layers have different rotations.

    The cache rotates by one table for all; here the table is an argument. A thread takes one pair of one head of one token.
    """
    keys, dim = config.num_attention_heads + config.num_key_value_heads, config.head_dim
    half, total = dim // 2, keys + config.num_key_value_heads

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle, d: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        length = T.int32()
        qkv = T.match_buffer(a, (1, length, total, dim), "float32")
        position = T.match_buffer(b, (length,), "int32")
        table = T.match_buffer(c, (2, half), "float32")
        y = T.match_buffer(d, (1, length, total, dim), "float32")
        for block in T.thread_binding((length * total * half + 63) // 64, thread="blockIdx.x"):
            for thread in T.thread_binding(64, thread="threadIdx.x"):
                with T.sblock("turn"):
                    T.reads()
                    T.writes()
                    x = T.sblock_alloc_buffer((7,), "float32", scope="local")
                    index: T.let[T.int32] = block * 64 + thread
                    token: T.let[T.int32] = index // (total * half)
                    head: T.let[T.int32] = index // half % total
                    i: T.let[T.int32] = index % half
                    if index < length * total * half:
                        x[0] = qkv[0, token, head, i]
                        x[1] = qkv[0, token, head, i + half]
                        if head < keys:
                            _turn(x, position[token], table, i)
                        y[0, token, head, i] = x[0]
                        y[0, token, head, i + half] = x[1]

    return kernel
