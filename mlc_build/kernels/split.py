"""A token's attention over the pages for real GPUs: each key and value is read once for all query heads of its group.

A workgroup takes one key head and a run of the keys. Of 64 keys at a time, four threads share a key's product with every query
head of the group (the queries stay in the workgroup's memory); then each thread takes four elements of the values of every few
keys, again for all heads, with a maximum and a sum of its own: online softmax (arXiv:1805.02867), whose parts meet at the end.

A few key heads would keep a few cores busy. So where there are more than SHORT pages, the keys are split among up to SPLITS
workgroups a head ("flash decoding"), and a second dispatch joins what they made by the logarithms of their sums. Which it is, the
host decides by the number of pages; where a split begins, and what of it a sliding layer sees, the device.

The runtime's arguments that are taken and left are those of `attention`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvm.script import tirx as T

from hybr.mlc_build.memory import SPLITS
from hybr.mlc_build.model.config import PAGE

from .attention import LEAST, first_seen, held, magnitude, row_of, score

if TYPE_CHECKING:
    from hybr.mlc_build.model.config import ModelConfig

THREADS = 256
KEYS = 64
LANES = THREADS // KEYS
SHORT = 32
"""Pages (512 keys) up to which one workgroup has all of a key head's keys: there a layer's attention stays one dispatch."""
RUN = 8
"""Pages in a split, at least."""
ROOM = 7168
"""Floats of workgroup memory: 28 of the 32 kB that WebLLM asks of every device."""

# A workgroup's first key, and how many it has; a thread's key, the place of its row among the pages' quads.
BEGIN, COUNT = range(2)
KEY, ROW = range(2)
# The new maximum or the one of all; its sum, its element, and a factor.
TOP, SUM, MADE, FACTOR = range(4)


def shared(config: ModelConfig) -> int:
    """Return how many of a key head's queries a workgroup takes: all, or as many as fit into its memory."""
    group = config.num_attention_heads // config.num_key_value_heads
    return max(n for n in range(1, group + 1) if group % n == 0 and (n == 1 or n * (config.head_dim + THREADS + KEYS) <= ROOM))


def splits(pages: Any) -> Any:
    """Return among how many workgroups the keys of so many pages are split."""
    return T.min(T.int32(SPLITS), (pages + T.int32(RUN - 1)) // T.int32(RUN))


def decode(config: ModelConfig, kind: str) -> Any:
    """Return the cache's kernel for one token against the pages, which already hold its own key."""
    queries, heads, dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    group, share, quads = queries // heads, shared(config), dim // 4
    streams = THREADS // quads
    room, steps = max(share * THREADS, streams * dim), -(-KEYS // streams)

    def row(table: Any, first: Any, at: Any, head: Any, half: int) -> Any:
        """Return where the key (half 0) or the value (1) stands among the pages' quads."""
        return row_of(config, table, first, at[KEY], head // group, half) * quads

    @T.macro
    def compare(flat, table, first, asked, parts, weights, raw, query, dots, span, at, tile, head, thread):
        """Put the scores of 64 keys with each query into `weights`."""
        for h in T.unroll(share):
            dots[h] = T.float32(0)
        if tile * KEYS + thread // LANES < span[COUNT]:
            at[KEY] = span[BEGIN] + tile * KEYS + thread // LANES
            at[ROW] = row(table, first, at, head, 0)
            for step in T.serial((quads + LANES - 1) // LANES):
                if step * LANES + thread % LANES < quads:
                    raw[T.ramp(0, 1, 4)] = T.cast(flat[T.ramp((at[ROW] + step * LANES + thread % LANES) * 4, 1, 4)], "float32x4")
                    for h in T.unroll(share):
                        query[T.ramp(0, 1, 4)] = asked[h * quads + step * LANES + thread % LANES]
                        for i in T.unroll(4):
                            dots[h] = dots[h] + raw[i] * query[i]
        for h in T.unroll(share):
            parts[h * THREADS + thread] = dots[h]
        T.tvm_storage_sync("shared")
        for step in T.serial((share * KEYS + THREADS - 1) // THREADS):
            if step * THREADS + thread < share * KEYS:
                dots[0] = T.float32(0)
                for lane in T.unroll(LANES):
                    dots[0] = dots[0] + parts[(step * THREADS + thread) * LANES + lane]
                weights[step * THREADS + thread] = score(config, dots[0])
        T.tvm_storage_sync("shared")

    @T.macro
    def mix(flat, table, first, weights, raw, top, total, out, state, span, at, tile, head, thread):
        """Add this thread's keys of the 64 to its four elements of every query's result."""
        for h in T.unroll(share):
            state[TOP] = top[h]
            for step in T.serial(steps):
                if thread // quads < streams and step * streams + thread // quads < T.min(KEYS, span[COUNT] - tile * KEYS):
                    state[TOP] = T.max(state[TOP], weights[h * KEYS + step * streams + thread // quads])
            state[FACTOR] = T.exp2(top[h] - state[TOP])
            top[h] = state[TOP]
            total[h] = total[h] * state[FACTOR]
            for i in T.unroll(4):
                out[h * 4 + i] = out[h * 4 + i] * state[FACTOR]
        for step in T.serial(steps):
            if thread // quads < streams and step * streams + thread // quads < T.min(KEYS, span[COUNT] - tile * KEYS):
                at[KEY] = span[BEGIN] + tile * KEYS + step * streams + thread // quads
                at[ROW] = row(table, first, at, head, 1)
                raw[T.ramp(0, 1, 4)] = T.cast(flat[T.ramp((at[ROW] + thread % quads) * 4, 1, 4)], "float32x4")
                for h in T.unroll(share):
                    state[FACTOR] = T.exp2(weights[h * KEYS + step * streams + thread // quads] - top[h])
                    total[h] = total[h] + state[FACTOR]
                    for i in T.unroll(4):
                        out[h * 4 + i] = out[h * 4 + i] + state[FACTOR] * raw[i]

    @T.macro
    def finish(made, logs, block, parts, top, total, out, state, head, thread):
        """Join the streams, a query at a time, into row `block` of what is made."""
        for h in T.unroll(share):
            T.tvm_storage_sync("shared")  # the memory of the products, or of the query before, is taken up again
            if thread // quads < streams:
                for i in T.unroll(4):
                    parts[thread * 4 + i] = out[h * 4 + i]
                if thread % quads == 0:
                    parts[room + thread // quads * 2] = top[h]
                    parts[room + thread // quads * 2 + 1] = total[h]
            T.tvm_storage_sync("shared")
            for step in T.serial((dim + THREADS - 1) // THREADS):
                if step * THREADS + thread < dim:
                    state[TOP] = T.float32(LEAST)
                    for stream in T.serial(streams):
                        state[TOP] = T.max(state[TOP], parts[room + stream * 2])
                    state[SUM] = T.float32(0)
                    state[MADE] = T.float32(0)
                    for stream in T.serial(streams):
                        state[FACTOR] = T.exp2(parts[room + stream * 2] - state[TOP])
                        state[SUM] = state[SUM] + parts[room + stream * 2 + 1] * state[FACTOR]
                        state[MADE] = state[MADE] + parts[stream * dim + step * THREADS + thread] * state[FACTOR]
                    made[block, head + h, step * THREADS + thread] = T.cast(state[MADE] / state[SUM], made.dtype)
                    if step * THREADS + thread == 0:
                        logs[block, head + h] = state[TOP] + T.log2(state[SUM])

    @T.macro
    def attend(q, pages, first, table, last, scale, made, logs, parts_of_keys):
        """One workgroup's part: `parts_of_keys` workgroups share a key head's keys."""
        flat = T.decl_buffer((pages.shape[0] * (2 * heads * PAGE * dim),), kind, data=pages.data)
        asks = T.decl_buffer((q.shape[0] * (queries * dim),), kind, data=q.data)
        for block in T.thread_binding(parts_of_keys, thread="blockIdx.x"):
            for turn in T.thread_binding(queries // share, thread="blockIdx.y"):
                for thread in T.thread_binding(THREADS, thread="threadIdx.x"):
                    with T.sblock("attend"):
                        T.reads()
                        T.writes()
                        asked = T.sblock_alloc_buffer((share * quads,), "float32x4", scope="shared")
                        parts = T.sblock_alloc_buffer((room + streams * 2,), "float32", scope="shared")
                        weights = T.sblock_alloc_buffer((share * KEYS,), "float32", scope="shared")
                        top = T.sblock_alloc_buffer((share,), "float32", scope="local")
                        total = T.sblock_alloc_buffer((share,), "float32", scope="local")
                        out = T.sblock_alloc_buffer((share * 4,), "float32", scope="local")
                        dots = T.sblock_alloc_buffer((share,), "float32", scope="local")
                        query = T.sblock_alloc_buffer((4,), "float32", scope="local")
                        raw = T.sblock_alloc_buffer((4,), "float32", scope="local")
                        state = T.sblock_alloc_buffer((4,), "float32", scope="local")
                        span = T.sblock_alloc_buffer((2,), "int32", scope="local")
                        each = T.sblock_alloc_buffer((1,), "int32", scope="local")
                        at = T.sblock_alloc_buffer((2,), "int32", scope="local")
                        head: T.let[T.int32] = turn * share
                        for step in T.serial((share * quads + THREADS - 1) // THREADS):
                            if step * THREADS + thread < share * quads:
                                query[T.ramp(0, 1, 4)] = T.cast(
                                    asks[T.ramp((head * quads + step * THREADS + thread) * 4, 1, 4)], "float32x4"
                                )
                                asked[step * THREADS + thread] = query[T.ramp(0, 1, 4)] * T.broadcast(magnitude(config, scale), 4)
                        for h in T.unroll(share):
                            top[h] = T.float32(LEAST)
                            total[h] = T.float32(1)
                        for i in T.unroll(share * 4):
                            out[i] = T.float32(0)
                        span[COUNT] = held(first, last)
                        span[BEGIN] = first_seen(config, scale, span[COUNT] - 1)
                        each[0] = (span[COUNT] - span[BEGIN] + parts_of_keys * KEYS - 1) // (parts_of_keys * KEYS) * KEYS
                        span[BEGIN] = span[BEGIN] + block * each[0]
                        span[COUNT] = T.max(T.min(each[0], span[COUNT] - span[BEGIN]), 0)
                        T.tvm_storage_sync("shared")
                        for tile in T.serial((span[COUNT] + KEYS - 1) // KEYS):
                            compare(flat, table, first, asked, parts, weights, raw, query, dots, span, at, tile, head, thread)
                            mix(flat, table, first, weights, raw, top, total, out, state, span, at, tile, head, thread)
                        finish(made, logs, block, parts, top, total, out, state, head, thread)

    @T.prim_func(private=True, s_tir=True)
    def kernel(
        a: T.handle, b: T.handle, c: T.handle, d: T.handle, e: T.handle, f: T.handle, g: T.handle, h: T.handle, l: T.handle,
        rotary: T.int32, rope_scale: T.float32, rope_theta: T.float32, scale: T.float32,
    ):  # fmt: skip
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        batch, used, count = T.int32(), T.int32(), T.int32()
        o1, o2, o3, o4, o5 = T.int32(), T.int32(), T.int32(), T.int32(), T.int32()
        q = T.match_buffer(a, (batch, queries, dim), kind)
        pages = T.match_buffer(b, (count, 2, heads, PAGE, dim), kind)
        first = T.match_buffer(c, (batch + 1,), "int32", elem_offset=o1)
        table = T.match_buffer(d, (used,), "int32", elem_offset=o2)
        last = T.match_buffer(e, (batch,), "int32", elem_offset=o3)
        _k_position = T.match_buffer(f, (batch,), "int32", elem_offset=o4)
        _q_position = T.match_buffer(g, (batch,), "int32", elem_offset=o5)
        output = T.match_buffer(h, (batch, queries, dim), kind)
        lse = T.match_buffer(l, (batch, queries), "float32")
        made = T.sblock_alloc_buffer((SPLITS, queries, dim), "float32")
        logs = T.sblock_alloc_buffer((SPLITS, queries), "float32")
        if used <= SHORT:
            attend(q, pages, first, table, last, scale, output, lse, 1)
        else:
            attend(q, pages, first, table, last, scale, made, logs, splits(used))
            for block in T.thread_binding((queries * dim + KEYS - 1) // KEYS, thread="blockIdx.x"):
                for thread in T.thread_binding(KEYS, thread="threadIdx.x"):
                    with T.sblock("join"):
                        T.reads()
                        T.writes()
                        state = T.sblock_alloc_buffer((4,), "float32", scope="local")
                        head: T.let[T.int32] = (block * KEYS + thread) // dim
                        i: T.let[T.int32] = (block * KEYS + thread) % dim
                        if head < queries:
                            state[TOP] = T.float32(LEAST)
                            for part in T.serial(splits(used)):
                                state[TOP] = T.max(state[TOP], logs[part, head])
                            state[SUM] = T.float32(0)
                            state[MADE] = T.float32(0)
                            for part in T.serial(splits(used)):
                                state[FACTOR] = T.exp2(logs[part, head] - state[TOP])
                                state[SUM] = state[SUM] + state[FACTOR]
                                state[MADE] = state[MADE] + made[part, head, i] * state[FACTOR]
                            output[0, head, i] = T.cast(state[MADE] / state[SUM], kind)
                            if i == 0:
                                lse[0, head] = state[TOP] + T.log2(state[SUM])

    return kernel
