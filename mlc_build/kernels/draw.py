"""The draw: the token at which the mass, summed from the largest probability down, passes an aim, in one dispatch and unsorted.

WebLLM asks for an argsort and then a draw from the smallest set of tokens that holds `top_p` of the mass, and only passes the
first's result on to the second. Nothing has to be sorted. Non-negative floats order like their bits, so the probability of the
wanted token is found from its upper bits down, a few a round: of the tokens that share the bits found so far, the mass of each
next digit is told, and the digit taken at which the aim falls. Exact for any distribution. It is done twice, for the mass that
top_p keeps and for a uniformly drawn part of that. Equal probabilities are taken by rising token id, as a stable sort would.

One workgroup does all of it: each thread weighs its stride of the vocabulary into bins of its own in the workgroup's memory, the
bins are added up there, and every thread comes to the same digit by itself. The fewer the threads, the more bins each has, and
the fewer the rounds.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

BINS = 4096
"""Sums in 16 kB, WebGPU's default limit of a workgroup's memory."""
BITS, FRACTION = 30, 23
"""Of a float in 0..1 (its sign and top exponent bit are zero), and of its fraction."""

TINY = 2e-38
"""Above the denormals, which a device may take for zero."""
ALMOST = 0.999999
"""The drawn number's bound: at exactly 1 the aim would be the whole mass, which no token passes."""

# What each thread knows: the probability's bits so far, the next digit's shift, that digit, the least that holds anything, and
# whether several tokens may have those bits ...
LOW, SHIFT, DIGIT, LAST, MANY = range(5)
# ... the mass wanted, the mass above what is found, that above LAST, a sum, and all the mass there is.
AIM, ABOVE, BEFORE, SUM, TOTAL = range(5)


@T.macro
def _weigh(p, bins, place, value, thread, vocabulary, threads, digits):
    """Put the mass of the tokens that begin with LOW's bits into the thread's bin of the next digit, and add up each digit's."""
    T.tvm_storage_sync("shared")  # the round before may still be read
    for j in T.serial(digits):
        bins[j * threads + thread] = T.float32(0)
    if place[MANY] == 1:
        for step in T.serial((vocabulary + threads - 1) // threads):
            if step * threads + thread < vocabulary:
                value[0] = p[0, step * threads + thread]
                place[DIGIT] = T.shift_right(T.reinterpret("int32", value[0]) - place[LOW], place[SHIFT])
                if place[DIGIT] >= 0 and place[DIGIT] < digits:
                    bins[place[DIGIT] * threads + thread] = bins[place[DIGIT] * threads + thread] + value[0]
    T.tvm_storage_sync("shared")
    for j in T.serial((digits + threads - 1) // threads):
        value[0] = T.float32(0)
        if j * threads + thread < digits:
            for i in T.serial(threads):
                value[0] = value[0] + bins[(j * threads + thread) * threads + i]
        T.tvm_storage_sync("shared")
        if j * threads + thread < digits:
            bins[(j * threads + thread) * threads] = value[0]
        T.tvm_storage_sync("shared")


@T.macro
def _narrow(bins, place, mass, turn, threads, digits, width):
    """Go from the highest digit down to the one whose mass reaches the aim (first turn) or passes it (second), or to the last."""
    if place[MANY] == 1:
        place[DIGIT] = -1
        place[LAST] = -1
        for j in T.serial(digits):
            if place[DIGIT] < 0:
                mass[SUM] = bins[(digits - 1 - j) * threads]
                if mass[SUM] > T.float32(0):
                    place[LAST] = digits - 1 - j
                    mass[BEFORE] = mass[ABOVE]
                mass[SUM] = mass[ABOVE] + mass[SUM]
                if T.Select(turn == 0, mass[SUM] >= mass[AIM], mass[SUM] > mass[AIM]):
                    place[DIGIT] = digits - 1 - j
                else:
                    mass[ABOVE] = mass[SUM]
        if place[DIGIT] < 0 and place[LAST] >= 0:  # rounding: all of it did not quite reach
            place[DIGIT] = place[LAST]
            mass[ABOVE] = mass[BEFORE]
        place[LOW] = place[LOW] + T.shift_left(T.max(place[DIGIT], 0), place[SHIFT])
        # Two of one exponent add up to a greater one: a mass that still begins with LOW's bits is that of a single token.
        if place[DIGIT] >= 0 and place[SHIFT] <= FRACTION:
            place[LAST] = T.reinterpret("int32", bins[place[DIGIT] * threads])
            if T.shift_right(place[LAST] - place[LOW], place[SHIFT]) == 0:
                place[LOW] = place[LAST]
                place[MANY] = 0
        place[SHIFT] = place[SHIFT] - width


@T.macro
def _turn(place, mass, uniform):
    """Of what top_p keeps (all above the probability found, and of those that have it enough) aim at the drawn part."""
    mass[SUM] = T.max(T.reinterpret("float32", place[LOW]), T.float32(TINY))
    mass[SUM] = mass[ABOVE] + mass[SUM] * T.max(T.ceil((mass[AIM] - mass[ABOVE]) / mass[SUM]), T.float32(1))
    mass[AIM] = T.min(mass[SUM], mass[TOTAL]) * T.min(uniform[0], T.float32(ALMOST))


@T.macro
def _count(p, bins, place, rank, thread, run, vocabulary, threads):
    """Count the tokens of each run of the vocabulary that have exactly the probability found: all in [0], the runs' in `bins`."""
    rank[0] = 0
    for i in T.serial(run):
        if thread * run + i < vocabulary:
            if T.reinterpret("int32", p[0, thread * run + i]) == place[LOW]:
                rank[0] = rank[0] + 1
    T.tvm_storage_sync("shared")
    bins[thread] = T.cast(rank[0], "float32")
    T.tvm_storage_sync("shared")
    rank[0] = 0
    for i in T.serial(threads):
        rank[0] = rank[0] + T.cast(bins[i], "int32")


@T.macro
def _find(bins, place, mass, rank, threads):
    """Put the run that has the wanted one of them into [1], -1 if none, and its place among those of the run into [0]."""
    mass[SUM] = (mass[AIM] - mass[ABOVE]) / T.max(T.reinterpret("float32", place[LOW]), T.float32(TINY))
    rank[0] = T.min(T.cast(T.min(mass[SUM], T.float32(1e6)), "int32"), rank[0] - 1)
    rank[1] = -1
    for i in T.serial(threads):
        rank[2] = T.cast(bins[i], "int32")
        if rank[1] < 0:
            if rank[0] < rank[2]:
                rank[1] = i
            else:
                rank[0] = rank[0] - rank[2]


def draw(vocabulary: int, threads: int) -> Any:
    """Return the kernel (probabilities `(1, vocabulary)`, uniform, top_p) -> token; -1 when there is none (NaN logits).

    `threads`: of the one workgroup, a power of two.
    """
    digits = BINS // threads
    width = digits.bit_length() - 1
    run, rounds = (vocabulary + threads - 1) // threads, (BITS + width - 1) // width

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle, d: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        p = T.match_buffer(a, (1, vocabulary), "float32")
        uniform = T.match_buffer(b, (1,), "float32")
        top_p = T.match_buffer(c, (1,), "float32")
        token = T.match_buffer(d, (1,), "int32")
        for _block in T.thread_binding(1, thread="blockIdx.x"):
            for thread in T.thread_binding(threads, thread="threadIdx.x"):
                with T.sblock("draw"):
                    T.reads()
                    T.writes()
                    bins = T.sblock_alloc_buffer((BINS,), "float32", scope="shared")
                    value = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    place = T.sblock_alloc_buffer((5,), "int32", scope="local")
                    mass = T.sblock_alloc_buffer((5,), "float32", scope="local")
                    rank = T.sblock_alloc_buffer((3,), "int32", scope="local")
                    mass[AIM] = top_p[0]
                    mass[TOTAL] = T.float32(0)
                    for turn in T.serial(2):
                        place[LOW] = 0
                        place[MANY] = 1
                        place[SHIFT] = (rounds - 1) * width
                        mass[ABOVE] = T.float32(0)
                        for step in T.serial(rounds):
                            _weigh(p, bins, place, value, thread, vocabulary, threads, digits)
                            if turn == 0 and step == 0:
                                for j in T.serial(digits):
                                    mass[TOTAL] = mass[TOTAL] + bins[j * threads]
                            _narrow(bins, place, mass, turn, threads, digits, width)
                        if turn == 0:
                            _turn(place, mass, uniform)
                    _count(p, bins, place, rank, thread, run, vocabulary, threads)
                    _find(bins, place, mass, rank, threads)
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
