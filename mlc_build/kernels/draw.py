"""The draw of `kernels/sift.py` in one dispatch: for devices where a barrier costs less than a dispatch, and one thread is slow.

With G(t) the mass of the tokens whose probability's bits are at least t, the wanted one's bits are the largest t with G(t) > aim:
found by bisection, five bits a round, six rounds, and twice, for what top_p keeps and for the drawn part of it. One workgroup
does all twelve rounds: 256 threads weigh their strides of the vocabulary, add up through workgroup memory, and each comes to the
same digit by itself. The probabilities are read fourteen times, after the first from the cache. The token comes out.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from .sift import ALMOST, TINY

PARTS = 256
DIGITS = 31
ROUNDS = 6
WIDTH = 5
"""Six rounds of five bits: the thirty bits of a float in 0..1, sign and top exponent bit being zero."""

# The search's state: threshold found, shift of the next digit (integers); mass wanted, mass above the threshold, a sum (floats).
LOW, SHIFT, DIGIT = range(3)
AIM, ABOVE, SUM = range(3)


@T.macro
def _weigh(p, parts, place, edge, total, value, thread, vocabulary):
    """Put into row j of the workgroup's memory what is at or above threshold j, and add each row up in its first place."""
    for j in T.unroll(DIGITS):
        total[j] = T.float32(0)
        edge[j] = T.reinterpret("float32", place[LOW] + T.shift_left(j + 1, place[SHIFT]))
    for step in T.serial((vocabulary + PARTS - 1) // PARTS):
        if step * PARTS + thread < vocabulary:
            value[0] = p[0, step * PARTS + thread]
            for j in T.unroll(DIGITS):
                total[j] = total[j] + T.Select(value[0] >= edge[j], value[0], T.float32(0))
    T.tvm_storage_sync("shared")  # the round before may still be read
    for j in T.unroll(DIGITS):
        parts[j * PARTS + thread] = total[j]
    T.tvm_storage_sync("shared")
    value[0] = T.float32(0)
    if thread < DIGITS:
        for part in T.serial(PARTS):
            value[0] = value[0] + parts[thread * PARTS + part]
    T.tvm_storage_sync("shared")
    if thread < DIGITS:
        parts[thread * PARTS] = value[0]
    T.tvm_storage_sync("shared")


@T.macro
def _narrow(parts, place, mass, turn):
    """Take the largest threshold whose mass reaches the aim (first turn) or passes it (second)."""
    place[DIGIT] = 0
    for j in T.serial(DIGITS):
        if place[DIGIT] == 0:
            mass[SUM] = parts[(DIGITS - 1 - j) * PARTS]
            if T.Select(turn == 0, mass[SUM] >= mass[AIM], mass[SUM] > mass[AIM]):
                place[DIGIT] = DIGITS - j
            else:
                mass[ABOVE] = mass[SUM]
    place[LOW] = place[LOW] + T.shift_left(place[DIGIT], place[SHIFT])
    place[SHIFT] = place[SHIFT] - WIDTH


@T.macro
def _turn(place, mass, uniform):
    """Of what top_p keeps (all above the threshold, and of those at it enough) aim at the drawn part."""
    mass[SUM] = T.reinterpret("float32", place[LOW])
    mass[SUM] = mass[ABOVE] + mass[SUM] * T.max(
        T.ceil((mass[AIM] - mass[ABOVE]) / T.max(mass[SUM], T.float32(TINY))), T.float32(1)
    )
    mass[AIM] = mass[SUM] * T.min(uniform[0], T.float32(ALMOST))


def draw(vocabulary: int) -> Any:
    """Return the kernel (probabilities `(1, vocabulary)`, uniform, top_p) -> token; -1 when there is none (NaN logits)."""
    run = (vocabulary + PARTS - 1) // PARTS

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle, d: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        p = T.match_buffer(a, (1, vocabulary), "float32")
        uniform = T.match_buffer(b, (1,), "float32")
        top_p = T.match_buffer(c, (1,), "float32")
        token = T.match_buffer(d, (1,), "int32")
        for _block in T.thread_binding(1, thread="blockIdx.x"):
            for thread in T.thread_binding(PARTS, thread="threadIdx.x"):
                with T.sblock("draw"):
                    T.reads()
                    T.writes()
                    parts = T.sblock_alloc_buffer((DIGITS * PARTS,), "float32", scope="shared")
                    edge = T.sblock_alloc_buffer((DIGITS,), "float32", scope="local")
                    total = T.sblock_alloc_buffer((DIGITS,), "float32", scope="local")
                    value = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    place = T.sblock_alloc_buffer((3,), "int32", scope="local")
                    mass = T.sblock_alloc_buffer((3,), "float32", scope="local")
                    rank = T.sblock_alloc_buffer((3,), "int32", scope="local")
                    mass[AIM] = top_p[0]
                    for turn in T.serial(2):
                        place[LOW] = 0
                        place[SHIFT] = (ROUNDS - 1) * WIDTH
                        mass[ABOVE] = T.float32(0)
                        for _round in T.serial(ROUNDS):
                            _weigh(p, parts, place, edge, total, value, thread, vocabulary)
                            _narrow(parts, place, mass, turn)
                        if turn == 0:
                            _turn(place, mass, uniform)
                    # Which of the tokens that have exactly this probability: counted by runs of the vocabulary, in order.
                    rank[0] = 0
                    for i in T.serial(run):
                        if thread * run + i < vocabulary:
                            if T.reinterpret("int32", p[0, thread * run + i]) == place[LOW]:
                                rank[0] = rank[0] + 1
                    T.tvm_storage_sync("shared")
                    parts[thread] = T.cast(rank[0], "float32")
                    T.tvm_storage_sync("shared")
                    rank[0] = 0
                    for i in T.serial(PARTS):
                        rank[0] = rank[0] + T.cast(parts[i], "int32")
                    mass[SUM] = (mass[AIM] - mass[ABOVE]) / T.max(T.reinterpret("float32", place[LOW]), T.float32(TINY))
                    rank[0] = T.min(T.cast(T.min(mass[SUM], T.float32(1e6)), "int32"), rank[0] - 1)
                    rank[1] = -1
                    for i in T.serial(PARTS):
                        rank[2] = T.cast(parts[i], "int32")
                        if rank[1] < 0:
                            if rank[0] < rank[2]:
                                rank[1] = i
                            else:
                                rank[0] = rank[0] - rank[2]
                    if (rank[1] < 0 or place[LOW] <= 0) and thread == 0:
                        token[0] = -1
                    if thread == rank[1] and place[LOW] > 0:
                        rank[2] = -1
                        for i in T.serial(run):
                            if thread * run + i < vocabulary:
                                if T.reinterpret("int32", p[0, thread * run + i]) == place[LOW]:
                                    if rank[0] == 0:
                                        rank[2] = thread * run + i
                                    rank[0] = rank[0] - 1
                        token[0] = rank[2]

    return kernel
