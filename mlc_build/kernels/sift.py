"""The draw without barriers: one kernel sifts the vocabulary by size, one thread picks the token from the few that matter.

WebLLM asks for an argsort and then a draw from the smallest set of tokens that holds `top_p` of the mass, and only passes the
first's result on to the second. Nothing has to be sorted: what is wanted is the token at which the mass, summed from the largest
probability down, passes an aim. Non-negative floats order like their bits. So `sift` brings each part of the vocabulary into the
order of the upper bits (the exponent), and tells each exponent's mass; `pick` finds the exponent at which the aim falls and then,
among the candidates with that exponent alone, the other 23 bits by eight, eight and seven: exact for any distribution. It does so
twice, for the mass that top_p keeps and for a uniformly drawn part of that. Equal probabilities are taken by rising token id, as
a stable sort would.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

PARTS = 64
"""Threads that sift, each a run of the vocabulary."""
GROUP = 16
BINS = 128
"""Exponents of floats in 0..1; more bits of a NaN are cut off."""
FRACTION = 23
ROUNDS = 3
WIDTH = 8
"""Bits of a fraction's digits; the last has seven."""

TINY = 2e-38
"""Above the denormals, which a device may take for zero."""
ALMOST = 0.999999
"""The drawn number's bound: at exactly 1 the aim would be the whole mass, which no token passes."""

# What `pick` knows: exponent, bits of the probability found so far, digit, the least digit that holds anything, and the shift and
# width of the digit that is looked for (integers) ...
BIN, LOW, DIGIT, LAST, SHIFT, BITS = range(6)
# ... the mass wanted, the mass above what is found, that above LAST, a sum, and all the mass there is (floats).
AIM, ABOVE, BEFORE, SUM, TOTAL = range(5)


def length(vocabulary: int) -> int:
    """Return the length of what `sift` makes: the vocabulary's, and behind it a number for each part and exponent."""
    return vocabulary + PARTS * BINS


def sift(vocabulary: int) -> Any:
    """Return the kernel p -> (probabilities, ids), each part's by rising exponent.

    Behind them, for each part and exponent: the mass (in the first), and where its candidates end (in the second).
    """
    run, size = (vocabulary + PARTS - 1) // PARTS, length(vocabulary)

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        p = T.match_buffer(a, (1, vocabulary), "float32")
        values = T.match_buffer(b, (size,), "float32")
        ids = T.match_buffer(c, (size,), "int32")
        for block in T.thread_binding(PARTS // GROUP, thread="blockIdx.x"):
            for thread in T.thread_binding(GROUP, thread="threadIdx.x"):
                with T.sblock("sift"):
                    T.reads()
                    T.writes()
                    mass = T.sblock_alloc_buffer((BINS,), "float32", scope="local")
                    place = T.sblock_alloc_buffer((BINS,), "int32", scope="local")
                    value = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    at = T.sblock_alloc_buffer((2,), "int32", scope="local")
                    part: T.let[T.int32] = block * GROUP + thread
                    for i in T.serial(BINS):
                        mass[i] = T.float32(0)
                        place[i] = 0
                    for i in T.serial(run):
                        if part * run + i < vocabulary:
                            value[0] = p[0, part * run + i]
                            at[0] = T.bitwise_and(T.shift_right(T.reinterpret("int32", value[0]), FRACTION), BINS - 1)
                            mass[at[0]] = mass[at[0]] + value[0]
                            place[at[0]] = place[at[0]] + 1
                    at[1] = part * run
                    for i in T.serial(BINS):
                        at[0] = place[i]
                        place[i] = at[1]
                        at[1] = at[1] + at[0]
                        values[vocabulary + part * BINS + i] = mass[i]
                        ids[vocabulary + part * BINS + i] = at[1]
                    for i in T.serial(run):
                        if part * run + i < vocabulary:
                            value[0] = p[0, part * run + i]
                            at[0] = T.bitwise_and(T.shift_right(T.reinterpret("int32", value[0]), FRACTION), BINS - 1)
                            at[1] = place[at[0]]
                            place[at[0]] = at[1] + 1
                            values[at[1]] = value[0]
                            ids[at[1]] = part * run + i

    return kernel


@T.macro
def _scan(bins, width, place, mass, turn):
    """Go from the highest down to the one whose mass reaches the aim (first turn) or passes it (second), or to the last."""
    place[DIGIT] = -1
    place[LAST] = -1
    for j in T.serial(width):
        if place[DIGIT] < 0:
            if bins[width - 1 - j] > T.float32(0):
                place[LAST] = width - 1 - j
                mass[BEFORE] = mass[ABOVE]
            mass[SUM] = mass[ABOVE] + bins[width - 1 - j]
            if T.Select(turn == 0, mass[SUM] >= mass[AIM], mass[SUM] > mass[AIM]):
                place[DIGIT] = width - 1 - j
            else:
                mass[ABOVE] = mass[SUM]
    if place[DIGIT] < 0 and place[LAST] >= 0:  # rounding: all of it did not quite reach
        place[DIGIT] = place[LAST]
        mass[ABOVE] = mass[BEFORE]


@T.macro
def _weigh(values, ids, vocabulary, bins, place, at):
    """Put the mass of the candidates that begin with LOW's bits into a bin for each next digit."""
    for i in T.serial(1 << WIDTH):
        bins[i] = T.float32(0)
    for part in T.serial(PARTS):
        at[0] = ids[vocabulary + part * BINS + place[BIN] - 1]
        for i in T.serial(ids[vocabulary + part * BINS + place[BIN]] - at[0]):
            at[1] = T.reinterpret("int32", values[at[0] + i])
            if T.shift_right(at[1], place[SHIFT] + place[BITS]) == T.shift_right(place[LOW], place[SHIFT] + place[BITS]):
                at[1] = T.bitwise_and(T.shift_right(at[1], place[SHIFT]), T.shift_left(1, place[BITS]) - 1)
                bins[at[1]] = bins[at[1]] + values[at[0] + i]


def pick(vocabulary: int) -> Any:
    """Return the kernel (values, ids, uniform, top_p) -> token; -1 when there is none (NaN logits)."""
    size = length(vocabulary)

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle, d: T.handle, e: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        values = T.match_buffer(a, (size,), "float32")
        ids = T.match_buffer(b, (size,), "int32")
        uniform = T.match_buffer(c, (1,), "float32")
        top_p = T.match_buffer(d, (1,), "float32")
        token = T.match_buffer(e, (1,), "int32")
        for _block in T.thread_binding(1, thread="blockIdx.x"):
            for _thread in T.thread_binding(1, thread="threadIdx.x"):
                with T.sblock("pick"):
                    T.reads()
                    T.writes()
                    whole = T.sblock_alloc_buffer((BINS,), "float32", scope="local")
                    bins = T.sblock_alloc_buffer((1 << WIDTH,), "float32", scope="local")
                    place = T.sblock_alloc_buffer((6,), "int32", scope="local")
                    mass = T.sblock_alloc_buffer((5,), "float32", scope="local")
                    at = T.sblock_alloc_buffer((2,), "int32", scope="local")
                    mass[TOTAL] = T.float32(0)
                    for i in T.serial(BINS):
                        whole[BINS - 1 - i] = T.float32(0)
                        for part in T.serial(PARTS):
                            whole[BINS - 1 - i] = whole[BINS - 1 - i] + values[vocabulary + part * BINS + BINS - 1 - i]
                        mass[TOTAL] = mass[TOTAL] + whole[BINS - 1 - i]
                    token[0] = -1
                    mass[AIM] = top_p[0]
                    for turn in T.serial(2):
                        mass[ABOVE] = T.float32(0)
                        _scan(whole, BINS, place, mass, turn)
                        place[BIN] = place[DIGIT]
                        if place[BIN] > 0:  # 0 are the denormals, which nothing draws
                            place[LOW] = T.shift_left(place[BIN], FRACTION)
                            place[SHIFT] = FRACTION
                            for _round in T.serial(ROUNDS):
                                place[BITS] = T.min(place[SHIFT], WIDTH)
                                place[SHIFT] = place[SHIFT] - place[BITS]
                                _weigh(values, ids, vocabulary, bins, place, at)
                                _scan(bins, 1 << WIDTH, place, mass, turn)
                                place[LOW] = place[LOW] + T.shift_left(T.max(place[DIGIT], 0), place[SHIFT])
                            mass[SUM] = T.max(T.reinterpret("float32", place[LOW]), T.float32(TINY))
                            if turn == 0:
                                # What top_p keeps: all above, and of those with this probability enough to reach it.
                                mass[SUM] = mass[ABOVE] + mass[SUM] * T.max(
                                    T.ceil((mass[AIM] - mass[ABOVE]) / mass[SUM]), T.float32(1)
                                )
                                mass[AIM] = T.min(mass[SUM], mass[TOTAL]) * T.min(uniform[0], T.float32(ALMOST))
                            else:
                                # The aim's place among those with this probability, the last of them whatever rounding did.
                                place[DIGIT] = T.cast(T.min((mass[AIM] - mass[ABOVE]) / mass[SUM], T.float32(1e6)), "int32")
                                for part in T.serial(PARTS):
                                    at[0] = ids[vocabulary + part * BINS + place[BIN] - 1]
                                    for i in T.serial(ids[vocabulary + part * BINS + place[BIN]] - at[0]):
                                        if place[DIGIT] >= 0 and T.reinterpret("int32", values[at[0] + i]) == place[LOW]:
                                            token[0] = ids[at[0] + i]
                                            place[DIGIT] = place[DIGIT] - 1

    return kernel
