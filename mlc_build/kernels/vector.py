"""One token's matrix products for real GPUs, where the weights' way from memory is what a token costs.

A workgroup makes 64 results. Four threads share a row, each takes every fourth group of 32 weights, whose codes are one or two
loads of four words; what is shared by the group comes beside. The activations are brought into the workgroup's memory once, 2,048
at a time, so with 64 rows to a workgroup their reading adds a tenth to that of 4-bit weights (4 bytes a column and workgroup
against 64 x 0.625). Each weight is read once. Gate and up projection, activation and residual are part of the same dispatch.

Rows and columns are constants of the kernel. The four partial sums of a row meet in the workgroup's memory, or, where the device
has subgroups, in registers: the threads trade them with the one beside and the two beside (a butterfly), without a barrier. Four
is the least size of a subgroup that WebGPU allows, and sizes are powers of two, so four neighbours from a multiple of four are in
one on every device; that a subgroup is a run of a one-dimensional workgroup's threads is what Metal and Vulkan (full subgroups)
say, and Direct3D does. TVM's code generator writes `enable subgroups` for a target that has them and calls of WGSL's functions as
they are; WebLLM 0.2.86 asks the device for the feature wherever the adapter has it (`requiredFeatures.push("subgroups")`).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from tvm.script import tirx as T

from .codes import FORMS, least, scale
from .product import outcome

if TYPE_CHECKING:
    from hybr.mlc_build.blocks import Encoding

    from .product import Kind

THREADS = 256
LANES = 4
ROWS = THREADS // LANES
GROUP = 32
TILE = 2048
STRIDE = GROUP + 1
"""A group's place in the workgroup's memory: one float further on, so that four threads read four banks."""


def beside(number: Any, distance: int) -> Any:
    """Return the number of the thread whose place differs in that bit."""
    return T.call_pure_extern("float32", "subgroupShuffleXor", number, T.uint32(distance))


@cache
def vector(rows: int, columns: int, kind: Kind, encoding: Encoding, *, subgroups: bool = False) -> Any:
    """Return a kernel for x `(1, 1, columns)` as quads, words of codes as quads, and what groups share `(rows, columns / 32)`.

    Args:
        rows: of the matrix.
        columns: of the matrix, a multiple of 32.
        kind: as in `product.product`: `plain`, `add` (fourth argument: the residual), or an activation (half as many results).
        encoding: the form of the weights.
        subgroups: the device has that feature.

    """
    form = FORMS[encoding]
    halves = 1 if kind in {"plain", "add"} else 2
    results, groups, loads = rows // halves, columns // GROUP, GROUP // form.per // 4
    tiles, quads = -(-columns // TILE), columns // 4

    @T.macro
    def bring(x, xs, raw, tile, thread):
        for step in T.serial(TILE // 4 // THREADS):
            if tile * (TILE // 4) + step * THREADS + thread < quads:
                raw[T.ramp(0, 1, 4)] = x[0, 0, tile * (TILE // 4) + step * THREADS + thread]
                for i in T.unroll(4):
                    xs[(step * THREADS + thread) // 8 * STRIDE + (step * THREADS + thread) % 8 * 4 + i] = raw[i]

    @T.macro
    def weigh(codes, shared, xs, total, word, held, part, at, near):
        """Add one group's part of this thread's row, or of its two."""
        part[1] = T.float32(0)
        for i in T.unroll(GROUP):
            part[1] = part[1] + xs[near[0] + i]
        for half in T.unroll(halves):
            part[0] = T.float32(0)
            for load in T.unroll(loads):
                word[T.ramp(0, 1, 4)] = codes[at[half] * loads + load]
                for j in T.unroll(4):
                    for i in T.unroll(form.per):
                        part[0] = (
                            part[0]
                            + T.cast(
                                T.bitwise_and(T.shift_right(word[j], T.uint32(form.bits * i)), T.uint32((1 << form.bits) - 1)),
                                "float32",
                            )
                            * xs[near[0] + (load * 4 + j) * form.per + i]
                        )
            held[0] = shared[at[half]]
            total[half] = (
                total[half] + (part[0] - part[1] * T.float32(form.zero)) * scale(form, held[0]) + part[1] * least(form, held[0])
            )

    @T.macro
    def join(xs, total, thread):
        """Give the first of a row's four threads the sum of all."""
        if subgroups:  # outside of every condition: a subgroup's threads must come here together
            for half in T.unroll(halves):
                total[half] = total[half] + beside(total[half], 1)
                total[half] = total[half] + beside(total[half], 2)
        else:
            T.tvm_storage_sync("shared")  # the memory of the activations is taken up again
            for half in T.unroll(halves):
                xs[half * THREADS + thread] = total[half]
            T.tvm_storage_sync("shared")
            for half in T.unroll(halves):
                total[half] = (
                    xs[half * THREADS + thread // LANES * LANES]
                    + xs[half * THREADS + thread // LANES * LANES + 1]
                    + (xs[half * THREADS + thread // LANES * LANES + 2] + xs[half * THREADS + thread // LANES * LANES + 3])
                )

    @T.macro
    def run(x, b, c, y, add):
        codes = T.decl_buffer((rows * groups * loads,), "uint32x4", data=b.data)
        shared = T.decl_buffer((rows * groups,), form.shared, data=c.data)
        for block in T.thread_binding((results + ROWS - 1) // ROWS, thread="blockIdx.x"):
            for thread in T.thread_binding(THREADS, thread="threadIdx.x"):
                with T.sblock("vector"):
                    T.reads()
                    T.writes()
                    xs = T.sblock_alloc_buffer((TILE // GROUP * STRIDE,), "float32", scope="shared")
                    total = T.sblock_alloc_buffer((halves,), "float32", scope="local")
                    part = T.sblock_alloc_buffer((2,), "float32", scope="local")
                    word = T.sblock_alloc_buffer((4,), "uint32", scope="local")
                    raw = T.sblock_alloc_buffer((4,), "float32", scope="local")
                    held = T.sblock_alloc_buffer((1,), form.shared, scope="local")
                    at = T.sblock_alloc_buffer((halves,), "int32", scope="local")
                    near = T.sblock_alloc_buffer((1,), "int32", scope="local")
                    row: T.let[T.int32] = block * ROWS + thread // LANES
                    for half in T.unroll(halves):
                        total[half] = T.float32(0)
                    for tile in T.serial(tiles):
                        T.tvm_storage_sync("shared")
                        bring(x, xs, raw, tile, thread)
                        T.tvm_storage_sync("shared")
                        for step in T.serial(TILE // GROUP // LANES):
                            if row < results and tile * (TILE // GROUP) + step * LANES + thread % LANES < groups:
                                near[0] = (step * LANES + thread % LANES) * STRIDE
                                for half in T.unroll(halves):
                                    at[half] = (
                                        (row + half * results) * groups + tile * (TILE // GROUP) + step * LANES + thread % LANES
                                    )
                                weigh(codes, shared, xs, total, word, held, part, at, near)
                    join(xs, total, thread)
                    if row < results and thread % LANES == 0:
                        if kind == "add":
                            y[0, 0, row] = total[0] + add[0, 0, row]
                        else:
                            y[0, 0, row] = outcome(kind, total, 0, 1)

    @T.prim_func(private=True, s_tir=True)
    def added(a: T.handle, b: T.handle, c: T.handle, d: T.handle, e: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        x = T.match_buffer(a, (1, 1, quads), "float32x4")
        codes = T.match_buffer(b, (rows, groups * loads), "uint32x4")
        shared = T.match_buffer(c, (rows, groups), form.shared)
        add = T.match_buffer(d, (1, 1, rows), "float32")
        y = T.match_buffer(e, (1, 1, rows), "float32")
        run(x, codes, shared, y, add)

    @T.prim_func(private=True, s_tir=True)
    def alone(a: T.handle, b: T.handle, c: T.handle, e: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        x = T.match_buffer(a, (1, 1, quads), "float32x4")
        codes = T.match_buffer(b, (rows, groups * loads), "uint32x4")
        shared = T.match_buffer(c, (rows, groups), form.shared)
        y = T.match_buffer(e, (1, 1, results), "float32")
        run(x, codes, shared, y, y)

    return added if kind == "add" else alone
