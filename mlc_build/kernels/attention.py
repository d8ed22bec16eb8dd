"""Attention over the paged cache without barriers or workgroup memory: one thread, one query head, one pass over the keys.

That is what a software adapter wants; graphics processors, which would read each key for every token and head, take `append` and
`merge` from here and the rest from `prefill` and `split`.

The runtime prescribes the signatures: it hands each kernel more than we need (positions, rotation, several sequences), because
the same places serve rotations inside the kernel and batches. WebLLM runs one sequence at a time and our cache stores rotated
keys, so those arguments are taken and left. A prefill is two kernels, the new tokens among themselves and the new tokens
against the pages, joined by the logarithms of their sums (base 2); a decode appends first and reads only pages.

Softmax is the online kind (Milakov and Gimelshein, arXiv:1805.02867): a running maximum, and the sum and the output rescaled to
it.

Layers whose attention slides keep all their keys (a cache can then be popped back anywhere) and read the window's alone. The
runtime gives every layer the same kernels and pages; what it hands on for a layer is the scale, so a sliding layer's is negative
(`layer_scale`). TVM's own per-layer windows are no way: on WebGPU their page tables overwrite those of the other layers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tvm.script import tirx as T

from hybr.mlc_build.model.config import PAGE

from .curves import tanh

if TYPE_CHECKING:
    from hybr.mlc_build.model.config import ModelConfig

LOG2E = math.log2(math.e)
LEAST = -5e4
"""The running maximum before the first key; far below any score, and exp2 of it is zero."""

BLOCK = 32

UNROLLED = 64
"""Elements of a head at once: with all 256 of Gemma's, a software adapter compiles the shaders for three minutes."""


def span(dim: int) -> int:
    """Return how many elements of a head are unrolled: all of a small one, else the largest even part of it."""
    return max(part for part in range(2, UNROLLED + 1, 2) if dim % part == 0)


def layer_scale(config: ModelConfig, layer: int) -> float:
    """Return the scale that a layer hands to its attention: negative where it slides."""
    return -config.attention_scale if config.slides(layer) else config.attention_scale


def magnitude(config: ModelConfig, scale: Any) -> Any:
    """Return what a query is multiplied by: scores come out to the base 2, or, to be capped, as parts of the cap."""
    size = T.max(scale, -scale) if config.sliding_layers else scale
    return size * T.float32(1 / config.attention_cap if config.attention_cap else LOG2E)


def score(config: ModelConfig, total: Any) -> Any:
    """Return a query's product with a key as a score to the base 2: cap * tanh(score / cap) where there is a cap (Gemma 2)."""
    if not config.attention_cap:
        return total
    return T.float32(config.attention_cap * LOG2E) * tanh(total)


def held(first: Any, last: Any) -> Any:
    """Return how many keys the pages of the one sequence hold, whose pages end at first[1] and the last of them at last[0]."""
    return T.if_then_else(first[1] > first[0], (first[1] - first[0] - 1) * PAGE + last[0], 0)


def row_of(config: ModelConfig, table: Any, first: Any, key: Any, head: Any, half: int) -> Any:
    """Return which of the pages' rows of elements is a key (half 0) or its value (1) of a key head."""
    page = table[first[0] + key // PAGE]
    return ((page * 2 + half) * config.num_key_value_heads + head) * PAGE + key % PAGE


def first_seen(config: ModelConfig, scale: Any, position: Any) -> Any:
    """Return the first key that the query at a position sees."""
    if not config.sliding_layers:
        return T.int32(0)
    return T.Select(scale < T.float32(0), T.max(position - T.int32(config.sliding_window - 1), T.int32(0)), T.int32(0))


def key_at(config: ModelConfig, begin: Any, j: Any) -> Any:
    """Return the j-th key seen; what stands in a local buffer is computed once, where a `let` is put in at every use."""
    return begin[0] + j if config.sliding_layers else j


def count(config: ModelConfig, begin: Any, seen: Any) -> Any:
    """Return how many keys are seen of those before `seen`."""
    return seen - begin[0] if config.sliding_layers else seen


def append(config: ModelConfig, kind: str) -> Any:
    """Copy new keys and values to their places in the pages; position -1 means none."""
    heads, dim = config.num_key_value_heads, config.head_dim
    width = heads * dim

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle, d: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        length, count, start, offset = T.int32(), T.int32(), T.int64(), T.int32()
        pages = T.match_buffer(a, (count, 2, heads, PAGE, dim), kind, elem_offset=start)
        k = T.match_buffer(b, (length, heads, dim), kind)
        v = T.match_buffer(c, (length, heads, dim), kind)
        place = T.match_buffer(d, (length,), "int32", elem_offset=offset)
        for block in T.thread_binding((length * width + 63) // 64, thread="blockIdx.x"):
            for thread in T.thread_binding(64, thread="threadIdx.x"):
                with T.sblock("append"):
                    T.reads()
                    T.writes()
                    index: T.let[T.int32] = block * 64 + thread
                    token: T.let[T.int32] = index // width
                    head: T.let[T.int32] = index // dim % heads
                    i: T.let[T.int32] = index % dim
                    if index < length * width:
                        if place[token] >= 0:
                            pages[place[token] // PAGE, 0, head, place[token] % PAGE, i] = k[token, head, i]
                            pages[place[token] // PAGE, 1, head, place[token] % PAGE, i] = v[token, head, i]

    return kernel


def merge(config: ModelConfig, kind: str) -> Any:
    """Join two attentions of the same queries over different keys, in place of the first."""
    heads, dim = config.num_attention_heads, config.head_dim

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle, d: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        length = T.int32()
        v = T.match_buffer(a, (length, heads, dim), kind)
        s = T.match_buffer(b, (length, heads), "float32")
        v_other = T.match_buffer(c, (length, heads, dim), kind)
        s_other = T.match_buffer(d, (length, heads), "float32")
        for block in T.thread_binding((length * heads + BLOCK - 1) // BLOCK, thread="blockIdx.x"):
            for thread in T.thread_binding(BLOCK, thread="threadIdx.x"):
                with T.sblock("merge"):
                    T.reads()
                    T.writes()
                    mine = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    other = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    top = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    index: T.let[T.int32] = block * BLOCK + thread
                    token: T.let[T.int32] = index // heads
                    head: T.let[T.int32] = index % heads
                    if index < length * heads:
                        top[0] = T.max(s[token, head], s_other[token, head])
                        mine[0] = T.exp2(s[token, head] - top[0])
                        other[0] = T.exp2(s_other[token, head] - top[0])
                        top[0] = top[0] + T.log2(mine[0] + other[0])
                        mine[0] = mine[0] / (mine[0] + other[0])
                        other[0] = T.float32(1) - mine[0]
                        for i in T.serial(dim):
                            v[token, head, i] = T.cast(
                                T.cast(v[token, head, i], "float32") * mine[0]
                                + T.cast(v_other[token, head, i], "float32") * other[0],
                                kind,
                            )
                        s[token, head] = top[0]

    return kernel


@T.macro
def _start(q, dim, token, head, factor, query, out, state):
    for run in T.serial(dim // span(dim)):
        for i in T.unroll(span(dim)):
            query[run * span(dim) + i] = T.cast(q[token, head, run * span(dim) + i], "float32") * factor
            out[run * span(dim) + i] = T.float32(0)
    state[0] = T.float32(LEAST)
    state[1] = T.float32(1)


@T.macro
def _weigh(state):
    """state: maximum, sum, score of this key -> weight of this key in [2], factor for what came before in [3]."""
    state[3] = T.max(state[0], state[2])
    state[2] = T.exp2(state[2] - state[3])
    state[0] = T.exp2(state[0] - state[3])
    state[1] = state[1] * state[0] + state[2]
    # Swap: the new maximum to its place, the factor out of it.
    state[4] = state[0]
    state[0] = state[3]
    state[3] = state[4]


@T.macro
def _finish(output, lse, dim, token, head, out, state, kind):
    for run in T.serial(dim // span(dim)):
        for i in T.unroll(span(dim)):
            output[token, head, run * span(dim) + i] = T.cast(out[run * span(dim) + i] / state[1], kind)
    lse[token, head] = state[0] + T.log2(state[1])


def prefill_self(config: ModelConfig, kind: str) -> Any:
    """New tokens among themselves: each sees itself and those before it, or of those its window."""
    queries, heads, dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    group, part = queries // heads, span(dim)

    @T.prim_func(private=True, s_tir=True)
    def kernel(
        a: T.handle, b: T.handle, c: T.handle, d: T.handle, e: T.handle, f: T.handle, g: T.handle, h: T.handle, l: T.handle,
        causal: T.int32, rotary: T.int32, rope_scale: T.float32, rope_theta: T.float32, scale: T.float32,
    ):  # fmt: skip
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        length, keys, batch = T.int32(), T.int32(), T.int32()
        o1, o2, o3, o4 = T.int32(), T.int32(), T.int32(), T.int32()
        q = T.match_buffer(a, (length, queries, dim), kind)
        _q_start = T.match_buffer(b, (batch + 1,), "int32", elem_offset=o1)
        k = T.match_buffer(c, (keys, heads, dim), kind)
        v = T.match_buffer(d, (keys, heads, dim), kind)
        _k_start = T.match_buffer(e, (batch + 1,), "int32", elem_offset=o2)
        _q_position = T.match_buffer(f, (length,), "int32", elem_offset=o3)
        _k_position = T.match_buffer(g, (batch,), "int32", elem_offset=o4)
        output = T.match_buffer(h, (length, queries, dim), kind)
        lse = T.match_buffer(l, (length, queries), "float32")
        for block in T.thread_binding((length * queries + BLOCK - 1) // BLOCK, thread="blockIdx.x"):
            for thread in T.thread_binding(BLOCK, thread="threadIdx.x"):
                with T.sblock("attend"):
                    T.reads()
                    T.writes()
                    query = T.sblock_alloc_buffer((dim,), "float32", scope="local")
                    out = T.sblock_alloc_buffer((dim,), "float32", scope="local")
                    state = T.sblock_alloc_buffer((5,), "float32", scope="local")
                    begin = T.sblock_alloc_buffer((1,), "int32", scope="local")
                    index: T.let[T.int32] = block * BLOCK + thread
                    token: T.let[T.int32] = index // queries
                    head: T.let[T.int32] = index % queries
                    if index < length * queries:
                        _start(q, dim, token, head, magnitude(config, scale), query, out, state)
                        begin[0] = first_seen(config, scale, token)
                        for j in T.serial(count(config, begin, token + 1)):
                            state[2] = T.float32(0)
                            for run in T.serial(dim // part):
                                for i in T.unroll(part):
                                    state[2] = state[2] + query[run * part + i] * T.cast(
                                        k[key_at(config, begin, j), head // group, run * part + i], "float32"
                                    )
                            state[2] = score(config, state[2])
                            _weigh(state)
                            for run in T.serial(dim // part):
                                for i in T.unroll(part):
                                    out[run * part + i] = out[run * part + i] * state[3] + state[2] * T.cast(
                                        v[key_at(config, begin, j), head // group, run * part + i], "float32"
                                    )
                        _finish(output, lse, dim, token, head, out, state, kind)

    return kernel


@T.macro
def _read_pages(config, pages, table, first, begin, seen, dim, kv, query, out, state):
    for j in T.serial(count(config, begin, seen)):
        page: T.let[T.int32] = table[first + key_at(config, begin, j) // PAGE]
        state[2] = T.float32(0)
        for run in T.serial(dim // span(dim)):
            for i in T.unroll(span(dim)):
                state[2] = state[2] + query[run * span(dim) + i] * T.cast(
                    pages[page, 0, kv, key_at(config, begin, j) % PAGE, run * span(dim) + i], "float32"
                )
        state[2] = score(config, state[2])
        _weigh(state)
        for run in T.serial(dim // span(dim)):
            for i in T.unroll(span(dim)):
                out[run * span(dim) + i] = out[run * span(dim) + i] * state[3] + state[2] * T.cast(
                    pages[page, 1, kv, key_at(config, begin, j) % PAGE, run * span(dim) + i], "float32"
                )


def prefill_past(config: ModelConfig, kind: str) -> Any:
    """New tokens against the pages: each sees all of them, or those of its window; the page table begins at position 0."""
    queries, heads, dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    group = queries // heads

    @T.prim_func(private=True, s_tir=True)
    def kernel(
        a: T.handle, b: T.handle, c: T.handle, d: T.handle, e: T.handle, f: T.handle, g: T.handle, h: T.handle, l: T.handle,
        m: T.handle, causal: T.int32, rotary: T.int32, rope_scale: T.float32, rope_theta: T.float32, scale: T.float32,
    ):  # fmt: skip
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        length, batch, used, count, start = T.int32(), T.int32(), T.int32(), T.int32(), T.int64()
        o1, o2, o3, o4, o5, o6 = T.int32(), T.int32(), T.int32(), T.int32(), T.int32(), T.int32()
        q = T.match_buffer(a, (length, queries, dim), kind)
        _q_start = T.match_buffer(b, (batch + 1,), "int32", elem_offset=o1)
        pages = T.match_buffer(c, (count, 2, heads, PAGE, dim), kind, elem_offset=start)
        first = T.match_buffer(d, (batch + 1,), "int32", elem_offset=o2)
        table = T.match_buffer(e, (used,), "int32", elem_offset=o3)
        last = T.match_buffer(f, (batch,), "int32", elem_offset=o4)
        _k_position = T.match_buffer(g, (batch,), "int32", elem_offset=o5)
        q_position = T.match_buffer(h, (length,), "int32", elem_offset=o6)
        output = T.match_buffer(l, (length, queries, dim), kind)
        lse = T.match_buffer(m, (length, queries), "float32")
        for block in T.thread_binding((length * queries + BLOCK - 1) // BLOCK, thread="blockIdx.x"):
            for thread in T.thread_binding(BLOCK, thread="threadIdx.x"):
                with T.sblock("attend"):
                    T.reads()
                    T.writes()
                    query = T.sblock_alloc_buffer((dim,), "float32", scope="local")
                    out = T.sblock_alloc_buffer((dim,), "float32", scope="local")
                    state = T.sblock_alloc_buffer((5,), "float32", scope="local")
                    begin = T.sblock_alloc_buffer((1,), "int32", scope="local")
                    index: T.let[T.int32] = block * BLOCK + thread
                    token: T.let[T.int32] = index // queries
                    head: T.let[T.int32] = index % queries
                    if index < length * queries:
                        seen: T.let[T.int32] = held(first, last)
                        _start(q, dim, token, head, magnitude(config, scale), query, out, state)
                        begin[0] = first_seen(config, scale, q_position[token])
                        _read_pages(config, pages, table, first[0], begin, seen, dim, head // group, query, out, state)
                        _finish(output, lse, dim, token, head, out, state, kind)

    return kernel


def decode_past(config: ModelConfig, kind: str) -> Any:
    """One token against the pages, which already hold its own key."""
    queries, heads, dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    group = queries // heads

    @T.prim_func(private=True, s_tir=True)
    def kernel(
        a: T.handle, b: T.handle, c: T.handle, d: T.handle, e: T.handle, f: T.handle, g: T.handle, h: T.handle, l: T.handle,
        rotary: T.int32, rope_scale: T.float32, rope_theta: T.float32, scale: T.float32,
    ):  # fmt: skip
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        batch, used, count, start = T.int32(), T.int32(), T.int32(), T.int64()
        o1, o2, o3, o4, o5 = T.int32(), T.int32(), T.int32(), T.int32(), T.int32()
        q = T.match_buffer(a, (batch, queries, dim), kind)
        pages = T.match_buffer(b, (count, 2, heads, PAGE, dim), kind, elem_offset=start)
        first = T.match_buffer(c, (batch + 1,), "int32", elem_offset=o1)
        table = T.match_buffer(d, (used,), "int32", elem_offset=o2)
        last = T.match_buffer(e, (batch,), "int32", elem_offset=o3)
        _k_position = T.match_buffer(f, (batch,), "int32", elem_offset=o4)
        _q_position = T.match_buffer(g, (batch,), "int32", elem_offset=o5)
        output = T.match_buffer(h, (batch, queries, dim), kind)
        lse = T.match_buffer(l, (batch, queries), "float32")
        for block in T.thread_binding((queries + 3) // 4, thread="blockIdx.x"):
            for thread in T.thread_binding(4, thread="threadIdx.x"):
                with T.sblock("attend"):
                    T.reads()
                    T.writes()
                    query = T.sblock_alloc_buffer((dim,), "float32", scope="local")
                    out = T.sblock_alloc_buffer((dim,), "float32", scope="local")
                    state = T.sblock_alloc_buffer((5,), "float32", scope="local")
                    begin = T.sblock_alloc_buffer((1,), "int32", scope="local")
                    head: T.let[T.int32] = block * 4 + thread
                    if head < queries:
                        seen: T.let[T.int32] = held(first, last)
                        _start(q, dim, 0, head, magnitude(config, scale), query, out, state)
                        begin[0] = first_seen(config, scale, seen - 1)
                        _read_pages(config, pages, table, first[0], begin, seen, dim, head // group, query, out, state)
                        _finish(output, lse, dim, 0, head, out, state, kind)

    return kernel
