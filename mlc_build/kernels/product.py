"""Matrix products for adapters that run shaders on the processor, where a barrier costs more than the sum it saves.

SwiftShader runs four invocations in the lanes of one vector register. Measured there, in nanoseconds for the four: a
multiplication with addition 0.3, an `and` with a conversion 0.4, a shift 3.4, `max` 2.1, a load 7 (its bounds are checked and its
lanes gathered one by one), a quad's load 24. So loads are what counts, and after them the size of the code: a loop's body that
outgrows the instruction cache loses what its larger tile won. One thread therefore makes sixteen rows of the result for one or
two tokens, activations come four to a load, a word of eight 4-bit weights is one load, and only eight columns are unrolled.
For 3072 x 576: 18 ms with the general schedule, 3.3 with one row a thread, 0.7 as below.

Unpacking without shifts (a shift costs as much as five additions there): see `kernels/codes.py`. What the codes count from, and
a group's least weight, are taken once for a group and token, with the sum of its activations.

Rows, columns and tokens are read from the buffers' shapes: one shader serves every matrix of the model. Activations are taken as
quads (`float32x4`), which the graph makes by a view.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from tvm.script import tirx as T

from .codes import FORMS, TOP, Codes, least, mask, power, scale
from .curves import activate

if TYPE_CHECKING:
    from hybr.mlc_build.blocks import Encoding

Kind = Literal["plain", "add", "silu", "gelu"]

ROWS = 16
HALF = 4
"""Rows a thread makes of a float matrix, where every weight is a load."""
WORKGROUP = 4


def packed(tokens: int, span: int, form: Codes) -> Any:
    """Return the inner part for coded weights: `tokens` x 16 dot products are added to `total`."""
    per, bits, parts = form.per, form.bits, 32 // form.per

    @T.macro
    def multiply(x, codes, shared, length, quads, rows, words, groups, results, token, row, total):
        x1 = T.decl_buffer((length * quads,), "float32x4", data=x.data)
        codes1 = T.decl_buffer((rows * words,), "uint32", data=codes.data)
        shared1 = T.decl_buffer((rows * groups,), form.shared, data=shared.data)
        raw = T.sblock_alloc_buffer((tokens * per,), "float32", scope="local")
        v = T.sblock_alloc_buffer((tokens * per,), "float32", scope="local")
        fix = T.sblock_alloc_buffer((tokens,), "float32", scope="local")
        sums = T.sblock_alloc_buffer((tokens,), "float32", scope="local")
        part = T.sblock_alloc_buffer((tokens * ROWS,), "float32", scope="local")
        word = T.sblock_alloc_buffer((1,), "uint32", scope="local")
        weight = T.sblock_alloc_buffer((1,), "float32", scope="local")
        lowest = T.sblock_alloc_buffer((1,), "float32", scope="local")
        at_x = T.sblock_alloc_buffer((tokens,), "int32", scope="local")
        at_code = T.sblock_alloc_buffer((ROWS,), "int32", scope="local")
        at_scale = T.sblock_alloc_buffer((ROWS,), "int32", scope="local")
        # A tile that sticks out reads its last row again; what it makes of it is not stored.
        for t in T.unroll(tokens):
            at_x[t] = T.min(token + t, length - 1) * quads
        for r in T.unroll(ROWS):
            at_code[r] = source(row, r, span, results) * words
            at_scale[r] = source(row, r, span, results) * groups
        for group in T.serial(groups):
            for i in T.unroll(tokens * ROWS):
                part[i] = T.float32(0)
            for t in T.unroll(tokens):
                fix[t] = T.float32(0)
                sums[t] = T.float32(0)
            for step in T.serial(parts):
                for t in T.unroll(tokens):
                    for h in T.unroll(per // 4):
                        raw[T.ramp(t * per + h * 4, 1, 4)] = x1[at_x[t] + group * 8 + step * (per // 4) + h]
                    for j in T.unroll(per):
                        v[t * per + j] = raw[t * per + j] * power(j, bits)
                        fix[t] = fix[t] + raw[t * per + j] * T.if_then_else(
                            j == per - 1, T.float32(form.top), T.float32(form.zero)
                        )
                        if form.least:
                            sums[t] = sums[t] + raw[t * per + j]
                for r in T.unroll(ROWS):
                    word[0] = T.bitwise_xor(codes1[at_code[r] + group * parts + step], T.uint32(TOP))
                    for j in T.unroll(per):
                        weight[0] = T.cast(T.reinterpret("int32", T.bitwise_and(word[0], mask(j, bits))), "float32")
                        for t in T.unroll(tokens):
                            part[t * ROWS + r] = part[t * ROWS + r] + weight[0] * v[t * per + j]
            for r in T.unroll(ROWS):
                if form.least:
                    word[0] = shared1[at_scale[r] + group]
                    weight[0] = scale(form, word[0])
                    lowest[0] = least(form, word[0])
                    for t in T.unroll(tokens):
                        total[t * ROWS + r] = (
                            total[t * ROWS + r] + (part[t * ROWS + r] - fix[t]) * weight[0] + sums[t] * lowest[0]
                        )
                else:
                    weight[0] = scale(form, shared1[at_scale[r] + group])
                    for t in T.unroll(tokens):
                        total[t * ROWS + r] = total[t * ROWS + r] + (part[t * ROWS + r] - fix[t]) * weight[0]

    return multiply


def source(row: Any, r: Any, span: int, results: Any) -> Any:
    """Return the matrix row behind a thread's r-th sum: results repeat every `span`, one block of rows further on."""
    return T.min(row + r % span, results - 1) + r // span * results


@cache
def product(tokens: int, kind: Kind, encoding: Encoding) -> Any:
    """Return a kernel for x `(1, n, columns)` as quads, words of codes and what their groups share `(rows, columns / 32)`.

    Args:
        tokens: rows of x that one thread takes; a weight is unpacked once for all of them.
        kind: `plain`; `add`, which takes a tensor of the result's shape as fourth argument and adds it; `silu` or `gelu`, which
            make half as many results, that activation of a row of the first half * the row of the second.
        encoding: the form of the weights.

    """
    form = FORMS[encoding]
    span = ROWS // 2 if kind in {"silu", "gelu"} else ROWS
    multiply, first = packed(tokens, span, form), start(residual=kind == "add")

    @T.macro
    def run(a, b, c, y, add, length, quads, rows, words, groups, results):
        for tile in T.thread_binding((length + tokens - 1) // tokens, thread="blockIdx.y"):
            for block in T.thread_binding((results + span * WORKGROUP - 1) // (span * WORKGROUP), thread="blockIdx.x"):
                for thread in T.thread_binding(WORKGROUP, thread="threadIdx.x"):
                    with T.sblock("product"):
                        T.reads()
                        T.writes()
                        total = T.sblock_alloc_buffer((tokens * ROWS,), "float32", scope="local")
                        token: T.let[T.int32] = tile * tokens
                        row: T.let[T.int32] = (block * WORKGROUP + thread) * span
                        if row < results:
                            for t in T.unroll(tokens):
                                for r in T.unroll(ROWS):
                                    total[t * ROWS + r] = first(add, T.min(token + t, length - 1), T.min(row + r, rows - 1))
                            multiply(a, b, c, length, quads, rows, words, groups, results, token, row, total)
                            for t in T.unroll(tokens):
                                for r in T.unroll(span):
                                    if token + t < length and row + r < results:
                                        y[0, token + t, row + r] = outcome(kind, total, t * ROWS + r, span)

    @T.prim_func(private=True, s_tir=True)
    def added(a: T.handle, b: T.handle, c: T.handle, d: T.handle, e: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        length, quads, rows, words, groups = T.int32(), T.int32(), T.int32(), T.int32(), T.int32()
        x = T.match_buffer(a, (1, length, quads), "float32x4")
        codes = T.match_buffer(b, (rows, words), "uint32")
        shared = T.match_buffer(c, (rows, groups), form.shared)
        add = T.match_buffer(d, (1, length, rows), "float32")
        y = T.match_buffer(e, (1, length, rows), "float32")
        run(x, codes, shared, y, add, length, quads, rows, words, groups, rows)

    @T.prim_func(private=True, s_tir=True)
    def alone(a: T.handle, b: T.handle, c: T.handle, e: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        length, quads, rows, words, groups, results = T.int32(), T.int32(), T.int32(), T.int32(), T.int32(), T.int32()
        x = T.match_buffer(a, (1, length, quads), "float32x4")
        codes = T.match_buffer(b, (rows, words), "uint32")
        shared = T.match_buffer(c, (rows, groups), form.shared)
        y = T.match_buffer(e, (1, length, results), "float32")
        run(x, codes, shared, y, y, length, quads, rows, words, groups, results)

    return added if kind == "add" else alone


def outcome(kind: Kind, total: Any, at: Any, span: int) -> Any:
    """Return the result that the sum at `at`, or it and its partner, stands for."""
    if kind in {"silu", "gelu"}:
        return activate(kind, total[at]) * total[at + span]
    return total[at]


@cache
def whole(tokens: int, *, residual: bool) -> Any:
    """Return a kernel for x and float weights `(rows, columns)`, both as quads; the arguments as in `product`."""
    first = start(residual=residual)

    @T.macro
    def run(x, weight, y, add, length, quads, rows):
        x1 = T.decl_buffer((length * quads,), "float32x4", data=x.data)
        weight1 = T.decl_buffer((rows * quads,), "float32x4", data=weight.data)
        for tile in T.thread_binding((length + tokens - 1) // tokens, thread="blockIdx.y"):
            for block in T.thread_binding((rows + HALF * WORKGROUP - 1) // (HALF * WORKGROUP), thread="blockIdx.x"):
                for thread in T.thread_binding(WORKGROUP, thread="threadIdx.x"):
                    with T.sblock("product"):
                        T.reads()
                        T.writes()
                        total = T.sblock_alloc_buffer((tokens * HALF,), "float32", scope="local")
                        raw = T.sblock_alloc_buffer((tokens * 4,), "float32", scope="local")
                        w = T.sblock_alloc_buffer((4,), "float32", scope="local")
                        at_x = T.sblock_alloc_buffer((tokens,), "int32", scope="local")
                        at_weight = T.sblock_alloc_buffer((HALF,), "int32", scope="local")
                        token: T.let[T.int32] = tile * tokens
                        row: T.let[T.int32] = (block * WORKGROUP + thread) * HALF
                        if row < rows:
                            for t in T.unroll(tokens):
                                at_x[t] = T.min(token + t, length - 1) * quads
                                for r in T.unroll(HALF):
                                    total[t * HALF + r] = first(add, T.min(token + t, length - 1), T.min(row + r, rows - 1))
                            for r in T.unroll(HALF):
                                at_weight[r] = T.min(row + r, rows - 1) * quads
                            for quad in T.serial(quads):
                                for t in T.unroll(tokens):
                                    raw[T.ramp(t * 4, 1, 4)] = x1[at_x[t] + quad]
                                for r in T.unroll(HALF):
                                    w[T.ramp(0, 1, 4)] = weight1[at_weight[r] + quad]
                                    for t in T.unroll(tokens):
                                        for j in T.unroll(4):
                                            total[t * HALF + r] = total[t * HALF + r] + w[j] * raw[t * 4 + j]
                            for t in T.unroll(tokens):
                                for r in T.unroll(HALF):
                                    if token + t < length and row + r < rows:
                                        y[0, token + t, row + r] = total[t * HALF + r]

    @T.prim_func(private=True, s_tir=True)
    def added(a: T.handle, b: T.handle, d: T.handle, e: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        length, quads, rows = T.int32(), T.int32(), T.int32()
        x = T.match_buffer(a, (1, length, quads), "float32x4")
        weight = T.match_buffer(b, (rows, quads), "float32x4")
        add = T.match_buffer(d, (1, length, rows), "float32")
        y = T.match_buffer(e, (1, length, rows), "float32")
        run(x, weight, y, add, length, quads, rows)

    @T.prim_func(private=True, s_tir=True)
    def plain(a: T.handle, b: T.handle, e: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        length, quads, rows = T.int32(), T.int32(), T.int32()
        x = T.match_buffer(a, (1, length, quads), "float32x4")
        weight = T.match_buffer(b, (rows, quads), "float32x4")
        y = T.match_buffer(e, (1, length, rows), "float32")
        run(x, weight, y, y, length, quads, rows)

    return added if residual else plain


def start(*, residual: bool) -> Any:
    """Return what a sum starts from: the residual's element, or zero."""

    def first(add: Any, token: Any, row: Any) -> Any:
        return add[0, token, row] if residual else T.float32(0)

    return first
