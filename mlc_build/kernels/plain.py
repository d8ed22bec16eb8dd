"""The small kernels between the products, barrier-free: lookup, normalisation, gate, last position."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from tvm.script import tirx as T

from .codes import FORMS, value
from .curves import activate

if TYPE_CHECKING:
    from hybr.mlc_build.blocks import Encoding

WORKGROUP = 16
SHARE = 16
"""Elements of a row that one thread of the normalisation writes, after summing the whole row for itself."""


@cache
def lookup(encoding: Encoding) -> Any:
    """Rows of a coded table; a thread unpacks one word."""
    form = FORMS[encoding]
    per, parts = form.per, 32 // form.per

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle, d: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        length, rows, words, groups, columns = T.int32(), T.int32(), T.int32(), T.int32(), T.int32()
        token = T.match_buffer(a, (length,), "int32")
        codes = T.match_buffer(b, (rows, words), "uint32")
        shared = T.match_buffer(c, (rows, groups), form.shared)
        y = T.match_buffer(d, (length, columns), "float32")
        for block in T.thread_binding((length * words + WORKGROUP - 1) // WORKGROUP, thread="blockIdx.x"):
            for thread in T.thread_binding(WORKGROUP, thread="threadIdx.x"):
                with T.sblock("lookup"):
                    T.reads()
                    T.writes()
                    factor = T.sblock_alloc_buffer((1,), form.shared, scope="local")
                    packed = T.sblock_alloc_buffer((1,), "uint32", scope="local")
                    index: T.let[T.int32] = block * WORKGROUP + thread
                    i: T.let[T.int32] = index // words
                    word: T.let[T.int32] = index % words
                    if index < length * words:
                        packed[0] = codes[token[i], word]
                        factor[0] = shared[token[i], word // parts]
                        for j in T.unroll(per):
                            y[i, word * per + j] = value(form, packed[0], j, factor[0])

    return kernel


@cache
def copy() -> Any:
    """Rows of a float table."""

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        length, rows, columns = T.int32(), T.int32(), T.int32()
        token = T.match_buffer(a, (length,), "int32")
        table = T.match_buffer(b, (rows, columns), "float32")
        y = T.match_buffer(c, (length, columns), "float32")
        for i in T.thread_binding(length, thread="blockIdx.y"):
            for block in T.thread_binding((columns + WORKGROUP - 1) // WORKGROUP, thread="blockIdx.x"):
                for thread in T.thread_binding(WORKGROUP, thread="threadIdx.x"):
                    with T.sblock("copy"):
                        T.reads()
                        T.writes()
                        if block * WORKGROUP + thread < columns:
                            y[i, block * WORKGROUP + thread] = table[token[i], block * WORKGROUP + thread]

    return kernel


@cache
def normalise(eps: float) -> Any:
    """X / sqrt(mean(x^2) + eps) * weight; each thread sums its row and writes a share of it."""

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        length, quads = T.int32(), T.int32()
        x = T.match_buffer(a, (1, length, quads), "float32x4")
        weight = T.match_buffer(b, (quads,), "float32x4")
        y = T.match_buffer(c, (1, length, quads), "float32x4")
        for token in T.thread_binding(length, thread="blockIdx.y"):
            for block in T.thread_binding((quads + WORKGROUP * SHARE // 4 - 1) // (WORKGROUP * SHARE // 4), thread="blockIdx.x"):
                for thread in T.thread_binding(WORKGROUP, thread="threadIdx.x"):
                    with T.sblock("normalise"):
                        T.reads()
                        T.writes()
                        total = T.sblock_alloc_buffer((4,), "float32", scope="local")
                        raw = T.sblock_alloc_buffer((4,), "float32", scope="local")
                        start: T.let[T.int32] = (block * WORKGROUP + thread) * (SHARE // 4)
                        if start < quads:
                            total[T.ramp(0, 1, 4)] = T.broadcast(T.float32(0), 4)
                            for i in T.serial(quads):
                                raw[T.ramp(0, 1, 4)] = x[0, token, i]
                                total[T.ramp(0, 1, 4)] = total[T.ramp(0, 1, 4)] + raw[T.ramp(0, 1, 4)] * raw[T.ramp(0, 1, 4)]
                            total[0] = T.float32(1) / T.sqrt(
                                (total[0] + total[1] + total[2] + total[3]) / T.cast(quads * 4, "float32") + T.float32(eps)
                            )
                            for i in T.serial(SHARE // 4):
                                if start + i < quads:
                                    y[0, token, start + i] = x[0, token, start + i] * T.broadcast(total[0], 4) * weight[start + i]

    return kernel


@cache
def gate(activation: str) -> Any:
    """Activation of the first half * second half of each row."""

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        length, both, half = T.int32(), T.int32(), T.int32()
        x = T.match_buffer(a, (1, length, both), "float32")
        y = T.match_buffer(b, (1, length, half), "float32")
        for block in T.thread_binding((length * half + WORKGROUP - 1) // WORKGROUP, thread="blockIdx.x"):
            for thread in T.thread_binding(WORKGROUP, thread="threadIdx.x"):
                with T.sblock("gate"):
                    T.reads()
                    T.writes()
                    value = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    index: T.let[T.int32] = block * WORKGROUP + thread
                    token: T.let[T.int32] = index // half
                    i: T.let[T.int32] = index % half
                    if index < length * half:
                        value[0] = x[0, token, i]
                        y[0, token, i] = activate(activation, value[0]) * x[0, token, half + i]

    return kernel


@cache
def last() -> Any:
    """The last row."""

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        length, columns = T.int32(), T.int32()
        x = T.match_buffer(a, (1, length, columns), "float32")
        y = T.match_buffer(b, (1, 1, columns), "float32")
        for block in T.thread_binding((columns + WORKGROUP - 1) // WORKGROUP, thread="blockIdx.x"):
            for thread in T.thread_binding(WORKGROUP, thread="threadIdx.x"):
                with T.sblock("last"):
                    T.reads()
                    T.writes()
                    if block * WORKGROUP + thread < columns:
                        y[0, 0, block * WORKGROUP + thread] = x[0, length - 1, block * WORKGROUP + thread]

    return kernel
