"""From logits to one token: softmax, and a draw from the smallest set of tokens that holds `top_p` of the mass.

WebLLM asks for three steps (softmax, argsort, sample) and only passes the middle one's result on to the last, so nothing has to
be sorted: the draw needs the token at which the mass, summed from the largest probability down, passes an aim, and that is
found by bisection on the bits of the probability. Non-negative floats order like their bits, so with

    G(t) = sum of p[i] with bits(p[i]) >= t

the probability of the wanted token is the largest t with G(t) > aim: five bits a round, six rounds, exact for any distribution.
It is done twice, first for the mass that top_p keeps and then for a uniformly drawn part of that. Equal probabilities are taken
by rising token id, as a stable sort would.

The kernels are int32 and float32, use no atomics, and the vocabulary is a constant of the library.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

THREADS = 256
"""Partial maxima and sums of the softmax; each thread strides over the vocabulary."""

LEAST = -3.0e38
TINY = 2e-38
"""Above the denormals, which a device may take for zero."""

ALMOST = 0.999999
"""The drawn number's bound: at exactly 1 the aim would be the whole mass, which no token passes."""


def softmax_partial(vocabulary: int) -> Any:
    """Each of 256 threads: the largest logit of its stride, and the sum of exponentials against it."""
    steps = (vocabulary + THREADS - 1) // THREADS

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        logits = T.match_buffer(a, (1, 1, vocabulary), "float32")
        temperature = T.match_buffer(b, (1,), "float32")
        partial = T.match_buffer(c, (2, THREADS), "float32")
        for block in T.thread_binding(THREADS // 64, thread="blockIdx.x"):
            for thread in T.thread_binding(64, thread="threadIdx.x"):
                with T.sblock("partial"):
                    T.reads()
                    T.writes()
                    top = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    total = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    top[0] = T.float32(LEAST)
                    total[0] = T.float32(0)
                    for step in range(steps):
                        if step * THREADS + block * 64 + thread < vocabulary:
                            top[0] = T.max(top[0], logits[0, 0, step * THREADS + block * 64 + thread])
                    for step in range(steps):
                        if step * THREADS + block * 64 + thread < vocabulary:
                            total[0] += T.exp((logits[0, 0, step * THREADS + block * 64 + thread] - top[0]) / temperature[0])
                    partial[0, block * 64 + thread] = top[0]
                    partial[1, block * 64 + thread] = total[0]

    return kernel


def softmax_normalise(vocabulary: int) -> Any:
    """Each thread joins all partial sums and writes the probabilities of its stride."""
    steps = (vocabulary + THREADS - 1) // THREADS

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle, d: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        logits = T.match_buffer(a, (1, 1, vocabulary), "float32")
        temperature = T.match_buffer(b, (1,), "float32")
        partial = T.match_buffer(c, (2, THREADS), "float32")
        probabilities = T.match_buffer(d, (1, 1, vocabulary), "float32")
        for block in T.thread_binding(THREADS // 64, thread="blockIdx.x"):
            for thread in T.thread_binding(64, thread="threadIdx.x"):
                with T.sblock("normalise"):
                    T.reads()
                    T.writes()
                    top = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    total = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    top[0] = T.float32(LEAST)
                    total[0] = T.float32(0)
                    for i in range(THREADS):
                        top[0] = T.max(top[0], partial[0, i])
                    for i in range(THREADS):
                        total[0] += partial[1, i] * T.exp((partial[0, i] - top[0]) / temperature[0])
                    for step in range(steps):
                        if step * THREADS + block * 64 + thread < vocabulary:
                            probabilities[0, 0, step * THREADS + block * 64 + thread] = (
                                T.exp((logits[0, 0, step * THREADS + block * 64 + thread] - top[0]) / temperature[0]) / total[0]
                            )

    return kernel


PARTS = 64
"""Threads that weigh the vocabulary, each a stride of it in the same order every time, so that equal thresholds weigh equal."""

DIGITS = 31
ROUNDS = 6
WIDTH = 5
"""Six rounds of five bits: the thirty bits of a float in 0..1, sign and top exponent bit being zero."""

# The search's state, four integers and four floats: threshold found so far, shift of the next digit, rounds done, turn ...
LOW, SHIFT, ROUND, TURN = range(4)
# ... and the mass wanted, the mass strictly above the threshold.
AIM, ABOVE = range(2)


def begin() -> Any:
    """Start the search for the mass that top_p keeps."""

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        top_p = T.match_buffer(a, (1,), "float32")
        place = T.match_buffer(b, (4,), "int32")
        mass = T.match_buffer(c, (4,), "float32")
        for _block in T.thread_binding(1, thread="blockIdx.x"):
            for _thread in T.thread_binding(1, thread="threadIdx.x"):
                with T.sblock("begin"):
                    T.reads()
                    T.writes()
                    place[LOW] = 0
                    place[SHIFT] = (ROUNDS - 1) * WIDTH
                    place[ROUND] = 0
                    place[TURN] = 0
                    mass[AIM] = top_p[0]
                    mass[ABOVE] = T.float32(0)

    return kernel


def weigh(vocabulary: int) -> Any:
    """Each thread: the mass of its stride at or above each of 31 thresholds over the one found so far."""
    steps = (vocabulary + PARTS - 1) // PARTS

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        p = T.match_buffer(a, (1, vocabulary), "float32")
        place = T.match_buffer(b, (4,), "int32")
        weights = T.match_buffer(c, (PARTS, DIGITS), "float32")
        for block in T.thread_binding(PARTS // 16, thread="blockIdx.x"):
            for thread in T.thread_binding(16, thread="threadIdx.x"):
                with T.sblock("weigh"):
                    T.reads()
                    T.writes()
                    edge = T.sblock_alloc_buffer((DIGITS,), "float32", scope="local")
                    total = T.sblock_alloc_buffer((DIGITS,), "float32", scope="local")
                    value = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    part: T.let[T.int32] = block * 16 + thread
                    for j in T.unroll(DIGITS):
                        total[j] = T.float32(0)
                        edge[j] = T.reinterpret("float32", place[LOW] + T.shift_left(j + 1, place[SHIFT]))
                    for step in T.serial(steps):
                        if step * PARTS + part < vocabulary:
                            value[0] = p[0, step * PARTS + part]
                            for j in T.unroll(DIGITS):
                                total[j] = total[j] + T.Select(value[0] >= edge[j], value[0], T.float32(0))
                    for j in T.unroll(DIGITS):
                        weights[part, j] = total[j]

    return kernel


def narrow() -> Any:
    """Add the parts up and take the largest threshold whose mass reaches the aim; after six rounds turn to the draw."""

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle, d: T.handle, e: T.handle, f: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        weights = T.match_buffer(a, (PARTS, DIGITS), "float32")
        place = T.match_buffer(b, (4,), "int32")
        mass = T.match_buffer(c, (4,), "float32")
        uniform = T.match_buffer(d, (1,), "float32")
        new_place = T.match_buffer(e, (4,), "int32")
        new_mass = T.match_buffer(f, (4,), "float32")
        for _block in T.thread_binding(1, thread="blockIdx.x"):
            for _thread in T.thread_binding(1, thread="threadIdx.x"):
                with T.sblock("narrow"):
                    T.reads()
                    T.writes()
                    total = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    above = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    value = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    digit = T.sblock_alloc_buffer((1,), "int32", scope="local")
                    above[0] = mass[ABOVE]
                    digit[0] = 0
                    # From the highest threshold down: the first that passes is the digit, the one before it is what lies above.
                    for j in T.serial(DIGITS):
                        if digit[0] == 0:
                            total[0] = T.float32(0)
                            for part in T.serial(PARTS):
                                total[0] = total[0] + weights[part, DIGITS - 1 - j]
                            if T.Select(place[TURN] == 0, total[0] >= mass[AIM], total[0] > mass[AIM]):
                                digit[0] = DIGITS - j
                            else:
                                above[0] = total[0]
                    digit[0] = place[LOW] + T.shift_left(digit[0], place[SHIFT])
                    if place[ROUND] == ROUNDS - 1 and place[TURN] == 0:
                        # What top_p keeps: all above the threshold, and of those at it enough to reach top_p.
                        value[0] = T.reinterpret("float32", digit[0])
                        total[0] = above[0] + value[0] * T.max(
                            T.ceil((mass[AIM] - above[0]) / T.max(value[0], T.float32(TINY))), T.float32(1)
                        )
                        new_place[LOW] = 0
                        new_place[SHIFT] = (ROUNDS - 1) * WIDTH
                        new_place[ROUND] = 0
                        new_place[TURN] = 1
                        new_mass[AIM] = total[0] * T.min(uniform[0], T.float32(ALMOST))
                        new_mass[ABOVE] = T.float32(0)
                    else:
                        new_place[LOW] = digit[0]
                        new_place[SHIFT] = place[SHIFT] - WIDTH
                        new_place[ROUND] = place[ROUND] + 1
                        new_place[TURN] = place[TURN]
                        new_mass[AIM] = mass[AIM]
                        new_mass[ABOVE] = above[0]

    return kernel


def find(vocabulary: int) -> Any:
    """Each thread: how many tokens of its run of the vocabulary have exactly the probability found."""
    run = (vocabulary + PARTS - 1) // PARTS

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        p = T.match_buffer(a, (1, vocabulary), "float32")
        place = T.match_buffer(b, (4,), "int32")
        count = T.match_buffer(c, (PARTS,), "int32")
        for block in T.thread_binding(PARTS // 16, thread="blockIdx.x"):
            for thread in T.thread_binding(16, thread="threadIdx.x"):
                with T.sblock("find"):
                    T.reads()
                    T.writes()
                    seen = T.sblock_alloc_buffer((1,), "int32", scope="local")
                    part: T.let[T.int32] = block * 16 + thread
                    seen[0] = 0
                    for i in T.serial(run):
                        if part * run + i < vocabulary:
                            if T.reinterpret("int32", p[0, part * run + i]) == place[LOW]:
                                seen[0] = seen[0] + 1
                    count[part] = seen[0]

    return kernel


def pick(vocabulary: int) -> Any:
    """Name the token: of those with the probability found, the one in which the aim falls; -1 when there is none (NaN logits)."""
    run = (vocabulary + PARTS - 1) // PARTS

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle, d: T.handle, e: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        p = T.match_buffer(a, (1, vocabulary), "float32")
        place = T.match_buffer(b, (4,), "int32")
        mass = T.match_buffer(c, (4,), "float32")
        count = T.match_buffer(d, (PARTS,), "int32")
        token = T.match_buffer(e, (1,), "int32")
        for _block in T.thread_binding(1, thread="blockIdx.x"):
            for _thread in T.thread_binding(1, thread="threadIdx.x"):
                with T.sblock("pick"):
                    T.reads()
                    T.writes()
                    rank = T.sblock_alloc_buffer((1,), "int32", scope="local")
                    part = T.sblock_alloc_buffer((1,), "int32", scope="local")
                    rank[0] = 0
                    for i in T.serial(PARTS):
                        rank[0] = rank[0] + count[i]
                    # The aim's place among the ties, kept within them whatever rounding did.
                    rank[0] = T.min(
                        T.cast(
                            T.min(
                                (mass[AIM] - mass[ABOVE]) / T.max(T.reinterpret("float32", place[LOW]), T.float32(TINY)),
                                T.float32(1e6),
                            ),
                            "int32",
                        ),
                        rank[0] - 1,
                    )
                    part[0] = -1
                    for i in T.serial(PARTS):
                        if part[0] < 0:
                            if rank[0] < count[i]:
                                part[0] = i
                            else:
                                rank[0] = rank[0] - count[i]
                    token[0] = -1
                    if part[0] >= 0 and place[LOW] > 0:
                        for i in T.serial(run):
                            if part[0] * run + i < vocabulary:
                                if T.reinterpret("int32", p[0, part[0] * run + i]) == place[LOW]:
                                    if rank[0] == 0:
                                        token[0] = part[0] * run + i
                                    rank[0] = rank[0] - 1

    return kernel


def apply_bitmask(vocabulary: int) -> Any:
    """Logits whose bit is 0 in the grammar's mask become the least float."""
    words = (vocabulary + 31) // 32

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        batch, count = T.int32(), T.int32()
        logits = T.match_buffer(a, (batch, vocabulary), "float32")
        sequence = T.match_buffer(b, (count,), "int32")
        mask = T.match_buffer(c, (batch, words), "int32")
        for row in T.thread_binding(count, thread="blockIdx.y"):
            for block in T.thread_binding((vocabulary + 63) // 64, thread="blockIdx.x"):
                for thread in T.thread_binding(64, thread="threadIdx.x"):
                    with T.sblock("mask"):
                        T.reads()
                        T.writes()
                        if block * 64 + thread < vocabulary:
                            if (
                                T.bitwise_and(
                                    T.shift_right(mask[sequence[row], (block * 64 + thread) // 32], (block * 64 + thread) % 32), 1
                                )
                                == 0
                            ):
                                logits[sequence[row], block * 64 + thread] = T.float32(LEAST)

    return kernel


def apply_penalty(vocabulary: int) -> Any:
    """Presence, frequency and repetition penalty for the tokens that have appeared."""

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle, d: T.handle, e: T.handle, f: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        batch, sequences, count = T.int32(), T.int32(), T.int32()
        logits = T.match_buffer(a, (batch, vocabulary), "float32")
        sequence = T.match_buffer(b, (sequences,), "int32")
        place = T.match_buffer(c, (count,), "int32")
        token = T.match_buffer(d, (count,), "int32")
        times = T.match_buffer(e, (count,), "int32")
        penalty = T.match_buffer(f, (sequences, 3), "float32")
        for block in T.thread_binding((count + 63) // 64, thread="blockIdx.x"):
            for thread in T.thread_binding(64, thread="threadIdx.x"):
                with T.sblock("penalise"):
                    T.reads()
                    T.writes()
                    value = T.sblock_alloc_buffer((1,), "float32", scope="local")
                    if block * 64 + thread < count:
                        value[0] = logits[sequence[place[block * 64 + thread]], token[block * 64 + thread]] - (
                            penalty[place[block * 64 + thread], 0]
                            + T.cast(times[block * 64 + thread], "float32") * penalty[place[block * 64 + thread], 1]
                        )
                        logits[sequence[place[block * 64 + thread]], token[block * 64 + thread]] = T.if_then_else(
                            value[0] > T.float32(0),
                            value[0] / penalty[place[block * 64 + thread], 2],
                            value[0] * penalty[place[block * 64 + thread], 2],
                        )

    return kernel


def apply_bias(vocabulary: int) -> Any:
    """Add the caller's bias to the logits of the tokens named."""

    @T.prim_func(private=True, s_tir=True)
    def kernel(a: T.handle, b: T.handle, c: T.handle, d: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        batch, count = T.int32(), T.int32()
        logits = T.match_buffer(a, (batch, vocabulary), "float32")
        place = T.match_buffer(b, (count,), "int32")
        token = T.match_buffer(c, (count,), "int32")
        bias = T.match_buffer(d, (count,), "float32")
        for block in T.thread_binding((count + 63) // 64, thread="blockIdx.x"):
            for thread in T.thread_binding(64, thread="threadIdx.x"):
                with T.sblock("bias"):
                    T.reads()
                    T.writes()
                    if block * 64 + thread < count:
                        logits[place[block * 64 + thread], token[block * 64 + thread]] += bias[block * 64 + thread]

    return kernel
