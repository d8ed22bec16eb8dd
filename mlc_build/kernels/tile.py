"""A tile of attention for real GPUs: a key is read once for many queries, not once for each token and head.

A workgroup takes one key head and up to ROWS of its queries, as they lie: a token's heads of the group, then the next token's.
The keys come in tiles of KEYS into the workgroup's memory, and their values after them into the same place. LANES threads share
EACH rows: a thread multiplies every LANES-th key of a tile and gathers every LANES-th quad of the results. The softmax is online
(arXiv:1805.02867, by tiles as in arXiv:2205.14135): for each tile of keys the threads of a row tell each other their maxima and
weights, and at the end their sums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvm.script import tirx as T

from hybr.mlc_build.memory import WIDTHS

from .attention import LEAST, magnitude, score

if TYPE_CHECKING:
    from hybr.mlc_build.model.config import ModelConfig

ROWS, KEYS = 32, 16
LANES = 8
EACH = 2
ROOM = 28 * 1024
"""Bytes of workgroup memory, of the 32 kB that WebLLM asks of every device. Heads of 64 floats or 128 halves take 16."""
UNSEEN = -1e30
"""The score of a key that a query does not see: nothing beside LEAST, so that a row that sees none sums to nothing."""


def sizes(config: ModelConfig, kind: str) -> tuple[int, int]:
    """Return how many rows and keys a workgroup has at a time: as many as fit into its memory."""
    rows, keys = ROWS, KEYS
    while (rows + keys) * (config.head_dim + 4) * WIDTHS[kind] + rows * (keys + LANES) * 4 > ROOM:
        rows, keys = rows // 2, keys // 2
    return rows, keys


def body(config: ModelConfig, kind: str) -> Any:
    """Return the macro of the whole attention, of queries and keys, values, results (all flat), logarithms of sums and seen."""
    queries, heads, dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    group, quads, vector = queries // heads, dim // 4, f"{kind}x4"
    rows, keys = sizes(config, kind)
    threads, share, steps = rows // EACH * LANES, keys // LANES, -(-quads // LANES)
    stride = quads | 1  # odd: threads that read the same quad of several keys find them in different banks

    def at(index: Any, head: Any) -> Any:
        """Return which row of queries, and of results, a workgroup's index-th is."""
        return index // group * queries + head * group + index % group

    # Where a load begins is an expression or a `let`, never a local buffer's number: TVM's code generator takes an index that
    # reads the same for the same.
    @T.macro
    def ask(q, asked, block, head, last, thread):
        """Bring the queries. Rows past the last one repeat it, and are not written."""
        for step in T.serial(-(-rows * quads // threads)):
            item: T.let[T.int32] = step * threads + thread
            if item < rows * quads:
                place: T.let[T.int32] = at(T.min(block * rows + item // quads, last), head)
                asked[item] = q[T.ramp((place * quads + item % quads) * 4, 1, 4)]

    @T.macro
    def bring(source, kept, seen, half, head, start, end, thread):
        """Bring a tile of keys or values; what is left of an older one beyond the end is seen by no row."""
        for step in T.serial(-(-keys * quads // threads)):
            item: T.let[T.int32] = step * threads + thread
            if item < keys * quads and start + item // quads < end:
                place: T.let[T.int32] = seen.row(start + item // quads, head, half)
                kept[item // quads * stride + item % quads] = source[T.ramp((place * quads + item % quads) * 4, 1, 4)]

    @T.macro
    def compare(asked, kept, query, one, dots, row, lane):
        """Multiply this thread's rows and keys."""
        for i in T.unroll(EACH * share):
            dots[i] = T.broadcast(T.float32(0), 4)
        for quad in T.serial(quads):
            for e in T.unroll(EACH):
                query[e] = T.cast(asked[(row + e) * quads + quad], "float32x4")
            for k in T.unroll(share):
                one[0] = T.cast(kept[(k * LANES + lane) * stride + quad], "float32x4")
                for e in T.unroll(EACH):
                    dots[e * share + k] = dots[e * share + k] + query[e] * one[0]

    @T.macro
    def judge(dots, raw, scores, bounds, best, tops, scale, start, row, lane):
        """Make the products scores, and tell the row's other threads the highest."""
        for e in T.unroll(EACH):
            best[e] = T.float32(LEAST)
            for k in T.unroll(share):
                key: T.let[T.int32] = start + k * LANES + lane
                raw[T.ramp(0, 1, 4)] = dots[e * share + k]
                scores[e * share + k] = score(config, (raw[0] + raw[1] + raw[2] + raw[3]) * magnitude(config, scale))
                if key < bounds[e * 2] or key >= bounds[e * 2 + 1]:
                    scores[e * share + k] = T.float32(UNSEEN)
                best[e] = T.max(best[e], scores[e * share + k])
            tops[(row + e) * LANES + lane] = best[e]

    @T.macro
    def weigh(scores, top, best, total, out, tops, weights, row, lane):
        """Take the new maxima over, and tell the row's other threads the weights."""
        for e in T.unroll(EACH):
            best[e] = top[e]
            for other in T.serial(LANES):
                best[e] = T.max(best[e], tops[(row + e) * LANES + other])
            top[e] = T.exp2(top[e] - best[e])  # what came before is worth this much; then the maximum itself
            total[e] = total[e] * top[e]
            for s in T.unroll(steps):
                out[e * steps + s] = out[e * steps + s] * T.broadcast(top[e], 4)
            top[e] = best[e]
            for k in T.unroll(share):
                scores[e * share + k] = T.exp2(scores[e * share + k] - top[e])
                total[e] = total[e] + scores[e * share + k]
                weights[(row + e) * keys + k * LANES + lane] = scores[e * share + k]

    @T.macro
    def mix(kept, weights, one, out, row, lane):
        """Add the tile's values to this thread's quads of its rows; a lane that has none at a step takes the last in vain."""
        for k in T.serial(keys):
            for s in T.unroll(steps):
                one[0] = T.cast(kept[k * stride + T.min(s * LANES + lane, quads - 1)], "float32x4")
                for e in T.unroll(EACH):
                    weight: T.let[T.float32] = weights[(row + e) * keys + k]
                    out[e * steps + s] = out[e * steps + s] + one[0] * T.broadcast(weight, 4)

    @T.macro
    def finish(made, lse, top, total, out, tops, block, head, last, row, lane):
        """Add the row's sums, and write its result."""
        for e in T.unroll(EACH):
            tops[(row + e) * LANES + lane] = total[e]
        T.tvm_storage_sync("shared")
        for e in T.unroll(EACH):
            index: T.let[T.int32] = block * rows + row + e
            if index <= last:
                total[e] = T.float32(0)
                for other in T.serial(LANES):
                    total[e] = total[e] + tops[(row + e) * LANES + other]
                if lane == 0:
                    lse[index // group, head * group + index % group] = top[e] + T.log2(total[e])
                for s in T.unroll(steps):
                    if s * LANES + lane < quads:
                        made[T.ramp((at(index, head) * quads + s * LANES + lane) * 4, 1, 4)] = T.cast(
                            out[e * steps + s] / T.broadcast(total[e], 4), vector
                        )

    @T.macro
    def attend(q, k, v, made, lse, scale, seen):
        for block in T.thread_binding((lse.shape[0] * group + rows - 1) // rows, thread="blockIdx.x"):
            for head in T.thread_binding(heads, thread="blockIdx.y"):
                for thread in T.thread_binding(threads, thread="threadIdx.x"):
                    with T.sblock("attend"):
                        T.reads()
                        T.writes()
                        asked = T.sblock_alloc_buffer((rows * quads,), vector, scope="shared")
                        kept = T.sblock_alloc_buffer((keys * stride,), vector, scope="shared")
                        weights = T.sblock_alloc_buffer((rows * keys,), "float32", scope="shared")
                        tops = T.sblock_alloc_buffer((rows * LANES,), "float32", scope="shared")
                        query = T.sblock_alloc_buffer((EACH,), "float32x4", scope="local")
                        one = T.sblock_alloc_buffer((1,), "float32x4", scope="local")
                        dots = T.sblock_alloc_buffer((EACH * share,), "float32x4", scope="local")
                        out = T.sblock_alloc_buffer((EACH * steps,), "float32x4", scope="local")
                        raw = T.sblock_alloc_buffer((4,), "float32", scope="local")
                        scores = T.sblock_alloc_buffer((EACH * share,), "float32", scope="local")
                        top = T.sblock_alloc_buffer((EACH,), "float32", scope="local")
                        best = T.sblock_alloc_buffer((EACH,), "float32", scope="local")
                        total = T.sblock_alloc_buffer((EACH,), "float32", scope="local")
                        bounds = T.sblock_alloc_buffer((EACH * 2,), "int32", scope="local")
                        row: T.let[T.int32] = thread // LANES * EACH
                        lane: T.let[T.int32] = thread % LANES
                        last: T.let[T.int32] = lse.shape[0] * group - 1
                        begin: T.let[T.int32] = seen.begin(block * rows // group)
                        end: T.let[T.int32] = seen.end(T.min(block * rows + rows - 1, last) // group)
                        ask(q, asked, block, head, last, thread)
                        for e in T.unroll(EACH):
                            token: T.let[T.int32] = T.min(block * rows + row + e, last) // group
                            bounds[e * 2] = seen.begin(token)
                            bounds[e * 2 + 1] = seen.end(token)
                            top[e] = T.float32(LEAST)
                            total[e] = T.float32(1 / LANES)
                            for s in T.unroll(steps):
                                out[e * steps + s] = T.broadcast(T.float32(0), 4)
                        for tile in T.serial((end - begin + keys - 1) // keys):
                            start: T.let[T.int32] = begin + tile * keys
                            bring(k, kept, seen, 0, head, start, end, thread)
                            T.tvm_storage_sync("shared")
                            compare(asked, kept, query, one, dots, row, lane)
                            judge(dots, raw, scores, bounds, best, tops, scale, start, row, lane)
                            T.tvm_storage_sync("shared")
                            bring(v, kept, seen, 1, head, start, end, thread)
                            weigh(scores, top, best, total, out, tops, weights, row, lane)
                            T.tvm_storage_sync("shared")
                            mix(kept, weights, one, out, row, lane)
                            T.tvm_storage_sync("shared")
                        finish(made, lse, top, total, out, tops, block, head, last, row, lane)

    return attend
